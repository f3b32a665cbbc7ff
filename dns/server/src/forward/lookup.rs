//! The way of one question: local names, the cache, then upstreams.

use super::cache::{Cache, Entry};
use super::counters::{Counters, ForwardSnapshot};
use super::flight::{Details, Flights, Joined, Outcome};
use super::loops::{self, LoopLog};
use super::rounds;
use super::settings::{ForwardError, ForwardSettings};
use crate::shared::SharedZones;
use crate::upstream::{Pool, Question};
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinDecodable;
use mizzen_dns_core::{
    Age, Asker, CacheKey, DnsName, ForwardTable, Freshness, LocalNames, Notice, Relayed,
};
use mizzen_types::time::Mono;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::debug;

/// How long a client waits for a new answer if there is a stale one (RFC 8767, 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);
/// How many times a question must have been asked to be asked anew before its end.
const POPULAR: u32 = 3;
/// Waiting clients for each question that may wait for upstreams.
const CLIENTS_PER_FLIGHT: usize = 16;
const SERVFAIL: u16 = 2;
const REFUSED: u16 = 5;
/// Extended errors (RFC 8914, 4).
const OTHER: u16 = 0;
const NOT_AUTHORITATIVE: u16 = 20;

/// What all threads and flights share.
#[derive(Debug)]
pub(super) struct Lookup {
    settings: ForwardSettings,
    /// What the file of certificates held when they were believed.
    certificates: Option<Vec<u8>>,
    pub(super) table: ForwardTable<usize>,
    pub(super) pool: Arc<Pool>,
    zones: Arc<SharedZones>,
    local: LocalNames,
    pub(super) cache: Arc<Cache>,
    flights: Flights,
    waiting: AtomicUsize,
    max_waiting: usize,
    loops: LoopLog,
    counters: Arc<Counters>,
    /// Where the times of kept answers begin.
    start: Instant,
}

/// What a question is answered with.
#[derive(Debug)]
pub(super) enum Found {
    /// Just made or just come.
    New(Outcome),
    /// From the cache, given so many times already.
    Kept(Arc<Entry>, Age, u32),
}

/// A question with everything that its way through here needs.
struct Asked<'a> {
    asker: &'a Asker<'a>,
    key: CacheKey,
    client: IpAddr,
    upstreams: &'a [usize],
}

impl Found {
    pub(super) fn code(&self) -> u16 {
        self.answer().code()
    }

    pub(super) fn room_for(&self, asker: &Asker<'_>) -> usize {
        self.answer().room_for(asker)
    }

    pub(super) fn write(&self, asker: &Asker<'_>, out: &mut [u8]) -> Option<usize> {
        match self {
            Self::New(answer) => answer.write(asker, Age::Fresh(0), 0, out),
            Self::Kept(entry, age, turn) => entry.kept.answer().write(asker, *age, *turn, out),
        }
    }

    fn answer(&self) -> &Relayed {
        match self {
            Self::New(answer) => answer,
            Self::Kept(entry, ..) => entry.kept.answer(),
        }
    }
}

impl Lookup {
    pub(super) fn new(
        settings: &ForwardSettings,
        zones: Arc<SharedZones>,
        listen: &[SocketAddr],
        former: Option<&Self>,
    ) -> Result<Self, ForwardError> {
        let (table, specs) = settings.table(listen)?;
        let start = former.map_or_else(Instant::now, |former| former.start);
        let per_upstream = u32::try_from(settings.in_flight).unwrap_or(u32::MAX);
        let certificates = settings.certificates();
        let is_same = |former: &&Self| {
            settings.connects_as(&former.settings)
                && settings.ca_file.is_some() == certificates.is_some()
                && certificates == former.certificates
        };
        let pool = match former.filter(is_same) {
            Some(former) => Arc::clone(&former.pool),
            None => Arc::new(Pool::new(specs, settings.ca_file.as_deref(), per_upstream, start)?),
        };
        let cache = match former.filter(|former| settings.asks_as(&former.settings)) {
            Some(former) => Cache::resized(&former.cache, settings),
            None => Arc::new(Cache::new(settings)),
        };
        Ok(Self {
            settings: settings.clone(),
            certificates,
            table,
            pool,
            zones,
            local: LocalNames::new(settings.search.clone()),
            cache,
            flights: Flights::new(settings.in_flight),
            waiting: AtomicUsize::new(0),
            max_waiting: settings.in_flight.saturating_mul(CLIENTS_PER_FLIGHT),
            loops: LoopLog::default(),
            counters: former.map(|former| Arc::clone(&former.counters)).unwrap_or_default(),
            start,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(super) fn snapshot(&self) -> ForwardSnapshot {
        ForwardSnapshot {
            cache: self.counters.snapshot(&self.cache),
            upstreams: self.pool.snapshot(),
            flights: self.flights.count(),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// The answer from the cache, if its time is not over.
    pub(super) fn fresh(self: &Arc<Self>, asker: &Asker<'_>) -> Option<Found> {
        let key = CacheKey::new(asker)?;
        let entry = self.cache.get(&key)?;
        self.given(entry, asker, &key).ok()
    }

    /// The answer, wherever it comes from; `None` if the name is none.
    pub(super) async fn find(self: &Arc<Self>, asker: &Asker<'_>, client: IpAddr) -> Option<Found> {
        let name = DnsName::from_wire(&Name::from_bytes(asker.name).ok()?);
        if let Some(answer) = self.local_answer(&name, asker) {
            return Some(Found::New(Arc::new(answer)));
        }
        let upstreams = self.table.route(&name);
        if upstreams.is_empty() {
            let text = match self.table.zone_for(&name) {
                Some(_) => "the forward zone of this name has no upstreams",
                None => "this resolver has no upstreams",
            };
            let notice = Notice { code: NOT_AUTHORITATIVE, text };
            return Some(Found::New(Arc::new(Relayed::bare(REFUSED, Some(notice)))));
        }
        let asked = Asked { asker, key: CacheKey::new(asker)?, client, upstreams };
        if !asker.recursion_desired {
            // What upstreams say to such a question depends on what they happen to know.
            return Some(Found::New(self.ask_once(&asked).await));
        }
        let stale = match self.cache.get(&asked.key) {
            None => None,
            Some(entry) => match self.given(entry, asker, &asked.key) {
                Ok(found) => return Some(found),
                Err(entry) => Some(entry).filter(|e| self.freshness(e) == Freshness::Stale),
            },
        };
        Counters::count(&self.counters.misses);
        Some(self.miss(&asked, stale).await)
    }

    /// The answer that needs nobody, unless a forward zone wants the name.
    pub(super) fn local_answer(&self, name: &DnsName, asker: &Asker<'_>) -> Option<Relayed> {
        if self.table.has_zone_for(name) {
            return None;
        }
        self.zones.read(|zones| self.local.answer(zones, name, asker.name, asker.kind))
    }

    fn now(&self) -> Mono {
        Mono(0) + self.start.elapsed()
    }

    pub(super) fn freshness(&self, entry: &Entry) -> Freshness {
        entry.kept.freshness(self.now(), self.settings.serve_stale)
    }

    /// Counts an answer whose time is not over as given; returns others as they are.
    fn given(
        self: &Arc<Self>,
        entry: Arc<Entry>,
        asker: &Asker<'_>,
        key: &CacheKey,
    ) -> Result<Found, Arc<Entry>> {
        let Freshness::Fresh { age, ending } = self.freshness(&entry) else { return Err(entry) };
        Counters::count(&self.counters.hits);
        let turn = entry.count();
        if ending && turn >= POPULAR && entry.kept.is_answer() && !entry.is_held(self.now()) {
            self.refresh(asker, key);
        }
        Ok(Found::Kept(entry, Age::Fresh(age), turn))
    }

    /// Gets an answer that is not in the cache, or gives a stale one.
    async fn miss(self: &Arc<Self>, asked: &Asked<'_>, stale: Option<Arc<Entry>>) -> Found {
        let Some(entry) = stale else { return Found::New(self.share(asked).await) };
        if !entry.is_held(self.now()) {
            match timeout(STALE_PATIENCE, self.share(asked)).await {
                Ok(outcome) if outcome.is_good() => return Found::New(outcome),
                // The flight may go on; those who come next do not wait for it.
                _ => entry.hold(self.now()),
            }
        }
        Counters::count(&self.counters.stale);
        let turn = entry.count();
        Found::Kept(entry, Age::Stale, turn)
    }

    /// Joins the flight of this question, or starts it.
    async fn share(self: &Arc<Self>, asked: &Asked<'_>) -> Outcome {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max_waiting {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return busy("too many clients wait for upstreams");
        }
        let _waits = Waits(&self.waiting);
        if let Some(answer) = self.refuse_loop(asked) {
            return answer;
        }
        match self.join(asked.asker, &asked.key, asked.upstreams, None) {
            Joined::Waits(landing) => landing.outcome().await,
            Joined::Full => busy("too many questions wait for upstreams"),
        }
    }

    /// Asks without sharing the answer with anybody.
    async fn ask_once(self: &Arc<Self>, asked: &Asked<'_>) -> Outcome {
        let Some(_slot) = self.flights.slot() else {
            return busy("too many questions wait for upstreams");
        };
        let question = Arc::new(Question::new(asked.asker));
        let ended =
            rounds::ask(&self.pool, question, asked.upstreams, self.settings.deadline).await;
        Arc::new(ended.into_answer())
    }

    /// * `started` — counts flights that are started.
    fn join(
        self: &Arc<Self>,
        asker: &Asker<'_>,
        key: &CacheKey,
        upstreams: &[usize],
        started: Option<&AtomicU64>,
    ) -> Joined {
        self.flights.join(key, || {
            started.inspect(|counter| Counters::count(counter));
            let question = Arc::new(Question::new(asker));
            let addresses = upstreams.iter().filter_map(|number| self.pool.address(*number));
            let flight = Details {
                spelling: question.spelling().into(),
                asked: addresses.map(|address| address.ip()).collect(),
            };
            let (shared, upstreams, key) = (Arc::clone(self), upstreams.to_vec(), *key);
            let course = async move { shared.fly(question, &upstreams, &key).await };
            (flight, course)
        })
    }

    /// A flight: asks, and keeps what comes.
    async fn fly(&self, question: Arc<Question>, upstreams: &[usize], key: &CacheKey) -> Outcome {
        let ended = rounds::ask(&self.pool, question, upstreams, self.settings.deadline).await;
        let now = self.now();
        let entry = self.cache.get(key);
        let outlives = entry.filter(|entry| !ended.is_good() && self.outlives(entry));
        let (answer, failure) = ended.into_parts();
        let answer = Arc::new(answer);
        match outlives {
            Some(entry) => entry.hold(now),
            None => self.cache.keep(key, &answer, failure, now),
        }
        answer
    }

    /// Whether an entry is worth more than the news that nobody answers.
    fn outlives(&self, entry: &Entry) -> bool {
        entry.kept.is_answer() && self.freshness(entry) != Freshness::Gone
    }

    /// Asks anew for an answer that is about to end; nobody waits for it.
    fn refresh(self: &Arc<Self>, asker: &Asker<'_>, key: &CacheKey) {
        let Ok(name) = Name::from_bytes(asker.name) else { return };
        let upstreams = self.table.route(&DnsName::from_wire(&name));
        self.join(asker, key, upstreams, Some(&self.counters.prefetches));
    }

    fn refuse_loop(&self, asked: &Asked<'_>) -> Option<Outcome> {
        let flight = self.flights.of_name(&asked.key);
        let text = flight.iter().find_map(|flight| loops::found(flight, asked.asker, asked.client));
        let text = text?;
        Counters::count(&self.counters.loops);
        self.loops.report(asked.client, asked.asker.name, self.start.elapsed());
        Some(Arc::new(Relayed::bare(SERVFAIL, Some(Notice { code: OTHER, text }))))
    }
}

/// Counts a client that waits, until it does not.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn busy(text: &'static str) -> Outcome {
    debug!(text);
    Arc::new(Relayed::bare(SERVFAIL, Some(Notice { code: OTHER, text })))
}
