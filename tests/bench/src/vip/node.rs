//! A real node that does nothing but VIPs, set up on the command line.

use super::stage::Service;
use crate::daemon::{self, Daemon};
use crate::network::Namespace;
use crate::process;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// This executable, whatever has become of its file.
const OURSELVES: &str = "/proc/self/exe";

/// How a node balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Ebpf,
    Nfqueue,
}

impl Engine {
    /// As the command line has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Nfqueue => "nfqueue",
        }
    }
}

/// A node with only the role `vip`. When it is dropped, nothing is left of it.
pub(super) struct Node {
    /// Of the daemon.
    pub cgroup: PathBuf,
    daemon: Option<Daemon>,
    place: Sandbox,
    engine: Engine,
}

impl Node {
    /// Starts one in `network`, or in the sandbox's own, for the clients in `hooked`.
    ///
    /// A node in another network is another node: it shares neither files nor names
    /// with that of the sandbox.
    pub(super) fn start(
        sandbox: &Sandbox,
        engine: Engine,
        network: Option<&Namespace>,
        hooked: &Path,
    ) -> Result<Self> {
        let name = engine.word();
        let place = sandbox.elsewhere(&sandbox.directory(name)?);
        let cgroup = sandbox.cgroup(&format!("node-{name}"))?;
        let mut node = Self { cgroup, daemon: None, place, engine };
        let mut command = node.command(&["--vip-engine", name]);
        command.env("MIZZEN_VIP_CGROUP", hooked);
        if network.is_some() {
            // A node in a network of its own is a router, and what it routes is balanced.
            command.env("MIZZEN_VIP_INGRESS", "*");
        }
        if let Some(address) = network.and_then(Namespace::address) {
            command.env("MIZZEN_ADDRESS", address.to_string());
            command.env("MIZZEN_HOSTNAME", address.to_string());
        }
        let daemon = Daemon::start_as(&node.place, &mut command, network).with_context(|| {
            let log = daemon::log_tail(&node.place);
            format!("the node did not start; the end of its log:\n{log}\n")
        })?;
        node.daemon = Some(daemon);
        Ok(node)
    }

    /// `mizzen node` in its cgroup and with its files.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(OURSELVES);
        command.arg("join").arg(&self.cgroup).args(["--", "mizzen", "node", "--roles", "vip"]);
        command.args(["--instance", self.engine.word()]).args(words);
        command.env("MIZZEN_STATE_DIR", &self.place.state_dir);
        command.env("MIZZEN_RUN_DIR", &self.place.run_dir);
        command
    }

    /// Registers a service; `words` say more about it.
    pub(super) fn set(&self, service: &Service, words: &[&str]) -> Result<()> {
        let mut command = Command::new("mizzen");
        command.arg("vip").arg("set").arg(format!("{}/tcp", service.vip));
        for backend in &service.backends {
            command.arg("--backend").arg(backend.to_string());
        }
        command.args(words).arg("--run-dir").arg(&self.place.run_dir);
        process::run(&mut command, "").map(drop)
    }

    /// Its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.place.socket()
    }

    /// Its process.
    pub(super) fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("the node has ended")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.daemon.take());
        // What is left of it would be taken up by the next one.
        if let Err(error) = process::run(&mut self.command(&["--teardown"]), "") {
            eprintln!("bench: {error:#}");
        }
        for directory in [&self.place.state_dir, &self.place.run_dir] {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// Whether this node has `engine`, and why not.
pub(super) fn knows(engine: Engine) -> Result<()> {
    let words = ["node", "--check-config", "--vip-engine", engine.word()];
    process::run(Command::new("mizzen").args(words), "").map(drop)
}
