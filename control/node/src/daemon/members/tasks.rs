//! The tasks of the whole cluster, as the owner logs have them.

use crate::daemon::core::Core;
use mizzen_types::fact::{Fact, Health, TaskFact, TaskPhase};
use serde_json::{Value, json};

impl Core {
    /// `GET /v1/cluster/tasks`: this node's tasks as its agent has them, and those of others
    /// as their logs say.
    pub(super) fn list_tasks(&self) -> Value {
        let own = self.agent.as_ref().map(mizzen_agent::Agent::rows).unwrap_or_default();
        let own = own.as_array().cloned().unwrap_or_default().into_iter().map(|mut row| {
            row["host"] = json!(self.config.hostname);
            row
        });
        let me = self.node_log.owner();
        let others = self.view.facts().filter_map(|(owner, _, fact)| match fact {
            Fact::Task(task) if owner != me => {
                let node = self.members.as_ref().and_then(|members| members.fact_of(owner));
                let host =
                    node.map_or_else(|| task.host_address.to_string(), |n| n.hostname.clone());
                Some(row(task, &host))
            }
            _ => None,
        });
        own.chain(others).collect()
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
        "ports": task.ports.iter().map(|port| port.number).collect::<Vec<_>>(),
        "agent": task.agent_id,
        "container": task.container_id,
        "host": host,
        "launched": task.launched.as_secs_f64(),
    })
}
