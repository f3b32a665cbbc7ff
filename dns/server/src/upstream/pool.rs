//! All upstreams with what is known of each.

use super::https::Https;
use super::line::Line;
use super::plain::Plain;
use super::tls::Trust;
use super::{Question, UpstreamError};
use crate::forward::ForwardError;
use mizzen_dns_core::{
    Channel, Choice, Ended, Relayed, Standing, Upstream, UpstreamState, Upstreams,
};
use mizzen_types::time::Mono;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;
use tracing::{info, warn};

/// Upper bounds of the buckets of latencies, in milliseconds; one more has no bound.
const BOUNDS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];

/// One upstream, what it did and how it stands.
#[derive(Debug, Clone)]
pub struct UpstreamSnapshot {
    /// As it is configured.
    pub upstream: Upstream,
    /// Questions that were sent to it.
    pub queries: u64,
    /// Questions that it did not answer, or with something unusable.
    pub failures: u64,
    /// Questions that it answered with an error, such as SERVFAIL.
    pub excuses: u64,
    /// How long answers took: upper bound and how many took no longer and longer than
    /// the bound before; the last one has no bound.
    pub latencies: Vec<(Option<Duration>, u64)>,
    /// The sum of all latencies.
    pub latency_sum: Duration,
    /// What the choice among upstreams knows of it.
    pub standing: Standing,
}

/// Upstreams, by number.
#[derive(Debug)]
pub(crate) struct Pool {
    members: Vec<Member>,
    standings: Mutex<Upstreams>,
    start: Instant,
}

#[derive(Debug)]
struct Member {
    spec: Upstream,
    means: Means,
    counts: Counts,
    /// When it answered last, in nanoseconds like [`Mono`].
    answered: AtomicU64,
}

/// What an upstream is asked by.
#[derive(Debug)]
enum Means {
    Plain(Plain),
    Tls(Line),
    Https(Https),
}

#[derive(Debug, Default)]
struct Counts {
    queries: AtomicU64,
    failures: AtomicU64,
    excuses: AtomicU64,
    latencies: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds.
    latency_sum: AtomicU64,
}

impl Pool {
    /// * `ca_file` — certificates to believe beside the machine's own.
    /// * `limit` — questions that may wait for one upstream at once.
    pub(crate) fn new(
        specs: Vec<Upstream>,
        ca_file: Option<&Path>,
        limit: u32,
        start: Instant,
    ) -> Result<Self, ForwardError> {
        let is_secured = |spec: &Upstream| spec.channel != Channel::Plain;
        let trust = match specs.iter().any(is_secured) {
            true => Some(Trust::read(ca_file)?),
            false => None,
        };
        let count = specs.len();
        let members = specs.into_iter().map(|spec| Member::new(spec, trust.as_ref()));
        let members = members.collect::<Result<_, _>>()?;
        Ok(Self { members, standings: Mutex::new(Upstreams::new(count, limit)), start })
    }

    pub(crate) fn address(&self, number: usize) -> Option<SocketAddr> {
        self.members.get(number).map(|member| member.spec.address)
    }

    /// Chooses whom to ask; [`Self::ask`] must follow for each.
    pub(crate) fn choose(&self, candidates: &[usize], tried: &[usize]) -> Choice {
        self.standings.lock().choose(candidates, tried, self.now())
    }

    /// Asks one upstream, until `end`.
    ///
    /// A name that is never answered shall not take an upstream down that answers others: a
    /// question counts as a failure once, and only if nothing was answered meanwhile.
    ///
    /// * `again` — whether it was asked this question before.
    pub(crate) async fn ask(
        &self,
        number: usize,
        question: &Question,
        end: tokio::time::Instant,
        again: bool,
    ) -> Result<Relayed, UpstreamError> {
        let mut asked = Asked { pool: self, number, how: Ended::Dropped };
        let Some(member) = self.members.get(number) else { return Err(UpstreamError::Closed) };
        let (begin, asked_at) = (Instant::now(), self.now());
        let limit = end.saturating_duration_since(tokio::time::Instant::now());
        let answer = timeout_at(end, member.means.ask(question)).await;
        let answer = answer.unwrap_or(Err(UpstreamError::TimedOut(limit)));
        let after = begin.elapsed();
        asked.how = match &answer {
            Ok(answer) if answer.is_whole() => Ended::Answered { after },
            Ok(_) | Err(UpstreamError::Mismatch(_) | UpstreamError::Status(_)) => {
                Ended::Excused { after }
            }
            Err(_) => Ended::Failed,
        };
        member.counts.count(asked.how);
        match asked.how {
            Ended::Answered { .. } | Ended::Excused { .. } => {
                member.answered.store(self.now().0, Ordering::Relaxed);
            }
            Ended::Failed if again || member.answered.load(Ordering::Relaxed) > asked_at.0 => {
                asked.how = Ended::Dropped;
            }
            Ended::Failed | Ended::Dropped => {}
        }
        answer
    }

    pub(crate) fn snapshot(&self) -> Vec<UpstreamSnapshot> {
        let standings = self.standings.lock().standings().to_vec();
        let members = self.members.iter().zip(standings);
        members.map(|(member, standing)| member.snapshot(standing)).collect()
    }

    fn now(&self) -> Mono {
        Mono(0) + self.start.elapsed()
    }

    fn ended(&self, number: usize, how: Ended) {
        let state = |standings: &Upstreams| standings.standings().get(number).map(|s| s.state);
        let (before, after) = {
            let mut standings = self.standings.lock();
            let before = state(&standings);
            standings.ended(number, how, self.now());
            (before, state(&standings))
        };
        let Some(member) = self.members.get(number) else { return };
        match (before, after) {
            (Some(UpstreamState::Up), Some(UpstreamState::Down { .. })) => {
                warn!(upstream = %member.spec, "upstream does not answer; it is tried now and then");
            }
            (Some(UpstreamState::Down { .. }), Some(UpstreamState::Up)) => {
                info!(upstream = %member.spec, "upstream answers again");
            }
            _ => {}
        }
    }
}

/// A question at an upstream: tells how it ended, also if its runtime ends first.
struct Asked<'a> {
    pool: &'a Pool,
    number: usize,
    how: Ended,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.pool.ended(self.number, self.how);
    }
}

impl Member {
    fn new(spec: Upstream, trust: Option<&Trust>) -> Result<Self, ForwardError> {
        let connector = |protocol| match trust {
            Some(trust) => trust.connector(&spec, protocol),
            None => Err(ForwardError::NoCertificates(Box::new(spec.clone()))),
        };
        let means = match &spec.channel {
            Channel::Plain => Means::Plain(Plain::new(spec.address)),
            Channel::Tls { .. } => Means::Tls(Line::new(connector(b"dot")?)),
            Channel::Https { path, .. } => Means::Https(Https::new(connector(b"h2")?, path)),
        };
        Ok(Self { spec, means, counts: Counts::default(), answered: AtomicU64::new(0) })
    }

    fn snapshot(&self, standing: Standing) -> UpstreamSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bounds = BOUNDS.iter().map(|bound| Some(Duration::from_millis(*bound))).chain([None]);
        UpstreamSnapshot {
            upstream: self.spec.clone(),
            queries: read(&self.counts.queries),
            failures: read(&self.counts.failures),
            excuses: read(&self.counts.excuses),
            latencies: bounds.zip(self.counts.latencies.iter().map(read)).collect(),
            latency_sum: Duration::from_nanos(read(&self.counts.latency_sum)),
            standing,
        }
    }
}

impl Means {
    async fn ask(&self, question: &Question) -> Result<Relayed, UpstreamError> {
        match self {
            Self::Plain(plain) => plain.ask(question).await,
            Self::Tls(line) => line.ask(question).await,
            Self::Https(https) => https.ask(question).await,
        }
    }
}

impl Counts {
    fn count(&self, how: Ended) {
        let add = |counter: &AtomicU64, number| counter.fetch_add(number, Ordering::Relaxed);
        add(&self.queries, 1);
        match how {
            Ended::Answered { after } | Ended::Excused { after } => {
                let milliseconds = after.as_nanos().div_ceil(1_000_000);
                let bucket = BOUNDS.partition_point(|bound| u128::from(*bound) < milliseconds);
                if let Some(counter) = self.latencies.get(bucket) {
                    add(counter, 1);
                }
                add(&self.latency_sum, u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
            }
            Ended::Failed | Ended::Dropped => {
                add(&self.failures, 1);
            }
        }
        if matches!(how, Ended::Excused { .. }) {
            add(&self.excuses, 1);
        }
    }
}
