//! What an app must not be. Every problem is found, not only the first one.

mod network;
mod parts;

use crate::app::UnreachableStrategy;
use crate::app::document::{Document, EnvValue};
use crate::app_id::AppId;
use crate::problem::Problem;
use crate::settings::Settings;

/// Most copies that one app may have.
pub const MAX_INSTANCES: i64 = 100_000;

/// More of a resource than any machine has; larger numbers could not be counted
/// in thousandths.
const MAX_AMOUNT: f64 = 1e9;

/// Longest command, environment variable or label in bytes; what is longer does
/// not fit into an argument of `execve`.
const MAX_TEXT: usize = 128 * 1024;

/// Everything that is wrong with `document`.
#[must_use]
pub fn problems(document: &Document, settings: &Settings) -> Vec<Problem> {
    let mut found = Found::default();
    identity(document, settings, &mut found);
    command(document, &mut found);
    amounts(document, &mut found);
    times(document, &mut found);
    texts(document, &mut found);
    network::networking(document, settings, &mut found);
    for (index, check) in document.health_checks.iter().enumerate() {
        parts::health_check(check, &format!("/healthChecks({index})"), document, &mut found);
    }
    for (index, rule) in document.constraints.iter().enumerate() {
        parts::constraint(rule, &format!("/constraints({index})"), &mut found);
    }
    if let Some(container) = &document.container {
        parts::container(container, &mut found);
    }
    unsupported(document, &mut found);
    found.0
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, path: impl Into<String>, error: impl Into<String>) {
        self.0.push(Problem::new(path, error));
    }

    fn check(&mut self, good: bool, path: &str, error: &str) {
        if !good {
            self.add(path, error);
        }
    }
}

fn identity(document: &Document, settings: &Settings, found: &mut Found) {
    match document.id.as_deref().map(AppId::parse) {
        None => found.add("/id", "is missing"),
        Some(Err(error)) => found.add("/id", error.to_string()),
        Some(Ok(id)) => {
            let own = document.dependencies.iter().any(|path| id.is_within(path));
            found.check(!own, "/dependencies", "must not contain the app itself");
        }
    }
    if document.role.as_ref().is_some_and(|role| *role != settings.role) {
        found.add("/role", format!("must be '{}', the role of this scheduler", settings.role));
    }
    if let Some(roles) = &document.accepted_resource_roles {
        for role in roles.iter().filter(|role| **role != "*" && **role != settings.role) {
            let error = format!("'{role}' is neither '*' nor the role of this scheduler");
            found.add("/acceptedResourceRoles", error);
        }
    }
}

fn command(document: &Document, found: &mut Found) {
    let has_cmd = document.cmd.as_ref().is_some_and(|cmd| !cmd.trim().is_empty());
    let args = document.args.as_deref().unwrap_or_default();
    let has_args = args.first().is_some_and(|program| !program.is_empty());
    if document.cmd.is_some() && !args.is_empty() {
        found.add("/", "must have either 'cmd' or 'args', not both");
    } else if !has_cmd && !has_args {
        found.add("/", "must have a 'cmd' or 'args', because images are not supported yet");
    }
}

fn amounts(document: &Document, found: &mut Found) {
    let amounts = [("/cpus", document.cpus), ("/mem", document.mem), ("/disk", document.disk)];
    for (path, amount) in amounts {
        amount_in(amount, 0.0, MAX_AMOUNT, path, found);
    }
    found.check(document.gpus >= 0, "/gpus", "must not be negative");
    found.check(document.gpus <= 1_000_000, "/gpus", "must be at most 1000000");
    let some = amounts.iter().any(|(_, amount)| *amount >= 0.0005) || document.gpus > 0;
    found.check(some, "/cpus", "at least one of cpus, mem, disk and gpus must be more than zero");
    found.check(document.instances >= 0, "/instances", "must not be negative");
    if document.instances > MAX_INSTANCES {
        found.add("/instances", format!("must be at most {MAX_INSTANCES}"));
    }
    let strategy = document.upgrade_strategy;
    let path = "/upgradeStrategy/minimumHealthCapacity";
    amount_in(strategy.minimum_health_capacity, 0.0, 1.0, path, found);
    let path = "/upgradeStrategy/maximumOverCapacity";
    amount_in(strategy.maximum_over_capacity, 0.0, 1.0, path, found);
}

fn times(document: &Document, found: &mut Found) {
    amount_in(document.backoff_seconds, 0.0, MAX_AMOUNT, "/backoffSeconds", found);
    amount_in(document.backoff_factor, 1.0, MAX_AMOUNT, "/backoffFactor", found);
    amount_in(document.max_launch_delay_seconds, 0.0, MAX_AMOUNT, "/maxLaunchDelaySeconds", found);
    let grace = document.task_kill_grace_period_seconds.unwrap_or_default();
    amount_in(grace, 0.0, MAX_AMOUNT, "/taskKillGracePeriodSeconds", found);
    if let UnreachableStrategy::After(limits) = document.unreachable_strategy {
        found.check(
            limits.inactive_after_seconds <= limits.expunge_after_seconds,
            "/unreachableStrategy",
            "expungeAfterSeconds must not be less than inactiveAfterSeconds",
        );
    }
}

/// A number that is none fails every comparison, and so this one.
fn amount_in(amount: f64, least: f64, most: f64, path: &str, found: &mut Found) {
    if !(least..=most).contains(&amount) {
        found.add(path, format!("must be a number from {least} to {most}"));
    }
}

fn texts(document: &Document, found: &mut Found) {
    let text = |path: &str, text: &str, found: &mut Found| {
        found.check(!text.contains('\0'), path, "must not contain NUL characters");
        found.check(text.len() < MAX_TEXT, path, "must be shorter than 128 KiB");
    };
    text("/cmd", document.cmd.as_deref().unwrap_or_default(), found);
    text("/user", document.user.as_deref().unwrap_or_default(), found);
    for argument in document.args.iter().flatten() {
        text("/args", argument, found);
    }
    for (name, value) in &document.env {
        let path = format!("/env({name:.64})");
        let good = !name.is_empty() && !name.contains(['=', '\0']);
        found.check(good, &path, "is no name of a variable");
        match value {
            EnvValue::Text(value) => text(&path, value, found),
            EnvValue::Secret { .. } => found.add(path, "secrets are not supported yet"),
        }
    }
    for (name, value) in &document.labels {
        text(&format!("/labels({name:.64})"), value, found);
        found.check(!name.is_empty(), "/labels", "names must not be empty");
    }
}

/// What would change the meaning of an app if it were silently left out.
fn unsupported(document: &Document, found: &mut Found) {
    let executor = !matches!(document.executor.as_str(), "" | "//cmd");
    #[rustfmt::skip]
    let table: &[(&str, bool, &str)] = &[
        ("/fetch",             !document.fetch.is_empty(),            "fetching files is not supported yet"),
        ("/uris",              !document.uris.is_empty(),             "fetching files is not supported yet"),
        ("/storeUrls",         !document.store_urls.is_empty(),       "fetching files is not supported yet"),
        ("/readinessChecks",   !document.readiness_checks.is_empty(), "readiness checks are not supported yet; use healthChecks"),
        ("/check",             document.check.is_some(),              "is not supported yet; use healthChecks"),
        ("/secrets",           !document.secrets.is_empty(),          "secrets are not supported yet"),
        ("/residency",         document.residency.is_some(),          "persistent volumes are not supported yet"),
        ("/resourceLimits",    document.resource_limits.is_some(),    "is not supported yet"),
        ("/executorResources", document.executor_resources.is_some(), "is not supported yet"),
        ("/ipAddress",         document.ip_address.is_some(),         "is not supported; use networks"),
        ("/taskRateLimit",     document.task_rate_limit.is_some(),    "is not supported; use backoffSeconds"),
        ("/tty",               document.tty,                          "is not supported yet"),
        ("/executor",          executor,                              "custom executors are not supported; leave it empty"),
        ("/healthChecks",      document.health_checks.len() > 1,      "an agent runs one health check per task, so there can be only one"),
    ];
    for (path, present, error) in table {
        found.check(!present, path, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::document;
    use serde_json::{Value, json};

    fn check(members: &Value) -> Vec<Problem> {
        let mut value = json!({"id": "/web", "cmd": "true"});
        value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        check_with(value, &["dcos", "mesos-bridge"])
    }

    fn check_with(app: Value, networks: &[&str]) -> Vec<Problem> {
        let networks = Some(networks.iter().map(|name| (*name).to_owned()).collect());
        problems(&document::read(app).unwrap(), &Settings { networks, ..Settings::default() })
    }

    #[test]
    fn good_apps_pass() {
        #[rustfmt::skip]
        let table: &[Value] = &[
            json!({}),
            json!({"cmd": null, "args": ["/bin/sleep", "1"]}),
            json!({"cpus": 0, "mem": 1, "instances": 0}),
            json!({"networks": [{"mode": "container", "name": "dcos"}], "container": {"type": "MESOS", "portMappings": [
                {"containerPort": 80, "hostPort": 0, "labels": {"VIP_0": "/web:80"}, "name": "http"}]}, "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/"}]}),
            json!({"networks": [{"mode": "container/bridge"}], "container": {"portMappings": [{"containerPort": 80, "hostPort": 8080}]}}),
            json!({"networks": [{"mode": "container"}], "container": {"portMappings": [
                {"containerPort": 80, "hostPort": 0}, {"containerPort": 81, "hostPort": 0}, {"hostPort": 53}, {"hostPort": 53, "protocol": "udp"}]}}),
            json!({"container": {"portMappings": [{"containerPort": 80}]}}),
            json!({"container": {"docker": {"network": "BRIDGE", "portMappings": [{"containerPort": 80, "hostPort": 0}]}}}),
            json!({"healthChecks": [{"protocol": "COMMAND", "command": {"value": "true"}}]}),
            json!({"healthChecks": [{"protocol": "HTTP", "ipProtocol": "IPv4", "ignoreHttp1xx": true}]}),
            json!({"constraints": [["hostname", "UNIQUE"], ["rack", "LIKE", "r[0-9]+"], ["zone", "MAX_PER", "2"], ["@zone", "CLUSTER"]]}),
            json!({"fetch": [], "uris": [], "secrets": {}, "executor": "//cmd", "readinessChecks": []}),
            json!({"container": {"volumes": [{"containerPath": "/data", "hostPath": "/srv", "mode": "RO"}]}}),
        ];
        for members in table {
            assert_eq!(check(members), [], "{members}");
        }
    }

    #[test]
    fn bad_members_are_named_with_the_reason() {
        let long = "x".repeat(10_000);
        let tasks = json!({"containerPort": 80});
        let mapped = json!({"portMappings": [tasks]});
        #[rustfmt::skip]
        let table: &[(Value, &str, &str)] = &[
            (json!({"id": null}),                          "/id", "missing"),
            (json!({"id": "/We b"}),                       "/id", "segment 'We b'"),
            (json!({"id": long}),                          "/id", "not be longer than 180 bytes"),
            (json!({"args": ["x"]}),                       "/", "not both"),
            (json!({"cmd": null}),                         "/", "must have a 'cmd' or 'args'"),
            (json!({"cmd": " "}),                          "/", "must have a 'cmd' or 'args'"),
            (json!({"cmd": "a\0b"}),                       "/cmd", "NUL"),
            (json!({"cmd": "x".repeat(200_000)}),          "/cmd", "128 KiB"),
            (json!({"cpus": -1}),                          "/cpus", "from 0 to"),
            (json!({"mem": 1e300}),                        "/mem", "from 0 to 1000000000"),
            (json!({"cpus": 0, "mem": 0}),                 "/cpus", "at least one"),
            (json!({"gpus": -1}),                          "/gpus", "negative"),
            (json!({"instances": -1}),                     "/instances", "negative"),
            (json!({"instances": 9_999_999_999_i64}),      "/instances", "at most 100000"),
            (json!({"backoffFactor": 0.5}),                "/backoffFactor", "from 1 to"),
            (json!({"upgradeStrategy": {"minimumHealthCapacity": 1.1}}), "/upgradeStrategy/minimumHealthCapacity", "from 0 to 1"),
            (json!({"unreachableStrategy": {"inactiveAfterSeconds": 5}}), "/unreachableStrategy", "not be less"),
            (json!({"env": {"A=B": "x"}}),                 "/env(A=B)", "no name"),
            (json!({"env": {"A": {"secret": "s"}}}),       "/env(A)", "secrets"),
            (json!({"networks": [{"mode": "host", "name": "x"}]}), "/networks(0)", "only a container network"),
            (json!({"networks": [{}, {}]}),                "/networks", "more than one"),
            (json!({"networks": [{"mode": "container", "name": "none"}]}), "/networks(0)", "no network 'none'; there is 'dcos'"),
            (json!({"networks": [{"mode": "container/bridge", "name": "x"}]}), "/networks(0)", "only a container network"),
            (json!({"container": {"portMappings": [{"hostPort": 8080}, {"hostPort": 8080, "protocol": "udp,tcp"}]}}), "/container/portMappings", "host ports of one protocol must be different"),
            (json!({"container": {"docker": {"network": "NONE"}}}), "/container/docker", "Docker settings"),
            (json!({"networks": [{"mode": "host"}], "container": mapped}), "/container/portMappings", "portDefinitions"),
            (json!({"networks": [{"mode": "container"}], "portDefinitions": [{}]}), "/portDefinitions", "portMappings"),
            (json!({"portDefinitions": [{"name": "a"}, {"name": "a"}]}), "/portDefinitions", "names must be different"),
            (json!({"portDefinitions": [{"port": 80}, {"port": 80}]}), "/portDefinitions", "numbers must be different"),
            (json!({"portDefinitions": [{"name": "A_b"}]}), "/portDefinitions(0)/name", "lower-case"),
            (json!({"container": {"type": "DOCKER"}}),     "/container/type", "no Docker daemon"),
            (json!({"container": {"docker": {"image": "nginx"}}}), "/container/docker/image", "not supported yet"),
            (json!({"container": {"volumes": [{"containerPath": "d", "persistent": {"size": 1}}]}}), "/container/volumes(0)", "hostPath"),
            (json!({"healthChecks": [{"protocol": "COMMAND"}]}), "/healthChecks(0)", "command goes with"),
            (json!({"healthChecks": [{"portIndex": 1}]}),  "/healthChecks(0)/portIndex", "only 1 ports"),
            (json!({"healthChecks": [{"path": "x"}]}),     "/healthChecks(0)/path", "begin with"),
            (json!({"healthChecks": [{"intervalSeconds": 0}]}), "/healthChecks(0)", "more than 0"),
            (json!({"healthChecks": [{"protocol": "HTTPS"}]}), "/healthChecks(0)/protocol", "not supported yet, use HTTP"),
            (json!({"healthChecks": [{"protocol": "MESOS_HTTPS", "path": "/"}]}), "/healthChecks(0)/protocol", "not supported yet, use MESOS_HTTP"),
            (json!({"healthChecks": [{"ipProtocol": "IPv6"}]}), "/healthChecks(0)/ipProtocol", "not supported yet, use IPv4"),
            (json!({"healthChecks": [{}, {}]}),            "/healthChecks", "only one"),
            (json!({"constraints": [["hostname", "GROUP_BY"]]}), "/constraints(0)", "not supported yet"),
            (json!({"constraints": [["a", "MAX_PER", "x"]]}), "/constraints(0)", "whole number"),
            (json!({"constraints": [["a", "LIKE", "("]]}), "/constraints(0)", "regular expression"),
            (json!({"constraints": [["a", "UNLIKE", ""]]}), "/constraints(0)", "need a regular expression"),
            (json!({"fetch": [{"uri": "http://x"}]}),      "/fetch", "not supported yet"),
            (json!({"dependencies": ["/web"]}),            "/dependencies", "itself"),
            (json!({"acceptedResourceRoles": ["gold"]}),   "/acceptedResourceRoles", "gold"),
            (json!({"executor": "/bin/x"}),                "/executor", "custom executors"),
        ];
        for (members, path, words) in table {
            let found = check(members);
            let hit = found.iter().any(|p| p.path == *path && p.error.contains(words));
            assert!(hit, "{members:.80}: {found:?}");
        }
    }

    #[test]
    fn a_bridge_that_is_not_there_is_missed() {
        let bridge =
            json!({"id": "/web", "cmd": "true", "networks": [{"mode": "container/bridge"}]});
        let mapped = json!({"id": "/web", "cmd": "true", "container": {"portMappings": [{}]}});
        let want = "there is no network 'mesos-bridge'; there is 'dcos'";
        for (app, path) in [(bridge, "/networks(0)"), (mapped, "/networks")] {
            assert_eq!(check_with(app, &["dcos"]), [Problem::new(path, want)]);
        }
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let found = check(&json!({"cpus": -1, "mem": -1, "id": "/A", "fetch": [1]}));
        let paths: Vec<_> = found.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["/id", "/cpus", "/mem", "/cpus", "/fetch"]);
    }

    #[test]
    fn numbers_that_are_none_fail() {
        let mut document = document::read(json!({"id": "/web", "cmd": "true"})).unwrap();
        (document.cpus, document.backoff_factor) = (f64::NAN, f64::INFINITY);
        let found = problems(&document, &Settings::default());
        let paths: Vec<_> = found.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["/cpus", "/backoffFactor"]);
    }
}
