//! What a node's facts mean, taken alone.

use super::super::desired::{PeerRoute, RouteTable, Tunnel};
use super::{Own, encryption};
use ipnet::IpNet;
use mizzen_types::encryption::PublicKey;
use mizzen_types::overlay::{Mac, NodeOverlay, NodeShare};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// What only one node can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Address(IpAddr),
    Mac(Mac),
    /// Packets are encrypted for the owner of this key …
    Key(PublicKey),
    /// … if they are sent to this address.
    Encrypted(IpAddr),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) | Self::Encrypted(address) => write!(f, "{address}"),
            Self::Mac(mac) => write!(f, "{mac}"),
            Self::Key(key) => write!(f, "key {key}"),
        }
    }
}

pub(super) fn tunnels(own: &Own) -> BTreeMap<u32, Tunnel> {
    let mut tunnels: BTreeMap<u32, Tunnel> = BTreeMap::new();
    for share in &own.grant.shares {
        let vni = share.overlay.vni;
        let Some(link) = own.links.get(&vni) else { continue };
        let tunnel = tunnels.entry(vni).or_insert_with(|| Tunnel {
            vni,
            link: link.clone(),
            port: own.grant.port,
            mac: own.grant.vtep.mac,
            mtu: share.overlay.mtu,
            underlay: own.underlay,
            addresses: Vec::new(),
        });
        tunnel.mtu = tunnel.mtu.max(share.overlay.mtu);
    }
    if let Some(mut first) = tunnels.first_entry() {
        first.get_mut().addresses = own.grant.vtep.addresses.iter().map(alone).collect();
    }
    tunnels
}

/// An IPv6 address alone: with a network around it, Linux takes its neighbours for those of
/// this link only, and they are on all of them.
fn alone(address: &IpNet) -> IpNet {
    match address {
        IpNet::V4(_) => *address,
        IpNet::V6(_) => IpNet::from(address.addr()),
    }
}

pub(super) fn route(
    own: &Own,
    fact: &NodeOverlay,
    share: &NodeShare,
    block: IpNet,
    mtu: Option<u32>,
) -> Option<PeerRoute> {
    let v4 = block.addr().is_ipv4();
    let via = fact.vtep.iter().copied().find(|address| address.is_ipv4() == v4)?;
    let mut gateways = own.gateways.get(&share.name).into_iter().flatten().copied();
    let source = gateways.find(|address| address.is_ipv4() == v4);
    let table = RouteTable::Main;
    Some(PeerRoute { vni: share.vni, destination: block.trunc(), via, table, source, mtu })
}

pub(super) fn own_fact(own: &Own) -> NodeOverlay {
    let mut fact = own.grant.fact(vec![own.underlay], own.underlay_mtu);
    fact.wireguard = own.encryption.as_ref().map(|encryption| encryption.end);
    fact
}

pub(super) fn blocks(fact: &NodeOverlay) -> BTreeSet<IpNet> {
    fact.shares.iter().flat_map(|share| share.blocks.iter().map(IpNet::trunc)).collect()
}

pub(super) fn ends(fact: &NodeOverlay) -> Vec<End> {
    let addresses = fact.vtep.iter().copied().map(End::Address);
    let mut ends: Vec<End> = addresses.chain([End::Mac(fact.mac)]).collect();
    if let Some((key, underlay)) = encryption::claims(fact) {
        ends.push(End::Key(key));
        ends.extend(underlay.iter().copied().map(End::Encrypted));
    }
    ends
}
