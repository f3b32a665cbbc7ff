//! What the node's daemon says, if it runs.

use crate::cli::error::CliError;
use crate::cli::session::Session;
use crate::config::{Config, ConfigFile, HostFacts, Sources};
use crate::lock::holder;
use ipnet::IpNet;
use mizzen_http::client::ClientError;
use mizzen_plan::doctor::{Daemon, PeerTold, Told};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Deserialize)]
struct Status {
    pid: u32,
    #[serde(default)]
    problems: Vec<String>,
    #[serde(default)]
    listeners: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Overlays {
    #[serde(default)]
    overlays: Vec<Overlay>,
    encryption: Option<Encryption>,
}

#[derive(Deserialize)]
struct Encryption {
    link: String,
}

#[derive(Deserialize)]
struct Overlay {
    #[serde(default)]
    networks: Vec<IpNet>,
    bridge: String,
    tunnel: String,
    second: Option<Second>,
}

#[derive(Deserialize)]
struct Second {
    bridge: String,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    hostname: Option<String>,
    here: bool,
    path_mtu: Option<u32>,
    clock_ahead_seconds: Option<f64>,
}

/// The configuration in force, as a daemon answers.
#[derive(Deserialize)]
struct InForce {
    toml: String,
    roles: Vec<String>,
}

/// The configuration that a running daemon has: flags that it was started with, what it was
/// when it was read, and without the parts that a node of another master does not run.
pub(super) async fn in_force(session: &Session) -> Option<Config> {
    let told: InForce = session.read("/v1/configuration").await.ok()?;
    let file = ConfigFile { path: PathBuf::from("the daemon's configuration"), text: told.toml };
    let host = HostFacts::observe();
    let mut config =
        Config::load(&Sources { file: Some(file), host, ..Sources::default() }).ok()?;
    config.roles.retain(|role| told.roles.contains(&role.to_string()));
    Some(config)
}

/// What the daemon says, and which of its parts listen.
pub(super) async fn ask(session: &Session, config: &Config) -> (Daemon, Option<BTreeSet<String>>) {
    match try_ask(session).await {
        Ok((told, listeners)) => (Daemon::Running(told), Some(listeners)),
        Err(error) => (without_answer(&error, config), None),
    }
}

async fn try_ask(session: &Session) -> Result<(Told, BTreeSet<String>), CliError> {
    let status: Status = session.read("/v1/status").await?;
    let overlays: Overlays = session.read("/v1/overlay").await?;
    let nodes: Vec<Node> = session.read("/v1/cluster/nodes").await?;
    let networks = overlays.overlays.iter().flat_map(|overlay| overlay.networks.clone()).collect();
    let links = overlays.overlays.into_iter().flat_map(|overlay| {
        let second = overlay.second.map(|second| second.bridge);
        [Some(overlay.bridge), Some(overlay.tunnel), second].into_iter().flatten()
    });
    let links = links.chain(overlays.encryption.map(|encryption| encryption.link));
    let others = nodes.into_iter().filter(|node| !node.here);
    let peers = others.map(|node| PeerTold {
        name: node.hostname.unwrap_or(node.id),
        path_mtu: node.path_mtu,
        clock_ahead: node.clock_ahead_seconds,
    });
    let Status { pid, problems, listeners } = status;
    let (links, peers) = (links.collect(), peers.collect());
    let told = Told { pid, problems, links, networks, peers };
    Ok((told, listeners.into_keys().collect()))
}

fn without_answer(error: &CliError, config: &Config) -> Daemon {
    match error {
        CliError::NoNode { socket } => match holder(&config.state_dir) {
            None => Daemon::Away,
            Some(pid) => {
                let socket = socket.display();
                Daemon::Silent(format!(
                    "process {pid} has the state directory, and nobody listens on {socket}"
                ))
            }
        },
        CliError::Client(ClientError::Denied { .. }) => Daemon::Hidden(error.to_string()),
        other => Daemon::Silent(other.to_string()),
    }
}
