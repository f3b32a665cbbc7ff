//! Health checks.

use serde::{Deserialize, Serialize};

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
