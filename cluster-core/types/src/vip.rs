//! Virtual addresses: what is wanted of the balancer.

use crate::ids::{FrameworkId, TaskId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The transports that a VIP can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

impl Protocol {
    /// IP protocol number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Reads `tcp` or `udp`, in any case.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VipKey {
    /// Virtual address.
    pub address: IpAddr,
    /// Virtual port.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
}

impl fmt::Display for VipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), self.protocol)
    }
}

/// What a VIP should look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipSpec {
    /// Its address, port and transport.
    pub key: VipKey,
    /// `label.framework`, mangled, if it is a named one.
    pub name: Option<String>,
    /// Where its connections go, sorted by address.
    pub backends: Vec<BackendSpec>,
    /// How one of them is chosen.
    #[serde(default)]
    pub policy: VipPolicy,
}

/// How a VIP chooses among its backends, and what happens to those that leave it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct VipPolicy {
    /// What decides between candidates.
    pub rule: Rule,
    /// Whether near backends go first.
    pub locality: Locality,
    /// What becomes of the connections of a backend that is removed.
    pub on_removal: OnRemoval,
    /// Milliseconds over which a backend that joins others grows to its full share; zero for none.
    pub slow_start: Millis,
}

/// Milliseconds of a policy; ten seconds unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u32);

impl Default for Millis {
    fn default() -> Self {
        Self(10_000)
    }
}

/// What decides between backends.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The cheaper of two that were drawn: latency × (connections in flight + 1) ÷ weight.
    #[default]
    Latency,
    /// The less busy of two that were drawn: (connections in flight + 1) ÷ weight.
    LeastConnections,
    /// A draw by weight alone.
    Random,
    /// A consistent hash of the connection: source, destination and their ports where known.
    Maglev,
    /// A consistent hash of the client, so that one client stays with one backend.
    Source,
}

impl Rule {
    /// Every rule, in the order in which they are documented.
    pub const ALL: [Self; 5] =
        [Self::Latency, Self::LeastConnections, Self::Random, Self::Maglev, Self::Source];

    /// The word for it in labels, on the command line and in answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::LeastConnections => "least-connections",
            Self::Random => "random",
            Self::Maglev => "maglev",
            Self::Source => "source",
        }
    }

    /// Reads one of the words of [`Rule::word`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.word() == text)
    }
}

/// Whether a VIP prefers near backends.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Locality {
    /// The node's own first, then those of its zone, others when these are busy.
    #[default]
    Prefer,
    /// All alike.
    Ignore,
}

/// What becomes of the connections of a backend that is removed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum OnRemoval {
    /// Connected UDP sockets are ended, so that their clients connect anew; TCP runs out.
    #[default]
    Datagrams,
    /// TCP connections are ended as well.
    All,
    /// Nothing is ended.
    Keep,
}

/// How far away a backend is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// On this node.
    Node,
    /// On another node of this node's zone.
    Zone,
    /// Elsewhere, or nobody knows.
    #[default]
    Far,
}

/// One place where a VIP's connections go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BackendSpec {
    /// Address and port of the task.
    pub address: SocketAddr,
    /// Relative share, at least 1.
    pub weight: u16,
    /// Whether it takes new connections; a draining or unhealthy one does not.
    pub admitted: bool,
    /// How far away it is.
    #[serde(default)]
    pub distance: Distance,
    /// The task behind it.
    pub task: Option<(FrameworkId, TaskId)>,
}
