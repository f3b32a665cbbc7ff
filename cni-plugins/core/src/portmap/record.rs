//! What a container was promised, as a file: whoever finds its ports gone publishes them again.
//!
//! A record is written after the ports were published and removed before they are, both under
//! the lock of its directory. So a record without ports means that somebody else removed them,
//! whenever somebody looks who holds the lock.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{PortmapConfig, port_mark};
use crate::AttachmentKey;
use crate::config::{ConfigError, DEFAULT_DATA_DIR, read};
use crate::plan::host_link;
use crate::runtime::runtime_config;

/// Name of the lock in a directory of records.
pub const RECORD_LOCK: &str = "lock";

/// The directory of records in a data directory; no network and no overlay can have its name.
const DIRECTORY: &str = ".ports";

/// What the ports follow from, besides the wishes of the runtime.
const KEPT: [&str; 4] = ["table", "except", "snat", "prevResult"];

/// Why a container's ports are published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRecord {
    /// Version of this format.
    pub version: u32,
    /// The network through which the container asked.
    pub network: String,
    /// The container.
    pub container_id: String,
    /// Its interface.
    pub ifname: String,
    /// Of what the plugin was told, what the ports follow from.
    pub config: Map<String, Value>,
}

impl PortRecord {
    /// The version that we write.
    pub const VERSION: u32 = 1;

    /// The record of a plugin that was told `config`.
    #[must_use]
    pub fn new(network: &str, key: &AttachmentKey, config: &Map<String, Value>) -> Self {
        let kept =
            KEPT.iter().filter_map(|key| Some(((*key).to_owned(), config.get(*key)?.clone())));
        let mut kept: Map<String, Value> = kept.collect();
        if let Some(mappings) = runtime_config(config).and_then(|wishes| wishes.get("portMappings"))
        {
            kept.insert("runtimeConfig".to_owned(), json!({ "portMappings": mappings }));
        }
        let AttachmentKey { container_id, ifname } = key.clone();
        Self {
            version: Self::VERSION,
            network: network.to_owned(),
            container_id,
            ifname,
            config: kept,
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn key(&self) -> AttachmentKey {
        AttachmentKey { container_id: self.container_id.clone(), ifname: self.ifname.clone() }
    }

    /// The mark of its ports.
    #[must_use]
    pub fn mark(&self) -> String {
        port_mark(&self.network, &self.key())
    }

    /// What the plugin was told.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if another version of the plugin understood it differently.
    pub fn config(&self) -> Result<PortmapConfig, ConfigError> {
        PortmapConfig::read(&self.config)
    }
}

/// Name of the file of a container's record: that of its link, which follows from its own.
#[must_use]
pub fn record_name(network: &str, key: &AttachmentKey) -> String {
    host_link(network, key)
}

/// Where records of all tables and places of a data directory are.
#[must_use]
pub fn record_root(data_dir: &Path) -> PathBuf {
    data_dir.join(DIRECTORY)
}

/// Where the records of a table are.
///
/// * `place` — a name of the network namespace that the table is in. Files outlive it, and the
///   machine; what is in the kernel does not.
#[must_use]
pub fn record_directory(data_dir: &Path, place: &str, table: &str) -> PathBuf {
    record_root(data_dir).join(place).join(table)
}

/// The data directory of a plugin that is told `config` (`dataDir`).
///
/// # Errors
///
/// [`ConfigError`] names the key.
pub fn record_data_dir(config: &Map<String, Value>) -> Result<PathBuf, ConfigError> {
    const KEY: &str = "dataDir";
    let dir = read(config, KEY, KEY)?.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
    if !dir.is_absolute() {
        let value = dir.display().to_string();
        return Err(ConfigError::Invalid { key: KEY, value, expected: "an absolute path" });
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::super::plan_ports;
    use super::*;

    #[test]
    fn a_record_leads_to_the_same_ports() {
        let config = json!({
            "cniVersion": "1.0.0", "name": "dcos", "type": "mizzen-portmap", "table": "t",
            "args": { "something": "large" }, "capabilities": { "portMappings": true },
            "runtimeConfig": { "portMappings": [{ "hostPort": 8080, "containerPort": 80 }],
                               "mac": "02:00:00:00:00:01" },
            "prevResult": { "interfaces": [{ "name": "m-dcos" }, { "name": "eth0", "sandbox": "/n" }],
                            "ips": [{ "interface": 1, "address": "9.0.5.2/25" }] },
        });
        let config = config.as_object().unwrap();
        let key = AttachmentKey { container_id: "c1".into(), ifname: "eth0".into() };
        let record = PortRecord::new("dcos", &key, config);
        let text = json!(record).to_string();
        assert!(!text.contains("large") && !text.contains("02:00"), "{text}");
        let back: PortRecord = serde_json::from_str(&text).unwrap();
        let told = PortmapConfig::read(config).unwrap();
        assert_eq!((back.mark(), back.key()), ("dcos c1 eth0".to_owned(), key));
        assert_eq!(back.config().unwrap(), told);
        assert_eq!(plan_ports(&told).unwrap().len(), 3);
    }

    #[test]
    fn where_records_are() {
        let read = |config: Value| record_data_dir(config.as_object().unwrap());
        assert_eq!(read(json!({})).unwrap(), Path::new(DEFAULT_DATA_DIR));
        let data_dir = read(json!({ "dataDir": "/l" })).unwrap();
        let directory = record_directory(&data_dir, "here", "mizzen-ports");
        assert_eq!(directory, Path::new("/l/.ports/here/mizzen-ports"));
        assert!(directory.starts_with(record_root(&data_dir)));
        for bad in [json!({ "dataDir": "l" }), json!({ "dataDir": 5 })] {
            assert!(read(bad).unwrap_err().to_string().contains("`dataDir`"));
        }
    }
}
