//! What a task must be before it is sent to an agent.
//!
//! The checks stand in the order in which frameworks expect them; the first that
//! fails becomes the message of a TASK_ERROR.

pub(crate) mod framework;
mod ports;

use mizzen_api::resources::from_v1;
use mizzen_api::v1;
use mizzen_types::error::chain;
use mizzen_types::ids::{AgentId, check_id};
use mizzen_types::resources::Resources;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is known of a task's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    New,
    /// A task of the framework has it.
    Live,
    /// A task on an unreachable agent has it, which may come back.
    Unreachable,
}

/// Checks all that needs no more than the task and where it is to run. Returns its
/// resources without their allocation.
pub(crate) fn check_task(
    task: &v1::TaskInfo,
    known: Known,
    agent: &AgentId,
    role: &str,
) -> Result<Resources, String> {
    let id = &task.task_id.value;
    check_id(id).map_err(|error| format!("Task has an invalid ID: {error}"))?;
    match known {
        Known::New => {}
        Known::Live => return Err(format!("Task has duplicate ID: {id}")),
        Known::Unreachable => {
            return Err(format!("Task reuses the ID of an unreachable task: {id}"));
        }
    }
    if task.agent_id.value != agent.as_str() {
        let named = &task.agent_id.value;
        return Err(format!("Task uses invalid agent {named} while agent {agent} is expected"));
    }
    check_duties(task)?;
    let resources = check_resources(task, role)?;
    check_command(task)?;
    if let Some(container) = &task.container {
        check_container(container)?;
        ports::check(container, &resources)
            .map_err(|reason| format!("Task uses invalid port mapping: {reason}"))?;
    }
    check_limits(task, &resources, agent)?;
    Ok(resources)
}

/// Fills in what a framework may leave out.
pub(crate) fn fill_in(task: &mut v1::TaskInfo) {
    use v1::health_check::Type;
    let Some(check) = task.health_check.as_mut().filter(|check| check.r#type.is_none()) else {
        return;
    };
    let inferred = match check {
        v1::HealthCheck { command: Some(_), .. } => Type::Command,
        v1::HealthCheck { http: Some(_), .. } => Type::Http,
        _ => Type::Tcp,
    };
    check.r#type = Some(inferred.into());
}

/// What the task is to be asked and told while it runs.
fn check_duties(task: &v1::TaskInfo) -> Result<(), String> {
    let grace = task.kill_policy.and_then(|policy| policy.grace_period);
    if grace.is_some_and(|grace| grace.nanoseconds < 0) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if task.max_completion_time.is_some_and(|time| time.nanoseconds < 0) {
        return Err("Task's 'max_completion_time' must be non-negative".to_owned());
    }
    if let Some(check) = &task.check {
        check_check(check).map_err(|reason| format!("Task uses invalid check: {reason}"))?;
        return Err("Task's 'check' is not supported by this master".to_owned());
    }
    if task.max_completion_time.is_some() {
        return Err("Task's 'max_completion_time' is not supported by this master".to_owned());
    }
    if let Some(check) = &task.health_check {
        check_health(check)
            .map_err(|reason| format!("Task uses invalid health check: {reason}"))?;
    }
    Ok(())
}

fn check_command(task: &v1::TaskInfo) -> Result<(), String> {
    match (&task.command, &task.executor) {
        (Some(command), None) => check_environment(command),
        (None, Some(_)) => {
            Err("Tasks with an executor are not supported by this master".to_owned())
        }
        _ => {
            let rule = "at least one (but not both) of CommandInfo or ExecutorInfo present";
            Err(format!("Task should have {rule}"))
        }
    }
}

fn check_resources(task: &v1::TaskInfo, role: &str) -> Result<Resources, String> {
    let invalid = |reason: String| format!("Task uses invalid resources: {reason}");
    let resources = from_v1(&task.resources).map_err(|error| invalid(chain(&error)))?;
    if resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    let roles: BTreeSet<Arc<str>> = resources.allocations().into_keys().collect();
    if let Some(other) = roles.iter().find(|allocated| ***allocated != *role) {
        let reason = format!("allocated to role '{other}' while the offer is to role '{role}'");
        return Err(invalid(reason));
    }
    let revocable = resources.revocable().names();
    if let Some(name) = revocable.intersection(&resources.non_revocable().names()).next() {
        return Err(invalid(format!("'{name}' is both revocable and non-revocable")));
    }
    Ok(resources.unallocated())
}

fn check_check(check: &v1::CheckInfo) -> Result<(), String> {
    use v1::check_info::Type;
    let (there, name) = match check.r#type() {
        Type::Command => (check.command.is_some(), "command"),
        Type::Http => (check.http.is_some(), "http"),
        Type::Tcp => (check.tcp.is_some(), "tcp"),
        Type::Unknown => return Err("'type' must be set".to_owned()),
    };
    if !there {
        return Err(format!("Expecting '{name}' to be set"));
    }
    check_times(&[
        ("delay_seconds", check.delay_seconds()),
        ("interval_seconds", check.interval_seconds()),
        ("timeout_seconds", check.timeout_seconds()),
    ])
}

fn check_health(check: &v1::HealthCheck) -> Result<(), String> {
    use v1::health_check::Type;
    let parts = [check.command.is_some(), check.http.is_some(), check.tcp.is_some()];
    let there = match check.r#type.map(|_| check.r#type()) {
        Some(Type::Command) => parts[0],
        Some(Type::Http) => parts[1],
        Some(Type::Tcp) => parts[2],
        Some(Type::Unknown) => false,
        None => parts.iter().filter(|there| **there).count() == 1,
    };
    if !there {
        return Err(
            "exactly one of 'command', 'http' and 'tcp' must be set, that of its type".into()
        );
    }
    if let Some(command) = &check.command {
        check_environment(command)?;
    }
    if let Some(http) = &check.http
        && !matches!(http.scheme.as_deref(), None | Some("http" | "https"))
    {
        return Err(format!("Unsupported HTTP health check scheme: '{}'", http.scheme()));
    }
    if let Some(path) = check.http.as_ref().and_then(|http| http.path.as_deref())
        && !path.starts_with('/')
    {
        return Err(format!("The path '{path}' of HTTP health check must start with '/'"));
    }
    check_times(&[
        ("delay_seconds", check.delay_seconds()),
        ("interval_seconds", check.interval_seconds()),
        ("timeout_seconds", check.timeout_seconds()),
        ("grace_period_seconds", check.grace_period_seconds()),
    ])
}

fn check_times(times: &[(&str, f64)]) -> Result<(), String> {
    match times.iter().find(|(_, seconds)| !seconds.is_finite() || *seconds < 0.0) {
        Some((name, _)) => Err(format!("Expecting '{name}' to be non-negative")),
        None => Ok(()),
    }
}

fn check_environment(command: &v1::CommandInfo) -> Result<(), String> {
    use v1::environment::variable::Type;
    let variables = command.environment.as_ref().map_or(&[][..], |e| &e.variables);
    for variable in variables {
        let name = &variable.name;
        let bad = |reason: &str| Err(format!("Environment variable '{name}' {reason}"));
        match variable.r#type() {
            Type::Value if variable.secret.is_some() => {
                return bad("of type 'VALUE' must not have a secret set");
            }
            Type::Value if variable.value.is_none() => {
                return bad("of type 'VALUE' must have a value set");
            }
            Type::Secret if variable.value.is_some() => {
                return bad("of type 'SECRET' must not have a value set");
            }
            Type::Secret if variable.secret.is_none() => {
                return bad("of type 'SECRET' must have a secret set");
            }
            Type::Unknown => return bad("is of an unknown type"),
            Type::Value | Type::Secret => {}
        }
        if let Some(secret) = &variable.secret {
            check_secret(secret).or_else(bad)?;
        }
    }
    Ok(())
}

/// Only a secret that brings its value along can be given to a task.
fn check_secret(secret: &v1::Secret) -> Result<(), &'static str> {
    use v1::secret::Type;
    let Some(value) = secret.value.as_ref().filter(|_| secret.r#type() != Type::Reference) else {
        return Err("refers to a secret, and this master has no secret resolver");
    };
    if value.data.contains(&0) {
        return Err("specifies a secret containing null bytes, which is not allowed");
    }
    match std::str::from_utf8(&value.data) {
        Ok(_) => Ok(()),
        Err(_) => Err("specifies a secret that is not UTF-8, which is not supported"),
    }
}

fn check_container(container: &v1::ContainerInfo) -> Result<(), String> {
    for volume in &container.volumes {
        let sources = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()];
        if sources.iter().filter(|there| **there).count() != 1 {
            let path = &volume.container_path;
            return Err(format!(
                "Exactly one of 'host_path', 'image' and 'source' of volume '{path}' must be set"
            ));
        }
    }
    if container.r#type() != v1::container_info::Type::Docker {
        return Ok(());
    }
    let Some(docker) = &container.docker else {
        return Err("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo".to_owned());
    };
    match docker.parameters.iter().find(|parameter| parameter.key == "name") {
        Some(_) => Err("Parameter in DockerInfo must not be 'name'".to_owned()),
        None => Ok(()),
    }
}

/// No agent of this version can hold a task to other limits than what it requests.
fn check_limits(task: &v1::TaskInfo, resources: &Resources, agent: &AgentId) -> Result<(), String> {
    for (name, limit) in &task.limits {
        if !matches!(name.as_str(), "cpus" | "mem") {
            return Err(format!("Resource limit of '{name}' is not allowed"));
        }
        let request = resources.scalar(name);
        if !request.is_positive() {
            return Err(format!("Task has a limit of '{name}' but does not request it"));
        }
        // Not a comparison the other way round: it has to refuse NaN.
        if limit.value.is_nan() || limit.value < request.as_f64() {
            return Err(format!("Task limit of '{name}' is less than its request"));
        }
    }
    match task.limits.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "Task has resource limits but agent {agent} has no TASK_RESOURCE_LIMITS capability"
        )),
    }
}

#[cfg(test)]
mod tests;
