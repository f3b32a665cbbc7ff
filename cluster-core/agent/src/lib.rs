//! The agent as a value: tasks, containers, status updates, recovery.
//!
//! Things that happened go in through the `handle`-like methods of [`Agent`], what
//! is to be done comes out of [`Agent::poll_effect`], in order. An effect is
//! complete in itself; the shell (`control/node`) carries it out and tells how it
//! went. The life of one task is in [`task`], its updates in [`status`], its
//! health check in [`health`]; what the operator wants of all of them in `duty`; what survives a crash is in [`record`];
//! the way to a master on another node is a value beside it, [`way`].
//!
//! ```text
//! RunTask ─▶ Checkpoint ─▶ Launch ─▶ launched() ─▶ TASK_RUNNING ─▶ ended() ─▶ Destroy
//!                                        │              ▲                        │
//!                                        └── Probe ─────┘      acknowledged ─▶ Forget
//! ```

mod duty;
mod effect;
mod ended;
mod environment;
mod facts;
pub mod health;
mod launch;
pub mod record;
mod recover;
mod settings;
pub mod status;
pub mod task;
mod view;
pub mod way;

use mizzen_api::link::{ToAgent, ToMaster};
use mizzen_api::v1;
use mizzen_types::ids::{AgentId, ContainerId, FrameworkId, TaskId};
use mizzen_types::overlay::{OverlayClaim, OverlayGrant};
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now};
use std::collections::{BTreeMap, VecDeque};
use task::Task;

pub use duty::Orders;
pub use effect::{Effect, LaunchFailure};
pub use ended::{MAX_SHOWN, Retention};
pub use health::{Answer, Probe};
pub use launch::{Limits, Order};
pub use record::Record;
pub use recover::Found;
pub use settings::{CpuLimit, Settings};

/// One agent.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    id: Option<AgentId>,
    tasks: BTreeMap<ContainerId, Task>,
    by_task: BTreeMap<(FrameworkId, TaskId), ContainerId>,
    ended: ended::EndedTasks,
    effects: VecDeque<Effect>,
    dice: Dice,
    started: Now,
    registered: bool,
    orders: Orders,
    shut_out: Option<String>,
    overlay: OverlayClaim,
    counters: view::Counters,
}

impl Agent {
    /// An agent without tasks; `id` is the one that it had before.
    #[must_use]
    pub fn new(settings: Settings, id: Option<AgentId>, seed: u64, now: Now) -> Self {
        Self {
            settings,
            id,
            tasks: BTreeMap::new(),
            by_task: BTreeMap::new(),
            ended: ended::EndedTasks::default(),
            effects: VecDeque::new(),
            dice: Dice::new(seed),
            started: now,
            registered: false,
            orders: Orders::serve(),
            shut_out: None,
            overlay: OverlayClaim::default(),
            counters: view::Counters::default(),
        }
    }

    /// The agent's id, once a master has given it one.
    #[must_use]
    pub fn id(&self) -> Option<&AgentId> {
        self.id.as_ref()
    }

    /// What the agent has of the overlays since before, which it says when it registers.
    pub fn adopt_overlay(&mut self, claim: OverlayClaim) {
        self.overlay = claim;
    }

    /// Its blocks of an overlay are nearly used up. Returns whether there is a master to ask.
    pub fn want_addresses(&mut self, overlay: &str) -> bool {
        if self.registered {
            let message = ToMaster::MoreAddresses { overlay: overlay.to_owned() };
            self.effects.push_back(Effect::ToMaster(Box::new(message)));
        }
        self.registered
    }

    /// The link to a master stands: introduce yourself.
    pub fn master_connected(&mut self) {
        self.registered = false;
        let mut agent = self.settings.info.clone();
        agent.id = self.id.as_ref().map(|id| v1::AgentId { value: id.to_string() });
        let mut frameworks: BTreeMap<String, v1::FrameworkInfo> = BTreeMap::new();
        for task in self.tasks.values() {
            let id = task.record.framework_id().to_string();
            frameworks.entry(id).or_insert_with(|| task.record.framework.clone());
        }
        let message = ToMaster::Register {
            agent,
            frameworks: frameworks.into_values().collect(),
            tasks: self.tasks.values().map(|task| task.to_v1(self.id.as_ref())).collect(),
            overlay: self.overlay.clone(),
        };
        self.effects.push_back(Effect::ToMaster(Box::new(message)));
    }

    /// The link to the master broke. Tasks run on.
    pub fn master_lost(&mut self) {
        self.registered = false;
    }

    /// The master says something.
    pub fn handle_master(&mut self, message: ToAgent, now: Now) {
        match message {
            ToAgent::Registered { agent_id, duty, overlay } => {
                self.welcomed(agent_id.value.into(), now);
                self.take_orders(duty, now);
                if let Some(grant) = overlay {
                    self.take_overlay(grant);
                }
            }
            ToAgent::Overlay(grant) => self.take_overlay(grant),
            ToAgent::Duty(duty) => self.take_orders(duty, now),
            ToAgent::ShutOut { message } => self.be_shut_out(message, now),
            ToAgent::Introduce => self.master_connected(),
            ToAgent::Ping => self.effects.push_back(Effect::ToMaster(Box::new(ToMaster::Pong))),
            ToAgent::RunTask { framework, task } => self.run_task(framework, task, now),
            ToAgent::KillTask { framework_id, task_id, kill_policy } => {
                let grace = kill_policy.as_ref().and_then(task::grace_of);
                self.with_task(&framework_id, &task_id, |task, turn| {
                    task.kill(task::KillCause::Asked(grace), now, turn);
                });
            }
            ToAgent::Acknowledge { framework_id, task_id, uuid } => {
                self.with_task(&framework_id, &task_id, |task, turn| {
                    task.acknowledge(&uuid, now, turn);
                });
            }
            ToAgent::FrameworkSubscribed { framework_id } => {
                for container in self.tasks_of(&framework_id) {
                    self.with_container(&container, |task, turn| task.forward_pending(now, turn));
                }
            }
            ToAgent::ShutdownFramework { framework_id } => self.shut_down(&framework_id, now),
        }
    }

    /// The container stands and its task runs.
    pub fn launched(&mut self, container: &ContainerId, started: task::Started, now: Now) {
        match self.tasks.get(container) {
            Some(task) if !task.is_terminal() => {
                self.with_container(container, |task, turn| task.launched(started, now, turn));
            }
            // Its task was given up meanwhile, and was removed before it was there.
            _ => self.effects.push_back(Effect::Destroy(container.clone())),
        }
    }

    /// The container could not be made; nothing of it is left.
    pub fn launch_failed(
        &mut self,
        container: &ContainerId,
        failure: LaunchFailure,
        message: &str,
        now: Now,
    ) {
        self.counters.launch_errors += 1;
        self.with_container(container, |task, turn| {
            task.launch_failed(failure, message, now, turn);
        });
    }

    /// The container's task ended.
    pub fn ended(&mut self, container: &ContainerId, ended: &task::Ended, now: Now) {
        self.with_container(container, |task, turn| task.ended(ended, now, turn));
    }

    /// A probe came back.
    pub fn probed(&mut self, container: &ContainerId, answer: Answer, now: Now) {
        self.with_container(container, |task, turn| task.probed(answer, now, turn));
    }

    /// The record of a container could not be written, for example because the
    /// disk is full. A task that was not launched yet fails; a running one goes on
    /// and is written again later.
    pub fn checkpoint_failed(&mut self, container: &ContainerId, error: &str, now: Now) {
        let queued = self.effects.len();
        self.effects.retain(
            |effect| !matches!(effect, Effect::Launch(order) if order.container == *container),
        );
        // A launch that is under way already is not given up for want of a record.
        let launch = match self.effects.len() < queued {
            true => task::LaunchState::Prevented,
            false => task::LaunchState::UnderWay,
        };
        self.with_container(container, |task, turn| {
            task.checkpoint_failed(launch, error, now, turn);
        });
    }

    /// Deadlines that have passed are acted upon.
    pub fn handle_timeout(&mut self, now: Now) {
        let due: Vec<ContainerId> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.deadline().is_some_and(|at| at <= now.mono))
            .map(|(id, _)| id.clone())
            .collect();
        for container in due {
            self.with_container(&container, |task, turn| task.handle_timeout(now, turn));
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        self.tasks.values().filter_map(Task::deadline).min()
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Ends every task and says nothing more: the node is being taken down.
    pub fn kill_all(&mut self, now: Now) {
        let all: Vec<ContainerId> = self.tasks.keys().cloned().collect();
        for container in all {
            self.with_container(&container, |task, turn| {
                task.kill(task::KillCause::Asked(None), now, turn);
            });
        }
    }

    /// Tasks that ended under a former process and whose sandboxes are still there,
    /// oldest first.
    pub fn adopt_ended(&mut self, records: Vec<Record>) {
        self.ended.adopt(records);
    }

    /// The sandboxes of these are gone.
    pub fn sandboxes_removed(&mut self, containers: &[ContainerId]) {
        self.ended.remove(containers);
    }

    /// How many tasks have not ended yet.
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        self.tasks.values().filter(|task| !task.is_terminal()).count()
    }

    fn welcomed(&mut self, id: AgentId, now: Now) {
        self.registered = true;
        self.shut_out = None;
        if self.id.as_ref() != Some(&id) {
            self.id = Some(id.clone());
            self.effects.push_back(Effect::SaveId(id));
        }
        let all: Vec<ContainerId> = self.tasks.keys().cloned().collect();
        for container in all {
            self.with_container(&container, |task, turn| task.forward_pending(now, turn));
        }
    }

    fn take_overlay(&mut self, grant: OverlayGrant) {
        self.overlay = grant.claim();
        self.effects.push_back(Effect::Overlay(Box::new(grant)));
    }

    fn run_task(&mut self, framework: v1::FrameworkInfo, info: v1::TaskInfo, now: Now) {
        let Some(agent_id) = self.id.clone() else { return };
        let container = ContainerId::new(self.dice.uuid());
        let record = Record::new(framework, info, container.clone(), agent_id, now.wall);
        let key = (record.framework_id(), record.task_id());
        if self.by_task.contains_key(&key) {
            return; // the master repeats itself; the task is here already
        }
        self.by_task.insert(key, container.clone());
        self.tasks.insert(container.clone(), Task::new(record));
        let drains = matches!(self.orders.duty, mizzen_api::link::Duty::Drain(_));
        self.with_container(&container, |task, turn| {
            task.launch(now, turn);
            if drains {
                task.kill(task::KillCause::Asked(None), now, turn);
            }
        });
    }

    fn tasks_of(&self, framework_id: &v1::FrameworkId) -> Vec<ContainerId> {
        let theirs =
            |task: &Task| task.record.framework_id().as_str() == framework_id.value.as_str();
        let tasks = self.tasks.iter().filter(|(_, task)| theirs(task));
        tasks.map(|(container, _)| container.clone()).collect()
    }

    fn shut_down(&mut self, framework_id: &v1::FrameworkId, now: Now) {
        for container in self.tasks_of(framework_id) {
            self.with_container(&container, |task, turn| {
                task.kill(task::KillCause::FrameworkGone, now, turn);
            });
        }
    }

    fn with_task(
        &mut self,
        framework_id: &v1::FrameworkId,
        task_id: &v1::TaskId,
        act: impl FnOnce(&mut Task, &mut task::Turn<'_>),
    ) {
        let key =
            (FrameworkId::new(framework_id.value.as_str()), TaskId::new(task_id.value.as_str()));
        match self.by_task.get(&key).cloned() {
            Some(container) => self.with_container(&container, act),
            None => self.answer_for_unknown(framework_id, task_id),
        }
    }

    /// One turn of one task: act, then derive what follows from its new state.
    fn with_container(
        &mut self,
        container: &ContainerId,
        act: impl FnOnce(&mut Task, &mut task::Turn<'_>),
    ) {
        let Some(task) = self.tasks.get_mut(container) else { return };
        let mut turn = task::Turn {
            settings: &self.settings,
            agent: self.id.as_ref(),
            registered: self.registered,
            duty: &self.orders.duty,
            effects: &mut self.effects,
            dice: &mut self.dice,
            counters: &mut self.counters,
        };
        act(task, &mut turn);
        task.publish(&mut turn);
        if task.is_forgotten() {
            let key = (task.record.framework_id(), task.record.task_id());
            self.effects.push_back(Effect::Forget(container.clone()));
            if self.by_task.get(&key) == Some(container) {
                self.by_task.remove(&key);
            }
            if let Some(task) = self.tasks.remove(container) {
                self.ended.push(task);
            }
        }
    }

    /// The master wants something of a task that is not here: it must have ended
    /// long ago, or never come. Who is not aware of partitions hears from the master that
    /// it is lost.
    fn answer_for_unknown(&mut self, framework_id: &v1::FrameworkId, task_id: &v1::TaskId) {
        let status = v1::TaskStatus {
            task_id: task_id.clone(),
            state: v1::TaskState::TaskDropped.into(),
            message: Some("The agent does not know this task".to_owned()),
            source: Some(v1::task_status::Source::Agent.into()),
            reason: Some(v1::task_status::Reason::Reconciliation.into()),
            agent_id: self.id.as_ref().map(|id| v1::AgentId { value: id.to_string() }),
            ..v1::TaskStatus::default()
        };
        let update = ToMaster::StatusUpdate {
            framework_id: framework_id.clone(),
            status,
            latest_state: v1::TaskState::TaskDropped,
        };
        self.effects.push_back(Effect::ToMaster(Box::new(update)));
    }
}

#[cfg(test)]
mod tests;
