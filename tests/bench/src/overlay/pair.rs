//! Two nodes of ours with their daemons, joined by a cable as the hosts made by hand are, and a
//! container of an app on each.

use crate::daemon::{self, Daemon};
use crate::network::{End, Namespace, cable};
use crate::sandbox::{Sandbox, ourselves};
use crate::{api, process, wait};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The app's name.
const APP: &str = "pods";
/// For anything that the nodes do.
const LIMIT: Duration = Duration::from_secs(30);
/// Where the service scheduler listens.
const SERVICES: u16 = 8080;

/// Whom policies are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guarded {
    /// There are none.
    Nobody,
    /// Both containers, in both directions; rules let them talk to each other.
    Everybody,
}

/// Two nodes that are one cluster.
pub(super) struct Pair {
    nodes: Vec<Node>,
}

/// A node in a network of its own. When it is dropped, nothing is left of it.
struct Node {
    namespace: Namespace,
    daemon: Option<Daemon>,
    place: Sandbox,
    /// Its instance: names of links and pins follow from it.
    name: String,
    cgroup: PathBuf,
    address: IpAddr,
}

impl Pair {
    /// Starts both and runs a container on each.
    pub(super) fn start(sandbox: &Sandbox, guarded: Guarded) -> Result<Self> {
        let kind = if guarded == Guarded::Nobody { "open" } else { "guarded" };
        let mut nodes = Vec::new();
        for number in 1..=2 {
            nodes.push(Node::new(sandbox, &format!("{kind}{number}"), number)?);
        }
        cable(
            End { namespace: &nodes[0].namespace, link: "eth0", address: "192.0.2.1/24" },
            End { namespace: &nodes[1].namespace, link: "eth0", address: "192.0.2.2/24" },
        )?;
        let mut pair = Self { nodes };
        let [first, second] = &mut pair.nodes[..] else { anyhow::bail!("two nodes are two") };
        first.run(&[])?;
        let token = first.mizzen(&["join-token"])?;
        second.run(&["--join", &first.address.to_string(), "--token", token.trim()])?;
        pair.run_app()?;
        if guarded == Guarded::Everybody {
            pair.guard()?;
        }
        Ok(pair)
    }

    /// The network of each node's container, and its address there.
    pub(super) fn containers(&self) -> Result<[(Namespace, IpAddr); 2]> {
        let all = self.nodes.iter().map(|node| {
            let found = wait::until("a container runs on each node", LIMIT, || node.container())?;
            Ok((Namespace::of_process(found.0)?, found.1))
        });
        let all = all.collect::<Result<Vec<_>>>()?;
        all.try_into().ok().context("two nodes have two containers")
    }

    fn run_app(&self) -> Result<()> {
        let app = json!({
            "id": format!("/{APP}"), "cmd": "exec sleep 100000", "cpus": 0.01, "mem": 16, "instances": 2,
            "constraints": [["hostname", "MAX_PER", "1"]],
            "networks": [{ "mode": "container", "name": "dcos" }],
        });
        let first = self.nodes.first().context("two nodes are two")?;
        let body = first.namespace.within(|| {
            let stream = TcpStream::connect(SocketAddr::new(first.address, SERVICES))?;
            api::ask(stream, "POST", "/v2/apps", &app.to_string())
        });
        body.map(drop)
    }

    /// Sets a policy, and waits until both nodes go by it.
    fn guard(&self) -> Result<()> {
        let selector = json!({ "name": format!("/{APP}") });
        let rules = json!([{ "peers": [selector] }]);
        let policy =
            json!({ "id": APP, "applies_to": selector, "ingress": rules, "egress": rules });
        let first = self.nodes.first().context("two nodes are two")?;
        api::put(&first.place.socket(), &format!("/v1/policies/{APP}"), &policy)?;
        for node in &self.nodes {
            wait::until("both nodes go by the policy", LIMIT, || {
                let policies = api::get(&node.place.socket(), "/v1/policies")?;
                let is_there = policies["policies"].as_array().is_some_and(|all| !all.is_empty());
                Ok((is_there && policies["enforced"] == true).then_some(()))
            })?;
        }
        Ok(())
    }
}

impl Node {
    fn new(sandbox: &Sandbox, name: &str, number: u8) -> Result<Self> {
        Ok(Self {
            namespace: Namespace::create()?,
            daemon: None,
            place: sandbox.elsewhere(&sandbox.directory(&format!("pair-{name}"))?),
            name: name.to_owned(),
            cgroup: sandbox.cgroup(&format!("pair-{name}"))?,
            address: IpAddr::from([192, 0, 2, number]),
        })
    }

    fn run(&mut self, flags: &[&str]) -> Result<()> {
        let network = Some(&self.namespace);
        let daemon = Daemon::start_as(&self.place, &mut self.command(flags)?, network);
        self.daemon = Some(daemon.with_context(|| {
            let log = daemon::log_tail(&self.place);
            format!("the node did not start; the end of its log:\n{log}\n")
        })?);
        Ok(())
    }

    /// `mizzen node` with its files and its cgroups.
    fn command(&self, flags: &[&str]) -> Result<Command> {
        let mut command = Command::new(ourselves()?);
        command.arg("join").arg(&self.cgroup).args(["--", "mizzen", "node"]);
        command.args(["--instance", &self.name]).args(flags);
        command
            .env("MIZZEN_STATE_DIR", &self.place.state_dir)
            .env("MIZZEN_RUN_DIR", &self.place.run_dir)
            .env("MIZZEN_ADDRESS", self.address.to_string())
            .env("MIZZEN_HOSTNAME", self.address.to_string())
            .env("MIZZEN_VIP_CGROUP", &self.cgroup)
            .env("MIZZEN_CGROUP_ROOT", self.cgroup_root()?);
        Ok(command)
    }

    /// Where its containers are in every hierarchy: below the cgroup whose connects it sees.
    fn cgroup_root(&self) -> Result<String> {
        let root = std::env::var("MIZZEN_CGROUP_ROOT").context("this is no lab")?;
        let lab = root.split('/').next().context("the lab has no cgroup")?;
        let at = self.cgroup.ancestors().find(|above| above.ends_with(lab));
        let below = at.and_then(|at| self.cgroup.strip_prefix(at).ok());
        let below = below.with_context(|| format!("{lab} is not above {:?}", self.cgroup))?;
        Ok(format!("{lab}/{}/mizzen", below.display()))
    }

    fn mizzen(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("mizzen");
        process::run(command.arg("--run-dir").arg(&self.place.run_dir).args(words), "")
    }

    /// Process and address of its container, when it runs.
    fn container(&self) -> Result<Option<(u32, IpAddr)>> {
        let tasks = api::get(&self.place.socket(), "/v1/tasks")?;
        let of = |row: &Value| {
            let process = u32::try_from(row["pid"].as_u64()?).ok()?;
            let address = row["addresses"][0].as_str()?.parse().ok()?;
            (row["state"] == "TASK_RUNNING").then_some((process, address))
        };
        Ok(tasks.as_array().into_iter().flatten().find_map(of))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.daemon.take());
        // What is left of it would be taken up by the next one.
        let teardown = self.command(&["--teardown"]).and_then(|mut command| {
            self.namespace.within(|| process::run(&mut command, "").map(drop))
        });
        if let Err(error) = teardown {
            eprintln!("bench: {error:#}");
        }
        for directory in [&self.place.state_dir, &self.place.run_dir] {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}
