//! The life of one task on this agent.
//!
//! ```text
//! Launching ──launched──▶ Running ──ended──▶ Ended ──acknowledged──▶ (forgotten)
//!     │ │                    │                 ▲
//!     │ └──── kill ────▶ Killing ◀── kill ─────┤  SIGTERM, after the grace SIGKILL
//!     │                      └───── ended ─────┤
//!     └────────── launch failed ───────────────┘
//! ```
//!
//! Kills are in `task/kill.rs`, ends in `task/ending.rs`.
//!
//! Each method is one arrow. It changes the record, queues a checkpoint where the
//! change must survive, then what follows from it. A late event (an end after the
//! end, a probe after a kill) changes nothing.

mod ending;
mod kill;

pub use ending::Ended;
pub use kill::{KillCause, grace_of};

use crate::health::{Answer, Monitor, Probe, Verdict, seconds};
use crate::record::{Phase, Record};
use crate::status::{self, Details, Retry};
use crate::{Effect, Found, LaunchFailure, Settings, facts, launch, view};
use kill::Kill;
use mizzen_api::link::Duty;
use mizzen_api::v1;
use mizzen_types::fact::{Fact, Health, Key};
use mizzen_types::ids::AgentId;
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;
use v1::TaskState as S;
use v1::task_status::Reason;

/// A record that could not be written is tried again after this.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(5);

/// What a task's turn may use of the agent.
pub struct Turn<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) agent: Option<&'a AgentId>,
    pub(crate) registered: bool,
    pub(crate) duty: &'a Duty,
    pub(crate) effects: &'a mut VecDeque<Effect>,
    pub(crate) dice: &'a mut Dice,
    pub(crate) counters: &'a mut view::Counters,
}

/// A container that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its first process, seen from the host.
    pub pid: u32,
    /// Its addresses; empty on the host's network.
    pub addresses: Vec<IpAddr>,
    /// Its networks that lead ports of the host to it, as was asked.
    pub publishing: Vec<String>,
}

/// Where a launch stands whose record could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchState {
    /// It had not begun and will not.
    Prevented,
    /// It has begun.
    UnderWay,
}

/// One task.
#[derive(Debug)]
pub struct Task {
    /// What survives a crash.
    pub record: Record,
    monitor: Option<Monitor>,
    retry: Retry,
    kill: Option<Kill>,
    rewrite: Option<Mono>,
    published: Option<Fact>,
    gone: bool,
}

impl Task {
    /// A task about to be launched, or found again.
    #[must_use]
    pub fn new(record: Record) -> Self {
        Self {
            record,
            monitor: None,
            retry: Retry::default(),
            kill: None,
            rewrite: None,
            published: None,
            gone: false,
        }
    }

    /// Whether its container is known to have ended, though not yet how.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether it ended.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.record.phase == Phase::Ended
    }

    /// Whether nobody will ask for it any more.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        status::is_done(&self.record)
    }

    /// When `handle_timeout` wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let monitor = self.monitor.as_ref().and_then(Monitor::deadline);
        let kill = self.kill.as_ref().map(|kill| kill.force_at);
        [monitor, kill, self.retry.deadline(), self.rewrite].into_iter().flatten().min()
    }

    /// What its health check says.
    #[must_use]
    pub fn health(&self) -> Health {
        self.monitor.as_ref().map_or(Health::Unchecked, Monitor::health)
    }

    pub(crate) fn launch(&mut self, now: Now, turn: &mut Turn<'_>) {
        match launch::order(&self.record, turn.settings) {
            Ok(order) => {
                self.report(S::TaskStarting, Details::default(), now, turn);
                turn.effects.push_back(Effect::Launch(Box::new(order)));
            }
            Err(message) => {
                self.launch_failed(LaunchFailure::Container, &message, now, turn);
            }
        }
    }

    pub(crate) fn launched(&mut self, started: Started, now: Now, turn: &mut Turn<'_>) {
        if self.record.phase == Phase::Ended {
            return;
        }
        self.record.pid = Some(started.pid);
        self.record.addresses = started.addresses;
        self.record.publishing = started.publishing;
        self.look_after(now);
        if self.record.phase == Phase::Killing {
            return self.kill_launched(now, turn);
        }
        self.record.phase = Phase::Running;
        self.report(S::TaskRunning, Details::default(), now, turn);
    }

    pub(crate) fn acknowledge(&mut self, uuid: &[u8], now: Now, turn: &mut Turn<'_>) {
        // On the disk before the next update goes out, as Mesos has it: after a crash
        // nobody hears again what was acknowledged.
        if status::acknowledge(&mut self.record, &mut self.retry, uuid) {
            if !status::is_done(&self.record) {
                self.checkpoint(turn);
            }
            status::forward(&self.record, &mut self.retry, now, turn);
        }
    }

    pub(crate) fn probed(&mut self, answer: Answer, now: Now, turn: &mut Turn<'_>) {
        let (Phase::Running, Some(monitor)) = (self.record.phase, self.monitor.as_mut()) else {
            return;
        };
        let why = match &answer {
            Answer::Unwell(why) => Some(why.clone()),
            Answer::Well | Answer::NotAsked => None,
        };
        match monitor.answer(answer, now.mono) {
            Verdict::Same => {}
            Verdict::Changed(healthy) => {
                self.record.healthy = Some(healthy);
                self.report_health(why, now, turn);
            }
            Verdict::GiveUp(message) => {
                self.record.healthy = Some(false);
                self.report_health(why, now, turn);
                self.kill(KillCause::Unhealthy(message), now, turn);
            }
        }
    }

    pub(crate) fn checkpoint_failed(
        &mut self,
        launch: LaunchState,
        error: &str,
        now: Now,
        turn: &mut Turn<'_>,
    ) {
        if launch == LaunchState::Prevented {
            let message = format!("cannot write the task's record: {error}");
            self.launch_failed(LaunchFailure::Container, &message, now, turn);
            // The record of the failure meets the same disk; the update is sent
            // anyway, from memory.
        }
        self.rewrite = Some(now.mono + CHECKPOINT_RETRY);
    }

    pub(crate) fn handle_timeout(&mut self, now: Now, turn: &mut Turn<'_>) {
        if self.retry.deadline().is_some_and(|at| at <= now.mono) {
            status::forward(&self.record, &mut self.retry, now, turn);
        }
        if self.rewrite.is_some_and(|at| at <= now.mono) {
            self.rewrite = None;
            self.checkpoint(turn);
        }
        self.force(now, turn);
        self.ask(now, turn);
    }

    pub(crate) fn forward_pending(&mut self, now: Now, turn: &mut Turn<'_>) {
        self.retry = Retry::default();
        status::forward(&self.record, &mut self.retry, now, turn);
    }

    /// Found after a restart of the agent; `running` or with its end written down.
    pub(crate) fn take_up(&mut self, found: Found, now: Now, turn: &mut Turn<'_>) {
        self.record.pid = found.pid.or(self.record.pid);
        self.record.addresses = found.addresses;
        self.record.publishing = found.publishing;
        self.gone = !found.running;
        if self.gone {
            turn.effects.push_back(Effect::Watch(self.record.container.clone()));
            return;
        }
        self.look_after(now);
        if self.record.phase == Phase::Killing {
            self.record.phase = Phase::Running;
            self.kill(KillCause::Asked(None), now, turn);
        }
        turn.effects.push_back(Effect::Watch(self.record.container.clone()));
    }

    /// Says in the owner log what names and VIPs should know now.
    pub(crate) fn publish(&mut self, turn: &mut Turn<'_>) {
        let fact =
            facts::of_task(self, turn.settings, turn.duty).map(|fact| Fact::Task(Box::new(fact)));
        if fact != self.published {
            let key = Key::Task(self.record.framework_id(), self.record.task_id());
            turn.effects.push_back(Effect::Fact(key, fact.clone().map(Box::new)));
            self.published = fact;
        }
    }

    /// The task as the master and `/state` show it.
    #[must_use]
    pub fn to_v1(&self, agent: Option<&AgentId>) -> v1::Task {
        let info = &self.record.task;
        let pending = self.record.pending.first();
        v1::Task {
            name: info.name.clone(),
            task_id: info.task_id.clone(),
            framework_id: v1::FrameworkId { value: self.record.framework_id().to_string() },
            agent_id: v1::AgentId { value: agent.unwrap_or(&self.record.agent).to_string() },
            state: status::latest_state(&self.record).into(),
            resources: info.resources.clone(),
            statuses: self.record.statuses.clone(),
            status_update_state: pending.map(|status| status.state),
            status_update_uuid: pending.and_then(|status| status.uuid.clone()),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.clone(),
            health_check: info.health_check.clone(),
            kill_policy: info.kill_policy,
            user: launch::user_of(&self.record),
            limits: info.limits.clone(),
            ..v1::Task::default()
        }
    }

    fn report(&mut self, state: S, details: Details, now: Now, turn: &mut Turn<'_>) {
        let idle = self.record.pending.is_empty();
        status::append(&mut self.record, state, details, now, turn);
        self.checkpoint(turn);
        if idle {
            status::forward(&self.record, &mut self.retry, now, turn);
        }
    }

    fn report_health(&mut self, why: Option<String>, now: Now, turn: &mut Turn<'_>) {
        let reason = Some(Reason::TaskHealthCheckStatusUpdated);
        self.report(S::TaskRunning, Details { message: why, reason, by_agent: false }, now, turn);
    }

    fn checkpoint(&mut self, turn: &mut Turn<'_>) {
        turn.effects.push_back(Effect::Checkpoint(Box::new(self.record.clone())));
    }

    fn look_after(&mut self, now: Now) {
        let check = self.record.task.health_check.as_ref();
        self.monitor = check.map(|check| Monitor::new(check, self.record.healthy, now.mono));
    }

    fn ask(&mut self, now: Now, turn: &mut Turn<'_>) {
        let Some(monitor) = self.monitor.as_mut().filter(|_| self.record.phase == Phase::Running)
        else {
            return;
        };
        if !monitor.ask(now.mono) {
            return;
        }
        let Some(check) = self.record.task.health_check.as_ref() else { return };
        let timeout = seconds(check.timeout_seconds()).max(Duration::from_millis(1));
        match launch::target(check, &self.record, turn.settings) {
            Ok(target) => {
                let container = self.record.container.clone();
                turn.effects.push_back(Effect::Probe(Box::new(Probe {
                    container,
                    target,
                    timeout,
                })));
            }
            Err(why) => self.probed(Answer::Unwell(why), now, turn),
        }
    }
}
