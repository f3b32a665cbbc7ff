//! Names that are somebody else's: from the cache, or asked of upstreams.
//!
//! ```text
//! cached()  ─▶ cache ── hit ─▶ bytes                         on the short road
//! relay()   ─▶ local names ─▶ cache ─▶ flight ─▶ upstreams   on the full road
//!                                        │ same question at the same time: one flight
//!                                        ▼
//!                                     cache (fresh, or stale if nobody answers)
//! ```
//!
//! A question is written anew instead of relayed: our own id, a port of our own that only
//! the upstream can answer to, our own capitals and OPT record. An answer is relayed in
//! the bytes it came in. Whom to ask, what an answer is worth and which names need nobody
//! is decided in `mizzen-dns-core`.

mod cache;
mod counters;
mod flight;
mod loops;
mod rounds;
mod settings;

pub use counters::{CacheSnapshot, ForwardSnapshot};
pub use settings::{ForwardError, ForwardSettings};

use crate::shared::SharedZones;
use crate::upstream::{Pool, Question};
use cache::{Cache, Entry};
use counters::Counters;
use flight::{Flights, Joined, Outcome};
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinDecodable;
use loops::LoopLog;
use mizzen_dns_core::{
    Age, Asker, CacheKey, DnsName, ForwardTable, Freshness, LocalNames, Notice, PlainQuestion,
    Relayed,
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

/// Asks upstreams, and remembers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Forwarder(Arc<Shared>);

/// A reply from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachedReply {
    /// Its bytes in the buffer.
    pub(crate) length: usize,
    /// Its response code.
    pub(crate) code: u16,
}

/// What all threads and flights share.
#[derive(Debug)]
struct Shared {
    table: ForwardTable<usize>,
    pool: Arc<Pool>,
    zones: Arc<SharedZones>,
    local: LocalNames,
    cache: Cache,
    flights: Flights,
    waiting: AtomicUsize,
    max_waiting: usize,
    deadline: Duration,
    loops: LoopLog,
    counters: Counters,
    start: Instant,
}

/// A question with everything that its way through here needs.
struct Asked<'a> {
    asker: &'a Asker<'a>,
    key: CacheKey,
    client: IpAddr,
    upstreams: &'a [usize],
}

impl Forwarder {
    /// * `listen` — the resolver's own addresses: one that asks itself asks for ever.
    pub(crate) fn new(
        settings: &ForwardSettings,
        zones: Arc<SharedZones>,
        listen: &[SocketAddr],
    ) -> Result<Self, ForwardError> {
        let (table, specs) = settings.table(listen)?;
        let start = Instant::now();
        let per_upstream = u32::try_from(settings.in_flight).unwrap_or(u32::MAX);
        let pool = Arc::new(Pool::new(specs, settings.ca_file.as_deref(), per_upstream, start)?);
        Ok(Self(Arc::new(Shared {
            table,
            pool,
            zones,
            local: LocalNames::new(settings.search.clone()),
            cache: Cache::new(settings),
            flights: Flights::new(settings.in_flight),
            waiting: AtomicUsize::new(0),
            max_waiting: settings.in_flight.saturating_mul(CLIENTS_PER_FLIGHT),
            deadline: settings.deadline,
            loops: LoopLog::default(),
            counters: Counters::default(),
            start,
        })))
    }

    /// Whether there is nobody to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.table.is_empty()
    }

    /// The reply to a plain question, written into `out`, if it can be given at once.
    /// Everything else takes the full road. Must be called inside a runtime: it may
    /// begin to ask anew for what is popular and about to end.
    pub(crate) fn cached(
        &self,
        question: &PlainQuestion<'_>,
        out: &mut [u8],
    ) -> Option<CachedReply> {
        if !question.recursion_desired() {
            return None;
        }
        let asker = Asker::from(question);
        let key = CacheKey::new(&asker)?;
        let entry = self.0.cache.get(&key)?;
        let (length, code) = self.0.fresh(&entry, &asker, &key, out)?;
        Some(CachedReply { length, code })
    }

    /// The reply to a question about a name that is not ours. REFUSED if there is nobody
    /// to ask, SERVFAIL if nobody answers or too many questions wait already.
    ///
    /// * `client` — who asks, to find questions of ours that come back.
    pub(crate) async fn relay(&self, asker: &Asker<'_>, client: IpAddr) -> Vec<u8> {
        let mut out = vec![0; asker.room.min(usize::from(u16::MAX))];
        let length = self.0.relay(asker, client, &mut out).await;
        out.truncate(length.unwrap_or(0));
        out
    }

    /// What happened so far and how the upstreams stand.
    pub(crate) fn snapshot(&self) -> ForwardSnapshot {
        let shared = &self.0;
        ForwardSnapshot {
            cache: shared.counters.snapshot(&shared.cache),
            upstreams: shared.pool.snapshot(),
            flights: shared.flights.count(),
            waiting: shared.waiting.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn now(&self) -> Mono {
        Mono(0) + self.start.elapsed()
    }

    async fn relay(
        self: &Arc<Self>,
        asker: &Asker<'_>,
        client: IpAddr,
        out: &mut [u8],
    ) -> Option<usize> {
        let say = |answer: &Relayed, out: &mut [u8]| answer.write(asker, Age::Fresh(0), out);
        let name = DnsName::from_wire(&Name::from_bytes(asker.name).ok()?);
        if !self.table.has_zone_for(&name)
            && let Some(answer) =
                self.zones.read(|zones| self.local.answer(zones, &name, asker.name, asker.kind))
        {
            return say(&answer, out);
        }
        let upstreams = self.table.route(&name);
        if upstreams.is_empty() {
            let notice = Notice { code: NOT_AUTHORITATIVE, text: "" };
            return say(&Relayed::bare(REFUSED, Some(notice)), out);
        }
        let asked = Asked { asker, key: CacheKey::new(asker)?, client, upstreams };
        if !asker.recursion_desired {
            // What upstreams say to such a question depends on what they happen to know.
            return say(&*self.ask_once(&asked).await, out);
        }
        let entry = self.cache.get(&asked.key);
        if let Some((length, _)) =
            entry.as_ref().and_then(|entry| self.fresh(entry, asker, &asked.key, out))
        {
            return Some(length);
        }
        Counters::count(&self.counters.misses);
        let stale = entry.filter(|entry| self.freshness(entry) == Freshness::Stale);
        self.miss(&asked, stale, out).await
    }

    /// Writes the answer of an entry whose time is not over.
    fn fresh(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        asker: &Asker<'_>,
        key: &CacheKey,
        out: &mut [u8],
    ) -> Option<(usize, u16)> {
        let Freshness::Fresh { age, ending } = self.freshness(entry) else { return None };
        let answer = entry.kept.answer();
        let length = answer.write(asker, Age::Fresh(age), out)?;
        Counters::count(&self.counters.hits);
        let asked = entry.count();
        if ending && asked >= POPULAR && entry.kept.is_answer() && !entry.is_held(self.now()) {
            self.refresh(asker, key);
        }
        Some((length, answer.code()))
    }

    fn freshness(&self, entry: &Entry) -> Freshness {
        entry.kept.freshness(self.now(), self.cache.stale())
    }

    /// Gets an answer that is not in the cache, or gives a stale one.
    async fn miss(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        stale: Option<Arc<Entry>>,
        out: &mut [u8],
    ) -> Option<usize> {
        let asker = asked.asker;
        let give_stale = |entry: &Entry, out: &mut [u8]| {
            Counters::count(&self.counters.stale);
            entry.kept.answer().write(asker, Age::Stale, out)
        };
        if let Some(entry) = &stale
            && entry.is_held(self.now())
        {
            return give_stale(entry, out);
        }
        let outcome = match &stale {
            None => self.share(asked).await,
            Some(entry) => match timeout(STALE_PATIENCE, self.share(asked)).await {
                Ok(outcome) if outcome.is_good() => outcome,
                _ => {
                    // The flight may go on; those who come next do not wait for it.
                    entry.hold(self.now());
                    return give_stale(entry, out);
                }
            },
        };
        outcome.write(asker, Age::Fresh(0), out)
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
        let ended = rounds::ask(&self.pool, question, asked.upstreams, self.deadline).await;
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
            let flight = flight::Details {
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
        let ended = rounds::ask(&self.pool, question, upstreams, self.deadline).await;
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
