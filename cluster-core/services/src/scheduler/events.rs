//! What the master tells, and what follows from it.

use super::Services;
use crate::app_id::AppId;
use crate::instance::{Condition, Goal, is_drained, is_terminal};
use crate::store::{Key, TaskFailure};
use crate::task;
use crate::version::Version;
use mizzen_api::v1;
use mizzen_api::v1::TaskState as S;
use mizzen_api::v1::scheduler::{Call, Event, call, event};
use mizzen_api::v1::task_status::Reason;
use mizzen_types::time::{Mono, Now};
use std::collections::BTreeSet;
use std::time::Duration;

/// Time between two questions about copies that the master did not speak of,
/// because their agents have not come back to it.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(10);

impl Services {
    /// Takes in an event of the subscription.
    pub fn handle_event(&mut self, event: Event, now: Now) {
        match event.r#type() {
            event::Type::Subscribed => {
                if let Some(subscribed) = event.subscribed {
                    self.subscribed(subscribed.framework_id.value, now.mono);
                }
            }
            event::Type::Offers => self.offers(event.offers.unwrap_or_default().offers, now),
            event::Type::Update => {
                if let Some(update) = event.update {
                    self.update(&update.status, now);
                }
            }
            event::Type::Error => {
                self.error(&event.error.map(|error| error.message).unwrap_or_default());
            }
            // Offers are answered at once, so there is nothing to rescind; the fate of
            // tasks on a lost agent comes as updates.
            event::Type::Unknown
            | event::Type::InverseOffers
            | event::Type::Rescind
            | event::Type::RescindInverseOffer
            | event::Type::UpdateOperationStatus
            | event::Type::Message
            | event::Type::Failure
            | event::Type::Heartbeat => {}
        }
        self.settle(now);
    }

    fn subscribed(&mut self, framework: String, now: Mono) {
        self.connected = true;
        self.subscribed_at = now;
        self.asked = None;
        if self.framework.as_ref() != Some(&framework) {
            self.save(&Key::Framework, &framework);
            self.framework = Some(framework);
        }
        for service in self.services.values_mut() {
            service.instances.values_mut().for_each(|copy| copy.killed = None);
        }
        self.unconfirmed = self.tasks.keys().cloned().collect();
        self.reconcile(now);
        self.touch_all();
    }

    /// Asks about every copy by name, or only about those that are not confirmed
    /// since the subscription, and for all tasks that the master knows.
    pub(super) fn reconcile(&mut self, now: Mono) {
        let confirming = !self.unconfirmed.is_empty();
        let named: BTreeSet<String> = if confirming {
            self.unconfirmed.clone()
        } else {
            self.tasks.keys().cloned().collect()
        };
        let tasks: Vec<_> = named.iter().filter_map(|task| self.reconciled(task)).collect();
        if !tasks.is_empty() {
            self.call_reconcile(tasks);
        }
        self.call_reconcile(Vec::new());
        let interval = if confirming { CONFIRM_INTERVAL } else { self.settings.reconcile_interval };
        self.reconcile_at = Some(now + interval);
        // Should a call have been lost, it is made up for here.
        self.asked = None;
    }

    fn reconciled(&self, task: &str) -> Option<call::reconcile::Task> {
        let copy = self.services.get(self.tasks.get(task)?)?.instances.get(task)?;
        Some(call::reconcile::Task {
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: Some(v1::AgentId { value: copy.agent.clone() }),
        })
    }

    fn call_reconcile(&mut self, tasks: Vec<call::reconcile::Task>) {
        let reconcile = Some(call::Reconcile { tasks });
        self.call(call::Type::Reconcile, Call { reconcile, ..Call::default() });
    }

    /// A framework that was removed has no tasks any more and cannot come back
    /// under its id; the next subscription is one of a new framework.
    fn error(&mut self, message: &str) {
        if !message.contains("removed") {
            return;
        }
        self.connected = false;
        self.framework = None;
        self.forget(&Key::Framework);
        let tasks: Vec<(String, AppId)> =
            self.tasks.iter().map(|(task, app)| (task.clone(), app.clone())).collect();
        for (task, app) in tasks {
            self.remove_copy(&app, &task);
        }
    }

    fn update(&mut self, status: &v1::TaskStatus, now: Now) {
        if self.is_premature(status, now.mono) {
            return;
        }
        let task = &status.task_id.value;
        self.unconfirmed.remove(task);
        match self.tasks.get(task).cloned() {
            None => self.stranger(status),
            Some(app) if is_terminal(status.state()) => self.ended(&app, status, now),
            Some(app) => self.went_on(&app, status, now),
        }
        self.acknowledge(status);
    }

    /// A master that has just started may not know an agent that is on its way back,
    /// and then it knows none of its tasks. To believe it at once would be to start
    /// them twice, so the copies stay unconfirmed and are asked about again.
    fn is_premature(&self, status: &v1::TaskStatus, now: Mono) -> bool {
        let unknown = matches!(status.state(), S::TaskUnknown | S::TaskLost)
            && status.reason == Some(Reason::Reconciliation.into());
        unknown && now < self.subscribed_at + self.settings.return_timeout
    }

    /// What was done about an update is saved before this call is sent, so an update
    /// is never lost; it may come twice.
    fn acknowledge(&mut self, status: &v1::TaskStatus) {
        let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) else {
            return;
        };
        if uuid.is_empty() {
            return;
        }
        let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
        let acknowledge = Some(acknowledge);
        self.call(call::Type::Acknowledge, Call { acknowledge, ..Call::default() });
    }

    /// A task that is ours by its id and that nobody remembers is one whose agent was
    /// given up: it has been replaced. Tasks with other ids are left alone.
    fn stranger(&mut self, status: &v1::TaskStatus) {
        let alive = matches!(status.state(), S::TaskStaging | S::TaskStarting | S::TaskRunning);
        if alive && task::is_own_id(&status.task_id.value) {
            let agent = status.agent_id.clone().map(|agent| agent.value);
            self.kill(status.task_id.value.clone(), agent);
        }
    }

    fn went_on(&mut self, id: &AppId, status: &v1::TaskStatus, now: Now) {
        let task = &status.task_id.value;
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(copy) = service.instances.get_mut(task) else { return };
        let before = copy.condition;
        let changed = copy.observe(status, now.mono, Version::at(now.wall));
        let copy = copy.clone();
        let further = copy.condition != before && copy.condition < Condition::Killing;
        if let Some(app) = service.current_app(&copy).filter(|_| further) {
            service.backoff.redate(&app, now.mono);
        }
        if copy.condition == Condition::Unreachable && before != Condition::Unreachable {
            self.failed(id, status, now);
        }
        if changed {
            self.save(&Key::Instance(task), &copy);
            self.dirty.insert(id.clone());
        }
    }

    fn ended(&mut self, id: &AppId, status: &v1::TaskStatus, now: Now) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(copy) = service.instances.get(&status.task_id.value) else { return };
        let wanted = copy.goal == Goal::Run;
        let sick = status.healthy.or(copy.healthy) == Some(false);
        let raises = wanted && raises_delay(status, sick);
        if let Some(app) = service.current_app(copy).filter(|_| raises) {
            service.backoff.raise(&app, now.mono);
        }
        if wanted && (status.state() != S::TaskKilled || sick) {
            self.failed(id, status, now);
        }
        self.remove_copy(id, &status.task_id.value);
    }

    fn failed(&mut self, id: &AppId, status: &v1::TaskStatus, now: Now) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(copy) = service.instances.get(&status.task_id.value) else { return };
        let failure = TaskFailure {
            app_id: id.clone(),
            host: copy.host.clone(),
            message: status.message.clone().unwrap_or_default(),
            state: status.state().as_str_name().to_owned(),
            task_id: copy.task_id.clone(),
            slave_id: copy.agent.clone(),
            timestamp: Version::at(now.wall),
            version: copy.version,
        };
        service.failure = Some(failure.clone());
        self.save(&Key::Failure(id), &failure);
    }
}

/// Whether the end of a copy says something about its app. Being killed does not,
/// unless it was for its health; nor does an offer that was no longer valid.
fn raises_delay(status: &v1::TaskStatus, sick: bool) -> bool {
    // Who is drained, or whose machine goes down, says nothing about the app.
    if is_drained(status) {
        return false;
    }
    match status.state() {
        S::TaskGone if status.reason() == Reason::AgentRemoved => false,
        S::TaskDropped => status.reason() != Reason::InvalidOffers,
        S::TaskError | S::TaskFailed | S::TaskGone | S::TaskFinished => true,
        S::TaskKilled => sick,
        _ => false,
    }
}
