//! What a drain waits for.

use crate::cli::error::CliError;
use crate::cli::session::{Session, understand};
use mizzen_api::v1::{self, TaskState};
use mizzen_services::instance::is_terminal;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Of more tasks the others are counted.
const NAMED: usize = 3;

/// The answer to GET_TASKS.
#[derive(Debug, Deserialize)]
struct Answer {
    get_tasks: Tasks,
}

/// The tasks that hold up drains: those that live, and those whose end is to be acknowledged.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Tasks {
    #[serde(default)]
    tasks: Vec<v1::Task>,
}

impl Tasks {
    /// Asks the master.
    pub async fn get(session: &Session) -> Result<Self, CliError> {
        let call = json!({ "type": "GET_TASKS" });
        let answer = session.send("POST", super::CALLS, Some(&call)).await?;
        Ok(understand::<Answer>(super::CALLS, answer)?.get_tasks)
    }

    /// What the drain of an agent waits for, as the rest of a sentence.
    pub fn awaited(&self, agent: &str) -> Option<String> {
        let here = || self.tasks.iter().filter(|task| task.agent_id.value == agent);
        let live: Vec<&str> = here().filter(|task| lives(task)).map(name).collect();
        let mut owed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for task in here().filter(|task| !lives(task)) {
            owed.entry(&task.framework_id.value).or_default().push(name(task));
        }
        let mut parts = Vec::new();
        if !live.is_empty() {
            parts.push(format!("for {} to end", list(&live)));
        }
        parts.extend(owed.iter().map(|(framework, tasks)| {
            format!("for framework {framework} to acknowledge the end of {}", list(tasks))
        }));
        (!parts.is_empty()).then(|| format!("waits {}", parts.join(", and ")))
    }
}

fn lives(task: &v1::Task) -> bool {
    !TaskState::try_from(task.state).is_ok_and(is_terminal)
}

fn name(task: &v1::Task) -> &str {
    &task.task_id.value
}

fn list(names: &[&str]) -> String {
    let shown = names[..NAMED.min(names.len())].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_live_and_ends_that_are_owed() {
        let task = |id: &str, agent: &str, framework: &str, state: &str| {
            json!({
                "name": id, "task_id": { "value": id }, "agent_id": { "value": agent },
                "framework_id": { "value": framework }, "state": state,
            })
        };
        let tasks = [
            task("a", "S0", "f", "TASK_RUNNING"),
            task("b", "S0", "f", "TASK_KILLING"),
            task("c", "S0", "f", "TASK_KILLED"),
            task("d", "S0", "g", "TASK_FINISHED"),
            task("e", "S1", "f", "TASK_STAGING"),
            task("f", "S2", "f", "TASK_FAILED"),
        ];
        let all: Tasks = serde_json::from_value(json!({ "tasks": tasks })).unwrap();
        let table = [
            (
                "S0",
                Some(
                    "waits for a, b to end, and for framework f to acknowledge the end of c, and \
                     for framework g to acknowledge the end of d",
                ),
            ),
            ("S1", Some("waits for e to end")),
            ("S2", Some("waits for framework f to acknowledge the end of f")),
            ("S3", None),
        ];
        for (agent, want) in table {
            assert_eq!(all.awaited(agent).as_deref(), want, "{agent}");
        }
        assert_eq!(list(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
