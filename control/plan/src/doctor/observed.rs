//! What judgments are made over.

use super::{
    Cgroups, Chain, ClockState, Daemon, Directory, Disk, Feature, Leftovers, Probe, Rule, Socket,
    Usage,
};
use ipnet::IpNet;
use mizzen_types::encryption::PlainPackets;
use mizzen_types::vip::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What was seen, or why it could not be looked at.
pub type Look<T> = Result<T, String>;

/// Everything.
#[derive(Debug, Clone)]
pub struct Observed {
    /// What the configuration says that the node is to be.
    pub wanted: Wanted,
    /// What the machine says.
    pub machine: Machine,
    /// What the node's daemon says, if it runs.
    pub daemon: Daemon,
}

/// What the configuration says that the node is to be.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// What the node writes on the links that it makes: `mizzen default`.
    pub mark: String,
    /// Whether it runs tasks.
    pub agent: bool,
    /// Whether it answers names.
    pub dns: bool,
    /// Whether it balances VIPs, and how.
    pub vips: Option<Engine>,
    /// Whether containers have addresses of their own.
    pub overlay: bool,
    /// Whether packets between containers may pass by bridges and routes.
    pub fast_path: bool,
    /// Bridges that containers hang on: those of the overlays, and the node's own.
    pub bridges: Vec<String>,
    /// The link with the resolver's addresses.
    pub names_link: String,
    /// Networks of the overlays.
    pub networks: Vec<IpNet>,
    /// Largest packet in an overlay, in bytes.
    pub overlay_mtu: u32,
    /// UDP port of the tunnels.
    pub tunnel_port: u16,
    /// Whether packets between nodes are encrypted, and what becomes of plain ones.
    pub encryption: Option<PlainPackets>,
    /// UDP port of encrypted packets.
    pub encryption_port: u16,
    /// The node's own address.
    pub address: Option<IpAddr>,
    /// Where the node listens.
    pub listeners: Vec<Listener>,
    /// The resolver's own addresses.
    pub resolvers: Vec<IpAddr>,
    /// Whether the node writes `/etc/resolv.conf` itself.
    pub writes_resolv_conf: bool,
    /// Ports that tasks are offered, first and last.
    pub task_ports: Vec<(u16, u16)>,
    /// Where the node's state is kept.
    pub state_dir: String,
    /// Where its socket is.
    pub run_dir: String,
    /// Its cgroup of containers, below each hierarchy's mount.
    pub cgroup_root: String,
    /// The cgroup whose processes can use VIPs.
    pub vip_cgroup: String,
    /// Where its BPF programs are pinned.
    pub pin_dir: String,
    /// Names of its tables of packet filter rules.
    pub tables: Vec<String>,
    /// Name of its table of ports that lead to containers.
    pub port_table: String,
}

/// What balances VIPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Programs, else queues, else nothing.
    Auto,
    /// Programs.
    Programs,
    /// Queued packets.
    Queues,
}

/// A place at which the node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// For what.
    pub part: String,
    /// By which transport.
    pub transport: Protocol,
    /// Where.
    pub address: SocketAddr,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Sees everything.
    Root,
    /// Sees less.
    Other,
}

/// What the machine says.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Who asked it.
    pub user: User,
    /// What the kernel can do.
    pub features: BTreeMap<Feature, Probe>,
    /// Its cgroups.
    pub cgroups: Look<Cgroups>,
    /// Settings below `/proc/sys`, by name; those that the kernel does not have are missing.
    pub settings: BTreeMap<String, String>,
    /// What is in use of what is limited.
    pub usage: Usage,
    /// Links of this network.
    pub links: Look<Vec<Link>>,
    /// Chains of packet filter rules that packets come by.
    pub chains: Look<Vec<Chain>>,
    /// Rules of packet filters that are not the node's.
    pub rules: Look<Vec<Rule>>,
    /// Tables of the old packet filter (`iptables-legacy`).
    pub legacy_tables: BTreeSet<String>,
    /// Sockets that are bound.
    pub sockets: Look<Vec<Socket>>,
    /// The clock.
    pub clock: Look<ClockState>,
    /// File systems of the node's directories.
    pub disks: Vec<Disk>,
    /// The node's directories and files.
    pub directories: Vec<Directory>,
    /// Text of `/etc/resolv.conf`.
    pub resolv_conf: Look<String>,
    /// What bears the node's marks.
    pub leftovers: Look<Leftovers>,
    /// Ports that were published for containers and are not, in words.
    pub unpublished: Look<Vec<String>>,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// `bridge`, `vxlan`, …; hardware has none.
    pub kind: Option<String>,
    /// The text with which an owner marks it.
    pub alias: Option<String>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// UDP port of its tunnels, if it is an end of some.
    pub tunnel_port: Option<u16>,
    /// How many links are plugged into it.
    pub ports: usize,
}

impl Wanted {
    /// UDP ports on which packets of other nodes' containers arrive.
    pub(super) fn overlay_ports(&self) -> Vec<u16> {
        let tunnels =
            Some(self.tunnel_port).filter(|_| self.encryption != Some(PlainPackets::Refused));
        let encrypted = self.encryption.map(|_| self.encryption_port);
        tunnels.into_iter().chain(encrypted).filter(|_| self.overlay).collect()
    }
}

impl Observed {
    /// Whether the node's daemon runs.
    pub(super) fn runs(&self) -> bool {
        matches!(self.daemon, Daemon::Running(_))
    }

    /// What the daemon says.
    pub(super) fn told(&self) -> Option<&super::Told> {
        match &self.daemon {
            Daemon::Running(told) => Some(told),
            _ => None,
        }
    }

    /// Links that could be seen.
    pub(super) fn links(&self) -> &[Link] {
        self.machine.links.as_deref().unwrap_or_default()
    }

    /// The link with the node's own address.
    pub(super) fn underlay(&self) -> Option<&Link> {
        let address = self.wanted.address?;
        self.links().iter().find(|link| link.addresses.contains(&address))
    }
}
