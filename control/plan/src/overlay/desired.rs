//! What the kernel should hold so that other nodes' containers are reached.

use ipnet::IpNet;
use mizzen_types::encryption::{PlainPackets, PublicKey};
use mizzen_types::ids::OwnerId;
use mizzen_types::overlay::Mac;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The table that DC/OS keeps the ways to other nodes in, for packets of containers.
pub const DCOS_TABLE: u32 = 42;

/// The table with the nodes to which packets of tunnels are encrypted.
pub const ENCRYPTION_TABLE: u32 = 109;

/// The node's end of all tunnels with one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The number.
    pub vni: u32,
    /// Name of the link: `vtep1024`.
    pub link: String,
    /// UDP port of the tunnels, here and there.
    pub port: u16,
    /// Link-layer address of the link.
    pub mac: Mac,
    /// Largest packet inside, in bytes.
    pub mtu: u32,
    /// This node's address under the tunnels; its family is that of all of them.
    pub underlay: IpAddr,
    /// Addresses of the link; on one link of the node only.
    pub addresses: Vec<IpNet>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// The node's ends of tunnels by number; none while it knows no other node.
    pub tunnels: BTreeMap<u32, Tunnel>,
    /// What leads to each other node.
    pub peers: BTreeMap<OwnerId, PeerEntries>,
    /// The overlays' networks: an address in them that no node has is nowhere else either.
    pub networks: Vec<IpNet>,
    /// Packets from there look for their way in [`DCOS_TABLE`] first.
    pub sources: Vec<IpNet>,
    /// The link that encrypts, also while no other node is known: it has the node's key.
    pub encryption: Option<EncryptionEnd>,
}

/// The link that encrypts packets of tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionEnd {
    /// Its name.
    pub link: String,
    /// UDP port on which encrypted packets arrive.
    pub port: u16,
    /// Largest packet before it is encrypted, in bytes.
    pub mtu: u32,
    /// UDP port of the tunnels, whose packets look for their way in [`ENCRYPTION_TABLE`] first.
    pub tunnel_port: u16,
    /// This node's address under the tunnels.
    pub underlay: IpAddr,
    /// What becomes of packets to nodes that do not encrypt.
    pub plain: PlainPackets,
}

/// How packets to a node are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncryptedPeer {
    /// Whom they are encrypted for.
    pub public_key: PublicKey,
    /// Where encrypted packets go; the address is the node's under the tunnels, and stands
    /// for it inside as well.
    pub endpoint: SocketAddr,
    /// When packets are encrypted.
    pub trust: Trust,
}

/// When packets to a node that encrypts are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// From the first one: one of the two takes no others.
    AtOnce,
    /// As soon as the two shook hands once, so that none is lost to a node that does not know
    /// this one yet.
    AfterHandshake,
}

/// What leads to one other node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerEntries {
    /// Which node a link-layer address is at.
    pub forwarding: Vec<Forwarding>,
    /// Which link-layer address the node's end of the tunnels has.
    pub neighbours: Vec<Neighbour>,
    /// Its blocks.
    pub routes: Vec<PeerRoute>,
    /// How packets there are encrypted, if they are.
    pub encryption: Option<EncryptedPeer>,
}

/// An entry of a tunnel's forwarding table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forwarding {
    /// Which tunnel.
    pub vni: u32,
    /// Frames to this address …
    pub mac: Mac,
    /// … go to this node.
    pub underlay: IpAddr,
}

/// A neighbour on a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Which tunnel.
    pub vni: u32,
    /// The address of the other node's end.
    pub address: IpAddr,
    /// Its link-layer address.
    pub mac: Mac,
}

/// A route through a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerRoute {
    /// Which tunnel.
    pub vni: u32,
    /// Where to.
    pub destination: IpNet,
    /// The other node's end of the tunnel.
    pub via: IpAddr,
    /// Where the route is looked for.
    pub table: RouteTable,
    /// What programs of this node are seen as there.
    pub source: Option<IpAddr>,
    /// Largest packet, in bytes, where it is smaller than the tunnel's.
    pub mtu: Option<u32>,
}

/// A table of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTable {
    /// The one that everything looks at.
    Main,
    /// [`DCOS_TABLE`].
    Dcos,
}

impl RouteTable {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Main => 254,
            Self::Dcos => DCOS_TABLE,
        }
    }
}

/// What leads to one other node, before and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChange {
    /// Which node.
    pub peer: OwnerId,
    /// What led there.
    pub before: Option<PeerEntries>,
    /// What leads there now.
    pub after: Option<PeerEntries>,
}
