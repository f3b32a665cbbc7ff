//! The one netlink wrapper: links, addresses, routes, filter rules, namespaces, sockets.
//!
//! Everything here is synchronous and knows nothing about the cluster. Names,
//! aliases, route protocol numbers and table names are arguments, so that any
//! number of instances can share a kernel and each can recognise its own.
//!
//! The words keep to one pattern. `observe_*` only reads. `ensure_*` makes
//! something true and may be repeated; it says in an [`Ensured`] whether it had
//! to. `remove_*` may be repeated as well and says in a [`Removed`] whether
//! there was anything to remove.
//!
//! Requests are the typed messages of `netlink-packet-route`, `netlink-packet-netfilter`
//! and `netlink-packet-wireguard`, framed by `netlink-packet-core`. Answers are read
//! with the types of the same crates, but attribute by attribute: their decoders
//! of whole messages refuse one in which a newer kernel made a single attribute
//! longer, and that would blind us to a link. Here such an attribute is missing
//! from its message (DEBUG says so), link information that does not decode still
//! yields the kind of the link, and a message that then says too little is left
//! out of its dump.
//!
//! A socket belongs for life to the network namespace in which it was opened:
//! [`Netlink::open_in`] opens it on a short-lived thread inside that namespace.

mod address;
mod attributes;
mod bridge;
mod clock;
mod connection;
mod conntrack;
mod error;
mod link;
mod monitor;
mod netns;
mod nft;
mod path;
mod ports;
mod rate;
mod route;
mod rule;
mod sockdiag;
mod sysctl;
mod tunnel;
mod veth;
mod vxlan;
mod wireguard;

pub use address::{AddressState, DuplicateDetection};
pub use bridge::{AddressDeviceSpec, BridgeSpec};
pub use clock::{ClockSync, booted, observe_clock};
pub use connection::Netlink;
pub use conntrack::{Conntrack, FlowFamily, FlowFilter};
pub use error::NetlinkError;
pub use link::{IfIndex, LinkChange, LinkState};
pub use mizzen_net_words::{Mac, PortEntry, Protocol};
pub use monitor::{LinkMonitor, MtuMonitor, RemovalMonitor};
pub use netns::{HomeNamespace, in_namespace, namespace_name};
pub use nft::{
    ChainState, ForwardRule, MasqueradeRule, Nft, OverlayTableSpec, PlainTunnels, RuleState,
    UntrackedTunnels,
};
pub use path::PathState;
pub use ports::{PortTableSpec, PublishedPort};
pub use rate::RateLimit;
pub use route::{RouteSpec, TABLE_MAIN};
pub use rule::{RuleSpec, Selector};
pub use sockdiag::{ConnectedSocket, SocketDiag, netns_cookie};
pub use sysctl::{ensure_sysctl, ensure_sysctl_at_least, observe_sysctl};
pub use tunnel::{SeenEntry, TunnelChange, TunnelEntry, TunnelKey};
pub use veth::{Plug, VethPeer, VethSpec};
pub use vxlan::{VxlanSpec, VxlanState};
pub use wireguard::{
    KEY_BYTES, PrivateKey, Wireguard, WireguardChange, WireguardPeer, WireguardPeerState,
    WireguardSpec, WireguardState,
};

/// What an `ensure_*` found and did; the value is the object as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured<T> {
    /// It did not exist.
    Created(T),
    /// It existed and differed in something that could be changed.
    Repaired(T),
    /// It was as wanted; the kernel was only read.
    Unchanged(T),
}

impl<T> Ensured<T> {
    /// The object, whatever had to be done for it.
    pub fn into_inner(self) -> T {
        match self {
            Self::Created(value) | Self::Repaired(value) | Self::Unchanged(value) => value,
        }
    }
}

/// What a `remove_*` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It was there and is gone.
    Removed,
    /// There was nothing to remove.
    Absent,
}
