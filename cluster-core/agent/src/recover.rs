//! After a restart: records and containers are brought together again.
//!
//! | record | container | what happens |
//! |---|---|---|
//! | running or killing | found | it is watched and probed as before; if it ended meanwhile, watching says so at once |
//! | launching | running | the daemon died between fork and report: it runs, so it is reported running |
//! | launching | none | it never started: dropped, and its framework starts another one |
//! | ended | any | its last update is sent again, what is left of the container is removed |
//! | none | found | nobody answers for it: removed |

use crate::record::{Phase, Record};
use crate::status::Details;
use crate::task::{Ended, Started, Task};
use crate::{Agent, Effect, LaunchFailure};
use mizzen_types::container::Exit;
use mizzen_types::ids::ContainerId;
use mizzen_types::time::Now;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A container that the kernel still has, or that left a status behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub container: ContainerId,
    /// Whether it runs; if not, watching it tells at once how it ended.
    pub running: bool,
    /// Its first process, if the launcher got that far.
    pub pid: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its networks that lead ports of the host to it.
    pub publishing: Vec<String>,
}

impl Agent {
    /// Takes up the tasks of a former process. Call it once, before anything else.
    pub fn recover(&mut self, records: Vec<Record>, found: Vec<Found>, now: Now) {
        let mut found: BTreeMap<ContainerId, Found> =
            found.into_iter().map(|found| (found.container.clone(), found)).collect();
        for record in records {
            let container = record.container.clone();
            let rest = found.remove(&container);
            let key = (record.framework_id(), record.task_id());
            // An id may have been used again while the last update of its former task
            // still waits: the living one answers to it.
            if record.phase != Phase::Ended || !self.by_task.contains_key(&key) {
                self.by_task.insert(key, container.clone());
            }
            self.tasks.insert(container.clone(), Task::new(record));
            self.take_up(&container, rest, now);
        }
        for orphan in found.into_keys() {
            self.effects.push_back(Effect::Destroy(orphan));
        }
        self.drain_on(now);
    }

    fn take_up(&mut self, container: &ContainerId, found: Option<Found>, now: Now) {
        let phase = self.tasks.get(container).map(|task| task.record.phase);
        let forked = found.as_ref().and_then(|found| found.pid);
        match (phase, found, forked) {
            (Some(Phase::Launching), Some(found), Some(pid)) => {
                let Found { addresses, publishing, .. } = found;
                self.launched(container, Started { pid, addresses, publishing }, now);
                self.effects.push_back(Effect::Watch(container.clone()));
            }
            (Some(Phase::Launching), _, _) => self.never_started(container, now),
            (Some(Phase::Running | Phase::Killing), Some(found), _) => {
                self.with_container(container, |task, turn| task.take_up(found, now, turn));
            }
            (Some(Phase::Running | Phase::Killing), None, _) => {
                let ended = Ended { exit: Exit::Unknown, out_of_memory: None };
                self.ended(container, &ended, now);
            }
            (Some(Phase::Ended), _, _) => {
                self.effects.push_back(Effect::Destroy(container.clone()));
            }
            (None, _, _) => {}
        }
    }

    fn never_started(&mut self, container: &ContainerId, now: Now) {
        self.with_container(container, |task, turn| {
            task.lost_at_restart(now, turn);
        });
    }
}

impl Task {
    fn lost_at_restart(&mut self, now: Now, turn: &mut crate::task::Turn<'_>) {
        let message = "the agent restarted before the container was started";
        if self.record.phase == Phase::Killing {
            return self.launch_failed(LaunchFailure::Container, message, now, turn);
        }
        let details = Details {
            message: Some(message.to_owned()),
            reason: Some(mizzen_api::v1::task_status::Reason::AgentRestarted),
            by_agent: true,
        };
        self.end(mizzen_api::v1::TaskState::TaskDropped, details, now, turn);
    }
}
