//! Apps as their users run them, and what becomes of them.

use crate::http::{Response, send_json};
use crate::node::Node;
use crate::{SOON, eventually, http, lab};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Port on which the server of [`web`] listens in its container.
pub const PORT: u16 = 8080;

/// Name of the VIP of [`web`].
pub const WEB_VIP: &str = "web.marathon.l4lb.thisdcos.directory";

/// A task as `mizzen tasks --json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its main process, as the machine counts.
    pub pid: u32,
    /// Addresses of its container; empty on the host's network.
    pub addresses: Vec<IpAddr>,
    /// Its container's id.
    pub container: String,
}

impl Task {
    /// Where its server listens.
    ///
    /// # Panics
    ///
    /// If its container has no address.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        SocketAddr::new(self.addresses[0], PORT)
    }

    /// What its server answers.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use]
    pub fn ask(&self, path: &str) -> Response {
        http::get(self.server(), path).unwrap_or_else(|error| panic!("{path} of {self:?}: {error}"))
    }

    /// Ends its process, as `kill -9` does.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn kill(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    }
}

/// The command of an app that runs the tests' server.
#[must_use]
pub fn server(port: &str) -> String {
    format!("exec {} {port}", lab::executable("mizzen-test-server").display())
}

/// An app with containers of its own network, behind the VIP [`WEB_VIP`].
#[must_use]
pub fn web(instances: u32) -> Value {
    json!({
        "id": "/web",
        "cmd": server(&PORT.to_string()),
        "cpus": 0.1,
        "mem": 32,
        "instances": instances,
        "networks": [{ "mode": "container", "name": "dcos" }],
        "container": { "portMappings": [
            { "containerPort": PORT, "name": "http", "labels": { "VIP_0": "/web:80" } },
        ]},
    })
}

/// [`web`] on the network of its node alone, by ports of the host: any, and `fixed`.
#[must_use]
pub fn bridged_web(fixed: u16) -> Value {
    let mut app = checked_web(1);
    app["networks"] = json!([{ "mode": "container/bridge" }]);
    app["container"]["portMappings"][0]["hostPort"] = 0.into();
    let more = json!({ "containerPort": PORT, "hostPort": fixed, "name": "fixed" });
    app["container"]["portMappings"]
        .as_array_mut()
        .into_iter()
        .for_each(|all| all.push(more.clone()));
    app
}

/// Ports of the host that an app's only task has, in the order of its mappings.
///
/// # Panics
///
/// If the API does not say.
#[must_use]
pub fn host_ports(app: &str) -> Vec<u16> {
    let answer = http::get(api(), &format!("/v2/apps{app}/tasks")).expect("the services' API");
    let ports = answer.json()["tasks"][0]["ports"].clone();
    serde_json::from_value(ports).expect("a list of ports")
}

/// [`web`] with a health check.
#[must_use]
pub fn checked_web(instances: u32) -> Value {
    let mut app = web(instances);
    app["healthChecks"] = json!([{
        "protocol": "MESOS_HTTP", "path": "/health", "portIndex": 0, "delaySeconds": 0,
        "intervalSeconds": 1, "timeoutSeconds": 10, "gracePeriodSeconds": 120,
        "maxConsecutiveFailures": 3,
    }]);
    app
}

/// An app without a network of its own that runs `cmd` once.
#[must_use]
pub fn command(id: &str, cmd: &str) -> Value {
    json!({ "id": id, "cmd": cmd, "cpus": 0.1, "mem": 32, "instances": 1 })
}

/// The services' API.
#[must_use]
pub fn api() -> SocketAddr {
    lab::at(8080)
}

/// Posts an app.
///
/// # Panics
///
/// If nobody answers.
#[must_use]
pub fn post(app: &Value) -> Response {
    send_json(api(), "POST", "/v2/apps", app).expect("the services' API answers")
}

/// Posts an app that must be taken, and waits until all of its instances run.
pub fn deploy(node: &Node, app: &Value) -> Vec<Task> {
    let answer = post(app);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let id = app["id"].as_str().unwrap_or_default();
    let instances = app["instances"].as_u64().unwrap_or(1);
    await_tasks(node, id, usize::try_from(instances).unwrap_or(0))
}

/// Deploys [`web`] and waits until its servers answer and its VIP leads to them.
pub fn deploy_web(node: &Node, instances: u32) -> Vec<Task> {
    let tasks = deploy(node, &web(instances));
    for task in &tasks {
        await_server(task);
    }
    await_backends(node, WEB_VIP, tasks.len());
    tasks
}

/// Waits until an app has exactly `count` running tasks.
pub fn await_tasks(node: &Node, app: &str, count: usize) -> Vec<Task> {
    eventually(&format!("{count} tasks of {app} run"), SOON, || {
        let tasks = tasks(node, app);
        (tasks.len() == count).then_some(tasks)
    })
}

/// Waits until a task's server answers.
pub fn await_server(task: &Task) {
    eventually(&format!("{} answers", task.id), SOON, || http::get(task.server(), "/").ok());
}

/// Running tasks of an app.
#[must_use]
pub fn tasks(node: &Node, app: &str) -> Vec<Task> {
    let prefix = format!("{}.", app.trim_matches('/').replace('/', "_"));
    let rows = node.json(&["tasks"]);
    let rows = rows.as_array().cloned().unwrap_or_default();
    let running = rows.iter().filter(|row| row["state"] == "TASK_RUNNING");
    let mut tasks: Vec<Task> =
        running.filter_map(task).filter(|task| task.id.starts_with(&prefix)).collect();
    tasks.sort();
    tasks
}

/// Waits until a VIP leads to exactly `count` backends, and returns their tasks.
pub fn await_backends(node: &Node, vip: &str, count: usize) -> Vec<String> {
    eventually(&format!("{vip} leads to {count} backends"), SOON, || {
        let backends = backends(node, vip);
        (backends.len() == count).then_some(backends)
    })
}

/// Tasks that a VIP leads to.
#[must_use]
pub fn backends(node: &Node, vip: &str) -> Vec<String> {
    let row = vip_row(node, vip);
    let backends = row["backends"].as_array().cloned().unwrap_or_default();
    let admitted = backends.iter().filter(|backend| backend["admitted"] == true);
    admitted.filter_map(|backend| Some(backend["task"].as_str()?.to_owned())).collect()
}

/// The address and port of a named VIP.
#[must_use]
pub fn vip_address(node: &Node, vip: &str) -> SocketAddr {
    eventually(&format!("{vip} has an address"), SOON, || {
        vip_row(node, vip)["vip"].as_str()?.parse().ok()
    })
}

/// Waits until the app in question is what `is` wants of `GET /v2/apps/ID`.
pub fn await_app(id: &str, what: &str, limit: Duration, is: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/v2/apps{id}");
    eventually(&format!("{id} {what}"), limit, || {
        let app = http::get(api(), &path).ok().filter(|answer| answer.status == 200)?.json();
        is(&app["app"]).then(|| app["app"].clone())
    })
}

fn vip_row(node: &Node, vip: &str) -> Value {
    let vips = node.json(&["vips"]);
    let found = vips.as_array().and_then(|vips| vips.iter().find(|row| row["name"] == vip));
    found.cloned().unwrap_or_default()
}

fn task(row: &Value) -> Option<Task> {
    let addresses = row["addresses"].as_array()?.iter();
    Some(Task {
        id: row["id"].as_str()?.to_owned(),
        pid: u32::try_from(row["pid"].as_u64()?).ok()?,
        addresses: addresses.filter_map(|address| address.as_str()?.parse().ok()).collect(),
        container: row["container"].as_str()?.to_owned(),
    })
}
