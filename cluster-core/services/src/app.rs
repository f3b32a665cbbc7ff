//! An app as it is kept and shown: every default filled in, every name checked.
//!
//! What a client sends is a [`document::Document`]; [`normal::app`] makes an
//! [`App`] of it once `validation` has no objection.

mod docker;
pub mod document;
pub mod normal;
mod parts;

pub use parts::{
    Constraint, Container, ContainerKind, Disabled, HealthCheck, HealthCommand, HealthProtocol,
    IpProtocol, KillSelection, Network, NetworkMode, Operator, PortDefinition, PortMapping,
    PortProtocol, UnreachableLimits, UnreachableStrategy, UpgradeStrategy, Volume, VolumeMode,
};

use crate::app_id::AppId;
use crate::version::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Apps with this label are never run twice at a time, not even for an upgrade: a successor
/// starts when the copy before it has ended, or when its agent is lost for too long.
pub const SINGLE_INSTANCE_LABEL: &str = "MARATHON_SINGLE_INSTANCE_APP";

/// An app, in the words and with the field names of Marathon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Its path.
    pub id: AppId,
    /// Run by `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    /// Run directly; the first one is the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// User to run as; the framework's if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Cores of each copy.
    pub cpus: f64,
    /// MB of each copy.
    pub mem: f64,
    /// MB of each copy.
    pub disk: f64,
    /// Whole devices of each copy.
    pub gpus: u32,
    /// How many copies.
    pub instances: u32,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Labels, which its tasks carry too.
    pub labels: BTreeMap<String, String>,
    /// Where copies may run.
    pub constraints: Vec<Constraint>,
    /// What they run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The one network that they have.
    pub networks: Vec<Network>,
    /// Ports on the host's network.
    #[serde(default)]
    pub port_definitions: Vec<PortDefinition>,
    /// Whether port numbers are asked for as host ports.
    pub require_ports: bool,
    /// At most one: an agent runs one per task.
    pub health_checks: Vec<HealthCheck>,
    /// Apps or groups that are deployed before this one.
    pub dependencies: Vec<String>,
    /// Seconds before the first restart of a copy that failed.
    pub backoff_seconds: f64,
    /// Growth of that delay with each failure.
    pub backoff_factor: f64,
    /// Seconds beyond which it does not grow.
    pub max_launch_delay_seconds: f64,
    /// How many copies may be missing or too many during an upgrade.
    pub upgrade_strategy: UpgradeStrategy,
    /// Seconds between TERM and KILL; the agent's default if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_kill_grace_period_seconds: Option<f64>,
    /// When a copy on a lost agent is replaced.
    pub unreachable_strategy: UnreachableStrategy,
    /// Which copies go first.
    pub kill_selection: KillSelection,
    /// Role under which its resources are allocated.
    pub role: String,
    /// Reservations that it may use.
    pub accepted_resource_roles: Vec<String>,
    /// Always empty: the agent's own.
    pub executor: String,
    /// When it was last changed; its version's name.
    pub version: Version,
    /// What was changed when.
    pub version_info: VersionInfo,
}

/// What was changed when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// Only the number of copies.
    pub last_scaling_at: Version,
    /// Anything else; copies started for an older one are replaced.
    pub last_config_change_at: Version,
}

impl App {
    /// The network that its copies have.
    #[must_use]
    pub fn network_mode(&self) -> NetworkMode {
        self.networks.first().map_or(NetworkMode::Host, |network| network.mode)
    }

    /// The configuration that its copies must have been started with.
    #[must_use]
    pub fn config(&self) -> Version {
        self.version_info.last_config_change_at
    }

    /// Ports of its containers' own network.
    #[must_use]
    pub fn port_mappings(&self) -> &[PortMapping] {
        self.container.as_ref().map_or(&[], |container| &container.port_mappings)
    }

    /// How its upgrades go, the label for single copies considered.
    #[must_use]
    pub fn effective_strategy(&self) -> UpgradeStrategy {
        let single = self.labels.get(SINGLE_INSTANCE_LABEL).is_some_and(|value| value == "true");
        if single {
            return UpgradeStrategy { minimum_health_capacity: 0.0, maximum_over_capacity: 0.0 };
        }
        self.upgrade_strategy
    }

    /// Cluster-wide numbers that stand for its ports, in order.
    pub fn service_ports(&self) -> Vec<u16> {
        match self.network_mode() {
            NetworkMode::Host => self.port_definitions.iter().map(|port| port.port).collect(),
            _ => self.port_mappings().iter().map(|mapping| mapping.service_port).collect(),
        }
    }

    /// Whether `other` differs in nothing that a client can set.
    #[must_use]
    pub fn same_request(&self, other: &Self) -> bool {
        self.instances == other.instances && self.same_config(other)
    }

    /// Whether `other` differs in nothing but the number of copies.
    #[must_use]
    pub fn same_config(&self, other: &Self) -> bool {
        let aligned = Self {
            instances: self.instances,
            version: self.version,
            version_info: self.version_info,
            ..other.clone()
        };
        *self == aligned
    }
}
