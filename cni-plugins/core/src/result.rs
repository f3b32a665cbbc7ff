//! The success answer of ADD, in the shape of each version.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::version::SpecVersion;

/// What ADD made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct CniResult {
    /// The links that were made or used, on the host and in the container.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// The addresses of the container.
    #[serde(default)]
    pub ips: Vec<IpConfig>,
    /// The container's routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// What the container should ask for names.
    #[serde(default)]
    pub dns: Dns,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name in its namespace.
    pub name: String,
    /// Its link-layer address.
    #[serde(default)]
    pub mac: Option<String>,
    /// Path of its network namespace; none on the host.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// Largest packet in bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IpConfig {
    /// Position in [`CniResult::interfaces`] of the link that has it.
    #[serde(default)]
    pub interface: Option<usize>,
    /// The address with the length of its prefix: `9.0.5.2/25`.
    pub address: IpNet,
    /// The next router.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
}

/// A route of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: IpNet,
    /// The next router; none means the gateway of the address.
    #[serde(default)]
    pub gw: Option<IpAddr>,
}

/// What a container should ask for names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of resolvers, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains to try for short names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options for the resolver library.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl CniResult {
    /// The answer as JSON of `version`.
    #[must_use]
    pub fn to_json(&self, version: SpecVersion) -> Value {
        let ips = self.ips.iter().map(|ip| ip.to_json(version));
        let mut object = Map::new();
        object.insert("cniVersion".into(), json!(version.as_str()));
        if !self.interfaces.is_empty() {
            let interfaces = self.interfaces.iter().map(|interface| interface.to_json(version));
            object.insert("interfaces".into(), interfaces.collect());
        }
        object.insert("ips".into(), ips.collect());
        object.insert("routes".into(), self.routes.iter().copied().map(Route::to_json).collect());
        object.insert("dns".into(), json!(self.dns));
        object.into()
    }
}

/// The answer of an earlier plugin, passed on: all of it, as `version` writes it.
#[must_use]
pub fn pass_on(previous: &Value, version: SpecVersion) -> Value {
    let mut answer = previous.clone();
    if let Some(object) = answer.as_object_mut() {
        object.insert("cniVersion".into(), json!(version.as_str()));
    }
    let ips = answer.get_mut("ips").and_then(Value::as_array_mut);
    for ip in ips.into_iter().flatten().filter_map(Value::as_object_mut) {
        let v6 = ip.get("address").and_then(Value::as_str).is_some_and(|text| text.contains(':'));
        if version < SpecVersion::V1_0_0 {
            ip.insert("version".into(), json!(if v6 { "6" } else { "4" }));
        } else {
            ip.remove("version");
        }
    }
    answer
}

impl CniResult {
    /// What an earlier plugin of the chain made, and after it what we made.
    #[must_use]
    pub fn after(self, previous: Self) -> Self {
        let Self { mut interfaces, mut ips, mut routes, dns } = previous;
        let shift = interfaces.len();
        interfaces.extend(self.interfaces);
        let ours = |ip: IpConfig| IpConfig { interface: ip.interface.map(|at| at + shift), ..ip };
        ips.extend(self.ips.into_iter().map(ours));
        routes.extend(self.routes);
        let dns = if self.dns == Dns::default() { dns } else { self.dns };
        Self { interfaces, ips, routes, dns }
    }
}

impl Interface {
    fn to_json(&self, version: SpecVersion) -> Value {
        let mut object = json!({ "name": self.name });
        set(&mut object, "mac", self.mac.as_deref());
        set(&mut object, "sandbox", self.sandbox.as_deref());
        if version >= SpecVersion::V1_1_0 {
            set(&mut object, "mtu", self.mtu);
        }
        object
    }
}

impl IpConfig {
    fn to_json(&self, version: SpecVersion) -> Value {
        let mut object = json!({ "address": self.address });
        if version < SpecVersion::V1_0_0 {
            let family = if self.address.addr().is_ipv6() { "6" } else { "4" };
            set(&mut object, "version", Some(family));
        }
        set(&mut object, "interface", self.interface);
        set(&mut object, "gateway", self.gateway);
        object
    }
}

impl Route {
    fn to_json(self) -> Value {
        let mut object = json!({ "dst": self.dst });
        set(&mut object, "gw", self.gw);
        object
    }
}

fn set(object: &mut Value, key: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        object[key] = json!(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> CniResult {
        CniResult {
            interfaces: vec![Interface {
                name: "eth0".into(),
                mac: Some("02:6d:09:00:05:02".into()),
                sandbox: Some("/proc/7/ns/net".into()),
                mtu: Some(1420),
            }],
            ips: vec![IpConfig {
                interface: Some(0),
                address: "9.0.5.2/25".parse().unwrap(),
                gateway: Some("9.0.5.1".parse().unwrap()),
            }],
            routes: vec![Route { dst: "0.0.0.0/0".parse().unwrap(), gw: None }],
            dns: Dns { nameservers: vec!["198.51.100.1".into()], ..Dns::default() },
        }
    }

    #[test]
    fn every_version_has_its_shape_and_reads_back() {
        for (version, family, mtu) in [
            (SpecVersion::V0_3_1, json!("4"), Value::Null),
            (SpecVersion::V0_4_0, json!("4"), Value::Null),
            (SpecVersion::V1_0_0, Value::Null, Value::Null),
            (SpecVersion::V1_1_0, Value::Null, json!(1420)),
        ] {
            let written = sample().to_json(version);
            assert_eq!(written["cniVersion"], version.as_str());
            assert_eq!(written["ips"][0]["version"], family, "{version}");
            assert_eq!(written["interfaces"][0]["mtu"], mtu, "{version}");
            assert_eq!(written["ips"][0]["address"], "9.0.5.2/25");
            let mut read: CniResult = serde_json::from_value(written).unwrap();
            read.interfaces[0].mtu = Some(1420);
            assert_eq!(read, sample(), "{version}");
        }
    }

    #[test]
    fn an_earlier_answer_is_passed_on_whole() {
        let previous = json!({ "cniVersion": "1.0.0", "ips": [{ "address": "fd01::2/64" }],
                               "interfaces": [{ "name": "x", "socketPath": "/s" }], "odd": 5 });
        let old = pass_on(&previous, SpecVersion::V0_4_0);
        assert_eq!((&old["cniVersion"], &old["ips"][0]["version"]), (&json!("0.4.0"), &json!("6")));
        assert_eq!((&old["odd"], &old["interfaces"][0]["socketPath"]), (&json!(5), &json!("/s")));
        assert_eq!(pass_on(&old, SpecVersion::V1_0_0), previous);

        let both = sample().after(sample());
        assert_eq!((both.interfaces.len(), both.ips[1].interface), (2, Some(1)));
    }
}
