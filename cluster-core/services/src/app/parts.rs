//! The parts of an app that have a shape of their own. One type serves for what
//! is read, kept and shown, because defaults are filled in while reading.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What copies run in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// Who makes it; MESOS where nothing is said and no Docker image is named.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ContainerKind>,
    /// A Docker image; not supported yet, read to be refused in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<Value>,
    /// Ports of its own network.
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
    /// Directories of the host.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Seccomp and IPC settings; not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux_info: Option<Value>,
}

/// Who makes a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ContainerKind {
    /// The agent itself.
    Mesos,
    /// A Docker daemon, which this project does without.
    Docker,
}

/// A port of a container's own network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortMapping {
    /// Inside; 0 takes the host port's number, or a random one.
    #[serde(default)]
    pub container_port: u16,
    /// On the host; 0 takes any offered one, unset none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// For load balancers; 0 is given a number.
    #[serde(default)]
    pub service_port: u16,
    /// Transports.
    #[serde(default)]
    pub protocol: PortProtocol,
    /// For discovery and `PORT_<NAME>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `VIP_<n>` makes a VIP.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Networks that it is for; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_names: Vec<String>,
}

/// A port on the host's network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortDefinition {
    /// The service port, and the host port too if ports are required; 0 is given a number.
    #[serde(default)]
    pub port: u16,
    /// Transports.
    #[serde(default)]
    pub protocol: PortProtocol,
    /// For discovery and `PORT_<NAME>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `VIP_<n>` makes a VIP.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Transports of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PortProtocol {
    /// TCP.
    #[default]
    #[serde(rename = "tcp")]
    Tcp,
    /// UDP.
    #[serde(rename = "udp")]
    Udp,
    /// Both, on one number.
    #[serde(rename = "udp,tcp", alias = "tcp,udp")]
    Both,
}

impl PortProtocol {
    /// Each transport by itself.
    #[must_use]
    pub fn each(self) -> &'static [&'static str] {
        match self {
            Self::Tcp => &["tcp"],
            Self::Udp => &["udp"],
            Self::Both => &["udp", "tcp"],
        }
    }
}

/// A directory of the host inside a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Inside.
    pub container_path: String,
    /// On the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// With or without write permission.
    #[serde(default)]
    pub mode: VolumeMode,
    /// A reserved disk; not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<Value>,
    /// A volume of another system; not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<Value>,
    /// A secret; not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Value>,
}

/// With or without write permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VolumeMode {
    /// Without.
    Ro,
    /// With.
    #[default]
    Rw,
}

/// A network that copies have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// Which kind.
    #[serde(default)]
    pub mode: NetworkMode,
    /// Which one, of kind `container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Handed to the network's plugin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Kinds of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NetworkMode {
    /// The host's own.
    #[serde(rename = "host")]
    Host,
    /// A named one with an address per container.
    #[default]
    #[serde(rename = "container")]
    Container,
    /// A local bridge with mapped host ports.
    #[serde(rename = "container/bridge")]
    Bridge,
}

/// A probe of each copy, run by its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked.
    #[serde(default)]
    pub protocol: HealthProtocol,
    /// Of COMMAND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<HealthCommand>,
    /// Of HTTP and HTTPS; `/` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Which of the app's ports; the first if neither this nor `port` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_index: Option<u32>,
    /// A port number, which wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Seconds in which failures do not count until the first success.
    #[serde(default = "default_grace")]
    pub grace_period_seconds: u32,
    /// Seconds between two probes.
    #[serde(default = "default_interval")]
    pub interval_seconds: u32,
    /// Seconds that an answer may take.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u32,
    /// Failures in a row after which the copy is ended.
    #[serde(default = "default_failures")]
    pub max_consecutive_failures: u32,
    /// Seconds before the first probe.
    #[serde(default = "default_delay")]
    pub delay_seconds: u32,
    /// Whether 1xx counts as no answer at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_http1xx: bool,
    /// Address family of the probe.
    #[serde(default)]
    pub ip_protocol: IpProtocol,
}

/// What a health check asks. The kinds without MESOS were once run by the
/// scheduler; here the agent runs all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are Marathon's and say it")]
pub enum HealthProtocol {
    #[default]
    Http,
    Https,
    Tcp,
    Command,
    MesosHttp,
    MesosHttps,
    MesosTcp,
}

/// Address family of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum IpProtocol {
    #[default]
    IPv4,
    IPv6,
}

/// The command of a COMMAND health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCommand {
    /// Run by `/bin/sh -c`.
    pub value: String,
}

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

/// A rule about where copies may run: `["hostname", "UNIQUE"]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Constraint {
    /// `hostname`, `@hostname`, `@region`, `@zone` or the name of an attribute.
    pub field: String,
    /// The rule.
    pub operator: Operator,
    /// What the rule compares with.
    pub value: Option<String>,
}

/// Rules of a [`Constraint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Marathon's")]
pub enum Operator {
    Unique,
    Cluster,
    GroupBy,
    Like,
    Unlike,
    MaxPer,
    Is,
}

const OPERATORS: [(&str, Operator); 7] = [
    ("UNIQUE", Operator::Unique),
    ("CLUSTER", Operator::Cluster),
    ("GROUP_BY", Operator::GroupBy),
    ("LIKE", Operator::Like),
    ("UNLIKE", Operator::Unlike),
    ("MAX_PER", Operator::MaxPer),
    ("IS", Operator::Is),
];

impl Operator {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        OPERATORS.iter().find(|(_, operator)| *operator == self).map_or("", |(name, _)| name)
    }
}

impl TryFrom<Vec<String>> for Constraint {
    type Error = String;

    fn try_from(parts: Vec<String>) -> Result<Self, String> {
        let mut parts = parts.into_iter();
        let (Some(field), Some(word)) = (parts.next(), parts.next()) else {
            return Err("a constraint has a field, an operator and perhaps a value".to_owned());
        };
        let value = parts.next();
        if parts.next().is_some() {
            return Err("a constraint has at most three parts".to_owned());
        }
        let known = OPERATORS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word));
        let Some((_, operator)) = known else {
            let names: Vec<_> = OPERATORS.iter().map(|(name, _)| *name).collect();
            return Err(format!("'{word}' is no operator; there are {}", names.join(", ")));
        };
        Ok(Self { field, operator: *operator, value })
    }
}

impl From<Constraint> for Vec<String> {
    fn from(constraint: Constraint) -> Self {
        let mut parts = vec![constraint.field, constraint.operator.name().to_owned()];
        parts.extend(constraint.value);
        parts
    }
}

fn default_grace() -> u32 {
    300
}

fn default_interval() -> u32 {
    60
}

fn default_timeout() -> u32 {
    20
}

fn default_failures() -> u32 {
    3
}

fn default_delay() -> u32 {
    15
}

fn one() -> f64 {
    1.0
}
