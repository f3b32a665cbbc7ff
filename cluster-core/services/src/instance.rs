//! One copy of an app: a task, from the moment it is decided until its end is known.
//!
//! ```text
//! Staging ──▶ Starting ──▶ Running ──▶ Killing ──▶ (gone)
//!     └──────────┴────────────┴── the agent is lost ──▶ Unreachable ──▶ back, or (gone)
//! ```

use crate::app::{App, KillSelection, UnreachableStrategy};
use crate::app_id::AppId;
use crate::version::Version;
use mizzen_api::v1;
use mizzen_types::time::Mono;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Accepted, nothing heard since.
    Staging,
    /// Its process is being started.
    Starting,
    /// It runs.
    Running,
    /// It was told to end.
    Killing,
    /// Its agent is lost.
    Unreachable,
}

/// What is wanted of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// That it runs.
    Run,
    /// That it ends.
    Stop,
}

/// One copy. The part that is written down comes first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Id of its task.
    pub task_id: String,
    /// Whose copy it is.
    pub app: AppId,
    /// Version of the app when it was started.
    pub version: Version,
    /// Configuration that it was started with.
    pub config: Version,
    /// Whether an agent probes it.
    pub probed: bool,
    /// Where it runs.
    pub agent: String,
    /// Name of that machine.
    pub host: String,
    /// Region of that machine.
    pub region: Option<String>,
    /// Zone of that machine.
    pub zone: Option<String>,
    /// Values of the attributes that the app's constraints look at.
    pub attributes: Vec<(String, String)>,
    /// Host ports that it holds, in the order of the app's ports.
    pub host_ports: Vec<u16>,
    /// When its offer was accepted.
    pub staged: Version,
    /// When it ran first.
    pub started: Option<Version>,
    /// How far it has come.
    pub condition: Condition,
    /// What is wanted of it.
    pub goal: Goal,
    /// What its probe says; `None` before the first result.
    pub healthy: Option<bool>,
    /// Addresses of its container.
    pub addresses: Vec<String>,
    /// Whether it ends because its agent is drained.
    #[serde(default)]
    pub drained: bool,

    /// Health as shown to people; not kept.
    #[serde(skip)]
    pub probe: ProbeResult,
    /// When it got into its condition, as far as this process knows.
    #[serde(skip)]
    pub since: Mono,
    /// Last kill and how often it was sent on this connection.
    #[serde(skip)]
    pub killed: Option<(Mono, u32)>,
}

/// Health as shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeResult {
    /// First good result.
    pub first_success: Option<Version>,
    /// Last good result.
    pub last_success: Option<Version>,
    /// Last bad result.
    pub last_failure: Option<Version>,
    /// Bad results in a row.
    pub failures: u32,
}

impl Instance {
    /// Whether it runs and, if it is probed, is well.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.condition == Condition::Running && (!self.probed || self.healthy == Some(true))
    }

    /// Whether it counts as one of the app's copies: wanted, not given up, and not leaving
    /// with its agent.
    #[must_use]
    pub fn is_active(&self, app: &App, now: Mono) -> bool {
        self.goal == Goal::Run && !self.drained && !self.is_given_up(app, now)
    }

    /// When the app's patience with a lost agent ends: first for a replacement,
    /// then for the copy itself.
    #[must_use]
    pub fn patience(&self, app: Option<&App>) -> Option<(Mono, Mono)> {
        if self.condition != Condition::Unreachable {
            return None;
        }
        let strategy = app.map(|app| app.unreachable_strategy).unwrap_or_default();
        let UnreachableStrategy::After(limits) = strategy else { return None };
        let after = |seconds: u32| self.since + Duration::from_secs(u64::from(seconds));
        Some((after(limits.inactive_after_seconds), after(limits.expunge_after_seconds)))
    }

    /// Whether it is on a lost agent for so long that it is not waited for.
    #[must_use]
    pub fn is_given_up(&self, app: &App, now: Mono) -> bool {
        self.patience(Some(app)).is_some_and(|(inactive, _)| inactive <= now)
    }

    /// Its state in the words of Mesos.
    #[must_use]
    pub fn state(&self) -> v1::TaskState {
        match self.condition {
            Condition::Staging => v1::TaskState::TaskStaging,
            Condition::Starting => v1::TaskState::TaskStarting,
            Condition::Running => v1::TaskState::TaskRunning,
            Condition::Killing => v1::TaskState::TaskKilling,
            Condition::Unreachable => v1::TaskState::TaskUnreachable,
        }
    }

    /// Takes in a state that is not the end; an older one than the known one is a
    /// late repetition. Returns whether anything changed that is written down.
    pub fn observe(&mut self, status: &v1::TaskStatus, now: Mono, at: Version) -> bool {
        let before = self.clone();
        if let Some(condition) = condition(status.state()) {
            let late = self.condition != Condition::Unreachable && condition < self.condition;
            if condition != self.condition && !late {
                self.condition = condition;
                self.since = now;
            }
            if condition == Condition::Running && self.started.is_none() {
                self.started = Some(at);
            }
        }
        self.drained |= status.state() == v1::TaskState::TaskKilling && is_drained(status);
        if let Some(healthy) = status.healthy {
            self.healthy = Some(healthy);
            self.probe.record(healthy, at);
        }
        let addresses = addresses(status);
        if !addresses.is_empty() {
            self.addresses = addresses;
        }
        let aligned = Self { probe: before.probe, since: before.since, ..self.clone() };
        aligned != before
    }
}

impl ProbeResult {
    fn record(&mut self, healthy: bool, at: Version) {
        if healthy {
            self.first_success.get_or_insert(at);
            self.last_success = Some(at);
            self.failures = 0;
        } else {
            self.last_failure = Some(at);
            self.failures += 1;
        }
    }
}

/// Sorts copies so that those to end come first: lost ones, then those that have
/// not come far, then sick ones, then by age.
pub fn sort_victims(copies: &mut [&Instance], selection: KillSelection) {
    let rank = |copy: &Instance| match copy.condition {
        Condition::Unreachable => 0,
        Condition::Killing => 1,
        Condition::Staging => 2,
        Condition::Starting => 3,
        Condition::Running if !copy.is_healthy() => 4,
        Condition::Running => 5,
    };
    copies.sort_by(|a, b| {
        let age = match selection {
            KillSelection::YoungestFirst => b.staged.cmp(&a.staged),
            KillSelection::OldestFirst => a.staged.cmp(&b.staged),
        };
        rank(a).cmp(&rank(b)).then(age).then_with(|| a.task_id.cmp(&b.task_id))
    });
}

/// Whether a task ends, or has ended, because its agent is drained.
#[must_use]
pub fn is_drained(status: &v1::TaskStatus) -> bool {
    status.reason() == v1::task_status::Reason::AgentDraining && status.reason.is_some()
}

/// Whether a state is the end of a task.
#[must_use]
pub fn is_terminal(state: v1::TaskState) -> bool {
    condition(state).is_none()
}

/// The condition behind a state that is not the end.
fn condition(state: v1::TaskState) -> Option<Condition> {
    use v1::TaskState as S;

    match state {
        S::TaskStaging => Some(Condition::Staging),
        S::TaskStarting => Some(Condition::Starting),
        S::TaskRunning => Some(Condition::Running),
        S::TaskKilling => Some(Condition::Killing),
        S::TaskUnreachable => Some(Condition::Unreachable),
        S::TaskFinished
        | S::TaskFailed
        | S::TaskKilled
        | S::TaskError
        | S::TaskLost
        | S::TaskDropped
        | S::TaskGone
        | S::TaskGoneByOperator
        | S::TaskUnknown => None,
    }
}

fn addresses(status: &v1::TaskStatus) -> Vec<String> {
    let networks = status.container_status.iter().flat_map(|status| &status.network_infos);
    networks
        .flat_map(|network| &network.ip_addresses)
        .filter_map(|ip| ip.ip_address.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{app, instance};
    use serde_json::json;
    use v1::TaskState as S;

    fn status(state: S, healthy: Option<bool>) -> v1::TaskStatus {
        v1::TaskStatus { state: state.into(), healthy, ..v1::TaskStatus::default() }
    }

    #[test]
    fn a_copy_moves_forward_only_unless_its_agent_was_lost() {
        use Condition as C;
        #[rustfmt::skip]
        let table: &[(C, S, C)] = &[
            (C::Staging,     S::TaskStarting,    C::Starting),
            (C::Starting,    S::TaskRunning,     C::Running),
            (C::Running,     S::TaskStarting,    C::Running),
            (C::Running,     S::TaskKilling,     C::Killing),
            (C::Killing,     S::TaskRunning,     C::Killing),
            (C::Running,     S::TaskUnreachable, C::Unreachable),
            (C::Unreachable, S::TaskRunning,     C::Running),
            (C::Running,     S::TaskFailed,      C::Running),
        ];
        for (from, state, want) in table {
            let mut copy = Instance { condition: *from, ..instance("t") };
            copy.observe(&status(*state, None), Mono(7), Version::default());
            assert_eq!(copy.condition, *want, "{from:?} on {state:?}");
        }
    }

    #[test]
    fn health_counts_only_where_it_is_probed() {
        let mut copy = Instance { condition: Condition::Running, ..instance("t") };
        assert!(copy.is_healthy());
        copy.probed = true;
        assert!(!copy.is_healthy(), "no result yet");
        let at = Version::default();
        assert!(copy.observe(&status(S::TaskRunning, Some(true)), Mono(1), at));
        assert!(copy.is_healthy());
        assert!(!copy.observe(&status(S::TaskRunning, Some(true)), Mono(1), at), "nothing new");
        copy.observe(&status(S::TaskRunning, Some(false)), Mono(1), at);
        assert!(!copy.is_healthy());
    }

    #[test]
    fn a_lost_copy_is_given_up_when_the_app_says_so() {
        let second = |s: u64| Mono(s * 1_000_000_000);
        let lost =
            Instance { condition: Condition::Unreachable, since: second(10), ..instance("t") };
        let limits = json!({"inactiveAfterSeconds": 5, "expungeAfterSeconds": 9});
        #[rustfmt::skip]
        let table = &[
            (json!({}), 10, false),
            (json!({"unreachableStrategy": limits}), 14, true),
            (json!({"unreachableStrategy": limits}), 15, false),
            (json!({"unreachableStrategy": "disabled"}), 1000, true),
        ];
        for (members, now, want) in table {
            let active = lost.is_active(&app(members.clone()), second(*now));
            assert_eq!(active, *want, "{members} at {now}");
        }
        assert_eq!(lost.patience(None), Some((second(10), second(10))));
    }

    #[test]
    fn victims_are_sorted() {
        let copy = |id: &str, condition, staged: &str, healthy| Instance {
            condition,
            healthy: Some(healthy),
            probed: true,
            staged: format!("2024-01-0{staged}T00:00:00.000Z").parse().unwrap(),
            ..instance(id)
        };
        let copies = [
            copy("old", Condition::Running, "1", true),
            copy("young", Condition::Running, "2", true),
            copy("sick", Condition::Running, "1", false),
            copy("lost", Condition::Unreachable, "1", true),
            copy("staging", Condition::Staging, "1", true),
        ];
        let ids = |selection| {
            let mut sorted: Vec<&Instance> = copies.iter().collect();
            sort_victims(&mut sorted, selection);
            sorted.iter().map(|copy| copy.task_id.clone()).collect::<Vec<_>>()
        };
        let young_first = ids(KillSelection::YoungestFirst);
        assert_eq!(young_first, ["lost", "staging", "sick", "young", "old"]);
        assert_eq!(ids(KillSelection::OldestFirst)[3..], ["old", "young"]);
    }
}
