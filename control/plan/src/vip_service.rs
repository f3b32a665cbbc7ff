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
use serde_json::{Map, Value, json};
use std::net::{IpAddr, SocketAddr};

/// Zone of the names of VIPs.
pub const VIP_ZONE: &str = "l4lb.thisdcos.directory";

/// A description that makes no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// No JSON.
    #[error("the VIP service is not JSON: {0}")]
    Json(String),
    /// JSON of another form.
    #[error("a VIP service is an object with the member `backends`")]
    NotAService,
    /// A member that nobody knows.
    #[error(
        "`{0}` is no member of a VIP service (backends, rule, locality, slow_start, on_removal)"
    )]
    Unknown(String),
    /// A member with a value that cannot be read.
    #[error("`{member}`: {value} is not {expected}")]
    Value {
        /// Its name.
        member: String,
        /// Its value, as JSON.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A text that names no service or backend.
    #[error(transparent)]
    Text(#[from] VipServiceError),
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

/// Reads the description of a service.
///
/// # Errors
///
/// [`DocumentError`] names the first thing that is wrong.
pub fn read(id: &VipServiceId, document: &Value) -> Result<VipServiceFact, DocumentError> {
    let members = document.as_object().ok_or(DocumentError::NotAService)?;
    let mut fact = VipServiceFact::default();
    let mut backends = None;
    for (member, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let policy = &mut fact.policy;
        match member.replace('-', "_").as_str() {
            "backends" => backends = Some(read_backends(member, value)?),
            "rule" => policy.rule = Some(word(member, value, Rule::from_text, RULES)?),
            "locality" => {
                policy.locality = Some(word(member, value, Locality::from_text, LOCALITIES)?);
            }
            "on_removal" => {
                policy.on_removal = Some(word(member, value, OnRemoval::from_text, FATES)?);
            }
            "slow_start" => {
                policy.slow_start = Some(word(member, value, Millis::from_text, TIMES)?);
            }
            "service" => check_service(id, value)?,
            "name" | "vips" => {}
            _ => return Err(DocumentError::Unknown(member.clone())),
        }
    }
    fact.backends = backends.ok_or(DocumentError::NotAService)?;
    fact.backends.sort();
    check_backends(id, &fact.backends)?;
    Ok(fact)
}

/// Reads the body of a request.
///
/// # Errors
///
/// As [`read`], and [`DocumentError::Json`].
pub fn read_body(id: &VipServiceId, body: &[u8]) -> Result<VipServiceFact, DocumentError> {
    let document: Value =
        serde_json::from_slice(body).map_err(|error| DocumentError::Json(error.to_string()))?;
    read(id, &document)
}

/// A service as it is shown, with the VIPs that it has.
#[must_use]
pub fn document(id: &VipServiceId, fact: &VipServiceFact, vips: &[VipKey]) -> Value {
    let backend = |backend: &VipServiceBackend| json!({ "address": backend.address, "weight": backend.weight });
    let vip = |vip: &VipKey| SocketAddr::new(vip.address, vip.port);
    let PolicyWish { rule, locality, on_removal, slow_start } = fact.policy;
    json!({
        "service": id.to_string(),
        "name": id.name().map(|name| format!("{name}.{VIP_ZONE}")),
        "vips": vips.iter().map(vip).collect::<Vec<_>>(),
        "backends": fact.backends.iter().map(backend).collect::<Value>(),
        "rule": rule.map(Rule::word),
        "locality": locality.map(Locality::word),
        "slow_start": slow_start.map(|time| time.to_string()),
        "on_removal": on_removal.map(OnRemoval::word),
    })
}

const RULES: &str = "a rule (latency, least-connections, random, maglev, source)";
const LOCALITIES: &str = "a locality (prefer, ignore)";
const FATES: &str = "one of datagrams, all, keep";
const TIMES: &str = "0 or a time with its unit, such as 500ms, 10s or 2m";
const BACKENDS: &str = "a list of IP:PORT@WEIGHT or of objects with address and weight";

fn word<T>(
    member: &str,
    value: &Value,
    parse: impl Fn(&str) -> Option<T>,
    expected: &'static str,
) -> Result<T, DocumentError> {
    value.as_str().and_then(parse).ok_or_else(|| wrong(member, value, expected))
}

fn wrong(member: &str, value: &Value, expected: &'static str) -> DocumentError {
    DocumentError::Value { member: member.to_owned(), value: value.to_string(), expected }
}

fn read_backends(member: &str, value: &Value) -> Result<Vec<VipServiceBackend>, DocumentError> {
    let list = value.as_array().ok_or_else(|| wrong(member, value, BACKENDS))?;
    let backend = |entry: &Value| match entry {
        Value::String(text) => Ok(text.parse::<VipServiceBackend>()?),
        Value::Object(members) => read_backend(members),
        other => Err(wrong(member, other, BACKENDS)),
    };
    list.iter().map(backend).collect()
}

fn read_backend(members: &Map<String, Value>) -> Result<VipServiceBackend, DocumentError> {
    let known = |name: &String| matches!(name.as_str(), "address" | "weight");
    if let Some(other) = members.keys().find(|name| !known(name)) {
        return Err(DocumentError::Unknown(format!("backends.{other}")));
    }
    let address = members.get("address").unwrap_or(&Value::Null);
    let text = address.as_str().filter(|text| !text.contains('@'));
    let text = text.ok_or_else(|| wrong("backends.address", address, "IP:PORT"))?;
    let backend: VipServiceBackend = text.parse()?;
    match members.get("weight") {
        None | Some(Value::Null) => Ok(backend),
        Some(weight) => {
            let number = weight.as_u64().and_then(|number| u16::try_from(number).ok());
            let weight =
                number.ok_or_else(|| wrong("backends.weight", weight, "a weight (0 to 65535)"))?;
            Ok(VipServiceBackend { weight, ..backend })
        }
    }
}

fn check_service(id: &VipServiceId, value: &Value) -> Result<(), DocumentError> {
    let found =
        value.as_str().ok_or_else(|| wrong("service", value, "NAME_OR_IP:PORT/PROTOCOL"))?;
    if found.parse::<VipServiceId>()? == *id {
        return Ok(());
    }
    Err(DocumentError::OtherService { found: found.to_owned(), service: id.to_string() })
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
        let shown = document(&demo, &fact, &vips);
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
            (json!([]),                     "a VIP service is an object with the member `backends`"),
            (json!({}),                     "a VIP service is an object with the member `backends`"),
            (one(json!({"weight": 1})),     "`weight` is no member of a VIP service (backends, rule, locality, slow_start, on_removal)"),
            (one(json!({"rule": 3})),       "`rule`: 3 is not a rule (latency, least-connections, random, maglev, source)"),
            (one(json!({"slow_start": 10})), "`slow_start`: 10 is not 0 or a time with its unit, such as 500ms, 10s or 2m"),
            (one(json!({"service": "x:80"})), "`service` is `x:80`, but this is 10.1.1.1:80/tcp"),
            (json!({"backends": "x"}),      "`backends`: \"x\" is not a list of IP:PORT@WEIGHT or of objects with address and weight"),
            (json!({"backends": [7]}),      "`backends`: 7 is not a list of IP:PORT@WEIGHT or of objects with address and weight"),
            (json!({"backends": ["x"]}),    "`x` is not of the form IP:PORT or IP:PORT@WEIGHT (weight 0 to 65535)"),
            (json!({"backends": [{"address": "192.0.2.7:80", "weight": -1}]}), "`backends.weight`: -1 is not a weight (0 to 65535)"),
            (json!({"backends": [{"address": "192.0.2.7:80@2"}]}), "`backends.address`: \"192.0.2.7:80@2\" is not IP:PORT"),
            (json!({"backends": [{"ip": "192.0.2.7"}]}), "`backends.ip` is no member of a VIP service (backends, rule, locality, slow_start, on_removal)"),
            (json!({"backends": ["192.0.2.7:80", "192.0.2.7:80@2"]}), "backend 192.0.2.7:80 is named twice"),
            (json!({"backends": ["[fd00::1]:80"]}), "backend [fd00::1]:80 is not of the family of 10.1.1.1"),
        ];
        for (document, want) in table {
            let error = read(&id("10.1.1.1:80/tcp"), &document).unwrap_err();
            assert_eq!(error.to_string(), want, "{document}");
        }
        let error = read_body(&id("x:80"), b"{").unwrap_err();
        assert!(matches!(error, DocumentError::Json(_)), "{error}");
        assert_eq!(read_body(&id("x:80"), br#"{"backends": []}"#), Ok(VipServiceFact::default()));
    }
}
