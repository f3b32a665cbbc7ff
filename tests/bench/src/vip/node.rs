//! A real node that does nothing but VIPs, set up on the command line.

use super::stage::Service;
use crate::daemon::{self, Daemon};
use crate::network::Namespace;
use crate::process;
use crate::sandbox::{self, Sandbox};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// A node with only the role `vip`.
pub(super) struct Node {
    /// Of the daemon.
    pub cgroup: PathBuf,
    daemon: Daemon,
    run_dir: PathBuf,
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
        let directory = sandbox.directory(name)?;
        let place = sandbox.elsewhere(&directory);
        let cgroup = sandbox.cgroup(&format!("node-{name}"))?;
        let mut command = Command::new(sandbox::ourselves()?);
        command.arg("join").arg(&cgroup).args(["--", "mizzen", "node", "--roles", "vip"]);
        command.args(["--vip-engine", name, "--instance", name]);
        command.env("MIZZEN_STATE_DIR", &place.state_dir).env("MIZZEN_RUN_DIR", &place.run_dir);
        command.env("MIZZEN_VIP_CGROUP", hooked);
        if let Some(address) = network.and_then(Namespace::address) {
            command.env("MIZZEN_ADDRESS", address.to_string());
            command.env("MIZZEN_HOSTNAME", address.to_string());
        }
        let daemon = Daemon::start_as(&place, &mut command, network).with_context(|| {
            format!("the end of the node's log:\n{}\n\nthis failed", daemon::log_tail(&place))
        })?;
        Ok(Self { cgroup, daemon, run_dir: place.run_dir })
    }

    /// Registers a service; `words` say more about it.
    pub(super) fn set(&self, service: &Service, words: &[&str]) -> Result<()> {
        let mut command = Command::new("mizzen");
        command.arg("vip").arg("set").arg(format!("{}/tcp", service.vip));
        for backend in &service.backends {
            command.arg("--backend").arg(backend.to_string());
        }
        command.args(words).arg("--run-dir").arg(&self.run_dir);
        process::run(&mut command, "").map(drop)
    }

    /// Its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.run_dir.join("mizzen.sock")
    }

    /// Its process.
    pub(super) fn daemon(&self) -> &Daemon {
        &self.daemon
    }
}

/// Whether this node has `engine`, and why not.
pub(super) fn knows(engine: Engine) -> Result<()> {
    let words = ["node", "--check-config", "--vip-engine", engine.word()];
    process::run(Command::new("mizzen").args(words), "").map(drop)
}
