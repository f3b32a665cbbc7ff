//! A real node that does nothing but names.

use super::names::Names;
use super::{Bench, contestant};
use crate::daemon::{self, Daemon};
use crate::sandbox::Sandbox;
use anyhow::{Context, Result};
use serde_json::json;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::process::Command;

/// A node with only the role `dns`; what is left of it is removed when it is dropped.
pub(super) struct Node {
    pub place: Sandbox,
    pub address: SocketAddr,
    /// Where Mesos-DNS' API answers.
    pub http: SocketAddr,
    daemon: Option<Daemon>,
}

impl Node {
    /// Makes its place, and starts it with what `prepare` puts into its state directory.
    pub(super) fn start(
        bench: &Bench,
        prepare: impl FnOnce(&Sandbox) -> Result<()>,
    ) -> Result<Self> {
        let place = bench.sandbox.elsewhere(&bench.sandbox.directory("dns-node")?);
        for directory in [&place.state_dir, &place.run_dir] {
            // Of a former row.
            let _ = std::fs::remove_dir_all(directory);
            std::fs::create_dir_all(directory)?;
        }
        prepare(&place)?;
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (address, http) = (local(bench.next_port()), local(bench.next_port()));
        let mut node = Self { place, address, http, daemon: None };
        node.restart()?;
        Ok(node)
    }

    /// Starts it, or starts it again.
    pub(super) fn restart(&mut self) -> Result<()> {
        let mut command = self.command();
        let daemon = Daemon::start_as(&self.place, &mut command, None).with_context(|| {
            let log = daemon::log_tail(&self.place);
            format!("the node did not start; the end of its log:\n{log}\n")
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Kills it without warning.
    pub(super) fn kill(&mut self) {
        drop(self.daemon.take());
    }

    /// Its process.
    pub(super) fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("the node has ended")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &contestant::CORE.to_string(), "mizzen", "node", "--roles", "dns"]);
        command.args(["--instance", "dns", "--dns-addresses", "127.0.0.1"]);
        command.args(["--dns-port", &self.address.port().to_string()]);
        command.args(["--admin-mesos-dns", &self.http.to_string()]);
        command.env("MIZZEN_STATE_DIR", &self.place.state_dir);
        command.env("MIZZEN_RUN_DIR", &self.place.run_dir);
        command
    }
}

/// Writes what a node remembers of other ones that run so many tasks.
pub(super) fn remember_tasks(place: &Sandbox, tasks: u32) -> Result<()> {
    let file = std::fs::File::create(place.state_dir.join("names.log"))?;
    let mut file = BufWriter::new(file);
    writeln!(file, "{}", json!({ "format": 2 }))?;
    for task in 0..tasks {
        let id = format!("app-{task}.7d1c0f");
        let fact = json!({
            "task_id": id, "framework_id": "f-0001", "framework_name": "marathon",
            "agent_id": format!("m-S{}", task % 100), "container_id": format!("c-{task}"),
            "name": format!("app-{task}"), "discovery_name": null, "phase": "running",
            "health": "unchecked", "host_address": Names::address(task).to_string(),
            "container_addresses": [], "host_ports": [1025 + task % 60_000], "ports": [],
            "labels": {}, "launched": 0,
        });
        let (owner, key) = (format!("n{}", task % 100), json!({ "task": ["f-0001", id] }));
        writeln!(file, "{}", json!({ "fact": [owner, key, { "task": fact }] }))?;
    }
    writeln!(file, "{}", json!({ "at": 1 }))?;
    file.flush()?;
    Ok(())
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if let Err(error) = crate::process::run(self.command().arg("--teardown"), "") {
            eprintln!("bench: {error:#}");
        }
    }
}
