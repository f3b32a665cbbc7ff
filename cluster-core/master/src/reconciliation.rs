//! What a framework should know of its tasks and operations, on request.

use crate::Master;
use crate::presence::unreachable_time;
use crate::task::{self, Task};
use mizzen_api::v1::scheduler::{Event, call, event};
use mizzen_api::v1::task_status::Reason;
use mizzen_api::v1::{self, OperationState, TaskState};
use mizzen_types::ids::{AgentId, FrameworkId, TaskId};

impl Master {
    /// RECONCILE: all tasks if none is named. A task that may still be reported by
    /// an agent on its way back gets no answer.
    pub(crate) fn reconcile(&mut self, id: &FrameworkId, tasks: &[call::reconcile::Task]) {
        self.counters.count("messages_reconcile_tasks");
        let answers: Vec<v1::TaskStatus> = if tasks.is_empty() {
            let framework = self.frameworks.get(id);
            let tasks = framework.map(|framework| framework.tasks.values());
            tasks.into_iter().flatten().map(|task| self.known(task)).collect()
        } else {
            let recovering = self.recovering().next().is_some();
            tasks.iter().filter_map(|task| self.reconciled(id, task, recovering)).collect()
        };
        for status in answers {
            self.send_update(id, status);
        }
    }

    /// RECONCILE_OPERATIONS. No operation is known yet, so what can be said follows
    /// from where its agent stands.
    pub(crate) fn reconcile_operations(
        &mut self,
        id: &FrameworkId,
        operations: &[call::reconcile_operations::Operation],
    ) {
        self.counters.count("messages_reconcile_operations");
        for operation in operations {
            let agent = operation.agent_id.as_ref().map(AgentId::from);
            let state = match agent {
                Some(agent) if self.is_recovering(&agent) => OperationState::OperationRecovering,
                Some(agent) if self.registry.unreachable_since(&agent).is_some() => {
                    OperationState::OperationUnreachable
                }
                _ => OperationState::OperationUnknown,
            };
            let status = v1::OperationStatus {
                operation_id: Some(operation.operation_id.clone()),
                state: state.into(),
                message: Some("Reconciliation: the operation is not known".to_owned()),
                agent_id: operation.agent_id.clone(),
                resource_provider_id: operation.resource_provider_id.clone(),
                ..v1::OperationStatus::default()
            };
            self.send_operation(id, status);
        }
    }

    /// Tells a framework of an operation.
    pub(crate) fn send_operation(&mut self, id: &FrameworkId, status: v1::OperationStatus) {
        let event = Event {
            r#type: Some(event::Type::UpdateOperationStatus.into()),
            update_operation_status: Some(event::UpdateOperationStatus { status }),
            ..Event::default()
        };
        self.send(id, event);
    }

    fn is_recovering(&self, agent: &AgentId) -> bool {
        self.recovering().any(|id| id == agent)
    }

    fn reconciled(
        &self,
        framework_id: &FrameworkId,
        asked: &call::reconcile::Task,
        recovering: bool,
    ) -> Option<v1::TaskStatus> {
        let framework = self.frameworks.get(framework_id)?;
        let id = TaskId::from(&asked.task_id);
        if let Some(task) = framework.tasks.get(&id) {
            return Some(self.known(task));
        }
        let lost = framework.unreachable.get(&id).map(Task::agent);
        let agent = asked.agent_id.as_ref().map(AgentId::from).or(lost);
        let waits = match &agent {
            Some(agent) => recovering && self.is_recovering(agent),
            None => recovering,
        };
        if waits {
            return None;
        }
        let since = agent.as_ref().and_then(|agent| self.registry.unreachable_since(agent));
        let registered = agent.as_ref().is_some_and(|agent| self.agents.contains_key(agent));
        let (state, message) = match since {
            _ if registered => (TaskState::TaskGone, "Task is unknown to the agent"),
            _ if agent.as_ref().is_some_and(|agent| self.registry.is_gone(agent)) => {
                (TaskState::TaskGoneByOperator, "Task is gone by operator")
            }
            Some(_) => (TaskState::TaskUnreachable, "Task is unreachable"),
            None => (TaskState::TaskUnknown, "Task is unknown"),
        };
        let message = format!("Reconciliation: {message}");
        let (state, reason) = (framework.sees(state), Reason::Reconciliation);
        let agent_id = agent.as_ref().map(v1::AgentId::from);
        let mut status =
            task::status(&asked.task_id, agent_id.as_ref(), state, reason, message, self.now.wall);
        status.unreachable_time = since.filter(|_| !registered).map(unreachable_time);
        Some(status)
    }

    fn known(&self, task: &Task) -> v1::TaskStatus {
        let (id, agent) = (&task.v1.task_id, Some(&task.v1.agent_id));
        let (state, reason) = (task.shown_state(), Reason::Reconciliation);
        let message = "Reconciliation: Latest task state";
        let mut status = task::status(id, agent, state, reason, message, self.now.wall);
        status.executor_id.clone_from(&task.v1.executor_id);
        if let Some(last) = task.v1.statuses.last() {
            status.healthy = last.healthy;
            status.check_status = last.check_status;
            status.container_status.clone_from(&last.container_status);
            if status.executor_id.is_none() {
                status.executor_id.clone_from(&last.executor_id);
            }
        }
        status
    }
}
