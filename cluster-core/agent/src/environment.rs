//! The environment that Mesos promises to a task.
//!
//! Nothing of the agent's own environment is inherited. The task's own variables
//! come last and win, except where only the network can tell (`MESOS_CONTAINER_IP`,
//! added when the container is attached).

use crate::Settings;
use crate::record::Record;
use mizzen_api::v1;
use std::collections::BTreeMap;
use std::net::SocketAddr;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of `command`, the task's own or that of its health check.
pub(crate) fn of_task(
    record: &Record,
    command: &v1::CommandInfo,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let sandbox = settings.work_dir.join(record.sandbox()).display().to_string();
    let endpoint = SocketAddr::new(settings.address, settings.port).to_string();
    let task_id = &record.task.task_id.value;
    let role = record
        .task
        .resources
        .iter()
        .find_map(|resource| resource.allocation_info.as_ref()?.role.clone())
        .unwrap_or_else(|| "*".to_owned());
    let contract = [
        ("PATH", PATH.to_owned()),
        ("MESOS_FRAMEWORK_ID", record.framework_id().to_string()),
        ("MESOS_EXECUTOR_ID", task_id.clone()),
        ("MESOS_TASK_ID", task_id.clone()),
        ("MESOS_DIRECTORY", sandbox.clone()),
        ("MESOS_SANDBOX", sandbox),
        ("MESOS_SLAVE_ID", record.agent.to_string()),
        ("MESOS_SLAVE_PID", format!("slave(1)@{endpoint}")),
        ("MESOS_AGENT_ENDPOINT", endpoint),
        ("MESOS_CHECKPOINT", "1".to_owned()),
        ("MESOS_ALLOCATION_ROLE", role),
    ];
    let mut environment: BTreeMap<String, String> =
        contract.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let task = record.task.command.as_ref().and_then(|command| command.environment.as_ref());
    for source in [task, command.environment.as_ref()].into_iter().flatten() {
        for variable in &source.variables {
            environment.insert(variable.name.clone(), value_of(variable));
        }
    }
    environment
}

/// A variable's value, or that of its secret. The master lets no secret in that has none or
/// that is no text.
fn value_of(variable: &v1::environment::Variable) -> String {
    let secret = variable.secret.as_ref().and_then(|secret| secret.value.as_ref());
    match secret {
        Some(secret) => String::from_utf8_lossy(&secret.data).into_owned(),
        None => variable.value.clone().unwrap_or_default(),
    }
}
