//! The section `bridge`: the network of this node alone, for apps in mode `container/bridge`.

use super::build::Reader;
use super::host::HostFacts;
use super::{Config, Role, value};
use crate::instance::Instance;
use ipnet::{IpNet, Ipv4Net};
use mizzen_plan::overlay::local::gateway_net;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr};

/// The network of this node alone.
#[derive(Debug, Clone, Serialize)]
pub struct BridgeConfig {
    /// Name that tasks ask for.
    pub name: String,
    /// Its addresses, the same on every node; `None` if there is no such network here.
    #[serde(serialize_with = "value::write_or_none")]
    pub network: Option<Ipv4Net>,
    /// The bridge that containers attach to.
    pub link: String,
    /// Largest packet on it, in bytes.
    pub mtu: u32,
}

impl BridgeConfig {
    /// The bridge's own address.
    pub(super) fn gateway(&self) -> Option<IpAddr> {
        self.network.map(|network| gateway_net(&IpNet::V4(network)).addr())
    }
}

impl Config {
    /// The network of this node alone, if its roles give containers one.
    #[must_use]
    pub fn bridge_network(&self) -> Option<Ipv4Net> {
        self.bridge.network.filter(|_| self.has(Role::Agent) && self.has(Role::Overlay))
    }
}

pub(super) fn read(read: &mut Reader<'_>, instance: &Instance, host: &HostFacts) -> BridgeConfig {
    let usual = usual(instance, host);
    BridgeConfig {
        name: read.one("bridge.name", "mesos-bridge".to_owned(), value::plain_name),
        network: read.one("bridge.network", usual, |t| match t {
            "none" => Ok(None),
            t => value::network(t, 29).map(Some),
        }),
        link: read.one("bridge.link", instance.node_bridge(), value::link_name),
        mtu: read.one("bridge.mtu", 1500, |t| value::number(t, "an MTU in bytes", 576..=65_535)),
    }
}

/// The addresses that DC/OS has there, unless the machine has some of them already. Several
/// nodes in one kernel cannot have the same, so only the one with DC/OS' names has them
/// without being told.
fn usual(instance: &Instance, host: &HostFacts) -> Option<Ipv4Net> {
    let network = Ipv4Net::new_assert(Ipv4Addr::new(172, 31, 254, 0), 24);
    let whole = IpNet::V4(network);
    // The first one is the bridge's own, if the node has been here before.
    let foreign = |ip: &IpAddr| whole.contains(ip) && *ip != gateway_net(&whole).addr();
    (instance.is_default() && !host.addresses.iter().any(foreign)).then_some(network)
}

/// Values in the section that do not go together with others: key, value, why.
pub(super) fn conflicts(config: &Config) -> Vec<(&'static str, String, String)> {
    let (bridge, mut found) = (&config.bridge, Vec::new());
    let Some(network) = config.bridge_network() else { return found };
    if config.overlay.names().any(|name| *name == bridge.name) {
        found.push(("bridge.name", bridge.name.clone(), "is also the name of an overlay".into()));
    }
    let ours = IpNet::V4(network);
    let overlaps = |net: &IpNet| net.contains(&ours) || ours.contains(net);
    let overlays = config.overlay.all_networks().into_iter().filter(overlaps);
    let vips = Some(IpNet::V4(config.vip.named_range)).filter(overlaps);
    let words = overlays
        .map(|net| format!("overlaps {net}, an overlay"))
        .chain(vips.map(|net| format!("overlaps vip.named_range, {net}")))
        .chain(
            ours.contains(&config.address)
                .then(|| format!("has the node's address, {}, in it", config.address)),
        );
    found.extend(words.map(|words| ("bridge.network", network.to_string(), words)));
    found
}
