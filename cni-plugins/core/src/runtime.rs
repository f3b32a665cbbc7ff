//! What a runtime asks for one container: capabilities (`runtimeConfig`), the conventions
//! under `args.cni`, and `CNI_ARGS`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::{ConfigError, read};
use crate::result::Dns;

/// Addresses that a container should get instead of any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its IP addresses (`ips`, `IP=`).
    pub ips: Vec<IpAddr>,
    /// Its link-layer address (`mac`, `MAC=`).
    pub mac: Option<[u8; 6]>,
}

/// How fast a container may send and receive; `None` is as fast as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// What it receives (`ingressRate`, `ingressBurst`).
    pub ingress: Option<Limit>,
    /// What it sends (`egressRate`, `egressBurst`).
    pub egress: Option<Limit>,
}

/// A rate and what may exceed it for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes in a second.
    pub rate: u64,
    /// Bytes that may go at once.
    pub burst: u32,
}

impl Wanted {
    /// Reads `runtimeConfig` and `args.cni`; the first that says something counts.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key.
    pub fn read(config: &Map<String, Value>) -> Result<Self, ConfigError> {
        let mut wanted = Self::default();
        for (section, ips_key, mac_key) in [
            (runtime_config(config), "runtimeConfig.ips", "runtimeConfig.mac"),
            (conventions(config), "args.cni.ips", "args.cni.mac"),
        ] {
            let Some(section) = section else { continue };
            if wanted.ips.is_empty() {
                let texts: Vec<String> = read(section, "ips", ips_key)?.unwrap_or_default();
                wanted.ips =
                    texts.iter().map(|text| ip(text, ips_key)).collect::<Result<_, _>>()?;
            }
            let text: Option<String> = read(section, "mac", mac_key)?;
            if let (None, Some(text)) = (wanted.mac, text.filter(|text| !text.is_empty())) {
                let expected = "a link-layer address such as 02:6d:09:00:05:02";
                let invalid =
                    || ConfigError::Invalid { key: mac_key, value: text.clone(), expected };
                wanted.mac = Some(mac(&text).ok_or_else(invalid)?);
            }
        }
        Ok(wanted)
    }
}

impl Bandwidth {
    /// Reads `runtimeConfig.bandwidth`, in bits and bits a second as the convention has it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key.
    pub fn read(config: &Map<String, Value>) -> Result<Self, ConfigError> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Bits {
            ingress_rate: u64,
            ingress_burst: u64,
            egress_rate: u64,
            egress_burst: u64,
        }
        const KEY: &str = "runtimeConfig.bandwidth";
        let Some(section) = runtime_config(config) else { return Ok(Self::default()) };
        let bits: Bits = read(section, "bandwidth", KEY)?.unwrap_or_default();
        Ok(Self {
            ingress: limit(bits.ingress_rate, bits.ingress_burst)?,
            egress: limit(bits.egress_rate, bits.egress_burst)?,
        })
    }
}

/// The resolvers that the runtime wants (`runtimeConfig.dns`).
///
/// # Errors
///
/// [`ConfigError`] names the key.
pub fn dns(config: &Map<String, Value>) -> Result<Option<Dns>, ConfigError> {
    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Wanted {
        servers: Vec<String>,
        searches: Vec<String>,
        options: Vec<String>,
    }
    let Some(section) = runtime_config(config) else { return Ok(None) };
    let wanted: Option<Wanted> = read(section, "dns", "runtimeConfig.dns")?;
    Ok(wanted.map(|Wanted { servers: nameservers, searches: search, options }| Dns {
        nameservers,
        domain: None,
        search,
        options,
    }))
}

/// A link-layer address of six bytes from its text.
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let octets = text.split(':').map(|part| u8::from_str_radix(part, 16).ok());
    octets.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

pub(crate) fn runtime_config(config: &Map<String, Value>) -> Option<&Map<String, Value>> {
    config.get("runtimeConfig").and_then(Value::as_object)
}

fn conventions(config: &Map<String, Value>) -> Option<&Map<String, Value>> {
    config.get("args")?.get("cni")?.as_object()
}

/// An address, with or without the length of its prefix.
fn ip(text: &str, key: &'static str) -> Result<IpAddr, ConfigError> {
    let bare = || text.parse::<IpAddr>().ok();
    let address = text.parse::<IpNet>().ok().map(|net| net.addr()).or_else(bare);
    let expected = "a list of IP addresses";
    address.ok_or_else(|| ConfigError::Invalid { key, value: text.to_owned(), expected })
}

fn limit(rate: u64, burst: u64) -> Result<Option<Limit>, ConfigError> {
    /// A burst that holds the largest packet of any overlay, in bytes.
    const LEAST: u64 = 64 * 1024;
    if rate == 0 {
        return Ok(None);
    }
    if rate < 8 {
        let (key, expected) = ("runtimeConfig.bandwidth", "at least 8 bits a second");
        return Err(ConfigError::Invalid { key, value: rate.to_string(), expected });
    }
    let burst = (burst / 8).clamp(LEAST, u64::from(u32::MAX / 2));
    Ok(Some(Limit { rate: rate / 8, burst: burst as u32 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wishes_are_read_where_runtimes_put_them() {
        let read = |config: Value| Wanted::read(config.as_object().unwrap());
        let capability = json!({ "runtimeConfig": { "ips": ["9.0.5.7/25", "fd01::7"],
                                                    "mac": "02:00:00:00:00:01" } });
        let wanted = read(capability).unwrap();
        assert_eq!(wanted.ips, ["9.0.5.7", "fd01::7"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(wanted.mac, Some([2, 0, 0, 0, 0, 1]));
        let convention = read(json!({ "args": { "cni": { "ips": ["9.0.5.8"] } } })).unwrap();
        assert_eq!(convention.ips, ["9.0.5.8".parse::<IpAddr>().unwrap()]);
        for (bad, key) in [
            (json!({ "runtimeConfig": { "ips": ["x"] } }), "runtimeConfig.ips"),
            (json!({ "runtimeConfig": { "ips": "9.0.5.8" } }), "runtimeConfig.ips"),
            (json!({ "runtimeConfig": { "mac": "02:00" } }), "runtimeConfig.mac"),
            (json!({ "args": { "cni": { "ips": [5] } } }), "args.cni.ips"),
        ] {
            assert!(read(bad).unwrap_err().to_string().contains(key), "{key}");
        }
    }

    #[test]
    fn bandwidth_is_in_bits_there_and_in_bytes_here() {
        let config = json!({ "runtimeConfig": { "bandwidth":
            { "ingressRate": 8_000_000, "ingressBurst": 1_600_000, "egressRate": 800 } } });
        let bandwidth = Bandwidth::read(config.as_object().unwrap()).unwrap();
        assert_eq!(bandwidth.ingress, Some(Limit { rate: 1_000_000, burst: 200_000 }));
        assert_eq!(bandwidth.egress, Some(Limit { rate: 100, burst: 65536 }));
        assert_eq!(Bandwidth::read(&Map::new()).unwrap(), Bandwidth::default());
    }
}
