//! What is to happen at which time.

use mizzen_types::ids::{AgentId, FrameworkId};
use mizzen_types::time::Mono;
use std::collections::BTreeSet;

/// Why to wake up. Each names what it was set for, so that one that has been
/// overtaken by events does nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// A framework's stream has been silent long enough.
    Heartbeat(String),
    /// A framework that disconnected for this time in its life had its chance.
    Failover(FrameworkId, u64),
    /// A framework that does not listen is not waited for any more.
    Silence(FrameworkId),
    /// An agent, under this number of its observation, is asked whether it is there.
    Ping(AgentId, u64),
    /// Agents of the registry had their chance.
    Recovery,
    /// Old entries of the registry can go.
    RegistryGc,
    /// The time of a planned maintenance begins or ends.
    Maintenance,
}

/// All alarms.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Mono, Alarm)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Mono, alarm: Alarm) {
        self.0.insert((at, alarm));
    }

    /// Sets the only alarm of its kind, or none.
    pub(crate) fn set_only(&mut self, at: Option<Mono>, alarm: Alarm) {
        self.0.retain(|(_, other)| *other != alarm);
        self.0.extend(at.map(|at| (at, alarm)));
    }

    pub(crate) fn next(&self) -> Option<Mono> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out those that are due, in order.
    pub(crate) fn take_due(&mut self, now: Mono) -> Vec<Alarm> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            due.extend(self.0.pop_first().map(|(_, alarm)| alarm));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_come_in_order_and_once() {
        let mut timers = Timers::default();
        timers.set(Mono(5), Alarm::Recovery);
        timers.set(Mono(3), Alarm::Heartbeat("s".into()));
        timers.set(Mono(9), Alarm::RegistryGc);
        assert_eq!(timers.take_due(Mono(5)), [Alarm::Heartbeat("s".into()), Alarm::Recovery]);
        assert_eq!(timers.take_due(Mono(5)), []);
        assert_eq!(timers.next(), Some(Mono(9)));
    }
}
