//! A real node that does nothing but names.

use super::{Bench, contestant};
use crate::daemon::{self, Daemon};
use crate::sandbox::Sandbox;
use anyhow::{Context, Result};
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

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if let Err(error) = crate::process::run(self.command().arg("--teardown"), "") {
            eprintln!("bench: {error:#}");
        }
    }
}
