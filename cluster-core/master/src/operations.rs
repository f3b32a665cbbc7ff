//! ACCEPT: offers become tasks, in the order of the operations.

use crate::Master;
use crate::offers::{Notice, Offer, refusal};
use crate::task::{self, Task};
use crate::validation::{self, Known};
use mizzen_api::link::ToAgent;
use mizzen_api::resources::to_v1;
use mizzen_api::v1::offer::Operation;
use mizzen_api::v1::offer::operation::Type;
use mizzen_api::v1::scheduler::call;
use mizzen_api::v1::task_status::Reason;
use mizzen_api::v1::{self, OperationState, TaskState};
use mizzen_types::ids::{AgentId, FrameworkId, OfferId};
use mizzen_types::resources::Resources;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the accepted offers have in common, and what is left of them.
struct Accepted {
    role: Arc<str>,
    agent: AgentId,
    left: Resources,
}

impl Master {
    /// Carries out the operations one after the other, each on what those before it
    /// left; what is left in the end counts as declined.
    pub(crate) fn accept(&mut self, framework: &FrameworkId, accept: call::Accept) {
        let ids: Vec<OfferId> = accept.offer_ids.iter().map(OfferId::from).collect();
        if let Err(reason) = self.check_offers(framework, &ids) {
            self.refuse_accept(framework, &ids, accept.operations, &reason);
            return;
        }
        let Some(mut accepted) = self.take_offers(framework, &ids) else { return };
        for operation in accept.operations {
            let kind = operation.r#type();
            if let Some(framework) = self.frameworks.get_mut(framework) {
                framework.counters.operation(kind);
            }
            match kind {
                Type::Launch => self.launch_all(framework, &mut accepted, operation),
                Type::LaunchGroup => {
                    let reason = Reason::TaskGroupInvalid;
                    let message = "Task groups are not supported by this master";
                    for task in tasks_of(operation) {
                        self.refuse_task(framework, &task, TaskState::TaskError, reason, message);
                    }
                }
                Type::Unknown => {}
                _ => {
                    let name = kind.as_str_name();
                    let message = format!("{name} is not supported by this master");
                    self.refuse_operation(framework, &accepted.agent, operation, message);
                }
            }
        }
        let Accepted { role, agent, left } = accepted;
        if !left.is_empty() {
            let rest = Offer { framework: framework.clone(), role, agent, resources: left };
            self.give_back(&rest, refusal(accept.filters.as_ref()));
        }
    }

    fn check_offers(&self, framework: &FrameworkId, ids: &[OfferId]) -> Result<(), String> {
        if ids.is_empty() {
            return Err("No offers specified".to_owned());
        }
        if let Some(twice) = ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(id)) {
            return Err(format!("Duplicate offer {} in offer list", twice.1));
        }
        let mut common: Option<(&str, &AgentId)> = None;
        for id in ids {
            let offer =
                self.offers.get(id).ok_or_else(|| format!("Offer {id} is no longer valid"))?;
            if offer.framework != *framework {
                return Err(format!(
                    "Offer {id} has invalid framework {} while framework {framework} is expected",
                    offer.framework
                ));
            }
            let (role, agent) = *common.get_or_insert((&offer.role, &offer.agent));
            if *offer.role != *role {
                return Err(format!(
                    "Offer {id} is allocated to role '{}', others to '{role}'",
                    offer.role
                ));
            }
            if offer.agent != *agent {
                return Err(format!(
                    "Aggregated offers must belong to one single agent. Offer {id} uses agent {} and agent {agent}",
                    offer.agent
                ));
            }
        }
        Ok(())
    }

    /// One bad offer spoils the whole call.
    fn refuse_accept(
        &mut self,
        framework: &FrameworkId,
        offers: &[OfferId],
        operations: Vec<Operation>,
        reason: &str,
    ) {
        let own = |master: &Self, id: &OfferId| {
            master.offers.get(id).is_some_and(|offer| offer.framework == *framework)
        };
        for id in offers.iter().collect::<BTreeSet<_>>() {
            if own(self, id) {
                self.withdraw(id, Notice::Silent);
            }
        }
        let Some(state) = self.frameworks.get(framework).map(|f| f.sees(TaskState::TaskDropped))
        else {
            return;
        };
        let message = format!("Task launched with invalid offers: {reason}");
        for operation in operations {
            match operation.r#type() {
                Type::Launch | Type::LaunchGroup => {
                    for task in tasks_of(operation) {
                        self.refuse_task(framework, &task, state, Reason::InvalidOffers, &message);
                    }
                }
                _ => {
                    let message = format!("Operation attempted with invalid offers: {reason}");
                    self.send_operation_error(framework, None, operation, message);
                }
            }
        }
    }

    fn take_offers(&mut self, framework: &FrameworkId, ids: &[OfferId]) -> Option<Accepted> {
        let mut accepted: Option<Accepted> = None;
        for id in ids {
            let Offer { role, agent, resources, .. } = self.take_offer(id)?;
            if let Some(framework) = self.frameworks.get_mut(framework) {
                framework.counters.offer("accepted");
            }
            match &mut accepted {
                Some(accepted) => accepted.left += resources,
                None => accepted = Some(Accepted { role, agent, left: resources }),
            }
        }
        accepted
    }

    fn launch_all(
        &mut self,
        framework: &FrameworkId,
        accepted: &mut Accepted,
        operation: Operation,
    ) {
        self.counters.count("messages_launch_tasks");
        let named = operation.id.is_some();
        for task in tasks_of(operation) {
            let checked = if named {
                Err("The 'id' field must not be set in a LAUNCH operation".to_owned())
            } else {
                self.check_task(framework, &task, accepted)
            };
            match checked {
                Ok(resources) => self.launch(framework, accepted, task, resources),
                Err(message) => {
                    let (state, reason) = (TaskState::TaskError, Reason::TaskInvalid);
                    self.refuse_task(framework, &task, state, reason, &message);
                }
            }
        }
    }

    /// The task's resources, without their allocation, if it can be launched.
    fn check_task(
        &self,
        id: &FrameworkId,
        task: &v1::TaskInfo,
        accepted: &Accepted,
    ) -> Result<Resources, String> {
        let framework = self.frameworks.get(id).ok_or("Framework cannot be found")?;
        let task_id = (&task.task_id).into();
        let known = if framework.tasks.contains_key(&task_id) {
            Known::Live
        } else if framework.unreachable.contains_key(&task_id) {
            Known::Unreachable
        } else {
            Known::New
        };
        let resources = validation::check_task(task, known, &accepted.agent, &accepted.role)?;
        if !accepted.left.contains(&resources) {
            return Err(format!(
                "Task uses more resources {resources} than available {}",
                accepted.left
            ));
        }
        Ok(resources)
    }

    fn launch(
        &mut self,
        id: &FrameworkId,
        accepted: &mut Accepted,
        mut task: v1::TaskInfo,
        resources: Resources,
    ) {
        accepted.left -= &resources;
        task.resources = to_v1(&resources.allocated_to(&accepted.role));
        validation::fill_in(&mut task);
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let record = Task::launched(&task, id, &accepted.role, resources);
        let info = framework.info.clone();
        if let Some(agent) = self.agents.get_mut(&accepted.agent) {
            agent.tasks.insert((id.clone(), record.id()));
        }
        framework.tasks.insert(record.id(), record);
        self.tell_agent(&accepted.agent, ToAgent::RunTask { framework: info, task });
    }

    /// Tells of a task that was never launched, and remembers nothing of it.
    fn refuse_task(
        &mut self,
        framework: &FrameworkId,
        task: &v1::TaskInfo,
        state: TaskState,
        reason: Reason,
        message: &str,
    ) {
        self.counters.task_ended(state);
        if state == TaskState::TaskLost {
            self.counters.count("task_lost/source_master/reason_invalid_offers");
        }
        if let Some(framework) = self.frameworks.get_mut(framework) {
            framework.counters.task_ended(state);
        }
        let agent_id = Some(&task.agent_id);
        let status = task::status(&task.task_id, agent_id, state, reason, message, self.now.wall);
        self.send_update(framework, status);
    }

    fn refuse_operation(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        operation: Operation,
        message: String,
    ) {
        self.counters.count("dropped_messages");
        self.send_operation_error(framework, Some(agent), operation, message);
    }

    /// Only an operation that has an id has somebody who asks for it.
    fn send_operation_error(
        &mut self,
        framework: &FrameworkId,
        agent: Option<&AgentId>,
        operation: Operation,
        message: String,
    ) {
        let Some(operation_id) = operation.id else { return };
        let status = v1::OperationStatus {
            operation_id: Some(operation_id),
            state: OperationState::OperationError.into(),
            message: Some(message),
            agent_id: agent.map(Into::into),
            ..v1::OperationStatus::default()
        };
        self.send_operation(framework, status);
    }
}

/// The tasks that an operation wants to launch.
fn tasks_of(operation: Operation) -> Vec<v1::TaskInfo> {
    let group = operation.launch_group.map(|group| group.task_group.tasks);
    let single = operation.launch.map(|launch| launch.task_infos);
    single.into_iter().chain(group).flatten().collect()
}
