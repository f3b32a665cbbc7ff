//! Tasks as the classic endpoints show them.

use super::{insert_some, object};
use crate::Master;
use crate::framework::Framework;
use crate::task::Task;
use mizzen_api::v1::TaskState;
use mizzen_api::{summary, v1};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Which end of a list comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    #[default]
    Descending,
}

/// Which tasks `/tasks` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TasksQuery {
    /// Of this framework only.
    pub framework_id: Option<String>,
    /// This task only.
    pub task_id: Option<String>,
    /// At most so many.
    pub limit: usize,
    /// After so many.
    pub offset: usize,
    /// By the time of their first status.
    pub order: Order,
}

impl Default for TasksQuery {
    fn default() -> Self {
        Self { framework_id: None, task_id: None, limit: 100, offset: 0, order: Order::default() }
    }
}

/// How many tasks are in which state.
#[derive(Debug, Default)]
pub(super) struct StateCounts(BTreeMap<&'static str, u64>);

/// The states that summaries count; everything that was lost is one of them.
const COUNTED: [TaskState; 10] = [
    TaskState::TaskStaging,
    TaskState::TaskStarting,
    TaskState::TaskRunning,
    TaskState::TaskKilling,
    TaskState::TaskFinished,
    TaskState::TaskKilled,
    TaskState::TaskFailed,
    TaskState::TaskLost,
    TaskState::TaskError,
    TaskState::TaskUnreachable,
];

impl StateCounts {
    pub(super) fn add(&mut self, task: &Task) {
        *self.0.entry(task.v1.state().as_str_name()).or_default() += 1;
    }

    pub(super) fn fields(&self) -> Map<String, Value> {
        let names = COUNTED.iter().map(TaskState::as_str_name);
        names
            .map(|name| (name.to_owned(), json!(self.0.get(name).copied().unwrap_or_default())))
            .collect()
    }
}

impl Master {
    /// The body of `/tasks`.
    #[must_use]
    pub fn tasks(&self, query: &TasksQuery) -> Value {
        let frameworks = self.frameworks.values().chain(&self.completed);
        let wanted = |asked: &Option<String>, id: &str| asked.as_deref().is_none_or(|a| a == id);
        let mut tasks: Vec<&Task> = frameworks
            .filter(|framework| wanted(&query.framework_id, framework.id.as_str()))
            .flat_map(Framework::all_tasks)
            .filter(|task| wanted(&query.task_id, &task.v1.task_id.value))
            .collect();
        let first = |task: &Task| {
            let status = task.v1.statuses.first();
            status.and_then(|status| status.timestamp).unwrap_or_default()
        };
        tasks.sort_by(|a, b| {
            let order = first(a).total_cmp(&first(b));
            let order = order.then_with(|| a.v1.task_id.value.cmp(&b.v1.task_id.value));
            if query.order == Order::Ascending { order } else { order.reverse() }
        });
        let page = tasks.into_iter().skip(query.offset).take(query.limit);
        json!({ "tasks": page.map(task_object).collect::<Vec<_>>() })
    }
}

/// One task.
pub(super) fn task_object(task: &Task) -> Value {
    let v1 = &task.v1;
    let mut fields = object(json!({
        "id": v1.task_id.value,
        "name": v1.name,
        "framework_id": v1.framework_id.value,
        "executor_id": v1.executor_id.as_ref().map_or("", |id| &id.value),
        "slave_id": v1.agent_id.value,
        "state": v1.state().as_str_name(),
        "resources": summary::of(&task.resources),
        "role": *task.role,
        "statuses": v1.statuses.iter().map(status_object).collect::<Vec<_>>(),
    }));
    if !v1.limits.is_empty() {
        fields.insert("limits".to_owned(), json!(limits(v1)));
    }
    insert_some(&mut fields, "user", v1.user.as_ref().map(|user| json!(user)));
    insert_some(&mut fields, "labels", v1.labels.as_ref().map(|labels| json!(labels.labels)));
    insert_some(&mut fields, "discovery", v1.discovery.as_ref().map(|part| json!(part)));
    insert_some(&mut fields, "container", v1.container.as_ref().map(|part| json!(part)));
    insert_some(&mut fields, "health_check", v1.health_check.as_ref().map(|part| json!(part)));
    Value::Object(fields)
}

fn status_object(status: &v1::TaskStatus) -> Value {
    let mut fields = object(json!({
        "state": status.state().as_str_name(),
        "timestamp": status.timestamp.unwrap_or_default(),
    }));
    insert_some(&mut fields, "labels", status.labels.as_ref().map(|l| json!(l.labels)));
    let container = status.container_status.as_ref().map(|part| json!(part));
    insert_some(&mut fields, "container_status", container);
    insert_some(&mut fields, "healthy", status.healthy.map(|healthy| json!(healthy)));
    Value::Object(fields)
}

/// Limits by name; no limit is a text, for JSON has no infinite numbers.
fn limits(task: &v1::Task) -> Map<String, Value> {
    let value = |limit: f64| if limit.is_finite() { json!(limit) } else { json!("Infinity") };
    task.limits.iter().map(|(name, limit)| (name.clone(), value(limit.value))).collect()
}
