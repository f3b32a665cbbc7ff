//! What becomes of tasks: status updates, their acknowledgement, kills.

use crate::Master;
use crate::task::{self, Charge};
use mizzen_api::link::ToAgent;
use mizzen_api::v1::scheduler::call;
use mizzen_api::v1::{self, TaskState};
use mizzen_types::ids::{AgentId, FrameworkId, TaskId};

impl Master {
    /// An agent tells of a task. The framework hears of the update, resources
    /// follow the newest state that the agent knows.
    pub(crate) fn status_update(
        &mut self,
        agent: &AgentId,
        framework_id: &FrameworkId,
        mut status: v1::TaskStatus,
        latest: TaskState,
    ) {
        self.counters.count("messages_status_update");
        let id = TaskId::from(&status.task_id);
        let Some(framework) = self.frameworks.get(framework_id) else {
            // Whoever had tasks there when the agent registered was known then, and has been
            // removed since, perhaps so long ago that it is not remembered.
            self.counters.count("invalid_status_updates");
            let framework_id = framework_id.into();
            self.tell_agent(agent, ToAgent::ShutdownFramework { framework_id });
            return;
        };
        let here = framework.tasks.get(&id).is_some_and(|task| task.agent() == *agent);
        // Without a uuid nobody waits for an answer: such an update of a task that
        // is over, or of one that runs elsewhere, would only confuse.
        if !here && status.uuid.is_none() {
            self.counters.count("invalid_status_updates");
            return;
        }
        status.state = framework.sees(status.state()).into();
        let latest = framework.sees(latest);
        self.send_update(framework_id, status.clone());
        if !here {
            self.counters.count("invalid_status_updates");
            return;
        }
        self.counters.count("valid_status_updates");
        self.apply_status(framework_id, &status, latest);
        if status.uuid.is_none() && task::is_terminal(latest) {
            self.complete_task(framework_id, &id);
        } else {
            self.check_drained(agent);
        }
    }

    /// Moves a task to `latest` and remembers the status on the way there.
    pub(crate) fn apply_status(
        &mut self,
        framework_id: &FrameworkId,
        status: &v1::TaskStatus,
        latest: TaskState,
    ) {
        let id = TaskId::from(&status.task_id);
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let Some(task) = framework.tasks.get_mut(&id) else { return };
        task.v1.status_update_state = Some(status.state);
        task.v1.status_update_uuid.clone_from(&status.uuid);
        task.remember(status);
        if task::is_terminal(task.v1.state()) {
            return;
        }
        task.v1.state = latest.into();
        if !task::is_terminal(latest) {
            return;
        }
        self.counters.task_ended(latest);
        framework.counters.task_ended(latest);
        let agent = task.agent();
        if task.charge == Charge::Held {
            task.charge = Charge::Freed;
            let (role, resources) = (&task.role, &task.resources);
            self.allocator.recover(framework_id, role, &agent, resources, None, self.now.mono);
        }
        if let Some(agent) = self.agents.get_mut(&agent) {
            agent.kills.remove(&(framework_id.clone(), id));
        }
    }

    /// Moves a task that is over into memory.
    pub(crate) fn complete_task(&mut self, framework_id: &FrameworkId, id: &TaskId) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let Some(task) = framework.tasks.remove(id) else { return };
        let agent_id = task.agent();
        if let Some(agent) = self.agents.get_mut(&agent_id) {
            let key = (framework_id.clone(), id.clone());
            agent.tasks.remove(&key);
            agent.kills.remove(&key);
        }
        framework.complete(task, self.settings.max_completed_tasks);
        self.check_drained(&agent_id);
    }

    pub(crate) fn acknowledge(
        &mut self,
        framework_id: &FrameworkId,
        acknowledge: call::Acknowledge,
    ) {
        self.counters.count("messages_status_update_acknowledgement");
        let call::Acknowledge { agent_id, task_id, uuid } = acknowledge;
        let (agent, id) = (AgentId::from(&agent_id), TaskId::from(&task_id));
        if self.agents.get(&agent).is_none_or(|agent| agent.link.is_none()) {
            self.counters.count("invalid_status_update_acknowledgements");
            return;
        }
        self.counters.count("valid_status_update_acknowledgements");
        let task = self.frameworks.get(framework_id).and_then(|f| f.tasks.get(&id));
        let over = task.is_some_and(|task| {
            task.agent() == agent
                && task::is_terminal(task.shown_state())
                && task.v1.status_update_uuid.as_ref() == Some(&uuid)
        });
        if over {
            self.complete_task(framework_id, &id);
        }
        let framework_id = framework_id.into();
        self.tell_agent(&agent, ToAgent::Acknowledge { framework_id, task_id, uuid });
    }

    pub(crate) fn kill(&mut self, framework_id: &FrameworkId, kill: call::Kill) {
        self.counters.count("messages_kill_task");
        let call::Kill { task_id, agent_id, kill_policy } = kill;
        let id = TaskId::from(&task_id);
        let task = self.frameworks.get(framework_id).and_then(|f| f.tasks.get(&id));
        let Some(agent) = task.map(task::Task::agent) else {
            let asked = call::reconcile::Task { task_id, agent_id };
            self.reconcile(framework_id, &[asked]);
            return;
        };
        if agent_id.is_some_and(|named| AgentId::from(named) != agent) {
            return;
        }
        if let Some(agent) = self.agents.get_mut(&agent) {
            agent.kills.insert((framework_id.clone(), id), kill_policy);
        }
        let framework_id = framework_id.into();
        self.tell_agent(&agent, ToAgent::KillTask { framework_id, task_id, kill_policy });
    }

    /// SHUTDOWN of an executor. The one of a command task has the task's id and
    /// nothing else to do, so that task is killed.
    pub(crate) fn shut_down_executor(
        &mut self,
        framework_id: &FrameworkId,
        shutdown: &call::Shutdown,
    ) {
        let task_id = v1::TaskId { value: shutdown.executor_id.value.clone() };
        let known = self
            .frameworks
            .get(framework_id)
            .and_then(|framework| framework.tasks.get(&TaskId::from(&task_id)))
            .is_some_and(|task| task.v1.agent_id == shutdown.agent_id);
        if known {
            let agent_id = Some(shutdown.agent_id.clone());
            self.kill(framework_id, call::Kill { task_id, agent_id, kill_policy: None });
        }
    }
}
