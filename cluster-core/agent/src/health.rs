//! A task's health check as a value: when to ask, and what the answers add up to.
//!
//! Failures before the first success are forgiven during the grace period, so there
//! the task is asked often: clients come as soon as it is ready. After
//! `consecutive_failures` failures in a row the task is given up: names and VIPs
//! leave it out from the first bad answer on, and it is killed at the last one.

use mizzen_api::v1;
use mizzen_types::container::CommandSpec;
use mizzen_types::fact::Health;
use mizzen_types::ids::ContainerId;
use mizzen_types::time::Mono;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Pause between questions while failures are forgiven.
const EAGER: Duration = Duration::from_millis(200);

/// One question to a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Whom to ask.
    pub container: ContainerId,
    /// How.
    pub target: Target,
    /// No answer by then is a bad one.
    pub timeout: Duration,
}

/// How to ask.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// `GET path`; the answer's status decides.
    Http {
        /// Where the task listens.
        address: SocketAddr,
        /// Path with query.
        path: String,
        /// Good statuses; empty means 200–399.
        statuses: Vec<u32>,
    },
    /// A connection that opens is good.
    Tcp {
        /// Where the task listens.
        address: SocketAddr,
    },
    /// A command in the container; exit code 0 is good.
    Command {
        /// What to run.
        command: CommandSpec,
        /// Its whole environment.
        environment: BTreeMap<String, String>,
    },
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is well.
    Well,
    /// It is not, for this reason.
    Unwell(String),
    /// The node itself could not ask; this says nothing about the task.
    NotAsked,
}

/// What the last answer means.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    Same,
    /// It is well now, or is not.
    Changed(bool),
    /// Enough: kill it, and say this.
    GiveUp(String),
}

/// One health check of one running task.
#[derive(Debug)]
pub struct Monitor {
    interval: Duration,
    limit: u32,
    grace_until: Mono,
    next: Option<Mono>,
    failures: u32,
    healthy: Option<bool>,
}

impl Monitor {
    /// Starts to look after a task that runs since `now`. `known` is what was
    /// known of it before a restart of the agent.
    #[must_use]
    pub fn new(check: &v1::HealthCheck, known: Option<bool>, now: Mono) -> Self {
        let first = if known.is_some() { Duration::ZERO } else { seconds(check.delay_seconds()) };
        Self {
            interval: seconds(check.interval_seconds()).max(Duration::from_millis(100)),
            limit: check.consecutive_failures().max(1),
            grace_until: now + seconds(check.grace_period_seconds()),
            next: Some(now + first),
            failures: 0,
            healthy: known,
        }
    }

    /// When to ask next; `None` while an answer is awaited.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.next
    }

    /// Whether it is time to ask. If so, an answer is awaited from now on.
    pub fn ask(&mut self, now: Mono) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = None;
        }
        due
    }

    /// Takes an answer.
    pub fn answer(&mut self, answer: Answer, now: Mono) -> Verdict {
        self.next = Some(now + self.interval);
        match answer {
            Answer::NotAsked => Verdict::Same,
            Answer::Well => {
                self.failures = 0;
                self.change_to(true)
            }
            Answer::Unwell(_) if self.healthy.is_none() && now < self.grace_until => {
                self.next = Some(now + self.interval.min(EAGER));
                Verdict::Same
            }
            Answer::Unwell(why) => {
                self.failures += 1;
                if self.failures >= self.limit {
                    self.next = None;
                    self.healthy = Some(false);
                    return Verdict::GiveUp(format!(
                        "Health check failed {} times in a row, the last time because {why}",
                        self.failures
                    ));
                }
                self.change_to(false)
            }
        }
    }

    /// What names and VIPs are told.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.healthy {
            None => Health::Unknown,
            Some(true) => Health::Healthy,
            Some(false) => Health::Unhealthy,
        }
    }

    fn change_to(&mut self, healthy: bool) -> Verdict {
        if self.healthy == Some(healthy) {
            return Verdict::Same;
        }
        self.healthy = Some(healthy);
        Verdict::Changed(healthy)
    }
}

/// A duration from a protocol's double; nonsense is zero, and a century is enough.
pub(crate) fn seconds(value: f64) -> Duration {
    const CENTURY: f64 = 3.2e9;
    Duration::try_from_secs_f64(value.min(CENTURY)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> v1::HealthCheck {
        v1::HealthCheck {
            delay_seconds: Some(0.0),
            interval_seconds: Some(1.0),
            grace_period_seconds: Some(5.0),
            consecutive_failures: Some(2),
            ..v1::HealthCheck::default()
        }
    }

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn answers_add_up() {
        let bad = || Answer::Unwell("it is down".to_owned());
        let (well, no_idea) = (Answer::Well, Answer::NotAsked);
        #[rustfmt::skip]
        let table = [
            ("a failure in the grace period is forgiven", at(1), bad(),  Verdict::Same),
            ("the first success counts",                  at(2), well.clone(), Verdict::Changed(true)),
            ("more of the same is no news",               at(3), well.clone(), Verdict::Same),
            ("a failure after a success is not forgiven", at(4), bad(),  Verdict::Changed(false)),
            ("back again",                                at(5), well,   Verdict::Changed(true)),
            ("one failure",                               at(6), bad(),  Verdict::Changed(false)),
            ("who was not asked has not failed",          at(7), no_idea, Verdict::Same),
            ("two in a row are enough",                   at(8), bad(),  Verdict::GiveUp(
                "Health check failed 2 times in a row, the last time because it is down".into())),
        ];
        let mut monitor = Monitor::new(&check(), None, at(0));
        for (name, now, result, want) in table {
            assert!(monitor.ask(now), "{name}");
            assert!(!monitor.ask(now), "asked twice: {name}");
            assert_eq!(monitor.answer(result, now), want, "{name}");
        }
        assert_eq!(monitor.deadline(), None, "a task that was given up is left alone");
    }

    #[test]
    fn a_task_that_never_answers_is_given_up_after_its_grace_period() {
        let mut monitor = Monitor::new(&check(), None, at(0));
        let verdicts: Vec<_> =
            (1..=7).map(|second| monitor.answer(Answer::Unwell("no".into()), at(second))).collect();
        assert!(verdicts[..4].iter().all(|verdict| *verdict == Verdict::Same));
        assert_eq!(verdicts[4], Verdict::Changed(false));
        assert!(matches!(verdicts[5], Verdict::GiveUp(_)));
    }

    #[test]
    fn nonsense_durations_do_no_harm() {
        for value in [f64::NAN, -1.0, f64::INFINITY, 1e300] {
            assert!(seconds(value) <= Duration::from_secs(3_200_000_000), "{value}");
        }
    }
}
