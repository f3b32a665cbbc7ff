//! Traffic that arrives from elsewhere, as maps hold it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Be16, Decision, Ip16};

/// Key of `FLOWS`: packets of one direction of one flow, as they arrive.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowKey {
    /// Where they come from.
    pub source: Ip16,
    /// Where they go.
    pub target: Ip16,
    /// Port that they come from.
    pub source_port: Be16,
    /// Port that they go to.
    pub target_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Value of `FLOWS`: what becomes of these packets.
///
/// A flow has two elements, one for each direction. What counts and how far it has come stands in that of its requests
/// (client to VIP); that of its answers (backend to client) only follows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Flow {
    /// Of requests: the backend. Of answers: the VIP.
    pub address: Ip16,
    /// Its port.
    pub port: Be16,
    /// [`Flow::REQUESTS`] or [`Flow::ANSWERS`].
    pub kind: u8,
    /// Not zero if who these packets go to is a neighbour on the link that they leave by.
    pub neighbour: u8,
    /// The backend's row in `ROWS`.
    pub row: u32,
    /// A constant of [`stage`](crate::stage), and who has ended his half: [`Flow::CLIENT_ENDED`], [`Flow::BACKEND_ENDED`].
    pub state: u64,
    /// Epoch of the row when the backend was chosen.
    pub epoch: u32,
    /// Why this backend.
    pub decision: Decision,
    /// When the backend was chosen (nanoseconds of `CLOCK_MONOTONIC`, like all times here).
    pub chosen_at: u64,
    /// When the handshake completed; zero before.
    pub established_at: u64,
    /// When a packet of this direction last came by, give or take a second.
    pub last: u64,
    /// Link by which these packets come; zero if none of ours.
    pub came: u32,
    /// Link by which they leave, which is where those of the other direction come; zero if the routes decide.
    pub leaves: u32,
    /// Largest packet that link takes (bytes).
    pub mtu: u32,
    /// Zero.
    pub reserved_too: u32,
}

impl Flow {
    /// Packets from the client.
    pub const REQUESTS: u8 = 1;
    /// Packets from the backend.
    pub const ANSWERS: u8 = 2;
    /// The part of the state that is a stage.
    pub const STAGE: u64 = 0xff;
    /// The client sends no more.
    pub const CLIENT_ENDED: u64 = 0x100;
    /// The backend sends no more.
    pub const BACKEND_ENDED: u64 = 0x200;
}

/// Value of `LINKS`, by the number of the link: one that the programs are attached to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Link {
    /// [`Link::PORT`].
    pub flags: u32,
    /// Link that packets to those behind this one go to: the bridge of a port, any other itself.
    pub way_back: u32,
    /// Largest packet that it takes (bytes).
    pub mtu: u32,
    /// Zero.
    pub reserved: u32,
    /// Whose members are neighbours there, without a router between.
    pub networks: [Network; 2],
}

/// A network of addresses of either family.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Network {
    /// Its address; no address is in the network whose address is `::` and whose mask is full.
    pub address: Ip16,
    /// The bits of its address that members share.
    pub mask: Ip16,
}

impl Network {
    /// A network without members.
    pub const NONE: Self =
        Self { address: Ip16::UNSPECIFIED, mask: Ip16::from_v6_words([u32::MAX; 4]) };

    /// Whether an address is in it.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, address: Ip16) -> bool {
        let (own, mask, other) = (self.address.words(), self.mask.words(), address.words());
        other[0] & mask[0] == own[0]
            && other[1] & mask[1] == own[1]
            && other[2] & mask[2] == own[2]
            && other[3] & mask[3] == own[3]
    }
}

impl Link {
    /// The link is a port of a bridge, so it sees packets on their way to others.
    pub const PORT: u32 = 1;
}
