//! What happened since the start, and `/metrics/snapshot`.

use crate::framework::Connection;
use crate::{Master, task};
use mizzen_api::v1::{self, TaskState};
use mizzen_types::resources::Resources;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Counters that are there from the start, below `master/`.
#[rustfmt::skip]
const COUNTERS: &[&str] = &[
    "slave_registrations", "slave_reregistrations", "slave_removals", "slave_removals/reason_unhealthy",
    "slave_unreachable_scheduled", "slave_unreachable_canceled", "slave_unreachable_completed", "recovery_slave_removals",
    "tasks_error", "tasks_failed", "tasks_finished", "tasks_killed", "tasks_lost", "tasks_dropped", "tasks_gone", "tasks_gone_by_operator",
    "dropped_messages", "messages_register_slave", "messages_reregister_slave", "messages_status_update",
    "messages_register_framework", "messages_reregister_framework", "messages_unregister_framework",
    "messages_launch_tasks", "messages_decline_offers", "messages_kill_task", "messages_reconcile_tasks",
    "messages_reconcile_operations", "messages_revive_offers", "messages_suppress_offers", "messages_resource_request",
    "messages_framework_to_executor", "messages_status_update_acknowledgement",
    "messages_operation_status_update_acknowledgement",
    "valid_status_updates", "invalid_status_updates",
    "valid_status_update_acknowledgements", "invalid_status_update_acknowledgements",
    "invalid_framework_to_executor_messages", "invalid_operation_status_update_acknowledgements",
    "task_lost/source_master/reason_invalid_offers", "task_lost/source_master/reason_slave_removed",
];

/// Counters of the master.
#[derive(Debug, Default)]
pub(crate) struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    pub(crate) fn count(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// A task came to its end.
    pub(crate) fn task_ended(&mut self, state: TaskState) {
        match state {
            TaskState::TaskError => self.count("tasks_error"),
            TaskState::TaskFailed => self.count("tasks_failed"),
            TaskState::TaskFinished => self.count("tasks_finished"),
            TaskState::TaskKilled => self.count("tasks_killed"),
            TaskState::TaskLost => self.count("tasks_lost"),
            TaskState::TaskDropped => self.count("tasks_dropped"),
            TaskState::TaskGone => self.count("tasks_gone"),
            TaskState::TaskGoneByOperator => self.count("tasks_gone_by_operator"),
            _ => {}
        }
    }
}

/// Counters of one framework.
#[derive(Debug, Default)]
pub(crate) struct FrameworkCounters {
    calls: BTreeMap<&'static str, u64>,
    events: BTreeMap<&'static str, u64>,
    operations: BTreeMap<&'static str, u64>,
    terminal: BTreeMap<&'static str, u64>,
    offers: BTreeMap<&'static str, u64>,
}

impl FrameworkCounters {
    pub(crate) fn call(&mut self, kind: v1::scheduler::call::Type) {
        *self.calls.entry(kind.as_str_name()).or_default() += 1;
    }

    pub(crate) fn event(&mut self, kind: v1::scheduler::event::Type) {
        *self.events.entry(kind.as_str_name()).or_default() += 1;
    }

    pub(crate) fn operation(&mut self, kind: v1::offer::operation::Type) {
        *self.operations.entry(kind.as_str_name()).or_default() += 1;
    }

    pub(crate) fn task_ended(&mut self, state: TaskState) {
        *self.terminal.entry(state.as_str_name()).or_default() += 1;
    }

    /// `what` is `sent`, `accepted`, `declined` or `rescinded`.
    pub(crate) fn offer(&mut self, what: &'static str) {
        *self.offers.entry(what).or_default() += 1;
    }
}

impl Master {
    /// The body of `/metrics/snapshot`, as of the last thing that happened.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "metrics are doubles")]
    pub fn metrics(&self) -> Value {
        let mut metrics = Map::new();
        for name in COUNTERS.iter().chain(self.counters.0.keys()) {
            let value = self.counters.0.get(name).copied().unwrap_or_default();
            metrics.insert(format!("master/{name}"), json!(value as f64));
        }
        let uptime = self.now.mono.since(self.started.mono).as_secs_f64();
        metrics.insert("master/uptime_secs".to_owned(), json!(uptime));
        self.gauges(&mut metrics);
        self.resource_gauges(&mut metrics);
        self.allocator_metrics(&mut metrics);
        for framework in self.frameworks.values() {
            framework_metrics(framework, &mut metrics);
        }
        Value::Object(metrics)
    }

    #[allow(clippy::cast_precision_loss, reason = "metrics are doubles")]
    fn gauges(&self, metrics: &mut Map<String, Value>) {
        let mut set = |name: &str, value: usize| {
            metrics.insert(format!("master/{name}"), json!(value as f64));
        };
        let connected = self.agents.values().filter(|agent| agent.link.is_some()).count();
        set("elected", 1);
        let active = self.agents.iter().filter(|(id, agent)| self.is_active(id, agent)).count();
        set("slaves_active", active);
        set("slaves_connected", connected);
        set("slaves_disconnected", self.agents.len() - connected);
        set("slaves_inactive", self.agents.len() - active);
        let lost =
            self.registry.agents().filter(|(id, _)| self.registry.unreachable_since(id).is_some());
        set("slaves_unreachable", lost.count());
        let connected = self.frameworks.values().filter(|f| f.is_connected()).count();
        let disconnected = self
            .frameworks
            .values()
            .filter(|f| matches!(f.connection, Connection::Disconnected(_)))
            .count();
        set("frameworks_active", connected);
        set("frameworks_connected", connected);
        set("frameworks_disconnected", disconnected);
        set("frameworks_inactive", self.frameworks.len() - connected);
        set("outstanding_offers", self.offers.len());
        let in_state = |state: TaskState| {
            let tasks = self.frameworks.values().flat_map(|f| f.tasks.values());
            tasks.filter(|task| task.v1.state() == state).count()
        };
        set("tasks_staging", in_state(TaskState::TaskStaging));
        set("tasks_starting", in_state(TaskState::TaskStarting));
        set("tasks_running", in_state(TaskState::TaskRunning));
        set("tasks_killing", in_state(TaskState::TaskKilling));
        set("tasks_unreachable", self.frameworks.values().map(|f| f.unreachable.len()).sum());
    }

    fn resource_gauges(&self, metrics: &mut Map<String, Value>) {
        let none = Resources::new();
        let total = self.agents.values().fold(none.clone(), |sum, agent| sum + &agent.total);
        let used = self.frameworks.values().fold(none, |sum, framework| sum + &framework.used());
        for (suffix, total, used) in [
            ("", total.non_revocable(), used.non_revocable()),
            ("_revocable", total.revocable(), used.revocable()),
        ] {
            for name in ["cpus", "gpus", "mem", "disk"] {
                let (total, used) = (total.scalar(name).as_f64(), used.scalar(name).as_f64());
                let percent = if total > 0.0 { used / total } else { 0.0 };
                for (what, value) in [("total", total), ("used", used), ("percent", percent)] {
                    metrics.insert(format!("master/{name}{suffix}_{what}"), json!(value));
                }
            }
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "metrics are doubles")]
    fn allocator_metrics(&self, metrics: &mut Map<String, Value>) {
        let prefix = "allocator/mesos";
        metrics.insert(format!("{prefix}/allocation_runs"), json!(self.allocator.runs() as f64));
        let (total, used) = (self.allocator.total(), self.allocator.offered_or_allocated());
        for name in ["cpus", "mem", "disk"] {
            let of = |quantity: &str, value: f64| {
                (format!("{prefix}/resources/{name}/{quantity}"), json!(value))
            };
            metrics.extend([
                of("total", total.get(name).as_f64()),
                of("offered_or_allocated", used.get(name).as_f64()),
            ]);
        }
        for (role, count) in self.allocator.filters_by_role() {
            metrics
                .insert(format!("{prefix}/offer_filters/roles/{role}/active"), json!(count as f64));
        }
        for role in self.roles_in_use() {
            let share = self.allocator.share(&role).map_or(0.0, mizzen_allocator::Share::as_f64);
            metrics.insert(format!("{prefix}/roles/{role}/shares/dominant"), json!(share));
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "metrics are doubles")]
fn framework_metrics(framework: &crate::framework::Framework, metrics: &mut Map<String, Value>) {
    let prefix =
        format!("master/frameworks/{}/{}", percent_encoded(&framework.info.name), framework.id);
    let mut set = |name: String, value: u64| {
        metrics.insert(format!("{prefix}/{name}"), json!(value as f64));
    };
    let counters = &framework.counters;
    set("subscribed".to_owned(), u64::from(framework.is_connected()));
    for (what, counts) in [
        ("calls", &counters.calls),
        ("events", &counters.events),
        ("operations", &counters.operations),
    ] {
        set(what.to_owned(), counts.values().sum());
        counts.iter().for_each(|(name, count)| set(format!("{what}/{name}"), *count));
    }
    for (state, count) in &counters.terminal {
        set(format!("tasks/terminal/{state}"), *count);
    }
    let mut active: BTreeMap<&str, u64> = BTreeMap::new();
    for task in framework.tasks.values().filter(|task| !task::is_terminal(task.v1.state())) {
        *active.entry(task.v1.state().as_str_name()).or_default() += 1;
    }
    active.iter().for_each(|(state, count)| set(format!("tasks/active/{state}"), *count));
    for what in ["sent", "accepted", "declined", "rescinded"] {
        set(format!("offers/{what}"), counters.offers.get(what).copied().unwrap_or_default());
    }
    for role in framework.roles() {
        set(format!("roles/{role}/suppressed"), u64::from(framework.suppressed.contains(&role)));
    }
}

fn percent_encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
