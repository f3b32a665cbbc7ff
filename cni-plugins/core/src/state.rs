//! The daemon's word on its overlays, for configurations that only name one.
//!
//! The daemon writes `overlays.json` into the directory of the leases whenever its share of
//! an overlay changes, complete and at once. A plugin reads it at ADD, so it works from the
//! last known state while the daemon is away, and asks it only when all addresses are leased.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::ConfigError;
use crate::request::is_word;

/// Name of the file in the directory of the leases.
pub const STATE_FILE: &str = "overlays.json";

/// The version of the format that we write.
pub const STATE_VERSION: u32 = 1;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaysState {
    /// Version of the format.
    pub version: u32,
    /// The overlays, by name.
    pub overlays: BTreeMap<String, OverlayShare>,
    /// Where the daemon wants to be told of containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// This node's share of an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverlayShare {
    /// The bridge of its containers.
    pub bridge: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The node's blocks, of both families.
    pub blocks: Vec<Block>,
    /// The resolvers that containers are told of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<IpAddr>,
}

/// Addresses for containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The network.
    pub subnet: IpNet,
    /// The bridge's own address in it; the first one if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// The overlay that `config` only names, if it does.
#[must_use]
pub fn named_overlay(config: &Map<String, Value>) -> Option<&str> {
    config.get("overlay").and_then(Value::as_str)
}

/// Name of the directory of the leases: all networks of one overlay share its addresses, and
/// therefore its leases.
///
/// # Errors
///
/// [`ConfigError::Invalid`] if the overlay's name cannot be one.
pub fn lease_directory<'a>(
    config: &'a Map<String, Value>,
    network: &'a str,
) -> Result<&'a str, ConfigError> {
    let Some(name) = named_overlay(config) else { return Ok(network) };
    if !is_word(name) {
        let expected = "letters, digits, `.`, `_` and `-`, the first a letter or digit";
        return Err(ConfigError::Invalid { key: "overlay", value: name.into(), expected });
    }
    Ok(name)
}

/// Completes `config` with the share of the overlay that it names. What it says itself counts.
///
/// # Errors
///
/// [`ConfigError::Invalid`] if the overlay has no share on this node.
pub fn complete(
    config: &Map<String, Value>,
    state: &OverlaysState,
) -> Result<Map<String, Value>, ConfigError> {
    let Some(name) = named_overlay(config) else { return Ok(config.clone()) };
    let share = state.overlays.get(name).ok_or_else(|| ConfigError::Invalid {
        key: "overlay",
        value: name.to_owned(),
        expected: "an overlay of which this node has a share",
    })?;
    let mut config = config.clone();
    let mut fill = |key: &str, value: Value| {
        config.entry(key).or_insert(value);
    };
    fill("bridge", json!(share.bridge));
    fill("mtu", json!(share.mtu));
    fill("isGateway", json!(true));
    fill("hairpinMode", json!(true));
    fill("ipam", json!({}));
    if !share.nameservers.is_empty() {
        fill("dns", json!({ "nameservers": share.nameservers }));
    }
    if let Some(ipam) = config.get_mut("ipam").and_then(Value::as_object_mut) {
        let mut fill = |key: &str, value: Value| {
            ipam.entry(key).or_insert(value);
        };
        fill("type", json!(crate::config::OWN_IPAM));
        fill("ranges", ranges(&share.blocks));
        fill("routes", default_routes(&share.blocks));
    }
    Ok(config)
}

/// One address of each family: a list of blocks for each.
fn ranges(blocks: &[Block]) -> Value {
    let of = |v6: bool| -> Vec<&Block> {
        blocks.iter().filter(|block| block.subnet.addr().is_ipv6() == v6).collect()
    };
    json!([of(false), of(true)].into_iter().filter(|set| !set.is_empty()).collect::<Vec<_>>())
}

fn default_routes(blocks: &[Block]) -> Value {
    let has = |v6: bool| blocks.iter().any(|block| block.subnet.addr().is_ipv6() == v6);
    let routes = [(false, "0.0.0.0/0"), (true, "::/0")].into_iter().filter(|(v6, _)| has(*v6));
    routes.map(|(_, dst)| json!({ "dst": dst })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Ipam, OverlayConfig};

    fn state() -> OverlaysState {
        serde_json::from_value(json!({ "version": 1, "overlays": { "dcos": {
            "bridge": "m-dcos", "mtu": 1420, "nameservers": ["198.51.100.1"],
            "blocks": [{ "subnet": "9.0.5.0/25" }, { "subnet": "9.0.9.0/25", "gateway": "9.0.9.9" },
                       { "subnet": "fd01:b::/80" }] } } }))
        .unwrap()
    }

    #[test]
    fn a_name_becomes_a_whole_configuration() {
        let config = json!({ "name": "pods", "overlay": "dcos", "mtu": 1300 });
        let config = complete(config.as_object().unwrap(), &state()).unwrap();
        let overlay = OverlayConfig::read(&config).unwrap();
        assert_eq!((overlay.bridge.as_str(), overlay.mtu), ("m-dcos", 1300));
        assert_eq!(overlay.dns.nameservers, ["198.51.100.1"]);
        let Ipam::Own(ipam) = overlay.ipam else { panic!("{:?}", overlay.ipam) };
        assert_eq!((ipam.sets.len(), ipam.sets[0].len(), ipam.routes.len()), (2, 2, 2));
        assert_eq!(ipam.sets[0][1].gateway, Some("9.0.9.9".parse().unwrap()));
    }

    #[test]
    fn networks_of_an_overlay_share_their_leases() {
        let read =
            |config: Value| lease_directory(config.as_object().unwrap(), "pods").map(str::to_owned);
        assert_eq!(read(json!({})).unwrap(), "pods");
        assert_eq!(read(json!({ "overlay": "dcos" })).unwrap(), "dcos");
        assert!(read(json!({ "overlay": "../../etc" })).is_err());
    }

    #[test]
    fn an_overlay_that_nobody_knows_is_said_by_name() {
        let config = json!({ "overlay": "gone" });
        let error = complete(config.as_object().unwrap(), &state()).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }
}
