//! Agents stay away, and are given up in the end.

use crate::offers::Notice;
use crate::registry::{GC_INTERVAL, Presence};
use crate::task::{self, Charge};
use crate::timers::Alarm;
use crate::{LinkId, Master};
use mizzen_allocator::Activity;
use mizzen_api::link::ToAgent;
use mizzen_api::v1::scheduler::{Event, event};
use mizzen_api::v1::task_status::Reason;
use mizzen_api::v1::{self, TaskState};
use mizzen_types::ids::{AgentId, FrameworkId, TaskId};
use mizzen_types::time::{Now, Wall};

impl Master {
    /// The way to an agent is gone. Its tasks run on: all of them are checkpointed.
    pub fn agent_disconnected(&mut self, link: LinkId, now: Now) {
        self.now = now;
        if let Some(id) = self.links.remove(&link).and_then(|link| link.agent) {
            self.unbind(&id);
        }
    }

    /// There is no way to the agent any more.
    pub(crate) fn unbind(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.link = None;
        self.allocator.set_agent_activity(id, Activity::Inactive);
        self.rescind_of_agent(id);
        self.counters.count("slave_unreachable_scheduled");
    }

    /// Asks an agent whether it is there, or gives it up: it may be away with its link open,
    /// and behind a link that broke it may come back in time.
    pub(crate) fn observe(&mut self, id: &AgentId, observation: u64) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.observation != observation {
            return;
        }
        if agent.unanswered >= self.settings.max_agent_ping_timeouts {
            let link = agent.link.take();
            if let Some(link) = link.and_then(|link| self.links.get_mut(&link)) {
                link.agent = None;
            }
            self.counters.count("slave_unreachable_completed");
            self.mark_unreachable(id);
            return;
        }
        agent.unanswered += 1;
        let at = self.now.mono + self.settings.agent_ping_timeout;
        self.timers.set(at, Alarm::Ping(id.clone(), observation));
        self.tell_agent(id, ToAgent::Ping);
    }

    /// Agents of the registry that have not come back since the start are lost.
    pub(crate) fn recovery_timed_out(&mut self) {
        let lost: Vec<AgentId> = self.recovering().cloned().collect();
        for id in lost {
            self.counters.count("recovery_slave_removals");
            self.mark_unreachable(&id);
        }
    }

    /// Agents of the registry that may still come back.
    pub(crate) fn recovering(&self) -> impl Iterator<Item = &AgentId> + '_ {
        self.registry
            .agents()
            .filter(|(id, record)| {
                record.presence == Presence::Admitted && !self.agents.contains_key(*id)
            })
            .map(|(id, _)| id)
    }

    pub(crate) fn collect_registry(&mut self) {
        for id in self.registry.collect(self.now.wall) {
            self.save_agent(&id);
            self.release_overlays(&id);
            self.say_gone(&id, None);
        }
        self.timers.set(self.now.mono + GC_INTERVAL, Alarm::RegistryGc);
    }

    /// Takes back all offers of an agent.
    pub(crate) fn rescind_of_agent(&mut self, id: &AgentId) {
        let offers = self.agents.get(id).map(|agent| agent.offers.clone()).unwrap_or_default();
        for offer in offers {
            self.withdraw(&offer, Notice::Rescind);
        }
        self.rescind_inverse_of_agent(id);
    }

    /// Gives an agent up: its tasks are out of reach, what they used is gone.
    fn mark_unreachable(&mut self, id: &AgentId) {
        let Some(info) = self.registry.agent(id).map(|record| record.info.clone()) else { return };
        let since = self.now.wall;
        self.registry.set_agent(id, info, Presence::Unreachable { since });
        self.save_agent(id);
        self.rescind_of_agent(id);
        self.allocator.remove_agent(id);
        self.counters.count("slave_removals");
        self.counters.count("slave_removals/reason_unhealthy");
        if let Some(agent) = self.agents.remove(id) {
            for (framework, task) in &agent.tasks {
                self.lose_task(framework, task, since);
            }
        }
        self.tell_of_failure(id);
    }

    /// Tells all frameworks that an agent is lost.
    pub(crate) fn tell_of_failure(&mut self, id: &AgentId) {
        let failure = Event {
            r#type: Some(event::Type::Failure.into()),
            failure: Some(event::Failure {
                agent_id: Some(id.into()),
                ..event::Failure::default()
            }),
            ..Event::default()
        };
        let frameworks: Vec<FrameworkId> = self.streams.values().cloned().collect();
        for framework in frameworks {
            self.send(&framework, failure.clone());
        }
    }

    fn lose_task(&mut self, framework_id: &FrameworkId, id: &TaskId, since: Wall) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let Some(mut task) = framework.tasks.remove(id) else { return };
        task.charge = Charge::Freed;
        if task::is_terminal(task.v1.state()) {
            framework.complete(task, self.settings.max_completed_tasks);
            return;
        }
        let state = framework.sees(TaskState::TaskUnreachable);
        let (task_id, agent_id) = (task.v1.task_id.clone(), task.v1.agent_id.clone());
        let (message, reason) = ("The agent is unreachable", Reason::AgentRemoved);
        let mut status = task::status(&task_id, Some(&agent_id), state, reason, message, since);
        status.unreachable_time = Some(unreachable_time(since));
        task.v1.state = state.into();
        (task.v1.status_update_state, task.v1.status_update_uuid) = (None, None);
        task.remember(&status);
        framework.lose(task, self.settings.max_unreachable_tasks);
        if state == TaskState::TaskLost {
            self.counters.task_ended(state);
            self.counters.count("task_lost/source_master/reason_slave_removed");
        }
        self.send_update(framework_id, status);
    }
}

/// A time as the API writes it.
pub(crate) fn unreachable_time(since: Wall) -> v1::TimeInfo {
    v1::TimeInfo { nanoseconds: i64::try_from(since.0).unwrap_or(i64::MAX) }
}
