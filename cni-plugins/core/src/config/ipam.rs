//! The `ipam` section: which addresses may be given.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{ConfigError, data_dir, ipam_section, need, read};
use crate::result::Route;

/// What `mizzen-ipam` is told (`ipam`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpamConfig {
    /// Where addresses come from: a container gets one of each set (`ranges`, or the one
    /// `subnet`).
    pub sets: Vec<Vec<Range>>,
    /// Where leases are kept, in a directory per network (`dataDir`).
    pub data_dir: PathBuf,
    /// The container's routes (`routes`).
    pub routes: Vec<Route>,
}

/// Addresses of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The network (`subnet`).
    pub subnet: IpNet,
    /// First address to give away (`rangeStart`); the first usable one otherwise.
    pub start: Option<IpAddr>,
    /// Last address to give away (`rangeEnd`); the last usable one otherwise.
    pub end: Option<IpAddr>,
    /// The next router (`gateway`); the first usable address otherwise.
    pub gateway: Option<IpAddr>,
}

impl IpamConfig {
    /// Reads the `ipam` section of a configuration: `ranges` as `host-local` has it, a list
    /// of lists of networks, or one network in the section itself.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key.
    pub fn read(config: &Map<String, Value>) -> Result<Self, ConfigError> {
        let section = ipam_section(config)?;
        let listed: Option<Vec<Vec<Map<String, Value>>>> = read(section, "ranges", "ipam.ranges")?;
        let mut sets = Vec::new();
        if section.contains_key("subnet") || listed.is_none() {
            sets.push(vec![Range::read(section)?]);
        }
        for set in listed.into_iter().flatten() {
            sets.push(set.iter().map(Range::read).collect::<Result<_, _>>()?);
        }
        distinct(&sets)?;
        Ok(Self {
            sets,
            data_dir: data_dir(section)?,
            routes: read(section, "routes", "ipam.routes")?.unwrap_or_default(),
        })
    }
}

impl Range {
    fn read(section: &Map<String, Value>) -> Result<Self, ConfigError> {
        const KEY: &str = "ipam.subnet";
        let subnet: IpNet = need(section, "subnet", KEY)?;
        let invalid = |key, value: &dyn ToString, expected| {
            let value = value.to_string();
            ConfigError::Invalid { key, value, expected }
        };
        if subnet.trunc() != subnet {
            return Err(invalid(KEY, &subnet, "the address of a network: host bits are set"));
        }
        if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
            return Err(invalid(KEY, &subnet, "large enough for a gateway and a container"));
        }
        let inside = |json_key: &str, key: &'static str| {
            let address: Option<IpAddr> = read(section, json_key, key)?;
            match address.filter(|address| !subnet.contains(address)) {
                None => Ok(address),
                Some(outside) => Err(invalid(key, &outside, "in the subnet")),
            }
        };
        let (start, end) =
            (inside("rangeStart", "ipam.rangeStart")?, inside("rangeEnd", "ipam.rangeEnd")?);
        if let (Some(start), Some(end)) = (start, end)
            && start > end
        {
            return Err(invalid("ipam.rangeEnd", &end, "at or after ipam.rangeStart"));
        }
        Ok(Self { subnet, start, end, gateway: inside("gateway", "ipam.gateway")? })
    }
}

/// Networks that overlap would give one address twice, under two names.
fn distinct(sets: &[Vec<Range>]) -> Result<(), ConfigError> {
    const KEY: &str = "ipam.ranges";
    if sets.iter().any(Vec::is_empty) || sets.is_empty() {
        let expected = "a list of lists with a network at least";
        return Err(ConfigError::Invalid { key: KEY, value: "[]".into(), expected });
    }
    let all: Vec<IpNet> = sets.iter().flatten().map(|range| range.subnet).collect();
    for (at, one) in all.iter().enumerate() {
        let clash = |other: &&IpNet| one.contains(*other) || other.contains(one);
        if let Some(other) = all.iter().skip(at + 1).find(clash) {
            let (value, expected) = (other.to_string(), "apart from the other networks");
            return Err(ConfigError::Invalid { key: KEY, value, expected });
        }
    }
    let mixed = |set: &&Vec<Range>| {
        set.iter().any(|range| range.subnet.addr().is_ipv4())
            && set.iter().any(|range| range.subnet.addr().is_ipv6())
    };
    match sets.iter().find(mixed) {
        None => Ok(()),
        Some(set) => {
            let value = set.iter().map(|range| range.subnet.to_string()).collect::<Vec<_>>();
            let (value, expected) = (value.join(", "), "of one address family in each list");
            Err(ConfigError::Invalid { key: KEY, value, expected })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_of_both_families() {
        let read = |ranges: Value| {
            let config = json!({ "ipam": { "type": "mizzen-ipam", "ranges": ranges } });
            IpamConfig::read(config.as_object().unwrap())
        };
        let sets = read(json!([
            [{ "subnet": "9.0.5.0/25" }, { "subnet": "9.0.9.0/25", "rangeStart": "9.0.9.9" }],
            [{ "subnet": "fd01:b::/80" }],
        ]));
        let sets = sets.unwrap().sets;
        assert_eq!((sets.len(), sets[0].len()), (2, 2));
        assert_eq!(sets[0][1].start, Some("9.0.9.9".parse().unwrap()));
        for bad in [
            json!([]),
            json!([[]]),
            json!([[{ "subnet": "9.0.0.0/16" }, { "subnet": "9.0.5.0/25" }]]),
            json!([[{ "subnet": "9.0.0.0/16" }], [{ "subnet": "9.0.0.0/16" }]]),
            json!([[{ "subnet": "9.0.0.0/16" }, { "subnet": "fd01::/80" }]]),
            json!({ "subnet": "9.0.0.0/16" }),
        ] {
            let error = read(bad.clone()).unwrap_err();
            assert!(error.to_string().contains("ipam.ranges"), "{bad}: {error}");
        }
    }
}
