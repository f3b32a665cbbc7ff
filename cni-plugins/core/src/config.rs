//! Network configurations of our plugins. Keys that we do not know are left alone,
//! as CNI wants it; keys that we know are checked, and an error names the key.

mod ipam;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::AttachmentKey;
use crate::error::Code;
use crate::request::is_ifname;
use crate::result::{CniResult, Dns};
use crate::runtime::{self, Bandwidth};

pub use ipam::{IpamConfig, Range};

/// The largest packet of an overlay network by default, in bytes: 50 bytes of VXLAN
/// fit around it even on networks with an MTU of 1470.
pub const DEFAULT_MTU: u32 = 1420;

/// Where leases and locks are kept by default.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/mizzen/cni";

/// The `type` of our own main plugin.
pub const OWN_OVERLAY: &str = "mizzen-overlay";

/// The `type` of our own address plugin.
pub const OWN_IPAM: &str = "mizzen-ipam";

/// What `mizzen-overlay` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayConfig {
    /// Name of the bridge (`bridge`).
    pub bridge: String,
    /// Largest packet in bytes (`mtu`).
    pub mtu: u32,
    /// Whether a container may reach itself through the bridge (`hairpinMode`).
    pub hairpin: bool,
    /// Whether the bridge has the gateway's address and the host forwards (`isGateway`).
    pub is_gateway: bool,
    /// Who gives addresses (`ipam`).
    pub ipam: Ipam,
    /// What the container is to ask for names (`dns`).
    pub dns: Dns,
    /// Where the locks are: the data directory of the leases (`ipam.dataDir`).
    pub data_dir: PathBuf,
    /// How fast the container may send and receive (`runtimeConfig.bandwidth`).
    pub bandwidth: Bandwidth,
    /// The answer of the ADD that is checked (`prevResult`).
    pub prev_result: Option<CniResult>,
}

/// Who gives addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ipam {
    /// We do, in the same process.
    Own(IpamConfig),
    /// Another plugin, to be executed.
    Delegated {
        /// Its `type`.
        plugin: String,
    },
}

/// What taking away needs to know: DEL and GC work whatever became of the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeardownConfig {
    /// Name of the bridge, if the configuration says it.
    pub bridge: Option<String>,
    /// The other address plugin, if there is one.
    pub delegate: Option<String>,
    /// Where leases and locks are.
    pub data_dir: PathBuf,
}

/// A configuration that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key that is needed is not there.
    #[error("key `{key}` is missing from the network configuration")]
    Missing {
        /// The key, with dots between levels.
        key: &'static str,
    },
    /// A value has the wrong type.
    #[error("key `{key}` of the network configuration cannot be read")]
    Mistyped {
        /// The key, with dots between levels.
        key: &'static str,
        /// What was expected.
        #[source]
        source: serde_json::Error,
    },
    /// A value of the right type makes no sense.
    #[error("key `{key}` of the network configuration is `{value}`, which is not {expected}")]
    Invalid {
        /// The key, with dots between levels.
        key: &'static str,
        /// The value.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// A known key asks for what this plugin leaves to somebody else.
    #[error("key `{key}` of the network configuration asks for what {who} does")]
    NotOurs {
        /// The key.
        key: &'static str,
        /// Who does it.
        who: &'static str,
    },
}

impl ConfigError {
    /// The code of the error answer.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotOurs { .. } => Code::UnsupportedField,
            Self::Missing { .. } | Self::Mistyped { .. } | Self::Invalid { .. } => {
                Code::InvalidConfig
            }
        }
    }
}

impl OverlayConfig {
    /// Reads the configuration of `mizzen-overlay`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key.
    pub fn read(config: &Map<String, Value>) -> Result<Self, ConfigError> {
        if read(config, "ipMasq", "ipMasq")? == Some(true) {
            return Err(ConfigError::NotOurs { key: "ipMasq", who: "the node" });
        }
        let bridge: String = need(config, "bridge", "bridge")?;
        if !is_ifname(&bridge) {
            let expected = "an interface name of 1 to 15 bytes";
            return Err(ConfigError::Invalid { key: "bridge", value: bridge, expected });
        }
        let mtu = read(config, "mtu", "mtu")?.unwrap_or(DEFAULT_MTU);
        if !(68..=65535).contains(&mtu) {
            let expected = "a number of bytes between 68 and 65535";
            return Err(ConfigError::Invalid { key: "mtu", value: mtu.to_string(), expected });
        }
        let section = ipam_section(config)?;
        let ipam = match need::<String>(section, "type", "ipam.type")? {
            own if own == OWN_IPAM => Ipam::Own(IpamConfig::read(config)?),
            plugin => Ipam::Delegated { plugin },
        };
        Ok(Self {
            bridge,
            mtu,
            hairpin: read(config, "hairpinMode", "hairpinMode")?.unwrap_or(false),
            is_gateway: read(config, "isGateway", "isGateway")?.unwrap_or(false),
            dns: match runtime::dns(config)? {
                Some(dns) => dns,
                None => read(config, "dns", "dns")?.unwrap_or_default(),
            },
            bandwidth: Bandwidth::read(config)?,
            data_dir: data_dir(section)?,
            prev_result: read(config, "prevResult", "prevResult")?,
            ipam,
        })
    }
}

impl TeardownConfig {
    /// Reads what DEL and GC need.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key: only one that says where leases are can be wrong.
    pub fn read(config: &Map<String, Value>) -> Result<Self, ConfigError> {
        let empty = Map::new();
        let section = config.get("ipam").and_then(Value::as_object).unwrap_or(&empty);
        let plugin = section.get("type").and_then(Value::as_str).filter(|kind| *kind != OWN_IPAM);
        let bridge = config.get("bridge").and_then(Value::as_str);
        Ok(Self {
            bridge: bridge.map(str::to_owned),
            delegate: plugin.map(str::to_owned),
            data_dir: data_dir(section)?,
        })
    }
}

/// The key under which GC is told what to keep.
pub(crate) const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// The attachments that GC must keep.
///
/// # Errors
///
/// [`ConfigError::Missing`] if the list is not there: an absent list must not be taken
/// for an empty one, or everything would be removed.
pub fn valid_attachments(
    config: &Map<String, Value>,
) -> Result<BTreeSet<AttachmentKey>, ConfigError> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "containerID")]
        container_id: String,
        ifname: String,
    }
    let entries: Vec<Entry> = need(config, VALID_ATTACHMENTS, VALID_ATTACHMENTS)?;
    let key = |Entry { container_id, ifname }| AttachmentKey { container_id, ifname };
    Ok(entries.into_iter().map(key).collect())
}

fn ipam_section(config: &Map<String, Value>) -> Result<&Map<String, Value>, ConfigError> {
    let section = config.get("ipam").and_then(Value::as_object);
    section.ok_or(ConfigError::Missing { key: "ipam" })
}

fn data_dir(section: &Map<String, Value>) -> Result<PathBuf, ConfigError> {
    const KEY: &str = "ipam.dataDir";
    let dir = read(section, "dataDir", KEY)?.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
    if !dir.is_absolute() {
        let value = dir.display().to_string();
        return Err(ConfigError::Invalid { key: KEY, value, expected: "an absolute path" });
    }
    Ok(dir)
}

pub(crate) fn need<T: DeserializeOwned>(
    object: &Map<String, Value>,
    json_key: &str,
    key: &'static str,
) -> Result<T, ConfigError> {
    read(object, json_key, key)?.ok_or(ConfigError::Missing { key })
}

/// Reads the value of `json_key`; `key` is how an error calls it. `null` counts as absent.
pub(crate) fn read<T: DeserializeOwned>(
    object: &Map<String, Value>,
    json_key: &str,
    key: &'static str,
) -> Result<Option<T>, ConfigError> {
    match object.get(json_key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            T::deserialize(value).map(Some).map_err(|source| ConfigError::Mistyped { key, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn overlay(change: impl FnOnce(&mut Value)) -> Result<OverlayConfig, ConfigError> {
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "dcos", "type": "mizzen-overlay",
            "bridge": "m-dcos", "mtu": 1420, "hairpinMode": true, "isGateway": true,
            "ipam": { "type": "mizzen-ipam", "subnet": "9.0.5.0/25",
                      "dataDir": "/tmp/x", "routes": [{ "dst": "0.0.0.0/0" }] },
            "dns": { "nameservers": ["198.51.100.1"] },
            "somethingNew": { "of": "tomorrow" },
        });
        change(&mut config);
        OverlayConfig::read(config.as_object().unwrap())
    }

    #[test]
    fn a_good_configuration() {
        let config = overlay(|_| {}).unwrap();
        assert_eq!((config.bridge.as_str(), config.mtu), ("m-dcos", 1420));
        assert!(config.hairpin && config.is_gateway);
        let Ipam::Own(ipam) = config.ipam else { panic!("{:?}", config.ipam) };
        assert_eq!(ipam.sets[0][0].subnet.to_string(), "9.0.5.0/25");
        assert_eq!(ipam.routes[0].dst.to_string(), "0.0.0.0/0");

        let other = overlay(|config| config["ipam"] = json!({ "type": "host-local" })).unwrap();
        assert_eq!(other.ipam, Ipam::Delegated { plugin: "host-local".into() });
    }

    #[test]
    fn errors_name_the_key() {
        type Change = fn(&mut Value);
        #[rustfmt::skip]
        let table: &[(&str, Change, u32)] = &[
            ("bridge",          |c| c["bridge"] = Value::Null, 7),
            ("bridge",          |c| c["bridge"] = json!("much-too-long-name"), 7),
            ("bridge",          |c| c["bridge"] = json!(5), 7),
            ("mtu",             |c| c["mtu"] = json!(10), 7),
            ("mtu",             |c| c["mtu"] = json!(-1), 7),
            ("hairpinMode",     |c| c["hairpinMode"] = json!("yes"), 7),
            ("ipMasq",          |c| c["ipMasq"] = json!(true), 2),
            ("ipam",            |c| c["ipam"] = Value::Null, 7),
            ("ipam.type",       |c| c["ipam"]["type"] = Value::Null, 7),
            ("ipam.subnet",     |c| c["ipam"]["subnet"] = json!("9.0.5.0"), 7),
            ("ipam.subnet",     |c| c["ipam"]["subnet"] = json!("9.0.5.3/25"), 7),
            ("ipam.subnet",     |c| c["ipam"]["subnet"] = json!("9.0.5.0/31"), 7),
            ("ipam.gateway",    |c| c["ipam"]["gateway"] = json!("10.0.0.1"), 7),
            ("ipam.rangeStart", |c| c["ipam"]["rangeStart"] = json!("fd01::1"), 7),
            ("ipam.rangeEnd",   |c| {
                c["ipam"]["rangeStart"] = json!("9.0.5.9");
                c["ipam"]["rangeEnd"] = json!("9.0.5.8");
            }, 7),
            ("ipam.dataDir",    |c| c["ipam"]["dataDir"] = json!("relative"), 7),
            ("ipam.routes",     |c| c["ipam"]["routes"] = json!([{}]), 7),
            ("dns",             |c| c["dns"] = json!(53), 7),
        ];
        for (at, (key, change, code)) in table.iter().enumerate() {
            let error = overlay(change).unwrap_err();
            assert!(error.to_string().contains(&format!("`{key}`")), "row {at}: {error}");
            assert_eq!(error.code() as u32, *code, "row {at}: {error}");
        }
    }

    #[test]
    fn an_absent_list_of_attachments_is_not_an_empty_one() {
        let none = json!({});
        assert!(valid_attachments(none.as_object().unwrap()).is_err());
        let some = json!({ "cni.dev/valid-attachments":
            [{ "containerID": "c1", "ifname": "eth0" }] });
        assert_eq!(valid_attachments(some.as_object().unwrap()).unwrap().len(), 1);
    }
}
