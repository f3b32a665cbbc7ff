//! The overlays of a node: what it makes of its own share, and how it reaches the others.
//!
//! [`local`] turns the share that the master gave the node into bridges, network
//! configurations and rules. [`peers`] turns what other nodes say of themselves into
//! tunnels, neighbours, forwarding entries and routes ([`desired`]), and refuses what does not
//! go together. [`healing`] says when what somebody else removed is put back, [`fast_path`] what
//! passes by bridges and routes, [`turns`] which paths are looked at. [`node_bridge`] is the network that no other node knows of.

pub mod desired;
pub mod fast_path;
pub mod healing;
pub mod local;
pub mod node_bridge;
pub mod peers;
pub mod turns;

pub use desired::{
    Desired, EncryptedPeer, EncryptionEnd, Forwarding, Neighbour, PeerChange, PeerEntries,
    PeerRoute, RouteTable, Trust, Tunnel,
};
pub use fast_path::{Between, Hooked, Seen, SeenLease, SeenLink, plan_fast_path};
pub use healing::Healing;
pub use local::{Naming, OverlaySpec, specs};
pub use node_bridge::NodeBridge;
pub use peers::{Own, OwnEncryption, PeerProblem, Peers, encryption_mtu, foreign_peer, is_foreign};
pub use turns::turn;
