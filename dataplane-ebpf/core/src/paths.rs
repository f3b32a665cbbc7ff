//! What takes the overlay's fast path, in the words of those who want it.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

/// The way to some addresses of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerWanted {
    /// Our end of the tunnel: the kernel's number of the link.
    pub tunnel: u32,
    /// Largest packet that passes (bytes).
    pub mtu: u32,
    /// Whether that is less than the tunnel takes. Connections then begin on the ordinary path, which cuts their segments
    /// to size.
    pub is_narrow: bool,
    /// Only containers of the same group take this way.
    pub group: u32,
    /// Link-layer address of the other end, as the tunnel's forwarding table knows it.
    pub target: [u8; 6],
    /// Link-layer address of our end.
    pub source: [u8; 6],
}

/// A container of this node, as the owner of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerWanted {
    /// The host's end of its pair of links: the kernel's number.
    pub link: u32,
    /// The tunnel of its overlay, likewise.
    pub tunnel: u32,
    /// Largest packet that it takes (bytes).
    pub mtu: u32,
    /// Whom it may send to.
    pub group: u32,
    /// Link-layer address of its end.
    pub target: [u8; 6],
    /// Link-layer address of its bridge.
    pub source: [u8; 6],
    /// Whether what it sends may pass by the bridge and the routes.
    pub sends: bool,
    /// Whether what it is sent may.
    pub receives: bool,
    /// Whether VIPs are translated at its sockets. Packets of others pass the programs of VIPs before.
    pub hooked: bool,
}

/// What takes the fast path; nothing by default, which switches it off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FastPathWanted {
    /// By network: its address and the length of its prefix.
    pub peers: BTreeMap<(IpAddr, u8), PeerWanted>,
    /// By address.
    pub containers: BTreeMap<IpAddr, ContainerWanted>,
}
