//! The kernel/user contract of the VIP datapath.
//!
//! Every type here crosses a BPF map, so its bytes *are* the protocol. Three
//! rules keep both sides honest:
//!
//! 1. addresses and ports are stored in network order and say so in the type
//!    ([`Ip16`], [`Be16`]); nothing outside this crate calls `to_be`;
//! 2. a type has no padding — the derives below refuse to compile if it does;
//! 3. a field is never reused. A new meaning gets a new field and a bump of
//!    [`ABI_VERSION`], which names the directory that the maps are pinned in.
//!
//! ```text
//! VIPS[VipKey] ─▶ VipValue ─base, length─▶ SLOTS[base .. base + length] ─row─▶ ROWS[row] ─▶ HISTOGRAMS
//!                   │  └──ring_base, ring_length──▶ RINGS[…] (position in the run)   ▲  ▲
//!                   └──────────────────────── row ───────────────────────────────────┘  │
//! OWNERS, SOCKETS[cookie mod capacity] ─▶ Owner, Origin ────── row ──────────────────────┤
//! FLOWS[FlowKey] ─▶ Flow ──────────────────────────────────── row ──────────────────────┘
//! ```
//!
//! A VIP and its run of slots carry the same generation. A program that meets a
//! slot of another generation has been overtaken by a change and looks the VIP
//! up again, so it never acts on half a table. Two changes leave the generation as
//! it is: a slot that is not admitted any more, and one more behind the last open one.

#![no_std]

mod address;
mod flow;
pub mod maps;
mod origin;
pub mod overlay;
pub mod policy;
mod row;

pub use address::{Be16, Ip16};
pub use flow::{Flow, FlowKey, Link, Network};
pub use origin::{DatagramKey, DatagramOrigin, Decision, Origin, Owner, reason, stage};
pub use row::{NO_HISTOGRAM, Row};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of everything in this crate. Maps of another version are never opened.
pub const ABI_VERSION: u32 = 4;

/// Key of `VIPS`: one virtual service, `11.0.0.1:80/tcp` or its IPv6 twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VipKey {
    /// Virtual address.
    pub address: Ip16,
    /// Virtual port.
    pub port: Be16,
    /// IP protocol number (6 = TCP, 17 = UDP).
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
}

/// Value of `VIPS`: where the backends lie and how one is chosen. Replaced as a whole.
///
/// The run begins with the `open` backends that are admitted, the nearest first; the others follow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VipValue {
    /// Index of the first slot of the run in `SLOTS`.
    pub base: u32,
    /// Slots in the run.
    pub length: u32,
    /// Written into each slot of the run as well.
    pub generation: u32,
    /// Slots that are admitted and have a weight; with none, every connect is refused.
    pub open: u32,
    /// How many of those, the first ones, are near; others are only taken if these are busy.
    pub near: u32,
    /// What decides: one of the constants of [`rule`].
    pub rule: u8,
    /// Bits that only user space reads.
    pub flags: u8,
    /// Zero.
    pub reserved: u16,
    /// The VIP's own row in `ROWS`, which counts refusals and ejected backends.
    pub row: u32,
    /// Index of the first place of the ring in `RINGS`.
    pub ring_base: u32,
    /// Places of the ring; zero if the rule needs none.
    pub ring_length: u32,
    /// Milliseconds over which a backend that joins others grows to its full share.
    pub slow_start: u32,
    /// How many of the open ones are near or in the class behind; the last ones are the farthest.
    pub within: u32,
}

impl VipValue {
    /// Connected datagram sockets of a removed backend are ended.
    pub const END_DATAGRAMS: u8 = 2;
    /// TCP connections of a removed backend are ended.
    pub const END_STREAMS: u8 = 4;
    /// Near backends are preferred, even if none is known to be near.
    pub const LOCALITY: u8 = 8;
}

/// What decides between the backends of a VIP.
pub mod rule {
    /// The cheaper of two.
    pub const LATENCY: u8 = 0;
    /// The less busy of two.
    pub const LEAST_CONNECTIONS: u8 = 1;
    /// A draw by weight.
    pub const RANDOM: u8 = 2;
    /// The ring, by a hash of the connection.
    pub const MAGLEV: u8 = 3;
    /// The ring, by a hash of the client.
    pub const SOURCE: u8 = 4;
}

/// Element of `SLOTS`: one backend of one VIP.
///
/// Written only where no VIP's open part reaches, so readers never see it change; but for `heir` and `flags`, in this
/// order, once its backend is [gone](Slot::GONE).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Slot {
    /// Where connections go.
    pub address: Ip16,
    /// Port that connections go to.
    pub port: Be16,
    /// [`Slot::ADMITTED`], [`Slot::GONE`] and the distance.
    pub flags: u16,
    /// The share wanted for this backend, relative to its siblings.
    pub weight: u32,
    /// A draw that hits this slot goes on to [`Slot::alias`] if its chance is not below this.
    pub threshold: u32,
    /// Position in the run of the slot that gets the rest of this one's draws.
    pub alias: u32,
    /// The backend's row in `ROWS`.
    pub row: u32,
    /// That of the VIP this slot belongs to.
    pub generation: u32,
    /// For user space: since which second of `CLOCK_MONOTONIC` the backend is admitted.
    pub since: u32,
    /// Once it is gone: index in `SLOTS` of another slot of the run, which takes the connections that hit this one.
    pub heir: u32,
}

impl Slot {
    /// New connections may be sent here.
    pub const ADMITTED: u16 = 1;
    /// For user space: the backend is on this node.
    pub const ON_NODE: u16 = 2;
    /// For user space: the backend is on another node of this zone.
    pub const IN_ZONE: u16 = 4;
    /// For user space: the backend left, or has another slot by now. It is not admitted.
    pub const GONE: u16 = 8;
}

/// Element of `RINGS`: one place of the ring of a VIP.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Place {
    /// Position of the backend in the run.
    pub index: u32,
    /// That of the VIP this ring belongs to.
    pub generation: u32,
}

/// The element of `CONTROL`: what user space has to remember across its restarts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Control {
    /// [`ABI_VERSION`] of who made the maps.
    pub abi: u32,
    /// First generation that nobody has been promised yet.
    pub next_generation: u32,
}

/// The element of `SETTINGS`: what programs go by. All zero until user space has written it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Settings {
    /// Failures in a row after which a backend is ejected; zero never ejects.
    pub failures: u32,
    /// Percentage of open backends that has to be left for ejection to count.
    pub least_left: u32,
    /// Nanoseconds of the first pause.
    pub pause: u64,
    /// Nanoseconds of the longest pause.
    pub longest_pause: u64,
    /// Nanoseconds without an answered handshake after which a backend with open ones is avoided.
    pub handshake: u64,
    /// Nanoseconds up to which the life of a connection counts as a latency.
    pub short: u64,
    /// Nanoseconds after which a datagram flow without a datagram is over.
    pub idle: u64,
    /// Cookie of the network namespace whose routes are the node's own: a connect from there that finds no way to its
    /// backend speaks against the backend. Zero if unknown.
    pub netns: u64,
}

/// Element of `HISTOGRAMS`, one for each CPU: how often a latency fell into each bucket of
/// `mizzen_ebpf_core::bucket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Histogram {
    /// Microseconds of all samples together.
    pub sum: u64,
    /// Samples in each bucket; the counts wrap.
    pub buckets: [u32; 50],
}

const _: () = assert!(size_of::<VipKey>() == 20, "VIPS key is part of the ABI");
const _: () = assert!(size_of::<VipValue>() == 44, "VIPS value is part of the ABI");
const _: () = assert!(size_of::<Slot>() == 48, "SLOTS value is part of the ABI");
const _: () = assert!(size_of::<Place>() == 8, "RINGS value is part of the ABI");
const _: () = assert!(size_of::<Row>() == 128, "ROWS value is part of the ABI");
const _: () = assert!(size_of::<Owner>() == 16, "OWNERS value is part of the ABI");
const _: () = assert!(size_of::<Origin>() == 128, "SOCKETS value is part of the ABI");
const _: () = assert!(size_of::<DatagramKey>() == 32, "DATAGRAMS key is part of the ABI");
const _: () = assert!(size_of::<DatagramOrigin>() == 20, "DATAGRAMS value is part of the ABI");
const _: () = assert!(size_of::<FlowKey>() == 40, "FLOWS key is part of the ABI");
const _: () = assert!(size_of::<Flow>() == 96, "FLOWS value is part of the ABI");
const _: () = assert!(size_of::<Link>() == 80, "LINKS value is part of the ABI");
const _: () = assert!(size_of::<Control>() == 8, "CONTROL value is part of the ABI");
const _: () = assert!(size_of::<Settings>() == 56, "SETTINGS value is part of the ABI");
const _: () = assert!(size_of::<Histogram>() == 208, "HISTOGRAMS value is part of the ABI");
