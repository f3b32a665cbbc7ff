//! What was answered, counted by each thread for itself and summed up when somebody asks.
//!
//! A thread's counters have one writer, so counting is a load and a store in a line of
//! its own cache.

use crate::reply::ExtendedError;
use crate::sockets::Transport;
use mizzen_dns_core::ZoneNumber;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Zones that are told apart; what is beyond is counted as no zone's.
const ZONES: usize = 64;
/// The slot of names that are somebody else's.
const ELSEWHERE: usize = ZONES - 1;
/// The slot of all zones of one name.
const SINGLE: usize = ZONES - 2;
/// How those are labelled.
const SINGLE_LABEL: &str = "*";
/// Why questions are refused.
const REASONS: [ExtendedError; 3] =
    [ExtendedError::Prohibited, ExtendedError::NotAuthoritative, ExtendedError::NotSupported];
/// Types of questions, as they are labelled; the last is for all others.
const KINDS: [(&str, u16); 13] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("HTTPS", 65),
    ("AXFR", 252),
    ("ANY", 255),
    ("other", 0),
];
/// Codes of replies, as they are labelled; the last is for all others.
const CODES: [(&str, u16); 8] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("BADVERS", 16),
    ("other", 0),
];
/// Upper bounds of the buckets for how long answers took, in microseconds.
const BOUNDS: [u64; 18] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000,
];

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Road {
    /// From bytes to bytes, by the batch.
    Short,
    /// From remembered answers of upstreams.
    Cache,
    /// By a message taken apart, perhaps by asking upstreams.
    Full,
}

/// A snapshot of all counters since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Questions by zone (`None`: somebody else's names, `*`: zones of one name), type and
    /// response code.
    pub queries: BTreeMap<(Option<String>, &'static str, &'static str), u64>,
    /// Questions by how they came and were answered.
    pub roads: BTreeMap<(Transport, Road), u64>,
    /// How long answers took, by road.
    pub durations: BTreeMap<Road, Durations>,
    /// Questions by UDP that were left unanswered or sent to TCP, because their client
    /// had its share of the server or the server was full.
    pub crowded_out: u64,
    /// Datagrams and messages that deserve no answer.
    pub ignored: u64,
    /// TCP connections that were accepted.
    pub tcp_accepted: u64,
    /// TCP connections that were closed or refused to make room.
    pub tcp_crowded_out: u64,
    /// Zones that were transferred.
    pub transfers: u64,
    /// Questions that were refused, by reason.
    pub refused: BTreeMap<ExtendedError, u64>,
}

/// A histogram.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    /// Upper bound of each bucket, and how many took at most as long; as Prometheus
    /// counts, each bucket holds the ones before it.
    pub buckets: Vec<(Duration, u64)>,
    /// How many there were.
    pub count: u64,
    /// What they took together.
    pub sum: Duration,
}

/// One thread's counters.
#[derive(Debug)]
pub(crate) struct Counters {
    /// By zone, type and code.
    queries: Box<[AtomicU64]>,
    /// By transport and road.
    roads: [[AtomicU64; 3]; 2],
    durations: [Histogram; 3],
    pub(crate) crowded_out: Counter,
    pub(crate) ignored: Counter,
    pub(crate) tcp_accepted: Counter,
    pub(crate) tcp_crowded_out: Counter,
    pub(crate) transfers: Counter,
    refused: [Counter; REASONS.len()],
}

/// A number that only its thread changes.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds.
    sum: AtomicU64,
}

/// What is counted of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// `None` for names that are somebody else's.
    pub(crate) zone: Option<ZoneNumber>,
    /// Number of the type; `None` for what was no question.
    pub(crate) kind: Option<u16>,
    pub(crate) code: u16,
    /// Why it was refused, if it was.
    pub(crate) reason: Option<ExtendedError>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let slots = ZONES * KINDS.len() * CODES.len();
        Self {
            queries: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            roads: Default::default(),
            durations: Default::default(),
            crowded_out: Counter::default(),
            ignored: Counter::default(),
            tcp_accepted: Counter::default(),
            tcp_crowded_out: Counter::default(),
            transfers: Counter::default(),
            refused: Default::default(),
        }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, transport: Transport, road: Road, tally: Tally) {
        let zone = tally.zone.map_or(ELSEWHERE, zone_slot);
        let kind = tally.kind.map_or(KINDS.len() - 1, kind_slot);
        let slot = (zone * KINDS.len() + kind) * CODES.len() + code_slot(tally.code);
        if let Some(counter) = self.queries.get(slot) {
            add(counter, 1);
        }
        add(&self.roads[transport as usize][road as usize], 1);
        if let Some(reason) = tally.reason {
            self.refused[reason as usize].add(1);
        }
    }

    /// `count` answers took as long as this, each.
    pub(crate) fn took(&self, road: Road, count: u64, duration: Duration) {
        let histogram = &self.durations[road as usize];
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        add(&histogram.buckets[bucket], count);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        add(&histogram.sum, nanos.saturating_mul(count));
    }

    /// Adds all to `metrics`.
    ///
    /// * `name` — the name of a zone.
    fn add_to(&self, metrics: &mut Metrics, name: impl Fn(ZoneNumber) -> Option<String>) {
        for (slot, counter) in self.queries.iter().enumerate() {
            let count = counter.load(Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            let (rest, code) = (slot / CODES.len(), slot % CODES.len());
            let (zone, kind) = (rest / KINDS.len(), rest % KINDS.len());
            let zone = match zone {
                ELSEWHERE => None,
                SINGLE => Some(SINGLE_LABEL.to_owned()),
                number => u16::try_from(number).ok().and_then(|number| name(ZoneNumber(number))),
            };
            *metrics.queries.entry((zone, KINDS[kind].0, CODES[code].0)).or_default() += count;
        }
        for road in [Road::Short, Road::Cache, Road::Full] {
            for transport in [Transport::Udp, Transport::Tcp] {
                let count = self.roads[transport as usize][road as usize].load(Ordering::Relaxed);
                *metrics.roads.entry((transport, road)).or_default() += count;
            }
            self.durations[road as usize].add_to(metrics.durations.entry(road).or_default());
        }
        metrics.crowded_out += self.crowded_out.value();
        metrics.ignored += self.ignored.value();
        metrics.tcp_accepted += self.tcp_accepted.value();
        metrics.tcp_crowded_out += self.tcp_crowded_out.value();
        metrics.transfers += self.transfers.value();
        for reason in REASONS {
            let count = self.refused[reason as usize].value();
            *metrics.refused.entry(reason).or_default() += count;
        }
    }
}

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        add(&self.0, count);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    fn add_to(&self, durations: &mut Durations) {
        if durations.buckets.is_empty() {
            durations.buckets =
                BOUNDS.iter().map(|bound| (Duration::from_micros(*bound), 0)).collect();
        }
        let mut so_far = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            so_far += bucket.load(Ordering::Relaxed);
            if let Some((_, count)) = durations.buckets.get_mut(at) {
                *count += so_far;
            }
        }
        durations.count += so_far;
        durations.sum += Duration::from_nanos(self.sum.load(Ordering::Relaxed));
    }
}

impl Road {
    /// As metrics label it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Cache => "cache",
            Self::Full => "full",
        }
    }
}

impl Tally {
    /// Of a reply that has no question of ours in it.
    pub(crate) fn bare(code: u16) -> Self {
        Self { zone: None, kind: None, code, reason: None }
    }
}

/// The sum of all threads' counters.
pub(crate) fn sum<'a>(
    threads: impl IntoIterator<Item = &'a Counters>,
    name: impl Fn(ZoneNumber) -> Option<String>,
) -> Metrics {
    let mut metrics = Metrics::default();
    for counters in threads {
        counters.add_to(&mut metrics, &name);
    }
    metrics
}

/// Counts without a locked operation: nobody else writes here.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

fn zone_slot(zone: ZoneNumber) -> usize {
    match usize::from(zone.0) {
        _ if zone.is_single() => SINGLE,
        number if number < SINGLE => number,
        _ => ELSEWHERE,
    }
}

fn kind_slot(kind: u16) -> usize {
    match kind {
        1 => 0,
        2 => 1,
        5 => 2,
        6 => 3,
        12 => 4,
        15 => 5,
        16 => 6,
        28 => 7,
        33 => 8,
        // SVCB is HTTPS for other protocols, IXFR is answered as AXFR.
        64 | 65 => 9,
        251 | 252 => 10,
        255 => 11,
        _ => KINDS.len() - 1,
    }
}

fn code_slot(code: u16) -> usize {
    match code {
        0..=5 => usize::from(code),
        16 => 6,
        _ => CODES.len() - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_summed_by_zone_type_and_code() {
        let threads = [Counters::new(), Counters::new()];
        let tally = |zone: Option<u16>, kind, code| Tally {
            zone: zone.map(ZoneNumber),
            kind: Some(kind),
            code,
            reason: Some(ExtendedError::Prohibited).filter(|_| code == 5),
        };
        for counters in &threads {
            counters.answered(Transport::Udp, Road::Short, tally(Some(0), 1, 0));
            counters.answered(Transport::Udp, Road::Short, tally(Some(1), 33, 3));
            counters.answered(Transport::Tcp, Road::Full, tally(None, 28, 2));
            counters.answered(Transport::Udp, Road::Full, tally(Some(999), 60_000, 999));
            for address in 2000..2003 {
                counters.answered(Transport::Udp, Road::Short, tally(Some(address), 12, 0));
            }
            counters.answered(Transport::Tcp, Road::Full, tally(None, 252, 5));
            counters.took(Road::Short, 3, Duration::from_micros(20));
            counters.took(Road::Short, 1, Duration::from_secs(60));
            counters.crowded_out.add(2);
        }
        let names = ["mesos.", "x."];
        let name = |zone: ZoneNumber| names.get(usize::from(zone.0)).map(ToString::to_string);
        let metrics = sum(&threads, name);
        #[rustfmt::skip]
        let want = [
            ((None, "AAAA", "SERVFAIL"), 2), ((None, "AXFR", "REFUSED"), 2), ((None, "other", "other"), 2),
            ((Some("*".into()), "PTR", "NOERROR"), 6),
            ((Some("mesos.".into()), "A", "NOERROR"), 2), ((Some("x.".into()), "SRV", "NXDOMAIN"), 2),
        ];
        assert_eq!(metrics.queries, BTreeMap::from(want));
        assert_eq!(metrics.roads[&(Transport::Udp, Road::Short)], 10);
        assert_eq!(metrics.refused[&ExtendedError::Prohibited], 2);
        assert_eq!(metrics.crowded_out, 4);
        let short = &metrics.durations[&Road::Short];
        assert_eq!((short.count, short.sum), (8, Duration::from_micros(2 * (60 + 60_000_000))));
        assert_eq!(short.buckets[0], (Duration::from_micros(10), 0));
        assert_eq!(short.buckets[1], (Duration::from_micros(25), 6));
        assert_eq!(short.buckets[17].1, 6, "what took longer than any bound is only counted");
    }

    #[test]
    fn every_label_has_its_slot() {
        for (slot, (label, number)) in KINDS.iter().enumerate().take(KINDS.len() - 1) {
            assert_eq!(kind_slot(*number), slot, "{label}");
        }
        for (slot, (label, number)) in CODES.iter().enumerate().take(CODES.len() - 1) {
            assert_eq!(code_slot(*number), slot, "{label}");
        }
        assert_eq!((KINDS[kind_slot(64)].0, KINDS[kind_slot(251)].0), ("HTTPS", "AXFR"));
    }
}
