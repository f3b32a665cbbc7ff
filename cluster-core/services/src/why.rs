//! Why copies are not running: what became of the offers that were looked at, as
//! numbers for `/v2/queue` and as a sentence for people.

use crate::app::App;
use crate::version::Version;
use mizzen_types::resources::Scalar;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most agents whose last answer is remembered per service.
const MAX_REMEMBERED: usize = 1000;

/// Why an offer was not taken, in the order in which offers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[allow(missing_docs, reason = "the names are Marathon's")]
pub enum Reason {
    UnfulfilledRole,
    UnfulfilledConstraint,
    NoCorrespondingReservationFound,
    AgentMaintenance,
    InsufficientCpus,
    InsufficientMemory,
    InsufficientDisk,
    InsufficientGpus,
    InsufficientPorts,
    DeclinedScarceResources,
}

const FUNNEL: [Reason; 10] = [
    Reason::UnfulfilledRole,
    Reason::UnfulfilledConstraint,
    Reason::NoCorrespondingReservationFound,
    Reason::AgentMaintenance,
    Reason::InsufficientCpus,
    Reason::InsufficientMemory,
    Reason::InsufficientDisk,
    Reason::InsufficientGpus,
    Reason::InsufficientPorts,
    Reason::DeclinedScarceResources,
];

/// Why one offer was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The first thing that it lacks.
    pub reason: Reason,
    /// How much it has of that, where that is a number.
    pub has: Scalar,
    /// More, for reasons that numbers do not tell.
    pub words: String,
}

impl Rejection {
    /// Too little of something.
    #[must_use]
    pub fn amount(reason: Reason, has: Scalar) -> Self {
        Self { reason, has, words: String::new() }
    }

    /// Something else.
    pub fn words(reason: Reason, words: impl Into<String>) -> Self {
        Self { reason, has: Scalar::ZERO, words: words.into() }
    }
}

/// Copies that wait for an offer.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// How many.
    pub count: u32,
    /// Since when any.
    pub since: Version,
    processed: u64,
    unused: u64,
    last_used: Option<Version>,
    last_unused: Option<Version>,
    attempt: BTreeMap<Reason, u64>,
    /// The last answer to each agent's offer; `None` was taken.
    last: BTreeMap<String, Option<Rejection>>,
}

impl Queue {
    /// A queue that begins to wait.
    #[must_use]
    pub fn new(count: u32, since: Version) -> Self {
        Self {
            count,
            since,
            processed: 0,
            unused: 0,
            last_used: None,
            last_unused: None,
            attempt: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// An offer of `agent` was looked at.
    pub fn record(&mut self, agent: &str, answer: Option<Rejection>, now: Version) {
        self.processed += 1;
        match &answer {
            None => self.last_used = Some(now),
            Some(rejection) => {
                self.unused += 1;
                self.last_unused = Some(now);
                *self.attempt.entry(rejection.reason).or_default() += 1;
            }
        }
        if self.last.len() < MAX_REMEMBERED || self.last.contains_key(agent) {
            self.last.insert(agent.to_owned(), answer);
        }
    }

    /// `processedOffersSummary` of `/v2/queue`.
    #[must_use]
    pub fn summary(&self) -> Value {
        let mut counts: BTreeMap<Reason, u64> = BTreeMap::new();
        for rejection in self.last.values().flatten() {
            *counts.entry(rejection.reason).or_default() += 1;
        }
        let mut summary = json!({
            "processedOffersCount": self.processed,
            "unusedOffersCount": self.unused,
            "rejectSummaryLastOffers": funnel(self.last.len() as u64, &counts),
            "rejectSummaryLaunchAttempt": funnel(self.processed, &self.attempt),
        });
        for (name, time) in
            [("lastUnusedOfferAt", self.last_unused), ("lastUsedOfferAt", self.last_used)]
        {
            if let Some(time) = time {
                summary[name] = json!(time);
            }
        }
        summary
    }

    /// What is lacking, in words: `needs 4000 cpus, the largest offer has 2`.
    #[must_use]
    pub fn sentence(&self, app: &App) -> String {
        let mut by_reason: BTreeMap<Reason, Vec<&Rejection>> = BTreeMap::new();
        for rejection in self.last.values().flatten() {
            by_reason.entry(rejection.reason).or_default().push(rejection);
        }
        if by_reason.is_empty() {
            return "waits for an offer, none has come yet".to_owned();
        }
        let single = by_reason.len() == 1;
        let part = |(reason, rejections): (Reason, Vec<&Rejection>)| {
            let lack = lack(app, reason, &rejections);
            if single {
                return lack;
            }
            format!("{} of {} agents: {lack}", rejections.len(), self.last.len())
        };
        by_reason.into_iter().map(part).collect::<Vec<_>>().join("; ")
    }
}

/// How many offers came to each stage and how many ended there.
fn funnel(offers: u64, ended: &BTreeMap<Reason, u64>) -> Vec<Value> {
    let mut left = offers;
    let stage = |reason| {
        let declined = ended.get(&reason).copied().unwrap_or_default();
        let stage = json!({"reason": reason, "declined": declined, "processed": left});
        left = left.saturating_sub(declined);
        stage
    };
    FUNNEL.into_iter().map(stage).collect()
}

fn lack(app: &App, reason: Reason, rejections: &[&Rejection]) -> String {
    let most = rejections.iter().map(|rejection| rejection.has).max().unwrap_or_default();
    let too_little = |wanted: f64, what: &str| {
        let wanted = Scalar::from_f64(wanted).unwrap_or_default();
        format!("needs {wanted} {what}, the largest offer has {most}")
    };
    let words = || rejections.first().map_or_else(String::new, |rejection| rejection.words.clone());
    match reason {
        Reason::InsufficientCpus => too_little(app.cpus, "cpus"),
        Reason::InsufficientMemory => too_little(app.mem, "MB of memory"),
        Reason::InsufficientDisk => too_little(app.disk, "MB of disk"),
        Reason::InsufficientGpus => too_little(f64::from(app.gpus), "gpus"),
        _ => words(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::app;

    fn few(reason: Reason, has: u64) -> Option<Rejection> {
        Some(Rejection::amount(reason, Scalar::from_units(has)))
    }

    #[test]
    fn a_sentence_says_what_is_lacking() {
        let app = app(json!({"cpus": 4000, "mem": 64.5}));
        let now = Version::default();
        let mut queue = Queue::new(1, now);
        assert_eq!(queue.sentence(&app), "waits for an offer, none has come yet");
        queue.record("S0", few(Reason::InsufficientCpus, 1), now);
        queue.record("S1", few(Reason::InsufficientCpus, 2), now);
        assert_eq!(queue.sentence(&app), "needs 4000 cpus, the largest offer has 2");
        queue.record("S2", few(Reason::InsufficientMemory, 32), now);
        assert_eq!(
            queue.sentence(&app),
            "2 of 3 agents: needs 4000 cpus, the largest offer has 2; \
             1 of 3 agents: needs 64.5 MB of memory, the largest offer has 32"
        );
    }

    #[test]
    fn the_funnel_counts_what_is_left_at_each_stage() {
        let now = Version::default();
        let mut queue = Queue::new(1, now);
        for agent in ["S0", "S0", "S1"] {
            queue.record(agent, few(Reason::InsufficientCpus, 1), now);
        }
        queue.record("S2", None, now);
        let summary = queue.summary();
        assert_eq!(summary["processedOffersCount"], 4);
        assert_eq!(summary["unusedOffersCount"], 3);
        let stage = |list: &str, index: usize| summary[list][index].clone();
        let cpus = json!({"reason": "InsufficientCpus", "declined": 2, "processed": 3});
        assert_eq!(stage("rejectSummaryLastOffers", 4), cpus);
        assert_eq!(stage("rejectSummaryLastOffers", 5)["processed"], 1);
        assert_eq!(stage("rejectSummaryLaunchAttempt", 4)["declined"], 3);
    }
}
