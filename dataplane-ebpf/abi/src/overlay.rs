//! The overlay's fast path, as maps hold it.
//!
//! ```text
//! LOCALS[address] ─▶ Local ─link─▶ ALIVE[link]      a container of this node, as long as its link is there
//! PEERS[prefix] ─▶ Peer                             addresses of another node
//! COURSES[hash of both ends] ─▶ Course              what the last look into these said; of each CPU
//! SWITCH[0] ─▶ Switch                               whether anything of this is used, and since when it is so
//! ```
//!
//! What is in no map takes the ordinary path by the bridge, the routes and the tunnel's own
//! forwarding table. So does everything if the switch says so.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Ip16;

/// Version of everything in this module, apart from that of the VIPs.
pub const OVERLAY_ABI_VERSION: u32 = 1;

/// Names and capacities of the maps, for both sides.
pub mod maps {
    /// Longest-prefix table of [`Prefix`](super::Prefix) to [`Peer`](super::Peer).
    pub const PEERS: &str = "PEERS";
    /// Hash of [`Ip16`](crate::Ip16) to [`Local`](super::Local).
    pub const LOCALS: &str = "LOCALS";
    /// Hash of devices by the number of the link; the kernel takes those out that are gone.
    pub const ALIVE: &str = "ALIVE";
    /// Per-CPU array of [`Course`](super::Course).
    pub const COURSES: &str = "COURSES";
    /// Array of one [`Switch`](super::Switch).
    pub const SWITCH: &str = "SWITCH";
    /// Per-CPU array of counters, by [`counter`](super::counter).
    pub const COUNTS: &str = "COUNTS";
    /// Every map.
    pub const ALL: [&str; 6] = [PEERS, LOCALS, ALIVE, COURSES, SWITCH, COUNTS];

    /// Blocks of addresses on other nodes: of three thousand nodes several each.
    pub const PEERS_CAPACITY: usize = 1 << 15;
    /// Addresses of containers of this node.
    pub const LOCALS_CAPACITY: usize = 1 << 13;
    /// Links of containers of this node.
    pub const ALIVE_CAPACITY: usize = LOCALS_CAPACITY;
    /// Courses that each CPU remembers; a power of two.
    pub const COURSES_CAPACITY: usize = 1 << 10;
    /// Counters of each CPU.
    pub const COUNTS_CAPACITY: usize = 4;
}

/// What is counted, in packets (several segments that the kernel handles as one are one).
pub mod counter {
    /// From a container straight into the tunnel.
    pub const SENT: u32 = 0;
    /// From the tunnel straight into a container.
    pub const DELIVERED: u32 = 1;
    /// From a container straight into one beside it.
    pub const BESIDE: u32 = 2;
    /// For a peer or a container, and left to the ordinary path: too large, at the end of its life, of an unusual form.
    pub const LEFT: u32 = 3;
}

/// A link-layer address, as it lies in a frame.
#[derive(
    Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct HardwareAddress([u16; 3]);

impl From<[u8; 6]> for HardwareAddress {
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self([[a, b], [c, d], [e, f]].map(u16::from_ne_bytes))
    }
}

/// Key of `PEERS`: addresses that begin with the same bits.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Prefix {
    /// How many bits; of an IPv4 prefix 96 more than people say.
    pub length: u32,
    /// The first of these addresses.
    pub address: Ip16,
}

impl Prefix {
    /// The key that finds whatever prefix `address` belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn whole(address: Ip16) -> Self {
        Self { length: 128, address }
    }
}

/// Value of `PEERS`: the way to these addresses.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Peer {
    /// Our end of the tunnel: the number of the link.
    pub tunnel: u32,
    /// Largest packet that passes (bytes, without the frame's header).
    pub mtu: u32,
    /// Only containers of the same group take this way.
    pub group: u32,
    /// [`Peer::NARROW`].
    pub flags: u32,
    /// The other end of the tunnel.
    pub target: HardwareAddress,
    /// Our end of the tunnel.
    pub source: HardwareAddress,
}

impl Peer {
    /// The way takes smaller packets than the tunnel, and the ordinary path tells TCP so when a connection begins.
    pub const NARROW: u32 = 1;
}

/// Value of `LOCALS`: a container's address.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Local {
    /// The host's end of the container's pair of links.
    pub link: u32,
    /// The tunnel of its overlay.
    pub tunnel: u32,
    /// Largest packet that the container takes (bytes).
    pub mtu: u32,
    /// Whom it may send to.
    pub group: u32,
    /// [`Local::SENDS`], [`Local::RECEIVES`], [`Local::HOOKED`].
    pub flags: u32,
    /// The container's end of the pair.
    pub target: HardwareAddress,
    /// The bridge, which the container takes for its router.
    pub source: HardwareAddress,
}

impl Local {
    /// What the container sends may take the fast path.
    pub const SENDS: u32 = 1;
    /// What the container is sent may take the fast path.
    pub const RECEIVES: u32 = 2;
    /// VIPs are translated at the container's sockets, so its packets need not pass the programs of VIPs.
    pub const HOOKED: u32 = 4;
}

/// Element of `COURSES`: what was found out about packets between two addresses that leave this node.
///
/// Only its own CPU reads and writes it, and takes it for nothing if anything differs or was changed since.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Course {
    /// A container of this node.
    pub from: Ip16,
    /// Whom it talks to.
    pub to: Ip16,
    /// The container's link.
    pub link: u32,
    /// [`Switch::generation`] when this was found out.
    pub generation: u32,
    /// Flags of the container.
    pub flags: u32,
    /// The container's bridge.
    pub gateway: HardwareAddress,
    /// Zero.
    pub reserved: u16,
    /// The way.
    pub peer: Peer,
}

/// Element of `SWITCH`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Switch {
    /// Zero sends everything by the ordinary path.
    pub on: u32,
    /// Another one after each change of a map.
    pub generation: u32,
}

const _: () = assert!(size_of::<Prefix>() == 20, "PEERS key is part of the ABI");
const _: () = assert!(size_of::<Peer>() == 28, "PEERS value is part of the ABI");
const _: () = assert!(size_of::<Local>() == 32, "LOCALS value is part of the ABI");
const _: () = assert!(size_of::<Course>() == 80, "COURSES value is part of the ABI");
const _: () = assert!(size_of::<Switch>() == 8, "SWITCH value is part of the ABI");
