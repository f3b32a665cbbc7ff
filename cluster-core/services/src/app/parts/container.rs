//! What copies run in: container, ports, volumes, networks.

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
