//! An app as a client writes it.
//!
//! Old spellings and everything that this project does not do yet are read too,
//! so that they can be translated or refused in words. What clients send back
//! because they got it from a `GET` is read and forgotten.

use super::parts::{
    Constraint, Container, HealthCheck, KillSelection, Network, PortDefinition,
    UnreachableStrategy, UpgradeStrategy,
};
use super::{App, docker};
use crate::problem::Problem;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An app as a client writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_docs, reason = "the names are Marathon's; App describes those that are kept")]
pub struct Document {
    pub id: Option<String>,
    pub cmd: Option<String>,
    pub args: Option<Vec<String>>,
    pub user: Option<String>,
    #[serde(default = "default_cpus")]
    pub cpus: f64,
    #[serde(default = "default_mem")]
    pub mem: f64,
    #[serde(default)]
    pub disk: f64,
    #[serde(default)]
    pub gpus: i64,
    #[serde(default = "default_instances")]
    pub instances: i64,
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    pub container: Option<Container>,
    pub networks: Option<Vec<Network>>,
    pub port_definitions: Option<Vec<PortDefinition>>,
    #[serde(default)]
    pub require_ports: bool,
    #[serde(default)]
    pub health_checks: Vec<HealthCheck>,
    #[serde(default)]
    pub dependencies: Vec<String>,
    #[serde(default = "default_backoff")]
    pub backoff_seconds: f64,
    #[serde(default = "default_backoff_factor")]
    pub backoff_factor: f64,
    #[serde(default = "default_max_launch_delay")]
    pub max_launch_delay_seconds: f64,
    #[serde(default)]
    pub upgrade_strategy: UpgradeStrategy,
    pub task_kill_grace_period_seconds: Option<f64>,
    #[serde(default)]
    pub unreachable_strategy: UnreachableStrategy,
    #[serde(default)]
    pub kill_selection: KillSelection,
    pub role: Option<String>,
    pub accepted_resource_roles: Option<Vec<String>>,
    #[serde(default)]
    pub executor: String,

    // Old spelling of `port_definitions`.
    pub ports: Option<Vec<u16>>,

    // Refused unless empty.
    #[serde(default)]
    pub fetch: Vec<Value>,
    #[serde(default)]
    pub uris: Vec<Value>,
    #[serde(default)]
    pub store_urls: Vec<Value>,
    #[serde(default)]
    pub readiness_checks: Vec<Value>,
    #[serde(default)]
    pub secrets: Map<String, Value>,
    pub check: Option<Value>,
    pub residency: Option<Value>,
    pub resource_limits: Option<Value>,
    pub executor_resources: Option<Value>,
    pub ip_address: Option<Value>,
    pub task_rate_limit: Option<Value>,
    #[serde(default)]
    pub tty: bool,
}

/// What a `GET` adds to an app.
const READ_ONLY: [&str; 11] = [
    "version",
    "versionInfo",
    "tasks",
    "tasksStaged",
    "tasksRunning",
    "tasksHealthy",
    "tasksUnhealthy",
    "deployments",
    "lastTaskFailure",
    "readinessCheckResults",
    "taskStats",
];

/// A value of the environment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a string")]
pub enum EnvValue {
    /// As it is.
    Text(String),
    /// `{"secret": "name"}`; not supported yet.
    Secret {
        /// Key of `secrets`.
        secret: String,
    },
}

/// Reads a document; members that are `null` count as absent.
///
/// # Errors
///
/// A [`Problem`] that names the member which has another type than it should, or
/// which is unknown.
pub fn read(mut value: Value) -> Result<Document, Problem> {
    remove_nulls(&mut value);
    let Some(members) = value.as_object_mut() else {
        return Err(Problem::new("/", "must be an object"));
    };
    members.retain(|name, _| !READ_ONLY.contains(&name.as_str()));
    docker::move_networking(members);
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = json_path(error.path());
        Problem::new(path, error.inner().to_string())
    })
}

/// `app` with the members of `update` in place of its own, as a document.
///
/// What contradicts an updated member goes with it: `cmd` and `args` replace each
/// other, and ports of another kind of network are dropped.
#[must_use]
pub fn overlay(app: &App, update: &Map<String, Value>) -> Value {
    let mut merged = match serde_json::to_value(app) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let mut update = update.clone();
    docker::move_networking(&mut update);
    let given = |name: &str| update.get(name).is_some_and(|value| !value.is_null());
    for (one, other) in [("cmd", "args"), ("args", "cmd"), ("ports", "portDefinitions")] {
        if given(one) {
            merged.remove(other);
        }
    }
    let changed = update.iter().filter(|(_, value)| !value.is_null());
    merged.extend(changed.map(|(name, value)| (name.clone(), value.clone())));
    if given("networks") {
        drop_other_ports(
            &mut merged,
            given("portDefinitions") || given("ports"),
            given("container"),
        );
    }
    Value::Object(merged)
}

fn drop_other_ports(merged: &mut Map<String, Value>, has_definitions: bool, has_container: bool) {
    let mode = merged.get("networks").and_then(|n| n.get(0)).and_then(|n| n.get("mode"));
    let host = mode.is_some_and(|mode| mode == "host");
    if !host && !has_definitions {
        merged.remove("portDefinitions");
    }
    let container = merged.get_mut("container").and_then(Value::as_object_mut);
    if let Some(container) = container.filter(|_| host && !has_container) {
        container.remove("portMappings");
    }
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// `/healthChecks(0)/portIndex`, as Marathon spells paths.
fn json_path(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;

    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("({index})")),
            Segment::Map { key } => text.push_str(&format!("/{key}")),
            Segment::Enum { variant } => text.push_str(&format!("/{variant}")),
            Segment::Unknown => {}
        }
    }
    if text.is_empty() { "/".to_owned() } else { text }
}

fn default_cpus() -> f64 {
    1.0
}

fn default_mem() -> f64 {
    128.0
}

fn default_instances() -> i64 {
    1
}

fn default_backoff() -> f64 {
    1.0
}

fn default_backoff_factor() -> f64 {
    1.15
}

fn default_max_launch_delay() -> f64 {
    300.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_member_is_named_by_its_path() {
        #[rustfmt::skip]
        let table: &[(Value, &str, &str)] = &[
            (json!({"id": 5}),                                 "/id",                           "expected a string"),
            (json!({"cpus": "many"}),                          "/cpus",                         "expected f64"),
            (json!({"nonsense": 1}),                           "/nonsense",                     "unknown field"),
            (json!({"healthChecks": [{"portIndex": "x"}]}),    "/healthChecks(0)/portIndex",    "expected u32"),
            (json!({"healthChecks": [{"colour": "red"}]}),     "/healthChecks(0)/colour",       "unknown field"),
            (json!({"portDefinitions": [{"port": 70000}]}),    "/portDefinitions(0)/port",      "70000"),
            (json!({"constraints": [["hostname", "NEAR"]]}),   "/constraints(0)",               "'NEAR' is no operator"),
            (json!({"env": {"A": 1}}), "/env/A", "expected a string"),
            (json!({"unreachableStrategy": 1}), "/unreachableStrategy", "expected 'disabled' or"),
            (json!({"killSelection": "ANY"}),                  "/killSelection",                "unknown variant"),
            (json!([1, 2]),                                    "/",                             "must be an object"),
        ];
        for (value, path, words) in table {
            let problem = read(value.clone()).unwrap_err();
            assert!(problem.path == *path && problem.error.contains(words), "{value}: {problem:?}");
        }
    }

    #[test]
    fn nulls_are_absent_and_what_a_get_adds_is_forgotten() {
        let document = read(json!({
            "id": "/web", "cmd": null, "cpus": null, "tasksRunning": 3, "tasks": [{"id": "x"}],
            "container": {"portMappings": [{"hostPort": null}]}, "versionInfo": {"lastScalingAt": "x"},
        }));
        let document = document.unwrap();
        assert_eq!((document.cpus, document.cmd), (1.0, None));
        assert_eq!(document.container.unwrap().port_mappings[0].host_port, None);
    }
}
