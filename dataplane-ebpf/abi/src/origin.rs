//! What a socket asked for and what it got.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Be16, Ip16};

/// Element of `OWNERS`: who has the place with the same index in `SOCKETS`.
///
/// The two are apart because every connect and every close asks this one, whether the socket was translated or not:
/// cookies follow each other, so the answer is in the cache line that the last socket asked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Owner {
    /// Cookie of the living socket that has this place; zero if the place is free.
    pub cookie: u64,
    /// Not zero once a socket that belonged here had to go to `ORIGINS`.
    pub spilled: u64,
}

/// Element of `SOCKETS` and value of `ORIGINS`: a translated socket.
///
/// `SOCKETS` is a table without collision handling: a socket whose place is taken by a living one goes to `ORIGINS`.
/// What a dead socket left stays readable until the place is taken again. What the events of a connection need is in the
/// first cache line.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Origin {
    /// Cookie of the socket that this is about.
    pub cookie: u64,
    /// Address it was sent to; a socket whose peer is another one was reused for something else.
    pub backend: Ip16,
    /// The backend's row in `ROWS`.
    pub row: u32,
    /// Epoch of that row when the backend was chosen.
    pub epoch: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// How far it has come: one of the constants of [`stage`].
    pub stage: u8,
    /// [`Origin::UNCONNECTED`], [`Origin::ENDS_WITH_SOCKET`], [`Origin::BLAMED`].
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
    /// Backend port.
    pub backend_port: Be16,
    /// Virtual port.
    pub vip_port: Be16,
    /// When the backend was chosen, or the last datagram was sent (nanoseconds, `CLOCK_MONOTONIC`).
    pub chosen_at: u64,
    /// When the handshake completed; zero before.
    pub established_at: u64,
    /// Cookie of the network namespace of the socket.
    pub netns: u64,

    /// Virtual address that the program connected to.
    pub vip: Ip16,
    /// Local address; unspecified until the SYN leaves.
    pub local: Ip16,
    /// Why this backend.
    pub decision: Decision,
    /// Local port; zero until the SYN leaves.
    pub local_port: Be16,
    /// Zero.
    pub reserved_too: [u16; 5],
}

impl Origin {
    /// A datagram socket that is not connected.
    pub const UNCONNECTED: u8 = 1;
    /// An established connection that no event follows: its end is that of the socket.
    pub const ENDS_WITH_SOCKET: u8 = 2;
    /// Flag of a probe whose failure its backend was blamed for.
    pub const BLAMED: u8 = 4;

    /// Of no socket.
    pub const BLANK: Self = Self {
        cookie: 0,
        backend: Ip16::UNSPECIFIED,
        row: 0,
        epoch: 0,
        protocol: 0,
        stage: 0,
        flags: 0,
        reserved: 0,
        backend_port: Be16::new(0),
        vip_port: Be16::new(0),
        chosen_at: 0,
        established_at: 0,
        netns: 0,
        vip: Ip16::UNSPECIFIED,
        local: Ip16::UNSPECIFIED,
        decision: Decision {
            reason: 0,
            passed_over: 0,
            reserved: 0,
            other_row: 0,
            micros: 0,
            other_micros: 0,
            in_flight: 0,
            other_in_flight: 0,
        },
        local_port: Be16::new(0),
        reserved_too: [0; 5],
    };
}

/// How a backend was chosen, for people who ask.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Decision {
    /// Why: one of the constants of [`reason`].
    pub reason: u8,
    /// Not zero if a candidate was passed over because it is ejected, keeps waiting or warms up.
    pub passed_over: u8,
    /// Zero.
    pub reserved: u16,
    /// Row of the candidate that lost; that of the winner if there was no other.
    pub other_row: u32,
    /// Latency of the winner (microseconds).
    pub micros: u32,
    /// Latency of the loser.
    pub other_micros: u32,
    /// Connections that the winner had; cut to 16 bits.
    pub in_flight: u16,
    /// Connections that the loser had; cut to 16 bits.
    pub other_in_flight: u16,
}

/// How far a socket has come.
pub mod stage {
    /// A backend was chosen; no packet has left.
    pub const CHOSEN: u8 = 0;
    /// The first packet has left.
    pub const STARTED: u8 = 1;
    /// The handshake is complete.
    pub const ESTABLISHED: u8 = 2;
    /// The handshake failed.
    pub const FAILED: u8 = 3;
    /// It is over.
    pub const CLOSED: u8 = 4;
}

/// Why a backend was chosen.
pub mod reason {
    /// It was the only candidate.
    pub const ONLY: u8 = 0;
    /// It was cheaper than the other.
    pub const CHEAPER: u8 = 1;
    /// It was drawn first, and the other was not cheaper.
    pub const TIE: u8 = 2;
    /// The rule is to draw.
    pub const DRAWN: u8 = 3;
    /// The ring says so.
    pub const RING: u8 = 4;
    /// Near backends are too busy.
    pub const SPILLED: u8 = 5;
    /// It is ejected, and this connect tries it.
    pub const PROBE: u8 = 6;
    /// No other could be used.
    pub const LAST_RESORT: u8 = 7;
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
