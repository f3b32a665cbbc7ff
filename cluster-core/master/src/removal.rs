//! Agents are removed by an operator, and kept out.

use crate::machine::Machine;
use crate::task::{self, Charge};
use crate::{Effect, LinkId, Master};
use mizzen_api::link::ToAgent;
use mizzen_api::v1::TaskState;
use mizzen_api::v1::task_status::Reason;
use mizzen_types::ids::{AgentId, FrameworkId, TaskId};

/// Why an agent is removed, and what that makes of its tasks.
#[derive(Debug)]
pub(crate) struct Removal {
    /// What the agent is told.
    to_agent: String,
    /// What frameworks are told behind the host's name.
    to_frameworks: &'static str,
    state: TaskState,
    reason: Reason,
}

impl Removal {
    /// It has been taken out for good.
    pub(crate) fn gone() -> Self {
        Self {
            to_agent: GONE.to_owned(),
            to_frameworks: "marked gone by the operator",
            state: TaskState::TaskGoneByOperator,
            reason: Reason::AgentRemovedByOperator,
        }
    }

    /// Its machine goes down.
    pub(crate) fn down(machine: &Machine) -> Self {
        Self {
            to_agent: down_text(machine),
            to_frameworks: "Operator initiated 'Machine DOWN'",
            state: TaskState::TaskGone,
            reason: Reason::AgentRemoved,
        }
    }
}

/// What an agent is told that was taken out for good.
const GONE: &str = "the agent has been marked as gone";

fn down_text(machine: &Machine) -> String {
    format!("the machine {machine} is DOWN for maintenance")
}

impl Master {
    /// Whether an agent that registers is kept out, and why.
    pub(crate) fn kept_out(&self, id: Option<&AgentId>, machine: &Machine) -> Option<String> {
        if id.is_some_and(|id| self.registry.is_gone(id)) {
            return Some(GONE.to_owned());
        }
        self.is_down(machine).then(|| down_text(machine))
    }

    /// Tells an agent that it has no part in the cluster.
    pub(crate) fn keep_out(&mut self, link: LinkId, machine: Machine, message: String) {
        let Some(way) = self.links.get_mut(&link) else { return };
        way.agent = None;
        way.kept_out = Some(machine);
        let message = Box::new(ToAgent::ShutOut { message });
        self.effects.push_back(Effect::ToAgent { link, message });
    }

    /// Asks agents that were kept out to register, where nothing keeps their machine out
    /// any more.
    pub(crate) fn let_in(&mut self) {
        let waits = |link: &crate::Link| {
            link.kept_out.as_ref().is_some_and(|machine| !self.is_down(machine))
        };
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| waits(link)).map(|(id, _)| *id).collect();
        for link in links {
            if let Some(way) = self.links.get_mut(&link) {
                way.kept_out = None;
            }
            let message = Box::new(ToAgent::Introduce);
            self.effects.push_back(Effect::ToAgent { link, message });
        }
    }

    /// Removes an agent from the cluster: its tasks are gone, and it is told to end them.
    pub(crate) fn remove_agent(&mut self, id: &AgentId, removal: &Removal) {
        self.rescind_of_agent(id);
        self.allocator.remove_agent(id);
        self.counters.count("slave_removals");
        let Some(agent) = self.agents.remove(id) else { return };
        let host = &agent.info.hostname;
        let message = format!("Agent {host} removed: {}", removal.to_frameworks);
        for (framework, task) in &agent.tasks {
            self.end_removed(framework, task, removal, &message);
        }
        self.tell_of_failure(id);
        if let Some(link) = agent.link {
            let machine = Machine::of(&agent.info, agent.peer);
            self.keep_out(link, machine, removal.to_agent.clone());
        }
    }

    fn end_removed(
        &mut self,
        framework_id: &FrameworkId,
        id: &TaskId,
        removal: &Removal,
        message: &str,
    ) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let Some(mut task) = framework.tasks.remove(id) else { return };
        task.charge = Charge::Freed;
        if task::is_terminal(task.v1.state()) {
            framework.complete(task, self.settings.max_completed_tasks);
            return;
        }
        let state = framework.sees(removal.state);
        let (task_id, agent_id) = (task.v1.task_id.clone(), task.v1.agent_id.clone());
        let (reason, now) = (removal.reason, self.now.wall);
        let status = task::status(&task_id, Some(&agent_id), state, reason, message, now);
        task.v1.state = state.into();
        (task.v1.status_update_state, task.v1.status_update_uuid) = (None, None);
        task.remember(&status);
        framework.counters.task_ended(state);
        framework.complete(task, self.settings.max_completed_tasks);
        self.counters.task_ended(state);
        self.send_update(framework_id, status);
    }
}
