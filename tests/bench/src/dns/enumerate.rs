//! Mesos-DNS' list of everything, of a real node that knows many tasks, and what such a
//! node needs.

use super::Bench;
use super::names::Names;
use super::node::Node;
use super::watch;
use crate::api;
use crate::report::{Report, Row};
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::io::{BufWriter, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const TASKS: u32 = 50_000;
/// Seconds.
const GOAL: f64 = 1.0;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let node = Node::start(bench, remember_tasks)?;
    let last = TASKS - 1;
    watch::until_served(node.address, &Names::name(last), Names::address(last))?;
    let mut figures = Vec::new();
    for _ in 0..bench.rounds(5, 2) {
        let begun = Instant::now();
        let stream = TcpStream::connect(node.http).context("cannot reach Mesos-DNS' API")?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let list = api::ask(stream, "GET", "/v1/enumerate", "")?;
        figures.push(begun.elapsed().as_secs_f64());
        let tasks = list.matches("\"id\":").count();
        ensure!(tasks == TASKS as usize, "{tasks} of {TASKS} tasks are listed");
    }
    report.add(Row::new("/v1/enumerate of 50,000 tasks", "mizzen", "s", &figures).at_most(GOAL));
    let resident = node.daemon()?.memory()?.resident;
    report.add(Row::new(
        "memory of a node with 50,000 tasks of others",
        "mizzen",
        "MiB",
        &[resident],
    ));
    Ok(())
}

/// Writes what a node remembers of another one that runs the tasks.
fn remember_tasks(place: &Sandbox) -> Result<()> {
    let file = std::fs::File::create(place.state_dir.join("names.log"))?;
    let mut file = BufWriter::new(file);
    writeln!(file, "{}", json!({ "format": 1 }))?;
    for task in 0..TASKS {
        let id = format!("app-{task}.7d1c0f");
        let fact = json!({
            "task_id": id, "framework_id": "f-0001", "framework_name": "marathon",
            "agent_id": format!("m-S{}", task % 100), "container_id": format!("c-{task}"),
            "name": format!("app-{task}"), "discovery_name": null, "phase": "running",
            "health": "unchecked", "host_address": Names::address(task).to_string(),
            "container_addresses": [], "host_ports": [1025 + task % 60_000], "ports": [],
            "labels": {}, "launched": 0,
        });
        let line = json!({
            "owner": format!("n{}", task % 100), "key": { "task": ["f-0001", id] },
            "now": { "fact": { "task": fact } }, "at": 0,
        });
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    Ok(())
}
