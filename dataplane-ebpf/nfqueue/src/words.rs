//! What callers say and are told.

use std::net::SocketAddr;
use std::time::Duration;

pub use mizzen_ebpf_core::account::{Counts, Reason};
pub use mizzen_ebpf_core::words::{
    Admission, BackendWanted, Distance, Latencies, Locality, Removal, Rule, TCP, Tuning, UDP,
    VipAddress,
};

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
    /// Whether nearer backends go first.
    pub locality: Locality,
    /// What becomes of the connections of a backend that leaves.
    pub removal: Removal,
    /// Time over which a backend that joins others grows to its full share.
    pub slow_start: Duration,
}

/// A connection or UDP flow that is watched, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Whose it is.
    pub client: SocketAddr,
    /// What was asked for.
    pub vip: VipAddress,
    /// What it got.
    pub backend: SocketAddr,
    /// How far it is, or got.
    pub stage: ConnectionStage,
    /// Milliseconds since its first packet, or since its handshake if that is complete.
    pub age: u64,
    /// Why this backend; none if a former process chose it.
    pub decision: Option<Decision>,
}

/// How far a connection is, or got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionStage {
    /// Nobody has answered yet.
    Started,
    /// The handshake is complete; UDP has none and begins with this.
    Established,
    /// The handshake was refused, or not answered in time.
    Failed,
    /// It was established and is over.
    Closed,
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

impl Default for Policy {
    fn default() -> Self {
        Self {
            rule: Rule::Latency,
            locality: Locality::Prefer,
            removal: Removal::EndDatagrams,
            slow_start: Duration::ZERO,
        }
    }
}
