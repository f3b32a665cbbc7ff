//! What is known of one backend of one VIP, and what that speaks for.
//!
//! Threads of the queues read while the watcher writes; each number stands for itself,
//! so all of them are atomics without an order. Two threads at once may lose one latency
//! sample, and that is all.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mizzen_ebpf_core::bucket::{BUCKETS, bucket};
use mizzen_ebpf_core::eject::{Gate, gate, keeps_waiting, pause, too_few, warmth};
use mizzen_ebpf_core::ewma::Average;
use mizzen_ebpf_core::select::Load;
use mizzen_ebpf_core::steps::Verdict;

use crate::words::{Counts, Latencies, Reason, Tuning};

/// By what backends are judged. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Failures in a row after which a backend is ejected; zero never ejects.
    pub failures: u32,
    /// Percentage of open backends that has to be left for ejection to count.
    pub least_left: u32,
    /// The first pause.
    pub pause: u64,
    /// The longest pause.
    pub longest_pause: u64,
    /// Time without an answered handshake after which a backend with open ones is avoided.
    pub handshake: u64,
    /// Time up to which the life of a connection counts as a latency.
    pub short: u64,
    /// Time after which a UDP flow counts as ended.
    pub idle: u64,
}

impl From<&Tuning> for Limits {
    fn from(tuning: &Tuning) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            failures: tuning.failures,
            least_left: tuning.least_left,
            pause: nanos(tuning.pause),
            longest_pause: nanos(tuning.longest_pause),
            handshake: nanos(tuning.handshake),
            short: nanos(tuning.short),
            idle: nanos(tuning.idle),
        }
    }
}

impl From<&Limits> for Tuning {
    fn from(limits: &Limits) -> Self {
        let time = Duration::from_nanos;
        Self {
            failures: limits.failures,
            least_left: limits.least_left,
            pause: time(limits.pause),
            longest_pause: time(limits.longest_pause),
            handshake: time(limits.handshake),
            short: time(limits.short),
            idle: time(limits.idle),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&Tuning::default())
    }
}

/// What is known of a VIP as a whole.
#[derive(Debug, Default)]
pub(crate) struct VipRow {
    /// How many of its backends are ejected.
    pub ejected: AtomicU32,
    /// Connects and datagrams that found no backend.
    pub refused: AtomicU64,
}

/// What is known of a backend.
#[derive(Debug)]
pub(crate) struct Backend {
    pub address: SocketAddr,
    vip: Arc<VipRow>,
    /// Whether it is to get connects at all. Who is not cannot be ejected.
    open: AtomicBool,
    chosen: AtomicU64,
    started: AtomicU64,
    established: AtomicU64,
    failed: AtomicU64,
    closed: AtomicU64,
    in_flight: AtomicU64,
    connect: AtomicU64,
    duration: AtomicU64,
    ejected_until: AtomicU64,
    waiting_since: AtomicU64,
    joined: AtomicU64,
    /// When a handshake completed the last time, as far as was seen.
    answered: AtomicU64,
    ejections: AtomicU64,
    failures: AtomicU32,
    level: AtomicU32,
    handshakes: OnceLock<Box<Histogram>>,
    lives: OnceLock<Box<Histogram>>,
}

/// What all candidates of one choice have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub now: u64,
    /// So few are left that the ejected ones are admitted as well.
    pub all_admitted: bool,
    /// Nanoseconds over which a backend warms up.
    pub slow_start: u64,
    pub tuning: Limits,
}

impl Weather {
    pub fn of(row: &VipRow, open: u32, slow_start: u64, tuning: Limits, now: u64) -> Self {
        let all_admitted = too_few(open, row.ejected.load(Relaxed), tuning.least_left);
        Self { now, all_admitted, slow_start, tuning }
    }
}

/// Latencies of a backend in buckets. There are none until the first sample.
#[derive(Debug)]
struct Histogram {
    sum: AtomicU64,
    buckets: [AtomicU32; BUCKETS as usize],
}

impl Histogram {
    fn new() -> Box<Self> {
        let buckets = std::array::from_fn(|_| AtomicU32::new(0));
        Box::new(Self { sum: AtomicU64::new(0), buckets })
    }

    fn add(&self, micros: u32) {
        self.sum.fetch_add(u64::from(micros), Relaxed);
        if let Some(count) = self.buckets.get(bucket(micros) as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    fn read(&self) -> Latencies {
        let buckets = self.buckets.iter().map(|count| u64::from(count.load(Relaxed)));
        Latencies { buckets: buckets.collect(), sum: self.sum.load(Relaxed) }
    }
}

impl Backend {
    /// A backend of a VIP that gets no connects until [`Backend::open`].
    pub fn new(address: SocketAddr, vip: &Arc<VipRow>) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            address,
            vip: Arc::clone(vip),
            open: AtomicBool::new(false),
            chosen: zero(),
            started: zero(),
            established: zero(),
            failed: zero(),
            closed: zero(),
            in_flight: zero(),
            connect: zero(),
            duration: zero(),
            ejected_until: zero(),
            waiting_since: zero(),
            joined: zero(),
            answered: zero(),
            ejections: zero(),
            failures: AtomicU32::new(0),
            level: AtomicU32::new(0),
            handshakes: OnceLock::new(),
            lives: OnceLock::new(),
        }
    }

    /// What happened to it, and how it stands at `now`.
    pub fn counts(&self, now: u64) -> Counts {
        let at = |word: &AtomicU64| Average::unpack(word.load(Relaxed)).at(millis(now));
        let until = self.ejected_until.load(Relaxed);
        let since = |word: &AtomicU64| match word.load(Relaxed) {
            0 => None,
            then => Some(now.saturating_sub(then) / 1_000_000),
        };
        // More than half of all numbers is a count that went below zero for a moment.
        let waits = (1..1 << 63).contains(&self.pending());
        Counts {
            chosen: self.chosen.load(Relaxed),
            started: self.started.load(Relaxed),
            established: self.established.load(Relaxed),
            failed: self.failed.load(Relaxed),
            closed: self.closed.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            connect_micros: at(&self.connect),
            duration_micros: at(&self.duration),
            failures_in_a_row: self.failures.load(Relaxed),
            ejections: self.ejections.load(Relaxed),
            ejected_for: (until != 0).then(|| until.saturating_sub(now) / 1_000_000),
            waiting_for: since(&self.waiting_since).filter(|_| waits),
            joined_for: since(&self.joined),
        }
    }

    /// Latencies of handshakes and lives of connections.
    pub fn latencies(&self) -> (Latencies, Latencies) {
        let read = |histogram: &OnceLock<Box<Histogram>>| {
            histogram.get().map(|histogram| histogram.read()).unwrap_or_default()
        };
        (read(&self.handshakes), read(&self.lives))
    }

    /// Handshakes under way.
    fn pending(&self) -> u64 {
        let done = self.established.load(Relaxed).wrapping_add(self.failed.load(Relaxed));
        self.started.load(Relaxed).wrapping_sub(done)
    }

    /// Judges it; `chance` decides whether one that warms up takes this connection.
    pub fn judge(&self, weather: Weather, chance: u32) -> Verdict {
        let Weather { now, tuning, slow_start, .. } = weather;
        if !weather.all_admitted {
            let until = self.ejected_until.load(Relaxed);
            match gate(until, now) {
                Gate::Open => {}
                Gate::Shut => return Verdict::Shut,
                Gate::Probe => return self.probe(until, weather),
            }
            if keeps_waiting(
                self.pending(),
                self.waiting_since.load(Relaxed),
                now,
                tuning.handshake,
            ) {
                return Verdict::Shut;
            }
        }
        let joined = self.joined.load(Relaxed);
        if joined != 0 && slow_start != 0 {
            let age = now.saturating_sub(joined);
            if chance & 0xff >= warmth(age, slow_start) {
                return Verdict::Warming;
            }
        }
        Verdict::Usable
    }

    /// The first to move the end of the pause tries it.
    fn probe(&self, until: u64, weather: Weather) -> Verdict {
        let tuning = weather.tuning;
        let pause = pause(self.level.load(Relaxed), tuning.pause, tuning.longest_pause);
        let next = weather.now + pause;
        match self.ejected_until.compare_exchange(until, next, Relaxed, Relaxed) {
            Ok(_) => Verdict::Probe,
            Err(_) => Verdict::Shut,
        }
    }

    /// What it would cost the next connection.
    pub fn load(&self, weight: u32, now: u64) -> Load {
        let now = millis(now);
        let at = |word: &AtomicU64| Average::unpack(word.load(Relaxed)).at(now);
        let in_flight = u32::try_from(self.in_flight.load(Relaxed)).unwrap_or(0);
        Load { micros: at(&self.connect) + at(&self.duration), in_flight, weight }
    }

    /// It was chosen.
    pub fn chosen(&self) {
        self.chosen.fetch_add(1, Relaxed);
    }

    /// A connect left for it that stands for `share` of them.
    pub fn started(&self, share: u64, now: u64) {
        if self.pending() == 0 {
            self.waiting_since.store(now, Relaxed);
        }
        self.started.fetch_add(share, Relaxed);
        self.in_flight.fetch_add(share, Relaxed);
    }

    /// A UDP flow began, or a connection that a former process made is still there.
    pub fn joined(&self, share: u64) {
        self.started.fetch_add(share, Relaxed);
        self.established.fetch_add(share, Relaxed);
        self.in_flight.fetch_add(share, Relaxed);
    }

    /// A handshake was seen to complete.
    pub fn answered(&self, now: u64) {
        self.answered.store(now, Relaxed);
    }

    /// Whether a handshake was seen to complete after that time.
    pub fn answered_since(&self, then: u64) -> bool {
        self.answered.load(Relaxed) >= then
    }

    /// A handshake completed after `nanos`: the backend lives, whatever was thought of it.
    pub fn succeeded(&self, share: u64, nanos: u64, now: u64) {
        self.established.fetch_add(share, Relaxed);
        self.answered(now);
        self.waiting_since.store(now, Relaxed);
        self.failures.store(0, Relaxed);
        let micros = micros(nanos);
        move_average(&self.connect, micros, now);
        self.handshakes.get_or_init(Histogram::new).add(micros);
        let until = self.ejected_until.load(Relaxed);
        let came_back =
            until != 0 && self.ejected_until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok();
        if came_back {
            self.joined.store(now, Relaxed);
            self.vip.ejected.fetch_sub(1, Relaxed);
        }
    }

    /// A handshake that is no longer watched counts as completed.
    pub fn succeeded_unseen(&self, share: u64) {
        self.established.fetch_add(share, Relaxed);
    }

    /// An established connection ended after `nanos`, or is no longer watched.
    pub fn closed(&self, share: u64, nanos: Option<u64>, now: u64, tuning: &Limits) {
        self.closed.fetch_add(share, Relaxed);
        self.in_flight.fetch_sub(share, Relaxed);
        let Some(nanos) = nanos else { return };
        let micros = micros(nanos);
        self.lives.get_or_init(Histogram::new).add(micros);
        // A long life says nothing about the speed of its backend.
        if nanos <= tuning.short {
            move_average(&self.duration, micros, now);
        }
    }

    /// A handshake failed, or is late: the backend is ejected if it was one too many.
    pub fn failed(&self, share: u64, reason: Reason, now: u64, tuning: &Limits) {
        self.failed.fetch_add(share, Relaxed);
        self.in_flight.fetch_sub(share, Relaxed);
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        let until = self.ejected_until.load(Relaxed);
        let is_new = until == 0;
        let counts = self.open.load(Relaxed)
            && match is_new {
                true => tuning.failures != 0 && failures >= tuning.failures,
                // Late news of connects from before the ejection say nothing new.
                false => reason == Reason::Probe,
            };
        if !counts {
            return;
        }
        let came_back = self.joined.load(Relaxed);
        let level = match self.level.load(Relaxed) {
            // It behaved for a long time.
            _ if is_new && now.saturating_sub(came_back) > tuning.longest_pause => 0,
            level => level,
        };
        let end = now + pause(level, tuning.pause, tuning.longest_pause);
        if self.ejected_until.compare_exchange(until, end, Relaxed, Relaxed).is_ok() {
            self.level.store(level + 1, Relaxed);
            self.ejections.fetch_add(1, Relaxed);
            if is_new {
                self.vip.ejected.fetch_add(1, Relaxed);
            }
            if !self.open.load(Relaxed) {
                self.retire();
            }
        }
    }

    /// It gets connects from now on; `joined` is zero if it need not warm up. Nothing
    /// changes if it gets them already.
    pub fn open(&self, joined: u64) {
        if !self.open.swap(true, Relaxed) {
            self.failures.store(0, Relaxed);
            self.joined.store(joined, Relaxed);
        }
    }

    /// It gets no connects any more, or leaves its VIP: it no longer counts among the
    /// ejected.
    pub fn retire(&self) {
        self.open.store(false, Relaxed);
        if self.ejected_until.swap(0, Relaxed) != 0 {
            self.vip.ejected.fetch_sub(1, Relaxed);
        }
    }
}

fn micros(nanos: u64) -> u32 {
    u32::try_from(nanos / 1_000).unwrap_or(u32::MAX)
}

fn move_average(average: &AtomicU64, micros: u32, now: u64) {
    let before = Average::unpack(average.load(Relaxed));
    average.store(before.step(micros, millis(now)).pack(), Relaxed);
}

/// The clock of averages.
fn millis(nanos: u64) -> u32 {
    (nanos / 1_000_000) as u32
}

#[cfg(test)]
mod tests;
