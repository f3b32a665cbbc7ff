//! Services registered by hand, as clients write them and as they are shown.
//!
//! ```json
//! { "backends": ["192.0.2.7:8080", { "address": "192.0.2.8:8080", "weight": 3 }],
//!   "rule": "latency", "locality": "prefer", "slow_start": "10s", "on_removal": "datagrams" }
//! ```
//!
//! What is shown can be sent back: the members that only the node knows are not heeded.

use mizzen_types::vip::{Locality, Millis, OnRemoval, PolicyWish, Rule, VipKey};
use mizzen_types::vip_service::{
    VipHost, VipServiceBackend, VipServiceError, VipServiceFact, VipServiceId,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Zone of the names of VIPs.
pub const VIP_ZONE: &str = "l4lb.thisdcos.directory";

/// A description that makes no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// No JSON, or of another form; with what is wrong and where.
    #[error("this is no VIP service: {0}")]
    Form(String),
    /// A text that names no service.
    #[error(transparent)]
    Service(#[from] VipServiceError),
    /// A time that cannot be read.
    #[error("`slow_start`: `{0}` is not 0 or a time with its unit, such as 500ms, 10s or 2m")]
    SlowStart(String),
    /// A backend that connections to the VIP's address cannot be led to.
    #[error("backend {backend} is not of the family of {vip}")]
    Family {
        /// The backend.
        backend: SocketAddr,
        /// The VIP's address.
        vip: IpAddr,
    },
    /// A backend that is there already.
    #[error("backend {0} is named twice")]
    Twice(SocketAddr),
    /// A description of another service.
    #[error("`service` is `{found}`, but this is {service}")]
    OtherService {
        /// What stands there.
        found: String,
        /// What it should be.
        service: String,
    },
}

/// A service as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown<'a> {
    service: String,
    name: Option<String>,
    vips: Vec<SocketAddr>,
    backends: &'a [VipServiceBackend],
    rule: Option<Rule>,
    locality: Option<Locality>,
    slow_start: Option<String>,
    on_removal: Option<OnRemoval>,
    /// What keeps it from being what somebody may expect of it, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Reads the description of a service from a document that has been read.
///
/// # Errors
///
/// [`DocumentError`] names the first thing that is wrong.
pub fn read(id: &VipServiceId, document: &Value) -> Result<VipServiceFact, DocumentError> {
    let document = Document::deserialize(document);
    fact(id, document.map_err(|error| DocumentError::Form(error.to_string()))?)
}

/// Reads the body of a request.
///
/// # Errors
///
/// As [`read`].
pub fn read_body(id: &VipServiceId, body: &[u8]) -> Result<VipServiceFact, DocumentError> {
    let document: Value =
        serde_json::from_slice(body).map_err(|error| DocumentError::Form(error.to_string()))?;
    // What is wrong with a value is told without its place: who typed flags never saw the text.
    read(id, &document)
}

/// Shows a service with the VIPs that it has.
#[must_use]
pub fn show<'a>(id: &VipServiceId, fact: &'a VipServiceFact, vips: &[VipKey]) -> Shown<'a> {
    let PolicyWish { rule, locality, on_removal, slow_start } = fact.policy;
    Shown {
        service: id.to_string(),
        name: id.name().map(|name| format!("{name}.{VIP_ZONE}")),
        vips: vips.iter().map(|vip| SocketAddr::new(vip.address, vip.port)).collect(),
        backends: &fact.backends,
        rule,
        locality,
        slow_start: slow_start.map(|time| time.to_string()),
        on_removal,
        notes: Vec::new(),
    }
}

/// What clients write.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    backends: Vec<Backend>,
    rule: Option<Rule>,
    locality: Option<Locality>,
    #[serde(alias = "slow-start")]
    slow_start: Option<String>,
    #[serde(alias = "on-removal")]
    on_removal: Option<OnRemoval>,
    service: Option<String>,
    #[serde(default, rename = "name")]
    _name: IgnoredAny,
    #[serde(default, rename = "vips")]
    _vips: IgnoredAny,
    #[serde(default, rename = "notes")]
    _notes: IgnoredAny,
}

/// A backend as a text or as an object.
struct Backend(VipServiceBackend);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendMembers {
    address: SocketAddr,
    weight: Option<u16>,
}

struct BackendVisitor;

impl<'de> Deserialize<'de> for Backend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BackendVisitor)
    }
}

impl<'de> Visitor<'de> for BackendVisitor {
    type Value = Backend;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IP:PORT@WEIGHT or an object with address and weight")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Backend, E> {
        text.parse().map(Backend).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Backend, A::Error> {
        let members = BackendMembers::deserialize(MapAccessDeserializer::new(members))?;
        let backend: Backend = self.visit_str(&members.address.to_string())?;
        let weight = members.weight.unwrap_or(backend.0.weight);
        Ok(Backend(VipServiceBackend { weight, ..backend.0 }))
    }
}

fn fact(id: &VipServiceId, document: Document) -> Result<VipServiceFact, DocumentError> {
    if let Some(found) = document.service
        && found.parse::<VipServiceId>()? != *id
    {
        return Err(DocumentError::OtherService { found, service: id.to_string() });
    }
    let slow_start = match document.slow_start {
        Some(text) => Some(Millis::from_text(&text).ok_or(DocumentError::SlowStart(text))?),
        None => None,
    };
    let Document { rule, locality, on_removal, .. } = document;
    let mut backends: Vec<_> = document.backends.into_iter().map(|backend| backend.0).collect();
    backends.sort_unstable();
    check_backends(id, &backends)?;
    let policy = PolicyWish { rule, locality, on_removal, slow_start };
    Ok(VipServiceFact { backends, policy })
}

fn check_backends(id: &VipServiceId, sorted: &[VipServiceBackend]) -> Result<(), DocumentError> {
    if let VipHost::Address(vip) = id.host {
        let other = sorted.iter().find(|backend| backend.address.is_ipv4() != vip.is_ipv4());
        if let Some(other) = other {
            return Err(DocumentError::Family { backend: other.address, vip });
        }
    }
    match sorted.windows(2).find(|pair| pair[0].address == pair[1].address) {
        Some(pair) => Err(DocumentError::Twice(pair[0].address)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(text: &str) -> VipServiceId {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let sent = json!({
            "backends": ["192.0.2.8:80@3", {"address": "192.0.2.7:80"}, {"address": "[fd00::1]:80", "weight": 0}],
            "rule": "maglev", "slow-start": "90s", "on_removal": null,
        });
        let demo = id("demo:80/tcp");
        let fact = read(&demo, &sent).unwrap();
        let vips = [VipKey {
            address: [11, 0, 0, 7].into(),
            port: 80,
            protocol: mizzen_types::vip::Protocol::Tcp,
        }];
        let shown = serde_json::to_value(show(&demo, &fact, &vips)).unwrap();
        let want = json!({
            "service": "demo:80/tcp",
            "name": "demo.static.l4lb.thisdcos.directory",
            "vips": ["11.0.0.7:80"],
            "backends": [
                {"address": "192.0.2.7:80", "weight": 1},
                {"address": "192.0.2.8:80", "weight": 3},
                {"address": "[fd00::1]:80", "weight": 0},
            ],
            "rule": "maglev", "locality": null, "slow_start": "90s", "on_removal": null,
        });
        assert_eq!(shown, want);
        assert_eq!(read(&demo, &shown), Ok(fact));
    }

    #[test]
    fn what_makes_no_service() {
        let one = |members: Value| {
            let mut document = json!({"backends": ["192.0.2.7:80"]});
            document.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            document
        };
        #[rustfmt::skip]
        let table = [
            (json!([]),                     "this is no VIP service: invalid length 0"),
            (json!(7),                      "this is no VIP service: invalid type: integer `7`"),
            (json!({}),                     "this is no VIP service: missing field `backends`"),
            (one(json!({"weight": 1})),     "this is no VIP service: unknown field `weight`, expected one of `backends`"),
            (one(json!({"rule": 3})),       "this is no VIP service: "),
            (one(json!({"rule": "best"})),  "this is no VIP service: unknown variant `best`, expected one of `latency`"),
            (one(json!({"slow_start": "1"})), "`slow_start`: `1` is not 0 or a time with its unit, such as 500ms, 10s or 2m"),
            (one(json!({"service": "x:80"})), "`service` is `x:80`, but this is 10.1.1.1:80/tcp"),
            (json!({"backends": "x"}),      "this is no VIP service: invalid type: string \"x\", expected a sequence"),
            (json!({"backends": [7]}),      "this is no VIP service: invalid type: integer `7`, expected IP:PORT@WEIGHT or an object"),
            (json!({"backends": ["x"]}),    "this is no VIP service: `x` is not of the form IP:PORT or IP:PORT@WEIGHT (weight 0 to 65535)"),
            (json!({"backends": [{"address": "192.0.2.7:80", "weight": -1}]}), "this is no VIP service: invalid value: integer `-1`, expected u16"),
            (json!({"backends": [{"address": "192.0.2.7:0"}]}), "this is no VIP service: `192.0.2.7:0` is not of the form"),
            (json!({"backends": [{"ip": "192.0.2.7"}]}), "this is no VIP service: unknown field `ip`, expected `address` or `weight`"),
            (json!({"backends": ["192.0.2.7:80", "192.0.2.7:80@2"]}), "backend 192.0.2.7:80 is named twice"),
            (json!({"backends": ["[fd00::1]:80"]}), "backend [fd00::1]:80 is not of the family of 10.1.1.1"),
        ];
        for (document, want) in table {
            let id = id("10.1.1.1:80/tcp");
            let error = read(&id, &document).unwrap_err().to_string();
            assert!(error.starts_with(want), "{document}: {error}");
            let sent = read_body(&id, document.to_string().as_bytes()).unwrap_err().to_string();
            assert!(sent.starts_with(want) && !sent.contains("column"), "{document}: {sent}");
        }
        let error = read_body(&id("x:80"), b"{").unwrap_err();
        assert!(matches!(error, DocumentError::Form(_)), "{error}");
        assert_eq!(read_body(&id("x:80"), br#"{"backends": []}"#), Ok(VipServiceFact::default()));
    }
}
