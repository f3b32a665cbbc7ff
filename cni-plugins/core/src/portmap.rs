//! Which ports of the host lead to which container: what `mizzen-portmap` is told.

mod record;

pub use record::{
    PortRecord, RECORD_LOCK, record_data_dir, record_directory, record_name, record_root,
};

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use mizzen_net_words::PortEntry;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::AttachmentKey;
use crate::config::{ConfigError, read};
use crate::request::is_ifname;
use crate::result::CniResult;
use crate::runtime::runtime_config;

/// Name of the table if the configuration names none.
pub const DEFAULT_TABLE: &str = "mizzen-ports";

/// Local addresses whose ports are never published: there the resolver answers.
const RESOLVERS: [&str; 2] = ["198.51.100.0/24", "fd01:d::c633:6400/120"];

/// What `mizzen-portmap` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortmapConfig {
    /// Name of the table in the kernel (`table`).
    pub table: String,
    /// Local addresses whose ports are never published (`except`).
    pub except: Vec<IpNet>,
    /// Whether a container reaches itself by the host's port, and the host by 127.0.0.1
    /// (`snat`).
    pub snat: bool,
    /// The ports (`runtimeConfig.portMappings`).
    pub mappings: Vec<PortMapping>,
    /// The answer of the plugins before us (`prevResult`).
    pub prev_result: Option<CniResult>,
}

/// A port that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The host's address; `None` for all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The transport.
    pub protocol: Protocol,
}

/// A transport with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// That with this number in IP packets.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|one| one.number() == number)
    }

    /// Its number in IP packets.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// There is nothing to which a port could lead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortmapError {
    /// Nobody before us connected the container.
    #[error(
        "ports are published after another plugin has connected the container: key `prevResult` is missing"
    )]
    NoPreviousResult,
    /// The container has no address of the family.
    #[error(
        "port {port} of {host} cannot be published: the container has no address of that family"
    )]
    NoAddress {
        /// The host's address.
        host: IpAddr,
        /// The host's port.
        port: u16,
    },
    /// Two mappings want the same port of the host.
    #[error("port {port} is asked for twice")]
    Twice {
        /// The host's port.
        port: u16,
    },
}

impl PortmapConfig {
    /// Reads the configuration of `mizzen-portmap`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key.
    pub fn read(config: &Map<String, Value>) -> Result<Self, ConfigError> {
        let except: Option<Vec<IpNet>> = read(config, "except", "except")?;
        let resolvers = || RESOLVERS.iter().filter_map(|net| net.parse().ok()).collect();
        Ok(Self {
            table: table(config)?,
            except: except.unwrap_or_else(resolvers),
            snat: read(config, "snat", "snat")?.unwrap_or(true),
            mappings: mappings(config)?,
            prev_result: read(config, "prevResult", "prevResult")?,
        })
    }

    /// Links by which packets from 127.0.0.1 leave to the container, given its entries.
    #[must_use]
    pub fn loopback_links(&self, entries: &[PortEntry]) -> Vec<String> {
        let by_loopback = |entry: &PortEntry| match entry {
            PortEntry::Publish { host, to, .. } => {
                to.is_ipv4() && host.is_none_or(|host| host.is_loopback())
            }
            PortEntry::Itself { .. } | PortEntry::Hairpin { .. } => false,
        };
        if !self.snat || !entries.iter().any(by_loopback) {
            return Vec::new();
        }
        self.host_links()
    }

    /// The host's ends of what the plugins before made, without which there is no container.
    #[must_use]
    pub fn host_links(&self) -> Vec<String> {
        self.prev_result.as_ref().map(host_links).unwrap_or_default()
    }
}

/// The setting that lets packets from 127.0.0.1 leave by a link.
#[must_use]
pub fn loopback_setting(link: &str) -> String {
    format!("net/ipv4/conf/{}/route_localnet", link.replace('.', "/"))
}

/// Name of the table in the kernel, which is all that DEL needs.
///
/// # Errors
///
/// [`ConfigError`] names the key.
pub fn table(config: &Map<String, Value>) -> Result<String, ConfigError> {
    let name: Option<String> = read(config, "table", "table")?;
    let name = name.unwrap_or_else(|| DEFAULT_TABLE.to_owned());
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !(1..=64).contains(&name.len()) || !name.chars().all(word) {
        let expected = "a name of 1 to 64 letters, digits, `-` and `_`";
        return Err(ConfigError::Invalid { key: "table", value: name, expected });
    }
    Ok(name)
}

/// Lists what has to be in the kernel for the ports of a container.
///
/// # Errors
///
/// [`PortmapError`] if there is nothing to which a port could lead.
pub fn plan_ports(config: &PortmapConfig) -> Result<Vec<PortEntry>, PortmapError> {
    let result = config.prev_result.as_ref().ok_or(PortmapError::NoPreviousResult)?;
    let addresses = container_addresses(result);
    let mut list = Vec::new();
    for mapping in &config.mappings {
        list.extend(ports(mapping, &addresses)?);
    }
    let mut keys: Vec<_> = list.iter().filter_map(key).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair.first() == pair.last()) {
        return Err(PortmapError::Twice { port: twice.first().map_or(0, |key| key.3) });
    }
    if config.snat && !list.is_empty() {
        list.extend(addresses.iter().map(|address| PortEntry::Itself { address: *address }));
        for link in host_links(result) {
            let hairpin =
                |address: &IpAddr| PortEntry::Hairpin { link: link.clone(), address: *address };
            list.extend(addresses.iter().map(hairpin));
        }
    }
    Ok(list)
}

/// The host's ends of what the plugins before us made: bridge and pair.
fn host_links(result: &CniResult) -> Vec<String> {
    let host =
        result.interfaces.iter().filter(|one| one.sandbox.as_deref().is_none_or(str::is_empty));
    host.map(|one| one.name.clone()).filter(|name| is_ifname(name)).collect()
}

/// Whose an entry is, in words that fit behind it (at most 253 bytes, given the limits of
/// [`crate::request`]).
#[must_use]
pub fn port_mark(network: &str, key: &AttachmentKey) -> String {
    format!("{network} {} {}", key.container_id, key.ifname)
}

/// Network and attachment of an entry, from its mark.
#[must_use]
pub fn read_port_mark(mark: &str) -> Option<(&str, AttachmentKey)> {
    let mut words = mark.splitn(3, ' ');
    let (network, container_id, ifname) = (words.next()?, words.next()?, words.next()?);
    Some((network, AttachmentKey { container_id: container_id.into(), ifname: ifname.into() }))
}

/// The first address of each family.
fn container_addresses(result: &CniResult) -> Vec<IpAddr> {
    let inside = |at: usize| result.interfaces.get(at).is_some_and(|one| one.sandbox.is_some());
    let ours = result.ips.iter().filter(|ip| ip.interface.is_none_or(inside));
    let all: Vec<IpAddr> = ours.map(|ip| ip.address.addr()).collect();
    let first = |v6: bool| all.iter().copied().find(|address| address.is_ipv6() == v6);
    [first(false), first(true)].into_iter().flatten().collect()
}

fn ports(mapping: &PortMapping, addresses: &[IpAddr]) -> Result<Vec<PortEntry>, PortmapError> {
    let PortMapping { host_ip, host_port: port, container_port, protocol } = *mapping;
    let same = |address: &&IpAddr| host_ip.is_none_or(|host| host.is_ipv6() == address.is_ipv6());
    // The address of nobody is that of everybody.
    let host = host_ip.filter(|host| !host.is_unspecified());
    let publish = |address: &IpAddr| {
        let to = SocketAddr::new(*address, container_port);
        PortEntry::Publish { host, protocol: protocol.number(), port, to }
    };
    let list: Vec<_> = addresses.iter().filter(same).map(publish).collect();
    match host_ip {
        Some(host) if list.is_empty() => Err(PortmapError::NoAddress { host, port }),
        _ => Ok(list),
    }
}

/// What two entries cannot share.
fn key(entry: &PortEntry) -> Option<(bool, Option<IpAddr>, u8, u16)> {
    match entry {
        PortEntry::Publish { host, protocol, port, to } => {
            Some((to.is_ipv6(), *host, *protocol, *port))
        }
        PortEntry::Itself { .. } | PortEntry::Hairpin { .. } => None,
    }
}

fn mappings(config: &Map<String, Value>) -> Result<Vec<PortMapping>, ConfigError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        host_port: u16,
        container_port: u16,
        #[serde(default)]
        protocol: Option<String>,
        #[serde(default, rename = "hostIP")]
        host_ip: Option<String>,
    }
    const KEY: &str = "runtimeConfig.portMappings";
    let Some(section) = runtime_config(config) else { return Ok(Vec::new()) };
    let entries: Vec<Entry> = read(section, "portMappings", KEY)?.unwrap_or_default();
    let invalid = |value: String, expected| ConfigError::Invalid { key: KEY, value, expected };
    let convert = |entry: Entry| {
        let protocol = match entry.protocol.unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(invalid(other.to_owned(), "tcp, udp or sctp")),
        };
        if entry.container_port == 0 {
            return Err(invalid("0".to_owned(), "a port of the container"));
        }
        let text = entry.host_ip.filter(|text| !text.is_empty());
        let host_ip = text.map(|text| {
            text.parse::<IpAddr>().map_err(|_| invalid(text, "an IP address of the host"))
        });
        Ok(PortMapping {
            host_ip: host_ip.transpose()?,
            host_port: entry.host_port,
            container_port: entry.container_port,
            protocol,
        })
    };
    // Port zero asks for nothing: some runtimes list ports that are only exposed.
    entries.into_iter().filter(|entry| entry.host_port != 0).map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(mappings: Value) -> Result<PortmapConfig, ConfigError> {
        let mut config = json!({
            "runtimeConfig": {},
            "prevResult": {
                "interfaces": [{ "name": "m-dcos" }, { "name": "mz1" },
                               { "name": "eth0", "sandbox": "/n" }],
                "ips": [{ "interface": 2, "address": "9.0.5.2/25" },
                        { "interface": 2, "address": "fd01:b::2/80" }],
            },
        });
        config["runtimeConfig"]["portMappings"] = mappings;
        PortmapConfig::read(config.as_object().unwrap())
    }

    fn planned(mappings: Value) -> Result<Vec<String>, PortmapError> {
        let list = plan_ports(&config(mappings).unwrap())?;
        let words = list.into_iter().map(|entry| match entry {
            PortEntry::Publish { host, protocol, port, to } => {
                let host = host.map_or("*".to_owned(), |host| host.to_string());
                format!("{host} {protocol} {port} {to}")
            }
            PortEntry::Itself { address } => format!("itself {address}"),
            PortEntry::Hairpin { link, address } => format!("{link} {address}"),
        });
        Ok(words.collect())
    }

    #[test]
    fn a_port_leads_to_the_address_of_each_family() {
        let list = planned(json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]));
        let want = [
            "* 6 8080 9.0.5.2:80",
            "* 6 8080 [fd01:b::2]:80",
            "itself 9.0.5.2",
            "itself fd01:b::2",
            "m-dcos 9.0.5.2",
            "m-dcos fd01:b::2",
            "mz1 9.0.5.2",
            "mz1 fd01:b::2",
        ];
        assert_eq!(list.unwrap(), want);
        assert!(planned(json!([])).unwrap().is_empty());
        let exposed = planned(json!([{ "hostPort": 0, "containerPort": 80 }]));
        assert!(exposed.unwrap().is_empty());
    }

    #[test]
    fn an_address_of_the_host_chooses_the_family() {
        for (host, want) in [
            ("10.0.0.1", "10.0.0.1 17 53 9.0.5.2:5353"),
            ("fd00::1", "fd00::1 17 53 [fd01:b::2]:5353"),
            ("0.0.0.0", "* 17 53 9.0.5.2:5353"),
            ("::", "* 17 53 [fd01:b::2]:5353"),
        ] {
            let mapping =
                json!({ "hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": host });
            let list = planned(json!([mapping])).unwrap();
            let ports: Vec<_> = list.iter().filter(|words| words.contains(" 17 ")).collect();
            assert_eq!(ports, [want]);
        }
    }

    #[test]
    fn what_cannot_be() {
        let one = json!({ "hostPort": 80, "containerPort": 80 });
        assert_eq!(planned(json!([one, one])), Err(PortmapError::Twice { port: 80 }));
        for bad in [
            json!([{ "hostPort": 70000, "containerPort": 80 }]),
            json!([{ "hostPort": 80, "containerPort": 0 }]),
            json!([{ "hostPort": 80 }]),
            json!([{ "hostPort": 80, "containerPort": 80, "protocol": "icmp" }]),
            json!([{ "hostPort": 80, "containerPort": 80, "hostIP": "x" }]),
            json!("80:80"),
        ] {
            let error = config(bad.clone()).unwrap_err();
            assert!(error.to_string().contains("portMappings"), "{bad}: {error}");
        }
        let mut alone = config(json!([one])).unwrap();
        alone.prev_result = None;
        assert_eq!(plan_ports(&alone), Err(PortmapError::NoPreviousResult));
    }

    #[test]
    fn marks_read_back() {
        let key = AttachmentKey { container_id: "a.b-c".into(), ifname: "eth0".into() };
        assert_eq!(read_port_mark(&port_mark("dcos", &key)), Some(("dcos", key)));
        assert_eq!(read_port_mark("mizzen"), None);
    }
}
