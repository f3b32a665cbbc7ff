//! Agents are removed by an operator, and kept out.

use crate::machine::Machine;
use crate::task::{self, Charge, Task};
use crate::{Effect, LinkId, Master};
use mizzen_api::link::ToAgent;
use mizzen_api::v1::TaskState;
use mizzen_api::v1::task_status::Reason;
use mizzen_types::ids::{AgentId, FrameworkId};

/// Why an agent is removed, and what that makes of its tasks.
#[derive(Debug)]
pub(crate) struct Removal {
    /// What the agent is told.
    to_agent: String,
    /// What frameworks are told.
    to_frameworks: String,
    state: TaskState,
    reason: Reason,
}

impl Removal {
    /// It has been taken out for good.
    pub(crate) fn gone(host: &str) -> Self {
        Self {
            to_agent: GONE.to_owned(),
            to_frameworks: format!("Agent {host} removed: marked gone by the operator"),
            state: TaskState::TaskGoneByOperator,
            reason: Reason::AgentRemovedByOperator,
        }
    }

    /// Its machine goes down.
    pub(crate) fn down(machine: &Machine, host: &str) -> Self {
        Self {
            to_agent: down_text(machine),
            to_frameworks: format!("Agent {host} removed: Operator initiated 'Machine DOWN'"),
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
        let Some(agent) = self.agents.remove(id) else { return };
        self.counters.count("slave_removals");
        for (framework_id, task) in &agent.tasks {
            let framework = self.frameworks.get_mut(framework_id);
            if let Some(task) = framework.and_then(|framework| framework.tasks.remove(task)) {
                self.end_removed(framework_id, task, removal);
            }
        }
        self.tell_of_failure(id);
        if let Some(link) = agent.link {
            let machine = Machine::of(&agent.info, agent.peer);
            self.keep_out(link, machine, removal.to_agent.clone());
        }
    }

    /// Tasks that were out of reach on an agent do not come back. Frameworks that know
    /// nothing of partitions took them for lost before.
    pub(crate) fn end_unreachable(&mut self, id: &AgentId, removal: &Removal) {
        let mut lost = Vec::new();
        for (framework_id, framework) in &mut self.frameworks {
            let there = framework.unreachable.extract_if(.., |_, task| task.agent() == *id);
            lost.extend(there.map(|(_, task)| (framework_id.clone(), task)));
        }
        for (framework_id, task) in lost {
            self.end_removed(&framework_id, task, removal);
        }
    }

    fn end_removed(&mut self, framework_id: &FrameworkId, mut task: Task, removal: &Removal) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        task.charge = Charge::Freed;
        if task::is_terminal(task.v1.state()) {
            framework.complete(task, self.settings.max_completed_tasks);
            return;
        }
        let state = framework.sees(removal.state);
        let (task_id, agent_id) = (task.v1.task_id.clone(), task.v1.agent_id.clone());
        let (reason, message) = (removal.reason, removal.to_frameworks.as_str());
        let now = self.now.wall;
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
