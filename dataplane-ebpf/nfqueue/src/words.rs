//! What callers say and are told.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

pub use mizzen_ebpf_core::account::{Counts, Reason};

/// IP protocol number of TCP.
pub const TCP: u8 = libc::IPPROTO_TCP as u8;
/// IP protocol number of UDP.
pub const UDP: u8 = libc::IPPROTO_UDP as u8;

/// A virtual service: address, port and IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipAddress {
    /// Virtual address and port.
    pub socket: SocketAddr,
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
}

/// A VIP as the caller wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipWanted {
    /// Where it is.
    pub address: VipAddress,
    /// Where its connections go; with none, all are refused.
    pub backends: Vec<BackendWanted>,
    /// How one is chosen.
    pub policy: Policy,
}

/// How a VIP chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What decides between candidates.
    pub rule: Rule,
    /// Whether nearer backends go first, others when these are busy.
    pub prefers_near: bool,
    /// What becomes of the connections of a backend that leaves.
    pub on_removal: OnRemoval,
    /// Time over which a backend that joins others grows to its full share.
    pub slow_start: Duration,
}

/// What decides between backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The cheaper of two that were drawn: latency × (connections in flight ÷ weight + 1).
    Latency,
    /// The less busy of two that were drawn.
    LeastConnections,
    /// A draw by weight alone.
    Random,
    /// A consistent hash of the connection.
    Maglev,
    /// A consistent hash of the client's address.
    Source,
}

/// What becomes of the connections of a backend that leaves its VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRemoval {
    /// UDP flows go to another backend; TCP connections run out.
    Datagrams,
    /// TCP connections are refused from then on as well, so that clients connect anew.
    All,
    /// All go on.
    Keep,
}

/// A backend as the caller wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendWanted {
    /// Where its connections go.
    pub address: SocketAddr,
    /// Share of new connections relative to its siblings; zero gets none.
    pub weight: u16,
    /// Whether it takes new connections at all.
    pub admitted: bool,
    /// How far away it is: those of the least distance go first.
    pub distance: u8,
}

/// How many latencies fell into each bucket of `mizzen_ebpf_core::bucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Samples in each bucket.
    pub buckets: Vec<u64>,
    /// Microseconds of all samples together.
    pub sum: u64,
}

/// A connection or UDP flow that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Whose it is.
    pub client: SocketAddr,
    /// What was asked for.
    pub vip: VipAddress,
    /// What it got.
    pub backend: SocketAddr,
    /// Whether the handshake is complete; UDP has none and counts as established.
    pub is_established: bool,
    /// Milliseconds in this stage.
    pub age: u64,
    /// Why this backend; none if a former process chose it.
    pub decision: Option<Decision>,
}

/// What a choice was made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why this backend.
    pub reason: Reason,
    /// Whether a candidate was passed over because it was ejected, kept waiting or warmed up.
    pub passed_over: bool,
    /// The backend's latency (microseconds) and connections.
    pub load: (u32, u32),
    /// The candidate that lost, if there was one, with its latency and connections.
    pub other: Option<(SocketAddr, u32, u32)>,
}

impl VipAddress {
    /// A virtual TCP service.
    #[must_use]
    pub fn tcp(socket: SocketAddr) -> Self {
        Self { socket, protocol: TCP }
    }

    /// A virtual UDP service.
    #[must_use]
    pub fn udp(socket: SocketAddr) -> Self {
        Self { socket, protocol: UDP }
    }
}

impl fmt::Display for VipAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            TCP => write!(f, "{}/tcp", self.socket),
            UDP => write!(f, "{}/udp", self.socket),
            other => write!(f, "{}/{other}", self.socket),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rule: Rule::Latency,
            prefers_near: true,
            on_removal: OnRemoval::Datagrams,
            slow_start: Duration::ZERO,
        }
    }
}

impl BackendWanted {
    /// An admitted backend of weight 1, far away.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, weight: 1, admitted: true, distance: 2 }
    }

    /// Its contribution to the sums that a draw is made from.
    pub(crate) fn effective_weight(&self) -> u32 {
        if self.admitted { u32::from(self.weight) } else { 0 }
    }
}
