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
//! VIPS[VipKey] ─▶ VipValue ──base, length──▶ SLOTS[base .. base + length] ──row──▶ ROWS[row]
//!                     └───────────────────────── row ──────────────────────────────▶ ▲
//! ORIGINS[socket cookie] ─▶ Origin ─────────────── row ──────────────────────────────┘
//! ```
//!
//! A VIP and its run of slots carry the same generation. A program that meets a
//! slot of another generation has been overtaken by a change and looks the VIP
//! up again, so it never acts on half a table.

#![no_std]

mod address;
pub mod maps;

pub use address::{Be16, Ip16};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of everything in this crate. Maps of another version are never opened.
pub const ABI_VERSION: u32 = 1;

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

/// Value of `VIPS`: where the backends lie. Replaced as a whole.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VipValue {
    /// Index of the first slot of the run in `SLOTS`.
    pub base: u32,
    /// Slots in the run; zero for a VIP whose every connect is refused.
    pub length: u32,
    /// Written into each slot of the run as well.
    pub generation: u32,
    /// No flag is defined yet; zero.
    pub flags: u32,
    /// Sum of the weights of the admitted slots; zero refuses every connect.
    pub total_weight: u32,
    /// The VIP's own row in `ROWS`, which counts refusals.
    pub row: u32,
}

/// Element of `SLOTS`: one backend of one VIP.
///
/// Written only while no VIP refers to it, so readers never see it change.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Slot {
    /// Where connections go.
    pub address: Ip16,
    /// Port that connections go to.
    pub port: Be16,
    /// [`Slot::ADMITTED`].
    pub flags: u16,
    /// The share wanted for this backend, relative to its siblings.
    pub weight: u32,
    /// Weights of the admitted slots of the run up to and including this one.
    pub cumulative: u32,
    /// The backend's row in `ROWS`.
    pub row: u32,
    /// That of the VIP this slot belongs to.
    pub generation: u32,
}

impl Slot {
    /// New connections may be sent here.
    pub const ADMITTED: u16 = 1;
}

/// Element of `ROWS`: the counts of one backend of one VIP, or of the VIP itself.
///
/// Programs only ever add to the counts, atomically. Connections now in flight
/// are `started - failed - closed`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Counters {
    /// Times the backend was chosen: TCP connects, connected UDP sockets, UDP flows.
    pub chosen: u64,
    /// TCP connects that left for the backend (a missing route ends one before that).
    pub started: u64,
    /// TCP handshakes that completed.
    pub established: u64,
    /// TCP handshakes that did not: reset, unreachable, timed out or given up by the client.
    pub failed: u64,
    /// Established TCP connections that ended.
    pub closed: u64,
    /// Only in a VIP's own row: connects and datagrams that found no admitted backend.
    pub refused: u64,
    /// Changes with each owner of the row, so that sockets of the last owner are not counted.
    pub epoch: u32,
    /// Zero.
    pub reserved: u32,
}

/// Value of `ORIGINS`, by socket cookie: what a socket asked for and what it got.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Origin {
    /// Virtual address that the program connected to.
    pub vip: Ip16,
    /// Address it was sent to; a socket whose peer is another one was reused for something else.
    pub backend: Ip16,
    /// Virtual port.
    pub vip_port: Be16,
    /// Backend port.
    pub backend_port: Be16,
    /// The backend's row in `ROWS`.
    pub row: u32,
    /// Epoch of that row when the backend was chosen.
    pub epoch: u32,
}

/// Key of `DATAGRAMS`: who may answer an unconnected UDP socket under a VIP's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DatagramKey {
    /// Cookie of the socket.
    pub cookie: u64,
    /// Backend that the datagrams went to.
    pub backend: Ip16,
    /// Its port.
    pub backend_port: Be16,
    /// Zero.
    pub reserved: [u8; 6],
}

/// Value of `DATAGRAMS`: the source that the program is shown.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct DatagramOrigin {
    /// Virtual address that the program sent to.
    pub vip: Ip16,
    /// Virtual port.
    pub vip_port: Be16,
    /// Zero.
    pub reserved: u16,
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

const _: () = assert!(size_of::<VipKey>() == 20, "VIPS key is part of the ABI");
const _: () = assert!(size_of::<VipValue>() == 24, "VIPS value is part of the ABI");
const _: () = assert!(size_of::<Slot>() == 36, "SLOTS value is part of the ABI");
const _: () = assert!(size_of::<Counters>() == 56, "ROWS value is part of the ABI");
const _: () = assert!(size_of::<Origin>() == 44, "ORIGINS value is part of the ABI");
const _: () = assert!(size_of::<DatagramKey>() == 32, "DATAGRAMS key is part of the ABI");
const _: () = assert!(size_of::<DatagramOrigin>() == 20, "DATAGRAMS value is part of the ABI");
const _: () = assert!(size_of::<Control>() == 8, "CONTROL value is part of the ABI");
