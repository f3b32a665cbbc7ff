//! Virtual addresses: what is wanted of the balancer.

mod policy;

use crate::ids::{FrameworkId, TaskId};
pub use mizzen_net_words::Protocol;
pub use policy::{Locality, Millis, OnRemoval, PolicyWish, Rule, VipPolicy};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipSpec {
    /// Its address, port and transport.
    pub key: VipKey,
    /// `label.framework`, mangled, if it is a named one.
    pub name: Option<String>,
    /// Where its connections go, sorted by address.
    pub backends: Vec<BackendSpec>,
    /// How one of them is chosen.
    pub policy: VipPolicy,
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendSpec {
    /// Address and port of the task.
    pub address: SocketAddr,
    /// Relative share; one of 0 takes no new connections.
    pub weight: u16,
    /// Why it takes no new connections; `None` if it does.
    pub withheld: Option<Withheld>,
    /// How far away it is.
    pub distance: Distance,
    /// The task behind it.
    pub task: Option<Arc<(FrameworkId, TaskId)>>,
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
