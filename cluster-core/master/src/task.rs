//! What the master knows of one task.

use mizzen_api::resources::from_v1;
use mizzen_api::v1::{self, TaskState, task_status::Source};
use mizzen_types::ids::{AgentId, FrameworkId, TaskId};
use mizzen_types::resources::Resources;
use mizzen_types::time::Wall;
use std::sync::Arc;

/// Whether a task's resources are still counted as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    Held,
    Freed,
}

/// A task, until its end has been acknowledged and as a memory afterwards.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) v1: v1::Task,
    /// Role that the resources are allocated to.
    pub(crate) role: Arc<str>,
    /// Without the allocation.
    pub(crate) resources: Resources,
    pub(crate) charge: Charge,
}

impl Task {
    /// A task that is about to be sent to its agent.
    pub(crate) fn launched(
        info: &v1::TaskInfo,
        framework: &FrameworkId,
        role: &Arc<str>,
        resources: Resources,
    ) -> Self {
        let user = info.command.as_ref().and_then(|command| command.user.clone());
        let v1 = v1::Task {
            name: info.name.clone(),
            task_id: info.task_id.clone(),
            framework_id: framework.into(),
            agent_id: info.agent_id.clone(),
            state: TaskState::TaskStaging.into(),
            resources: info.resources.clone(),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.clone(),
            health_check: info.health_check.clone(),
            kill_policy: info.kill_policy,
            limits: info.limits.clone(),
            user,
            ..v1::Task::default()
        };
        Self { v1, role: Arc::clone(role), resources, charge: Charge::Held }
    }

    /// A task that its agent reports. Unreadable resources count as none: the task
    /// runs all the same.
    pub(crate) fn reported(v1: v1::Task, default_role: &Arc<str>) -> Self {
        let resources = from_v1(&v1.resources).unwrap_or_default();
        let role = resources.allocations().into_keys().next();
        let charge = if frees(v1.state()) { Charge::Freed } else { Charge::Held };
        Self {
            role: role.unwrap_or_else(|| Arc::clone(default_role)),
            resources: resources.unallocated(),
            charge,
            v1,
        }
    }

    pub(crate) fn id(&self) -> TaskId {
        (&self.v1.task_id).into()
    }

    pub(crate) fn agent(&self) -> AgentId {
        (&self.v1.agent_id).into()
    }

    /// The state that the framework is to see: that of the update under way.
    pub(crate) fn shown_state(&self) -> TaskState {
        let update = self.v1.status_update_state.and_then(|state| TaskState::try_from(state).ok());
        update.unwrap_or_else(|| self.v1.state())
    }

    /// Takes a status into the history, which has one entry per state in a row.
    pub(crate) fn remember(&mut self, status: &v1::TaskStatus) {
        let statuses = &mut self.v1.statuses;
        if statuses.last().is_some_and(|last| last.state == status.state) {
            statuses.pop();
        }
        statuses.push(v1::TaskStatus { data: None, ..status.clone() });
    }
}

/// Whether a task in this state will never do anything again.
pub(crate) fn is_terminal(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::TaskFinished
            | TaskState::TaskFailed
            | TaskState::TaskKilled
            | TaskState::TaskError
            | TaskState::TaskLost
            | TaskState::TaskDropped
            | TaskState::TaskGone
            | TaskState::TaskGoneByOperator
    )
}

/// Whether a task in this state uses nothing.
pub(crate) fn frees(state: TaskState) -> bool {
    is_terminal(state) || state == TaskState::TaskUnreachable
}

/// The state as a framework may see it that knows nothing of partitions.
pub(crate) fn collapsed(state: TaskState) -> TaskState {
    match state {
        TaskState::TaskDropped
        | TaskState::TaskUnreachable
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator
        | TaskState::TaskUnknown => TaskState::TaskLost,
        other => other,
    }
}

/// A status that the master itself makes: it has no uuid, for nobody will repeat it.
pub(crate) fn status(
    task_id: &v1::TaskId,
    agent_id: Option<&v1::AgentId>,
    state: TaskState,
    reason: v1::task_status::Reason,
    message: impl Into<String>,
    now: Wall,
) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: task_id.clone(),
        agent_id: agent_id.cloned(),
        state: state.into(),
        source: Some(Source::Master.into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        timestamp: Some(now.as_secs_f64()),
        ..v1::TaskStatus::default()
    }
}
