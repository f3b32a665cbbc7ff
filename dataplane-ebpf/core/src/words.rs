//! How callers of either engine say what they want.

use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// A virtual service: address, port and IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipAddress {
    /// Virtual address and port.
    pub socket: SocketAddr,
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
}

/// What decides between the backends of a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// The cheaper of two, by latency and connections in flight.
    #[default]
    Latency,
    /// The less busy of two.
    LeastConnections,
    /// A draw by weight.
    Random,
    /// A consistent hash of the connection.
    Maglev,
    /// A consistent hash of the client.
    Source,
}

/// Whether near backends of a VIP go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locality {
    /// They do, until they are several times as busy as the others.
    #[default]
    Prefer,
    /// All are alike.
    Ignore,
}

/// What becomes of the connections of a backend that is removed: sockets here are ended, and
/// translation stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removal {
    /// Connected datagram sockets and flows are ended.
    #[default]
    EndDatagrams,
    /// TCP connections as well.
    EndAll,
    /// Nothing is ended.
    Keep,
}

/// How far away a backend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// On this node.
    Node,
    /// On another node of this zone.
    Zone,
    /// Elsewhere.
    #[default]
    Far,
}

/// A backend as the caller wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendWanted {
    /// Where its connections go.
    pub address: SocketAddr,
    /// Share of new connections relative to its siblings; zero gets none.
    pub weight: u16,
    /// Whether it takes new connections at all.
    pub admission: Admission,
    /// How far away it is.
    pub distance: Distance,
}

/// Whether a backend takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It does.
    Admitted,
    /// It does not, because it drains or is unhealthy; connections that it has go on.
    Withheld,
}

/// By what backends are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Failed handshakes in a row after which a backend is ejected; zero never ejects.
    pub failures: u32,
    /// The first pause; each further one is twice as long.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Percentage of a VIP's admitted backends below which all are admitted, ejected or not.
    pub least_left: u32,
    /// A backend that has left handshakes unanswered for so long is avoided.
    pub handshake: Duration,
    /// A connection that lives no longer tells of the backend's speed.
    pub short: Duration,
    /// A flow of datagrams without a datagram for so long is over.
    pub idle: Duration,
}

/// How many latencies fell into each bucket of [`crate::bucket`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Samples in each bucket.
    pub buckets: Vec<u64>,
    /// Microseconds of all samples together.
    pub sum: u64,
}

impl VipAddress {
    /// A virtual TCP service.
    #[must_use]
    pub const fn tcp(socket: SocketAddr) -> Self {
        Self { socket, protocol: TCP }
    }

    /// A virtual UDP service.
    #[must_use]
    pub const fn udp(socket: SocketAddr) -> Self {
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

impl BackendWanted {
    /// An admitted backend of weight 1.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let (admission, distance) = (Admission::Admitted, Distance::default());
        Self { address, weight: 1, admission, distance }
    }

    /// Whether new connections may go there.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.effective_weight() > 0
    }

    /// Its share of new connections: none if it takes none.
    #[must_use]
    pub const fn effective_weight(&self) -> u32 {
        match self.admission {
            Admission::Admitted => self.weight as u32,
            Admission::Withheld => 0,
        }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            failures: 3,
            pause: Duration::from_secs(5),
            longest_pause: Duration::from_secs(300),
            least_left: 30,
            handshake: Duration::from_millis(400),
            short: Duration::from_secs(2),
            idle: Duration::from_secs(60),
        }
    }
}
