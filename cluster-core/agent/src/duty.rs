//! What the operator wants of this agent: that it serves, that it is maintained, that it
//! is drained, or that it has no part in the cluster.
//!
//! The master decides and says so at each registration; what it said last is kept, so that
//! tasks are drained on, and their clients stay away, after a restart without a master.

use crate::task::KillCause;
use crate::{Agent, Effect};
use mizzen_api::link::Duty;
use mizzen_types::ids::ContainerId;
use mizzen_types::record::{self, RecordError};
use mizzen_types::time::{Now, Wall};
use serde::{Deserialize, Serialize};

/// Format of [`Orders`].
const FORMAT: u16 = 1;

/// What the operator wants, and since when the agent knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Orders {
    /// What is wanted.
    pub duty: Duty,
    /// Since when.
    pub since: Wall,
}

impl Orders {
    /// To serve.
    #[must_use]
    pub fn serve() -> Self {
        Self::new(Duty::Serve, Wall(0))
    }

    fn new(duty: Duty, since: Wall) -> Self {
        Self { duty, since }
    }

    /// Reads what [`Effect::SaveOrders`] wrote.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if it is none, or of another format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        record::read(FORMAT, bytes)
    }
}

impl Agent {
    /// What a former process was told. Call it before [`Agent::recover`].
    pub fn adopt_orders(&mut self, orders: Orders) {
        self.orders = orders;
    }

    /// What the operator wants of the agent.
    #[must_use]
    pub fn duty(&self) -> &Duty {
        &self.orders.duty
    }

    /// Why the master does not let the agent take part, if so.
    #[must_use]
    pub fn shut_out(&self) -> Option<&str> {
        self.shut_out.as_deref()
    }

    pub(crate) fn take_orders(&mut self, duty: Duty, now: Now) {
        let changed = self.orders.duty != duty;
        if changed {
            self.orders = Orders::new(duty, now.wall);
            let saved = match self.orders.duty {
                Duty::Serve => Ok(None),
                _ => record::write(FORMAT, &self.orders).map(Some),
            };
            // What cannot be written (nothing such is known) is said again by the master.
            if let Ok(saved) = saved {
                self.effects.push_back(Effect::SaveOrders(saved));
            }
        }
        let all: Vec<ContainerId> = self.tasks.keys().cloned().collect();
        for container in all {
            // The grace may be shorter than before. Whoever serves says so in the owner log.
            self.with_container(&container, |task, turn| {
                if matches!(turn.duty, Duty::Drain(_)) && (changed || !task.is_being_killed()) {
                    task.kill(KillCause::Asked(None), now, turn);
                }
            });
        }
    }

    /// Goes on with what a former process was told.
    pub(crate) fn drain_on(&mut self, now: Now) {
        let duty = self.orders.duty.clone();
        self.take_orders(duty, now);
    }

    /// The master lets the agent take no part: its tasks end, and nobody hears of it.
    pub(crate) fn be_shut_out(&mut self, message: String, now: Now) {
        self.registered = false;
        self.shut_out = Some(message);
        let all: Vec<ContainerId> = self.tasks.keys().cloned().collect();
        for container in all {
            self.with_container(&container, |task, turn| {
                task.kill(KillCause::FrameworkGone, now, turn);
            });
        }
    }
}
