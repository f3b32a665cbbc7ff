//! The configuration of a node: defaults, then the file, the environment and the
//! flags, each layer above the one before.
//!
//! [`Config::load`] is pure: the layers are handed in as [`Sources`]. It never
//! stops at the first mistake; an operator sees all of them at once, each with
//! its file and line, variable or flag.

mod bridge;
mod build;
mod dns;
mod error;
mod host;
mod keys;
mod loader;
mod names;
mod overlay;
mod show;
mod sources;
mod value;

pub use bridge::BridgeConfig;
pub use build::CLUSTER_PORT;
pub use dns::{DnsConfig, ResolvConf};
pub use error::{ConfigError, Origin, Problem};
pub use host::HostFacts;
pub use keys::{Applies, KEYS, Key, Kind};
pub use loader::{DEFAULT_FILE, Loader, run_dir};
pub use overlay::{OverlayConfig, Word, encryption_word};
pub use show::Change;
pub use sources::{ConfigFile, Sources};

use crate::instance::Instance;
use ipnet::Ipv4Net;
use mizzen_plan::ingress::IngressRule;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A part of a node that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Offers resources to frameworks.
    Master,
    /// Runs tasks.
    Agent,
    /// Keeps apps running: the built-in framework.
    Services,
    /// Resolves names.
    Dns,
    /// Translates VIPs.
    Vip,
    /// Gives containers addresses of their own.
    Overlay,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Agent => "agent",
            Self::Services => "services",
            Self::Dns => "dns",
            Self::Vip => "vip",
            Self::Overlay => "overlay",
        })
    }
}

/// The whole configuration in force.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Which node of this kernel it is.
    pub instance: Instance,
    /// The parts that run.
    pub roles: BTreeSet<Role>,
    /// Directory of everything that survives a restart.
    pub state_dir: PathBuf,
    /// Directory of the socket and of what does not survive a reboot.
    pub run_dir: PathBuf,
    /// Cgroup of all containers, relative to each hierarchy's mount.
    pub cgroup_root: String,
    /// Address by which other machines reach this node.
    pub address: IpAddr,
    /// Name by which other machines reach this node.
    pub hostname: String,
    /// Where the node stands; nodes that say the same are near each other. May be empty.
    pub zone: String,
    /// Directory of `mizzen-launch` and the CNI plugins.
    pub libexec_dir: PathBuf,
    /// Log lines.
    pub log: LogConfig,
    /// Other nodes.
    pub cluster: ClusterConfig,
    /// The master.
    pub master: MasterConfig,
    /// The agent.
    pub agent: AgentConfig,
    /// The service scheduler.
    pub services: ServicesConfig,
    /// The resolver.
    pub dns: DnsConfig,
    /// The VIP balancer.
    pub vip: VipConfig,
    /// The overlay network.
    pub overlay: OverlayConfig,
    /// The network of this node alone.
    pub bridge: BridgeConfig,
    /// Listeners for this machine only.
    pub admin: AdminConfig,
    /// Whether the node has joined a cluster, whose master is elsewhere.
    #[serde(skip)]
    pub joined: bool,
    /// Where each key's value comes from.
    #[serde(skip)]
    pub origins: BTreeMap<&'static str, Origin>,
}

/// Roles that a node cannot have which has joined a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`master` and `services` run on the first node of a cluster: leave them out of `roles`")]
pub struct TwoMasters;

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Log lines.
#[derive(Debug, Clone, Serialize)]
pub struct LogConfig {
    /// Their form.
    pub format: LogFormat,
    /// A filter: a level, or `target=level` pairs separated by commas.
    pub level: String,
}

/// Other nodes.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterConfig {
    /// Where they reach this one, by UDP and TCP; `None` if they do not.
    #[serde(serialize_with = "value::write_or_none")]
    pub listen: Option<SocketAddr>,
    /// How long certificates count that this node makes.
    #[serde(serialize_with = "value::write_duration")]
    pub certificate_life: Duration,
    /// How often it makes a key of datagrams.
    #[serde(serialize_with = "value::write_duration")]
    pub key_rotation: Duration,
}

/// The master.
#[derive(Debug, Clone, Serialize)]
pub struct MasterConfig {
    /// Where its API listens.
    pub listen: SocketAddr,
    /// Time between two rounds of offers.
    #[serde(serialize_with = "value::write_duration")]
    pub allocation_interval: Duration,
}

/// The agent.
#[derive(Debug, Clone, Serialize)]
pub struct AgentConfig {
    /// Where its API listens.
    pub listen: SocketAddr,
    /// What it offers, as Mesos writes it; known to be readable.
    pub resources: String,
    /// Its attributes, as Mesos writes them: `name:value;…`; may be empty.
    pub attributes: String,
    /// Whether a task's `cpus` are a ceiling too (CFS quota), not only a share.
    pub cpu_quota: bool,
    /// Time after which a CNI plugin that does not answer is killed.
    #[serde(serialize_with = "value::write_duration")]
    pub plugin_timeout: Duration,
    /// Where CNI configurations of further networks are.
    pub network_dir: PathBuf,
    /// How long sandboxes of ended tasks are kept on an empty disk.
    #[serde(serialize_with = "value::write_duration")]
    pub gc_delay: Duration,
    /// Part of the disk that is to stay free of them, in percent.
    pub gc_disk_headroom: u8,
}

/// The service scheduler.
#[derive(Debug, Clone, Serialize)]
pub struct ServicesConfig {
    /// Where `/v2/…` listens.
    pub listen: SocketAddr,
    /// Its framework's name, a part of its tasks' names.
    pub framework_name: String,
}

/// What translates VIPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VipEngine {
    /// eBPF where the kernel and our rights allow it; else queued packets, else nothing, with a
    /// warning.
    Auto,
    /// eBPF, or the node does not start.
    Ebpf,
    /// Queued first packets and conntrack, or the node does not start.
    Nfqueue,
    /// Nothing.
    Off,
}

/// The VIP balancer.
#[derive(Debug, Clone, Serialize)]
pub struct VipConfig {
    /// What translates.
    pub engine: VipEngine,
    /// Directory of the v2 cgroup whose processes can use VIPs.
    pub cgroup: PathBuf,
    /// Links that VIP traffic may arrive by.
    #[serde(serialize_with = "value::write_texts")]
    pub ingress: Vec<IngressRule>,
    /// Network from which named VIPs get their addresses.
    pub named_range: Ipv4Net,
    /// Where the BPF file system is mounted.
    pub bpffs: PathBuf,
    /// When a backend gets no connections for a while.
    #[serde(flatten)]
    pub ejection: EjectionConfig,
}

/// When a backend gets no connections for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EjectionConfig {
    /// Failed handshakes in a row; zero for never.
    #[serde(rename = "eject_after")]
    pub after: u32,
    /// Length of the first pause.
    #[serde(rename = "eject_pause", serialize_with = "value::write_duration")]
    pub pause: Duration,
    /// Length of the longest one.
    #[serde(rename = "eject_longest", serialize_with = "value::write_duration")]
    pub longest: Duration,
    /// Time without an answered handshake after which a backend with open ones is avoided.
    #[serde(serialize_with = "value::write_duration")]
    pub handshake_limit: Duration,
}

/// Listeners for this machine only.
#[derive(Debug, Clone, Serialize)]
pub struct AdminConfig {
    /// Mesos-DNS' HTTP API.
    pub mesos_dns: SocketAddr,
    /// Minuteman's HTTP API.
    pub minuteman: SocketAddr,
    /// The node's own HTTP API.
    pub node: SocketAddr,
}

impl Config {
    /// Puts the layers of `sources` together.
    ///
    /// # Errors
    ///
    /// Every mistake in every layer, in the order file, environment, flags. The
    /// list is never empty.
    pub fn load(sources: &Sources) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let layers = sources::layers(sources, &mut errors);
        let config = build::build(&layers, &sources.host, &mut errors);
        errors.sort_by(|a, b| a.origin.cmp(&b.origin));
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// Whether this part runs.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        let elsewhere = self.joined && matches!(role, Role::Master | Role::Services);
        self.roles.contains(&role) && !elsewhere
    }

    /// Whether a listener was asked for that leads to what another node runs.
    #[must_use]
    pub fn leads_elsewhere(&self, role: Role) -> bool {
        let key = match role {
            Role::Master => "master.listen",
            Role::Services => "services.listen",
            _ => return false,
        };
        let told = self.origins.get(key).is_some_and(|origin| *origin != Origin::Default);
        self.joined && told
    }

    /// The node has joined a cluster: it runs neither master nor services.
    ///
    /// # Errors
    ///
    /// If it was told to run one of them all the same.
    pub fn join(&mut self) -> Result<(), TwoMasters> {
        let told = self.origins.get("roles").is_some_and(|origin| *origin != Origin::Default);
        let elsewhere = [Role::Master, Role::Services].map(|role| self.roles.contains(&role));
        self.joined = true;
        if told && elsewhere.contains(&true) { Err(TwoMasters) } else { Ok(()) }
    }

    /// The parts that run.
    pub fn running_roles(&self) -> impl Iterator<Item = Role> + '_ {
        self.roles.iter().copied().filter(|role| self.has(*role))
    }

    /// The node's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(crate::instance::SOCKET_NAME)
    }

    /// Lists what is different in `new`, and whether it can be applied to a
    /// running node.
    #[must_use]
    pub fn difference(&self, new: &Self) -> Vec<Change> {
        show::difference(self, new)
    }

    /// This configuration with those changes of `new` that a running node can take.
    #[must_use]
    pub fn with_applicable(&self, new: &Self) -> Self {
        let mut config = self.clone();
        config.log.level.clone_from(&new.log.level);
        config.cluster.certificate_life = new.cluster.certificate_life;
        config.cluster.key_rotation = new.cluster.key_rotation;
        config.agent.gc_delay = new.agent.gc_delay;
        config.agent.gc_disk_headroom = new.agent.gc_disk_headroom;
        config.dns.apply(&new.dns);
        config.vip.ingress.clone_from(&new.vip.ingress);
        config.vip.ejection = new.vip.ejection;
        config.overlay.fast_path = new.overlay.fast_path;
        for key in KEYS.iter().filter(|key| key.applies == Applies::Now) {
            if let Some(origin) = new.origins.get(key.path) {
                config.origins.insert(key.path, origin.clone());
            }
        }
        config
    }

    /// The configuration in force as TOML, each key with where its value comes from.
    #[must_use]
    pub fn to_annotated_toml(&self) -> String {
        show::annotated(self)
    }
}

#[cfg(test)]
mod tests;
