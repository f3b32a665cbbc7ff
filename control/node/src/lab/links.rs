//! The wire between the nodes of a lab: a bridge in a namespace of its own, and no
//! way from there to anywhere.

use super::error::LabError;
use super::namespaces::{Network, NodeNamespaces};
use ipnet::{IpNet, Ipv4Net};
use mizzen_netlink::{
    BridgeSpec, DuplicateDetection, IfIndex, LinkChange, Netlink, NetlinkError, VethPeer, VethSpec,
};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

/// Bridge of the underlay.
const BRIDGE: &str = "underlay";

/// Whether a node is connected to the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cable {
    /// It is.
    Plugged,
    /// It is not: no packet leaves or reaches it.
    Unplugged,
}

/// A node's link to the underlay.
const NODE_LINK: &str = "eth0";

/// As an ordinary Ethernet has it, so that the overlay's MTU has the usual effect.
const MTU: u32 = 1500;

/// The address of node `number` (from 1): outside of every network that a node
/// gives out itself.
pub(super) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 255, u8::try_from(number).unwrap_or(u8::MAX))
}

/// Makes the bridge of the underlay.
pub(super) fn create_underlay(underlay: &mut Network) -> Result<IfIndex, LabError> {
    let spec = BridgeSpec {
        name: BRIDGE.to_owned(),
        mtu: Some(MTU),
        mac: None,
        alias: None,
        addresses: Vec::new(),
    };
    let bridge = underlay.netlink.ensure_bridge(&spec).map_err(LabError::Network)?;
    Ok(bridge.into_inner().index)
}

/// Connects node `number` (from 1) to the underlay.
pub(super) fn connect(
    underlay: &mut Network,
    bridge: IfIndex,
    node: &mut NodeNamespaces,
    number: usize,
) -> Result<(), LabError> {
    try_connect(underlay, bridge, node, number).map_err(LabError::Network)
}

fn try_connect(
    underlay: &mut Network,
    bridge: IfIndex,
    node: &mut NodeNamespaces,
    number: usize,
) -> Result<(), NetlinkError> {
    let port = port(number);
    let peer = VethPeer { name: &port, namespace: underlay.fd.as_fd(), mac: None };
    let spec = VethSpec { name: NODE_LINK, mtu: MTU, alias: None, peer };
    let inside = &mut node.network.netlink;
    let link = inside.create_veth(&spec)?;
    underlay.netlink.set_link(&port, &LinkChange::new().master(bridge).up())?;
    inside.set_link("lo", &LinkChange::new().up())?;
    inside.set_link(NODE_LINK, &LinkChange::new().up())?;
    let net = IpNet::V4(Ipv4Net::new_assert(address(number), 24));
    inside.ensure_address(link.index, net, DuplicateDetection::Off)?;
    Ok(())
}

/// Plugs node `number` (from 1) in, or unplugs it; called in the underlay's namespace. The
/// node's own link and addresses stay as they are.
pub(super) fn set_cable(number: usize, cable: Cable) -> Result<(), NetlinkError> {
    let change = match cable {
        Cable::Plugged => LinkChange::new().up(),
        Cable::Unplugged => LinkChange::new().down(),
    };
    Netlink::open()?.set_link(&port(number), &change)
}

/// The underlay's end of a node's cable.
fn port(number: usize) -> String {
    format!("n{number}")
}
