//! What callers say and are told.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

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

/// What happened to one backend of one VIP since this process had both.
///
/// At very high rates only a part of the connections is watched to their ends; the numbers are
/// then what the watched ones stand for, `chosen` being exact always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times it was chosen: TCP connects and UDP flows.
    pub chosen: u64,
    /// TCP connects that left for it.
    pub started: u64,
    /// TCP handshakes that completed.
    pub established: u64,
    /// TCP handshakes that did not.
    pub failed: u64,
    /// Established TCP connections that ended.
    pub closed: u64,
}

/// A backend as the choice sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendState {
    /// As it is wanted.
    pub wanted: BackendWanted,
    /// What happened to it.
    pub counts: Counts,
    /// Latency as the choice has it, in microseconds; zero if nobody knows.
    pub latency_micros: u32,
    /// Connections and UDP flows that it has.
    pub in_flight: u32,
    /// Whether it gets no connections because its last ones failed.
    pub ejected: bool,
    /// How often it was ejected.
    pub ejections: u64,
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

impl Counts {
    /// TCP connects that are neither established nor failed yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.started.saturating_sub(self.established).saturating_sub(self.failed)
    }
}
