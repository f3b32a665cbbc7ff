//! Virtual addresses: what is wanted of the balancer.

use crate::ids::{FrameworkId, TaskId};
use crate::time;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

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

/// What a label asks a VIP to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VipText<'a> {
    /// An address that is spelled out.
    Address(IpAddr),
    /// A name, as it was written.
    Name(&'a str),
}

impl<'a> VipText<'a> {
    /// Whether a label of this key, on a port, may ask for a VIP.
    #[must_use]
    pub fn is_key(key: &str) -> bool {
        key.starts_with("VIP") || key.starts_with("vip")
    }

    /// Reads `/web:80`, `1.2.3.4:80` or `[fd00::1]:80`; the port is never zero.
    #[must_use]
    pub fn read(value: &'a str) -> Option<(Self, u16)> {
        let (left, right) = value.rsplit_once(':')?;
        let port = right.parse().ok().filter(|port| *port > 0)?;
        let bare = left.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(left);
        let address = bare.parse::<IpAddr>().ok();
        Some((address.map_or(Self::Name(left), |ip| Self::Address(ip.to_canonical())), port))
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

impl Millis {
    /// Reads `0` or a number with its unit, such as `500ms`, `10s` or `2m`; nothing
    /// longer than a day.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let time = time::parse(text, Duration::ZERO..=time::DAY)?;
        u32::try_from(time.as_millis()).ok().map(Self)
    }
}

impl fmt::Display for Millis {
    /// Writes what [`Millis::from_text`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            millis if millis % 60_000 == 0 => write!(f, "{}m", millis / 60_000),
            millis if millis % 1_000 == 0 => write!(f, "{}s", millis / 1_000),
            millis => write!(f, "{millis}ms"),
        }
    }
}

/// What one voice (a task's labels, a service registered by hand) says about a VIP's
/// policy. What nobody says is as in [`VipPolicy::default`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PolicyWish {
    /// What decides between candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Whether near backends go first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
    /// What becomes of the connections of a backend that is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_removal: Option<OnRemoval>,
    /// Time over which a backend that joins others grows to its full share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Millis>,
}

impl PolicyWish {
    /// What this one says, and `other` where this one says nothing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            rule: self.rule.or(other.rule),
            locality: self.locality.or(other.locality),
            on_removal: self.on_removal.or(other.on_removal),
            slow_start: self.slow_start.or(other.slow_start),
        }
    }

    /// The policy that it makes.
    #[must_use]
    pub fn policy(self) -> VipPolicy {
        VipPolicy {
            rule: self.rule.unwrap_or_default(),
            locality: self.locality.unwrap_or_default(),
            on_removal: self.on_removal.unwrap_or_default(),
            slow_start: self.slow_start.unwrap_or_default(),
        }
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

impl Locality {
    /// Both, in the order in which they are documented.
    pub const ALL: [Self; 2] = [Self::Prefer, Self::Ignore];

    /// The word for it in labels, on the command line and in answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Prefer => "prefer",
            Self::Ignore => "ignore",
        }
    }

    /// Reads one of the words of [`Locality::word`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|locality| locality.word() == text)
    }
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

impl OnRemoval {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 3] = [Self::Datagrams, Self::All, Self::Keep];

    /// The word for it in labels, on the command line and in answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Datagrams => "datagrams",
            Self::All => "all",
            Self::Keep => "keep",
        }
    }

    /// Reads one of the words of [`OnRemoval::word`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.word() == text)
    }
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
    /// Relative share; one of 0 takes no new connections.
    pub weight: u16,
    /// Why it takes no new connections; `None` if it does.
    #[serde(default)]
    pub withheld: Option<Withheld>,
    /// How far away it is.
    #[serde(default)]
    pub distance: Distance,
    /// The task behind it.
    pub task: Option<(FrameworkId, TaskId)>,
}

impl BackendSpec {
    /// Whether it takes new connections.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.withheld.is_none()
    }
}

/// Why a backend takes no new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Withheld {
    /// Its weight is 0.
    NoWeight,
    /// Its task does not run yet.
    Starting,
    /// Its task's health check has no result yet.
    Unchecked,
    /// Its task's health check fails.
    Unhealthy,
    /// Its task's agent or machine is being drained.
    Drained,
    /// Its task was told to stop.
    Stopping,
    /// Its task's node does not answer.
    NoAnswer,
}

impl Withheld {
    /// The word for it in answers, the same as in facts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoWeight => "no-weight",
            Self::Starting => "starting",
            Self::Unchecked => "unchecked",
            Self::Unhealthy => "unhealthy",
            Self::Drained => "drained",
            Self::Stopping => "stopping",
            Self::NoAnswer => "no-answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_policy() {
        #[rustfmt::skip]
        let table = [
            ("0",     Some(0)),      ("500ms", Some(500)), ("10s", Some(10_000)), ("2m", Some(120_000)),
            ("1440m", Some(86_400_000)), ("1441m", None),  ("10",  None),         ("-1s", None),
            ("1h",    Some(3_600_000)), ("s",  None),      ("",    None),         ("99999999999s", None),
        ];
        for (text, want) in table {
            let found = Millis::from_text(text);
            assert_eq!(found, want.map(Millis), "{text}");
            if let Some(millis) = found {
                assert_eq!(Millis::from_text(&millis.to_string()), Some(millis), "{text}");
            }
        }
    }

    #[test]
    fn words_are_the_same_in_facts_and_in_labels() {
        let quoted = |word: &str| format!("\"{word}\"");
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_string(&rule).unwrap(), quoted(rule.word()));
        }
        for locality in Locality::ALL {
            assert_eq!(serde_json::to_string(&locality).unwrap(), quoted(locality.word()));
        }
        for fate in OnRemoval::ALL {
            assert_eq!(serde_json::to_string(&fate).unwrap(), quoted(fate.word()));
        }
    }
}
