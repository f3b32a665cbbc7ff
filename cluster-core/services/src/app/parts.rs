//! The parts of an app that have a shape of their own. One type serves for what
//! is read, kept and shown, because defaults are filled in while reading.

mod constraint;
mod container;
mod health;

pub use constraint::{Constraint, Operator};
pub use container::{
    Container, ContainerKind, Network, NetworkMode, PortDefinition, PortMapping, PortProtocol,
    Volume, VolumeMode,
};
pub use health::{HealthCheck, HealthCommand, HealthProtocol, IpProtocol};
use serde::{Deserialize, Serialize};

/// How many copies may be missing or too many during an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpgradeStrategy {
    /// Share of copies that stay healthy, 0 to 1.
    #[serde(default = "one")]
    pub minimum_health_capacity: f64,
    /// Share of copies that may run on top, 0 to 1.
    #[serde(default = "one")]
    pub maximum_over_capacity: f64,
}

impl Default for UpgradeStrategy {
    fn default() -> Self {
        Self { minimum_health_capacity: 1.0, maximum_over_capacity: 1.0 }
    }
}

/// When a copy on a lost agent is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected 'disabled' or an object of inactiveAfterSeconds and expungeAfterSeconds"
)]
pub enum UnreachableStrategy {
    /// Never.
    Disabled(Disabled),
    /// After a while.
    After(UnreachableLimits),
}

/// The word `disabled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the name says it")]
pub enum Disabled {
    Disabled,
}

/// How long a copy on a lost agent is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnreachableLimits {
    /// Seconds until a replacement is started.
    #[serde(default)]
    pub inactive_after_seconds: u32,
    /// Seconds until it is forgotten; not less than the other.
    #[serde(default)]
    pub expunge_after_seconds: u32,
}

impl Default for UnreachableStrategy {
    fn default() -> Self {
        Self::After(UnreachableLimits::default())
    }
}

/// Which copies go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are Marathon's and say it")]
pub enum KillSelection {
    #[default]
    YoungestFirst,
    OldestFirst,
}

fn one() -> f64 {
    1.0
}
