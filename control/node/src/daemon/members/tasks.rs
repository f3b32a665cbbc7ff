//! The tasks of the whole cluster, as the owner logs have them.

use crate::daemon::clock;
use crate::daemon::core::Core;
use mizzen_types::fact::{Fact, Health, Reach, TaskFact, TaskPhase};
use mizzen_types::ids::OwnerId;
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl Core {
    /// `GET /v1/cluster/tasks`: this node's tasks as its agent has them, and those of others
    /// as their logs say. Those of nodes that do not answer are unreachable, with what was
    /// known of them last; those of agents that are out for good are gone, wherever they run.
    pub(super) fn list_tasks(&self) -> Value {
        let me = self.node_log.owner();
        let said: BTreeMap<&str, &TaskFact> = self
            .view
            .facts()
            .filter_map(|(owner, _, fact)| match fact {
                Fact::Task(task) if owner == me => Some((task.task_id.as_str(), &**task)),
                _ => None,
            })
            .collect();
        let own = self.agent.as_ref().map(mizzen_agent::Agent::rows).unwrap_or_default();
        let own = own.as_array().cloned().unwrap_or_default().into_iter().map(|mut row| {
            row["host"] = json!(self.config.hostname);
            if let Some(task) = row["id"].as_str().and_then(|id| said.get(id)) {
                row["ports"] = json!(ports(task));
            }
            row
        });
        let silent = self.silent_tasks(clock::now()).map(|(_, task, silence)| {
            let mut row = row(task, &silence.name);
            let known = std::mem::replace(&mut row["state"], json!("TASK_UNREACHABLE"));
            row["last_state"] = known;
            row["health"] = Value::Null;
            row["silent_seconds"] = json!(silence.span.as_secs());
            row
        });
        let out = self.view.tasks_out().filter(|(owner, _)| *owner != me).map(|(owner, task)| {
            let mut row = row(task, &self.host_of(owner, task));
            let known = std::mem::replace(&mut row["state"], json!("TASK_GONE_BY_OPERATOR"));
            row["last_state"] = known;
            row["health"] = Value::Null;
            row
        });
        let others = self.view.facts().filter_map(|(owner, _, fact)| match fact {
            Fact::Task(task) if owner != me => Some(row(task, &self.host_of(owner, task))),
            _ => None,
        });
        own.chain(others).chain(silent).chain(out).collect()
    }

    fn host_of(&self, node: &OwnerId, task: &TaskFact) -> String {
        let host = self.members.as_ref().and_then(|members| members.hostname(node));
        host.map_or_else(|| task.host_address.to_string(), str::to_owned)
    }
}

/// Where other nodes reach a task: ports of its address, or of its host if that is how.
fn ports(task: &TaskFact) -> Vec<u16> {
    let by_host = task.container_addresses.is_empty() || task.container_reach == Reach::Node;
    match by_host {
        true => task.host_ports.clone(),
        false => task.ports.iter().map(|port| port.number).collect(),
    }
}

fn row(task: &TaskFact, host: &str) -> Value {
    json!({
        "id": task.task_id,
        "name": task.name,
        "framework": task.framework_name,
        "state": match task.phase {
            TaskPhase::Staging => "TASK_STAGING",
            TaskPhase::Starting => "TASK_STARTING",
            TaskPhase::Running | TaskPhase::Draining => "TASK_RUNNING",
            TaskPhase::Killing => "TASK_KILLING",
        },
        "health": match task.health {
            Health::Unchecked => "-",
            Health::Unknown => "unknown",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        },
        "addresses": task.container_addresses,
        "ports": ports(task),
        "agent": task.agent_id,
        "container": task.container_id,
        "host": host,
        "launched": task.launched.as_secs_f64(),
    })
}
