//! Network policies: who may reach which containers, and whom those may reach.
//!
//! A policy guards the containers that it applies to. What a guarded container takes in (or sends)
//! is only what a rule of some policy allows; no rule refuses, so their order never matters.

use crate::text::as_text;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Longest id of a policy in bytes.
const MAX_ID: usize = 63;

/// What a policy is called: lower case letters, digits, `-`, `.` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(String);

/// A text that is no part of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyTextError {
    /// No id.
    #[error(
        "expected an id of at most {MAX_ID} lower case letters, digits, `-`, `.` and `_` \
         that begins with a letter or digit, found `{0}`"
    )]
    Id(String),
    /// No ports.
    #[error(
        "expected ports such as `5432/tcp`, `8000-8010/udp`, `tcp` (all of them) or `icmp`, \
         found `{0}`"
    )]
    Ports(String),
}

/// A policy without its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it only reports what it would refuse.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audit: bool,
    /// The containers that it guards.
    pub applies_to: Selector,
    /// What they take in; `None` leaves that unguarded, an empty list takes in nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<PolicyRule>>,
    /// What they send, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<PolicyRule>>,
}

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicyRule {
    /// For counters and people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With whom; empty is everybody that the isolation between overlays lets through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Selector>,
    /// By which ports of whoever is connected to; empty is all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Ports>,
}

/// Who is meant: everybody of whom all given parts hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Selector {
    /// Containers of this overlay; [`ANY_OVERLAY`] is all of them. Peers without it are of the
    /// guarded container's own overlay, or no containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<String>,
    /// Tasks with these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Tasks of this name or app; `*` at its end stands for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Addresses of this network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpNet>,
    /// Who is no container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<Entity>,
}

/// Names all overlays.
pub const ANY_OVERLAY: &str = "*";

/// Who is no container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// Nodes of the cluster. What a container's own node sends it always passes.
    Host,
    /// Everybody outside of the cluster.
    World,
}

/// A direction, as a guarded container sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// What it takes in.
    Ingress,
    /// What it sends.
    Egress,
}

/// A protocol that rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Echo requests, of either family. Errors always pass.
    Icmp,
}

/// Ports of a protocol, written `80/tcp`, `8000-8010/udp`, `tcp` or `icmp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The protocol.
    pub protocol: PolicyProtocol,
    /// The first port; 0 where all are meant.
    pub first: u16,
    /// The last one; 65535 where all are meant.
    pub last: u16,
}

impl PolicyId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Policy {
    /// The rules of a direction, if the policy guards it.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Option<&[PolicyRule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// Everybody who is named: those that it applies to first.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        let rules = self.ingress.iter().chain(&self.egress).flatten();
        std::iter::once(&self.applies_to).chain(rules.flat_map(|rule| &rule.peers))
    }
}

impl Direction {
    /// Both, ingress first.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl Entity {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Host, Self::World];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::World => "world",
        }
    }
}

impl PolicyProtocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }

    /// What a word says, if it is one of these.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.word() == word)
    }
}

impl Ports {
    /// All ports of a protocol.
    #[must_use]
    pub fn all(protocol: PolicyProtocol) -> Self {
        Self { protocol, first: 0, last: u16::MAX }
    }

    /// Whether all ports are meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        (self.first, self.last) == (0, u16::MAX)
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PolicyId {
    type Err = PolicyTextError;

    fn from_str(text: &str) -> Result<Self, PolicyTextError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let begins = text.bytes().next().is_some_and(plain);
        let fits = text.bytes().all(|byte| plain(byte) || b"-._".contains(&byte));
        if begins && fits && text.len() <= MAX_ID {
            return Ok(Self(text.to_owned()));
        }
        Err(PolicyTextError::Id(text.to_owned()))
    }
}

as_text!(PolicyId);

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.word();
        match (self.first, self.last) {
            _ if self.is_all() => f.write_str(protocol),
            (first, last) if first == last => write!(f, "{first}/{protocol}"),
            (first, last) => write!(f, "{first}-{last}/{protocol}"),
        }
    }
}

impl FromStr for Ports {
    type Err = PolicyTextError;

    fn from_str(text: &str) -> Result<Self, PolicyTextError> {
        let form = || PolicyTextError::Ports(text.to_owned());
        if let Some(protocol) = PolicyProtocol::from_word(text) {
            return Ok(Self::all(protocol));
        }
        let (ports, word) = text.split_once('/').ok_or_else(form)?;
        let protocol = PolicyProtocol::from_word(word).ok_or_else(form)?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (port(first).ok_or_else(form)?, port(last).ok_or_else(form)?);
        if protocol == PolicyProtocol::Icmp || first > last {
            return Err(form());
        }
        Ok(Self { protocol, first, last })
    }
}

as_text!(Ports);

/// Digits only, and not 0: `u16::from_str` takes a sign, too.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_as_text_and_back() {
        for text in ["80/tcp", "8000-8010/udp", "1-65535/tcp", "tcp", "udp", "icmp"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        for text in ["", "80", "/tcp", "80/", "80/sctp", "0/tcp", "9-8/tcp", "65536/tcp", "+1/tcp"]
        {
            assert_eq!(text.parse::<Ports>(), Err(PolicyTextError::Ports(text.into())));
        }
        assert!("8/icmp".parse::<Ports>().is_err());
    }

    #[test]
    fn ids() {
        for text in ["db", "a.b-c_9", "0"] {
            assert_eq!(text.parse::<PolicyId>().unwrap().as_str(), text);
        }
        for text in ["", "-a", "A", "a/b", "ä", &"x".repeat(64)] {
            assert!(text.parse::<PolicyId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_policy_as_a_fact_and_back() {
        let text = r#"{"applies_to":{"labels":{"app":"db"}},"ingress":[{"peers":[{"overlay":"web"},{"address":"10.0.0.0/8"},{"entity":"world"}],"ports":["5432/tcp"]}]}"#;
        let policy: Policy = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&policy).unwrap(), text);
        assert_eq!(policy.selectors().count(), 4);
        assert!(policy.rules(Direction::Egress).is_none());
    }
}
