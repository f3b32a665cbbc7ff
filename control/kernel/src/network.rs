//! Links, addresses, settings and the table of filter rules of one node.
//!
//! One pass goes through the domains in order. A domain that fails is reported and
//! does not keep the others from being done; the caller tries again.

mod ports;

use crate::leases::LeasesError;
use crate::published::{PublishedError, ensure_published};
use ipnet::IpNet;
use mizzen_cni_core::plan::mac_of;
use mizzen_ebpf_loader::JUDGED_MARK;
use mizzen_files::{Sync, replace};
use mizzen_netlink::{
    AddressDeviceSpec, BridgeSpec, Ensured, ForwardRule, Mac, MasqueradeRule, Netlink,
    NetlinkError, Nft, OverlayTableSpec, PlainTunnels, Removed, UntrackedTunnels, ensure_sysctl,
    ensure_sysctl_at_least,
};
use mizzen_plan::overlay::local::{cni_state, cni_state_file, gateway_net};
use mizzen_plan::overlay::{NodeBridge, OverlaySpec};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What one node's network should look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Written on every link that is ours.
    pub mark: String,
    /// The device that holds the resolver's addresses.
    pub names: Option<NamesSpec>,
    /// The node's shares of the overlays: bridges, masquerading, network configurations.
    pub overlays: Vec<OverlaySpec>,
    /// The network of this node alone.
    pub bridge: Option<NodeBridge>,
    /// Whether packets pass from one overlay to another.
    pub isolation: Isolation,
    /// Links behind which some paths take smaller packets than others.
    pub narrow: Vec<String>,
    /// Tunnels whose packets must be encrypted, if there are any.
    pub plain: Option<PlainTunnels>,
    /// Tunnels to other nodes, if there may be any.
    pub tunnels: Option<UntrackedTunnels>,
    /// Where leases of containers' addresses are kept.
    pub leases: PathBuf,
    /// Name of our filter table.
    pub filter_table: String,
    /// Name of the table with the ports that lead to containers, which the plugins make.
    pub port_table: String,
    /// Where other callers find the CNI configuration.
    pub cni_directory: PathBuf,
    /// Where other callers tell the daemon of their containers.
    pub socket: PathBuf,
}

impl NetworkSpec {
    /// Whether there is a network that containers are attached to.
    fn has_containers(&self) -> bool {
        !self.overlays.is_empty() || self.bridge.is_some()
    }
}

/// Whether packets pass from one overlay to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// They are dropped, except to ports that a node publishes.
    Apart,
    /// Likewise, and except those that a policy allows: its programs mark them.
    Judged,
    /// They pass.
    Together,
}

/// The device that holds the resolver's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesSpec {
    /// Its name.
    pub link: String,
    /// The addresses, each alone in its network.
    pub addresses: Vec<IpAddr>,
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused.
    #[error("cannot bring the {domain} into shape")]
    Kernel {
        /// What the pass was at.
        domain: &'static str,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// Nobody knows whose the containers' links are.
    #[error(transparent)]
    Leases(#[from] LeasesError),
    /// Ports of this host that lead to containers.
    #[error(transparent)]
    Published(#[from] PublishedError),
    /// The CNI configuration could not be written or removed.
    #[error("cannot write {path}")]
    Configuration {
        /// Its file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// One pass: how much had to be changed, and what could not be.
#[derive(Debug, Default)]
pub struct Report {
    /// Objects that were made or mended.
    pub changed: u32,
    /// Ports of this host that were published again.
    pub published: usize,
    /// Containers of networks that the node does not have any more, by the network: no other node
    /// knows a way to them.
    pub stranded: BTreeMap<String, usize>,
    /// What went wrong; empty if the node is as it should be.
    pub errors: Vec<NetworkError>,
}

impl Report {
    fn note<T>(&mut self, result: Result<Ensured<T>, NetworkError>) {
        match result {
            Ok(Ensured::Unchanged(_)) => {}
            Ok(Ensured::Created(_) | Ensured::Repaired(_)) => self.changed += 1,
            Err(error) => self.errors.push(error),
        }
    }

    /// After bridges: a container whose bridge is not there is not connected.
    fn restore_published(&mut self, netlink: &mut Netlink, spec: &NetworkSpec) {
        let links = match netlink.observe_links().map_err(kernel("published ports")) {
            Ok(links) => links.into_iter().map(|link| link.name).collect(),
            Err(error) => return self.errors.push(error),
        };
        let restored = ensure_published(&spec.leases, &spec.port_table, &links);
        self.changed += restored.changed;
        self.published += restored.ports;
        self.errors.extend(restored.errors.into_iter().map(NetworkError::from));
    }
}

/// Where the kernel begins to throw neighbours away, and where it refuses new ones; it has one
/// table for all namespaces. Containers at one bridge are each other's neighbours, so that some
/// thirty of them on a node, each talking to each, use up what it has by default (1024).
const NEIGHBOURS: [(&str, u64); 2] = [("gc_thresh2", 32_768), ("gc_thresh3", 65_536)];

/// The addresses of all links of the calling thread's namespace.
///
/// # Errors
///
/// The kernel's answer.
pub fn own_addresses() -> Result<BTreeSet<IpAddr>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let mut own = BTreeSet::new();
    for link in netlink.observe_links()? {
        let found = netlink.observe_addresses(link.index)?;
        own.extend(found.into_iter().map(|state| state.net.addr()));
    }
    Ok(own)
}

/// Brings the network of the calling thread's namespace into shape.
#[must_use]
pub fn ensure_network(spec: &NetworkSpec) -> Report {
    let mut report = Report::default();
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(source) => {
            report.errors.push(NetworkError::Kernel { domain: "links", source });
            return report;
        }
    };
    if let Some(names) = &spec.names {
        report.note(ensure_names(&mut netlink, names, &spec.mark));
    }
    for overlay in &spec.overlays {
        report.note(ensure_bridge(&mut netlink, overlay, &spec.mark));
        report.note(ensure_second_bridge(&mut netlink, overlay, &spec.mark));
        let file = overlay.configuration_file(&spec.cni_directory);
        report.note(ensure_file(&file, &format!("{:#}\n", overlay.cni_configuration())));
    }
    if let Some(wanted) = &spec.bridge {
        let bridge = bridge(&wanted.link, wanted.mtu, &[wanted.network], &spec.mark);
        let made = netlink.ensure_bridge(&bridge).map_err(kernel("node's own bridge"));
        report.note(made);
    }
    if spec.has_containers() {
        ports::ensure_ports(&mut netlink, spec, &mut report);
        report.note(
            ensure_sysctl("net/ipv4/ip_forward", "1").map_err(kernel("forwarding of packets")),
        );
        for (limit, least) in NEIGHBOURS {
            for family in ["ipv4", "ipv6"] {
                let setting = format!("net/{family}/neigh/default/{limit}");
                let made = ensure_sysctl_at_least(&setting, least);
                report.note(made.map_err(kernel("room for neighbours")));
            }
        }
        report.note(ensure_table(spec));
        report.restore_published(&mut netlink, spec);
    }
    if !spec.overlays.is_empty() {
        let state = format!("{:#}\n", cni_state(&spec.overlays, &spec.socket));
        report.note(ensure_file(&cni_state_file(&spec.leases), &state));
    }
    report
}

/// Removes everything that [`ensure_network`] made. Settings of the kernel stay:
/// others may rely on them by now.
#[must_use]
pub fn remove_network(spec: &NetworkSpec) -> Report {
    let mut report = Report::default();
    let mut removed = |result: Result<Removed, NetworkError>| match result {
        Ok(Removed::Removed) => report.changed += 1,
        Ok(Removed::Absent) => {}
        Err(error) => report.errors.push(error),
    };
    let links = spec.names.iter().map(|names| &names.link);
    let links = links.chain(spec.overlays.iter().map(|overlay| &overlay.bridge));
    let links = links.chain(spec.bridge.iter().map(|bridge| &bridge.link));
    let second = spec.overlays.iter().filter_map(|overlay| overlay.second.as_ref());
    for link in links.chain(second.map(|second| &second.bridge)) {
        removed(remove_link(link));
    }
    // Bridges of overlays of which nothing is known any more.
    match marked_links(&spec.mark) {
        Ok(links) => links.iter().for_each(|link| removed(remove_link(link))),
        Err(error) => removed(Err(error)),
    }
    for overlay in &spec.overlays {
        removed(remove_file(&overlay.configuration_file(&spec.cni_directory)));
    }
    if spec.has_containers() {
        removed(remove_table(&spec.filter_table));
        removed(remove_port_table(&spec.port_table));
    }
    // Also that of overlays of which nothing is known any more.
    removed(remove_file(&cni_state_file(&spec.leases)));
    report
}

fn ensure_names(
    netlink: &mut Netlink,
    names: &NamesSpec,
    mark: &str,
) -> Result<Ensured<()>, NetworkError> {
    let device = AddressDeviceSpec {
        name: names.link.clone(),
        alias: Some(mark.to_owned()),
        addresses: names.addresses.iter().map(|address| IpNet::from(*address)).collect(),
    };
    let made = netlink.ensure_address_device(&device).map_err(kernel("resolver's addresses"))?;
    Ok(without_value(&made))
}

fn ensure_bridge(
    netlink: &mut Netlink,
    overlay: &OverlaySpec,
    mark: &str,
) -> Result<Ensured<()>, NetworkError> {
    let bridge = bridge(&overlay.bridge, overlay.mtu, &overlay.blocks, mark);
    let made = netlink.ensure_bridge(&bridge).map_err(kernel("overlay's bridge"))?;
    let index = made.clone().into_inner().index;
    // The address of a block that is somebody else's by now would keep that one's packets here.
    let mut stale = netlink.observe_addresses(index).map_err(kernel("overlay's bridge"))?;
    stale.retain(|found| {
        let of_overlay = overlay.networks.iter().any(|network| network.contains(&found.net.addr()));
        of_overlay && !bridge.addresses.contains(&found.net)
    });
    for found in &stale {
        netlink.remove_address(index, found.net).map_err(kernel("overlay's bridge"))?;
    }
    Ok(if stale.is_empty() { without_value(&made) } else { Ensured::Repaired(()) })
}

fn ensure_second_bridge(
    netlink: &mut Netlink,
    overlay: &OverlaySpec,
    mark: &str,
) -> Result<Ensured<()>, NetworkError> {
    let Some(second) = &overlay.second else { return Ok(Ensured::Unchanged(())) };
    let bridge = bridge(&second.bridge, overlay.mtu, &second.blocks, mark);
    let made = netlink.ensure_bridge(&bridge).map_err(kernel("overlay's second bridge"))?;
    Ok(without_value(&made))
}

/// Its link-layer address follows from its first address: the kernel's choice changes with the
/// ports, and containers then send to the former one until they have forgotten it.
fn bridge(name: &str, mtu: u32, blocks: &[IpNet], mark: &str) -> BridgeSpec {
    BridgeSpec {
        name: name.to_owned(),
        mtu: Some(mtu),
        mac: blocks.first().map(|block| Mac(mac_of(gateway_net(block).addr()))),
        alias: Some(mark.to_owned()),
        addresses: blocks.iter().map(gateway_net).collect(),
    }
}

fn ensure_table(spec: &NetworkSpec) -> Result<Ensured<()>, NetworkError> {
    let table = OverlayTableSpec {
        table: spec.filter_table.clone(),
        masquerade: masquerade(spec),
        forward: forward(spec),
        plain: spec.plain.clone(),
        untracked: spec.tunnels,
    };
    let mut nft = Nft::open().map_err(kernel("table of filter rules"))?;
    nft.ensure_overlay_table(&table).map_err(kernel("table of filter rules"))
}

/// What leaves the containers' networks gets the node's address. Between containers of this node
/// everybody is seen as who he is, because policies judge by that.
fn masquerade(spec: &NetworkSpec) -> Vec<MasqueradeRule> {
    let overlays = &spec.overlays;
    let networks: Vec<IpNet> = overlays.iter().flat_map(|o| o.networks.clone()).collect();
    let bridges = |overlay: &OverlaySpec| {
        let second = overlay.second.iter().map(|second| second.bridge.clone());
        [overlay.bridge.clone()].into_iter().chain(second).collect::<Vec<String>>()
    };
    let own = spec.bridge.iter().map(|bridge| bridge.link.clone());
    let rules = overlays.iter().flat_map(|overlay| {
        let inside = bridges(overlay).into_iter().chain([overlay.tunnel.clone()]);
        let inside: Vec<String> = inside.chain(own.clone()).collect();
        let second = overlay.second.iter();
        let blocks = overlay.blocks.iter().chain(second.flat_map(|second| &second.blocks));
        let rule = |block: &IpNet| {
            let v4 = block.addr().is_ipv4();
            let except = networks.iter().filter(|net| net.addr().is_ipv4() == v4);
            let except = except.map(IpNet::trunc).collect();
            MasqueradeRule { source: *block, except, inside: inside.clone() }
        };
        blocks.map(rule).collect::<Vec<_>>()
    });
    // Other nodes do not know these addresses, not even the containers of an overlay.
    let bridge = spec.bridge.iter().map(|bridge| MasqueradeRule {
        source: bridge.network,
        except: vec![bridge.network],
        inside: own.clone().chain(overlays.iter().flat_map(bridges)).collect(),
    });
    rules.chain(bridge).collect()
}

/// What passes between links: nothing from one overlay to another, and TCP that fits.
fn forward(spec: &NetworkSpec) -> Vec<ForwardRule> {
    // Before anything that passes at once.
    let fit = |link: &String| ForwardRule::FitSegments { link: link.clone() };
    let mut rules: Vec<ForwardRule> = spec.narrow.iter().map(fit).collect();
    if spec.isolation == Isolation::Judged {
        rules.push(ForwardRule::PassMarked { bits: JUDGED_MARK });
    }
    if spec.isolation != Isolation::Together {
        for overlay in &spec.overlays {
            let others = spec.overlays.iter().filter(|other| other.name != overlay.name);
            let networks = others.flat_map(|other| other.networks.iter().copied());
            let second = overlay.second.iter().map(|second| &second.bridge);
            for link in [&overlay.bridge].into_iter().chain(second) {
                for network in networks.clone() {
                    rules.push(ForwardRule::DropTo { link: link.clone(), network });
                    rules.push(ForwardRule::DropFrom { link: link.clone(), network });
                }
            }
        }
    }
    rules
}

fn ensure_file(path: &Path, text: &str) -> Result<Ensured<()>, NetworkError> {
    let failed = |source| NetworkError::Configuration { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(present) if present == text => return Ok(Ensured::Unchanged(())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    replace(path, text.as_bytes(), 0o644, Sync::Memory).map_err(|error| failed(error.source))?;
    Ok(Ensured::Created(()))
}

fn remove_link(name: &str) -> Result<Removed, NetworkError> {
    let mut netlink = Netlink::open().map_err(kernel("links"))?;
    netlink.remove_link(name).map_err(kernel("links"))
}

fn marked_links(mark: &str) -> Result<Vec<String>, NetworkError> {
    let links = Netlink::open().and_then(|mut netlink| netlink.observe_links());
    let links = links.map_err(kernel("links"))?;
    let ours = links.into_iter().filter(|link| link.alias.as_deref() == Some(mark));
    Ok(ours.map(|link| link.name).collect())
}

fn remove_table(table: &str) -> Result<Removed, NetworkError> {
    let mut nft = Nft::open().map_err(kernel("table of filter rules"))?;
    nft.remove_table(table).map_err(kernel("table of filter rules"))
}

/// Ports of other runtimes may be in it.
fn remove_port_table(table: &str) -> Result<Removed, NetworkError> {
    let failed = kernel("table of ports");
    let mut nft = Nft::open().map_err(&failed)?;
    match nft.observe_ports(table).map_err(&failed)?.is_empty() {
        true => nft.remove_table(table).map_err(&failed),
        false => Ok(Removed::Absent),
    }
}

fn remove_file(path: &Path) -> Result<Removed, NetworkError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(Removed::Removed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removed::Absent),
        Err(source) => Err(NetworkError::Configuration { path: path.to_owned(), source }),
    }
}

fn kernel(domain: &'static str) -> impl Fn(NetlinkError) -> NetworkError {
    move |source| NetworkError::Kernel { domain, source }
}

fn without_value<T>(ensured: &Ensured<T>) -> Ensured<()> {
    match ensured {
        Ensured::Unchanged(_) => Ensured::Unchanged(()),
        Ensured::Created(_) => Ensured::Created(()),
        Ensured::Repaired(_) => Ensured::Repaired(()),
    }
}
