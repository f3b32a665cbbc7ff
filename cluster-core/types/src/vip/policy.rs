//! How a VIP chooses among its backends.

use crate::time;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

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
