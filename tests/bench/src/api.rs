//! What is asked of the node, without the time that starting a command takes.

use crate::sandbox::Sandbox;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// For an answer of the node.
const PATIENCE: Duration = Duration::from_secs(10);

/// For an answer through a VIP, which may lead nowhere yet.
const VIP_PATIENCE: Duration = Duration::from_millis(50);

/// A node that runs.
pub(crate) struct Api {
    socket: PathBuf,
    services: SocketAddr,
}

/// A task that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub id: String,
    pub pid: u32,
}

/// A VIP, and who may answer for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vip {
    pub address: SocketAddr,
    pub name: String,
    /// Those that get connections.
    pub backends: Vec<Backend>,
}

/// One that gets connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    pub address: SocketAddr,
    pub task: String,
}

impl Api {
    /// Of the node in this sandbox, which must be ready.
    pub(crate) fn of(sandbox: &Sandbox) -> Result<Self> {
        let socket = sandbox.socket();
        let status = get(&socket, "/v1/status")?;
        let services = status["listeners"]["services"].as_str();
        let services = services.context("the node does not tell where `/v2` is")?.parse()?;
        Ok(Self { socket, services })
    }

    /// Its tasks that run.
    pub(crate) fn tasks(&self) -> Result<Vec<Task>> {
        Ok(running(&get(&self.socket, "/v1/tasks")?))
    }

    /// Its VIPs.
    pub(crate) fn vips(&self) -> Result<Vec<Vip>> {
        Ok(admitted(&get(&self.socket, "/v1/vip-table")?))
    }

    /// Has an app run.
    pub(crate) fn create(&self, app: &Value) -> Result<()> {
        self.services("POST", "/v2/apps", &app.to_string()).map(drop)
    }

    /// Has an app ended.
    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        self.services("DELETE", &format!("/v2/apps/{id}"), "").map(drop)
    }

    /// Whether no deployment is under way.
    pub(crate) fn settled(&self) -> Result<bool> {
        let body = self.services("GET", "/v2/deployments", "")?;
        let deployments: Vec<Value> = serde_json::from_str(&body).context("no list")?;
        Ok(deployments.is_empty())
    }

    fn services(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let stream = TcpStream::connect(self.services).context("cannot reach `/v2`")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        ask(stream, method, path, body)
    }
}

/// Asks the node for a document; an error also means that it does not answer yet.
pub(crate) fn get(socket: &PathBuf, path: &str) -> Result<Value> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("nobody answers at {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = ask(stream, "GET", path, "")?;
    serde_json::from_str(&body).with_context(|| format!("{path} is not JSON"))
}

/// Gives the node a document.
pub(crate) fn put(socket: &PathBuf, path: &str, document: &Value) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("nobody answers at {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(stream, "PUT", path, &document.to_string()).map(drop)
}

/// One request to the app behind `address`, on a connection of its own.
pub(crate) fn request(address: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect_timeout(&address, VIP_PATIENCE)?;
    stream.set_read_timeout(Some(VIP_PATIENCE))?;
    ask(stream, "GET", "/", "").map(drop)
}

/// The body of an answer, which must be a good one.
pub(crate) fn ask(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    body: &str,
) -> Result<String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let asked = || format!("{method} {path}");
    stream.write_all(request.as_bytes()).with_context(asked)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(asked)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(asked)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("{method} {path}: {status} {}", body.trim());
    }
    Ok(body.to_owned())
}

fn running(tasks: &Value) -> Vec<Task> {
    let task = |row: &Value| {
        let pid = u32::try_from(row["pid"].as_u64()?).ok()?;
        let runs = row["state"] == "TASK_RUNNING";
        runs.then_some(Task { id: row["id"].as_str()?.to_owned(), pid })
    };
    tasks.as_array().into_iter().flatten().filter_map(task).collect()
}

fn admitted(vips: &Value) -> Vec<Vip> {
    let backend = |row: &Value| {
        let address = row["address"].as_str()?.parse().ok()?;
        let task = row["task"].as_str()?.to_owned();
        (row["admitted"] == true).then_some(Backend { address, task })
    };
    let vip = |row: &Value| {
        let backends = row["backends"].as_array().into_iter().flatten().filter_map(backend);
        Some(Vip {
            address: row["vip"].as_str()?.parse().ok()?,
            name: row["name"].as_str().unwrap_or_default().to_owned(),
            backends: backends.collect(),
        })
    };
    vips.as_array().into_iter().flatten().filter_map(vip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_runs_and_what_is_admitted() {
        let tasks = json!([
            {"id": "web.1", "state": "TASK_RUNNING", "pid": 7},
            {"id": "web.2", "state": "TASK_STAGING", "pid": null},
            {"id": "web.0", "state": "TASK_FAILED", "pid": 6},
        ]);
        assert_eq!(running(&tasks), [Task { id: "web.1".to_owned(), pid: 7 }]);

        let vips = json!([{"vip": "11.0.0.1:80", "protocol": "tcp", "name": "web.l4lb", "backends": [
            {"address": "9.0.0.2:80", "task": "web.1", "admitted": true},
            {"address": "9.0.0.3:80", "task": "web.0", "admitted": false},
        ]}]);
        let want = Vip {
            address: "11.0.0.1:80".parse().unwrap(),
            name: "web.l4lb".to_owned(),
            backends: vec![Backend {
                address: "9.0.0.2:80".parse().unwrap(),
                task: "web.1".to_owned(),
            }],
        };
        assert_eq!(admitted(&vips), [want]);
    }
}
