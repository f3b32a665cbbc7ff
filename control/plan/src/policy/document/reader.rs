//! A document, taken apart member by member.

use super::Fault;
use ipnet::IpNet;
use mizzen_types::policy::{
    Entity, Policy, PolicyId, PolicyRule, PolicyTextError, Ports, Selector,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

/// Rules of one direction, peers or ports of one rule, labels of one selector.
const MAX_LIST: usize = 64;
/// Longest text in bytes.
const MAX_TEXT: usize = 255;

/// Where in the document something stands.
#[derive(Clone)]
struct Place(String);

impl Place {
    fn member(&self, name: &str) -> Self {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match (plain && !name.is_empty(), self.0.is_empty()) {
            (true, true) => Self(name.to_owned()),
            (true, false) => Self(format!("{}.{name}", self.0)),
            (false, _) => Self(format!("{}[{name:?}]", self.0)),
        }
    }

    fn item(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }
}

/// Reads on after a fault, so that all of them are found.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) faults: Vec<Fault>,
}

impl Reader {
    pub(super) fn policy(&mut self, document: &Value) -> Option<(PolicyId, Policy)> {
        let top = Place(String::new());
        let known = ["id", "description", "audit", "applies_to", "ingress", "egress"];
        let members = self.object(&top, document, &known)?;
        let id = match members.get("id") {
            Some(value) => self.parsed(&top.member("id"), value),
            None => self.missing(&top.member("id"), "the policy's name"),
        };
        let applies_to = match members.get("applies_to") {
            Some(value) => self.subject(&top.member("applies_to"), value),
            None => {
                let meaning = "whom it guards, `{}` for all containers";
                self.missing(&top.member("applies_to"), meaning)
            }
        };
        let ingress = self.rules(&top.member("ingress"), members.get("ingress"));
        let egress = self.rules(&top.member("egress"), members.get("egress"));
        if members.get("ingress").is_none() && members.get("egress").is_none() {
            self.fault(&top, "`ingress`, `egress` or both", "neither");
        }
        let policy = Policy {
            description: self.optional_text(&top.member("description"), members.get("description")),
            audit: self.flag(&top.member("audit"), members.get("audit")),
            applies_to: applies_to?,
            ingress,
            egress,
        };
        Some((id?, policy))
    }

    fn rules(&mut self, place: &Place, value: Option<&Value>) -> Option<Vec<PolicyRule>> {
        let list = self.list(place, value?, "a list of rules")?;
        let rules = list.iter().enumerate();
        Some(rules.filter_map(|(at, value)| self.rule(&place.item(at), value)).collect())
    }

    fn rule(&mut self, place: &Place, value: &Value) -> Option<PolicyRule> {
        let members = self.object(place, value, &["name", "peers", "ports"])?;
        Some(PolicyRule {
            name: self.optional_text(&place.member("name"), members.get("name")),
            peers: self.peers(&place.member("peers"), members.get("peers")),
            ports: self.ports(&place.member("ports"), members.get("ports")),
        })
    }

    fn peers(&mut self, place: &Place, value: Option<&Value>) -> Vec<Selector> {
        let list = value.and_then(|value| self.list(place, value, "a list of selectors"));
        let peers = list.into_iter().flatten().enumerate();
        peers.filter_map(|(at, value)| self.selector(&place.item(at), value)).collect()
    }

    fn ports(&mut self, place: &Place, value: Option<&Value>) -> Vec<Ports> {
        let list = value.and_then(|value| self.list(place, value, "a list such as [\"80/tcp\"]"));
        let ports = list.into_iter().flatten().enumerate();
        ports.filter_map(|(at, value)| self.parsed(&place.item(at), value)).collect()
    }

    /// Only containers are guarded.
    fn subject(&mut self, place: &Place, value: &Value) -> Option<Selector> {
        let selector = self.selector(place, value)?;
        if let Some(entity) = selector.entity {
            let expected = "containers, which `entity` does not name";
            self.fault(&place.member("entity"), expected, &format!("`{}`", entity.word()));
        }
        Some(selector)
    }

    fn selector(&mut self, place: &Place, value: &Value) -> Option<Selector> {
        let known = ["overlay", "labels", "name", "address", "entity"];
        let members = self.object(place, value, &known)?;
        let entity = members.get("entity").and_then(|value| {
            self.one_of(&place.member("entity"), value, Entity::ALL, Entity::word)
        });
        let address =
            members.get("address").and_then(|value| self.network(&place.member("address"), value));
        let selector = Selector {
            overlay: self.optional_text(&place.member("overlay"), members.get("overlay")),
            labels: self.labels(&place.member("labels"), members.get("labels")),
            name: self.name(&place.member("name"), members.get("name")),
            address,
            entity,
        };
        let of_containers = ["overlay", "labels", "name"];
        let contradicts = of_containers.iter().find(|name| members.contains_key(**name));
        if let (Some(_), Some(name)) = (selector.entity, contradicts) {
            let expected = "nothing beside `entity` but `address`";
            self.fault(place, expected, &format!("`{name}`, which only containers have"));
        }
        Some(selector)
    }

    fn labels(&mut self, place: &Place, value: Option<&Value>) -> BTreeMap<String, String> {
        let Some(value) = value else { return BTreeMap::new() };
        let Value::Object(members) = value else {
            self.fault(place, "an object of texts", &words(value));
            return BTreeMap::new();
        };
        self.bounded(place, members.len());
        let texts = members.iter().filter_map(|(name, value)| {
            Some((name.clone(), self.text(&place.member(name), value)?))
        });
        texts.collect()
    }

    fn name(&mut self, place: &Place, value: Option<&Value>) -> Option<String> {
        let name = self.text(place, value?)?;
        let stem = name.strip_suffix('*').unwrap_or(&name);
        if stem.contains('*') || name.trim_matches('/').is_empty() {
            let expected = "the name of a task or an app, at most one `*` at its end";
            self.fault(place, expected, &format!("`{name}`"));
        }
        Some(name)
    }

    /// `10.0.0.0/8`, or one address.
    fn network(&mut self, place: &Place, value: &Value) -> Option<IpNet> {
        let text = self.text(place, value)?;
        let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let Some(network) = text.parse::<IpNet>().ok().or_else(one) else {
            self.fault(place, "a network such as 10.0.0.0/8 or an address", &format!("`{text}`"));
            return None;
        };
        if network.trunc() != network {
            let expected = format!("a network without bits behind its prefix, {}", network.trunc());
            self.fault(place, &expected, &format!("`{text}`"));
        }
        Some(network.trunc())
    }

    fn flag(&mut self, place: &Place, value: Option<&Value>) -> bool {
        match value {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.fault(place, "true or false", &words(other));
                false
            }
        }
    }

    fn one_of<T: Copy, const N: usize>(
        &mut self,
        place: &Place,
        value: &Value,
        all: [T; N],
        word: fn(T) -> &'static str,
    ) -> Option<T> {
        let found = all.into_iter().find(|item| value.as_str() == Some(word(*item)));
        if found.is_none() {
            let expected = all.map(|item| format!("`{}`", word(item))).join(" or ");
            self.fault(place, &expected, &words(value));
        }
        found
    }

    /// A text that has a form of its own, which its error tells.
    fn parsed<T>(&mut self, place: &Place, value: &Value) -> Option<T>
    where
        T: FromStr<Err = PolicyTextError>,
    {
        let text = self.text(place, value)?;
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                let words = error.to_string();
                let expected = words.strip_prefix("expected ").unwrap_or(&words);
                let (expected, found) = expected.rsplit_once(", found ").unwrap_or((expected, ""));
                self.fault(place, expected, found);
                None
            }
        }
    }

    fn optional_text(&mut self, place: &Place, value: Option<&Value>) -> Option<String> {
        self.text(place, value?)
    }

    fn text(&mut self, place: &Place, value: &Value) -> Option<String> {
        match value {
            Value::String(text) if (1..=MAX_TEXT).contains(&text.len()) => Some(text.clone()),
            Value::String(text) => {
                let found = format!("one of {} bytes", text.len());
                self.fault(place, &format!("a text of 1 to {MAX_TEXT} bytes"), &found);
                None
            }
            other => {
                self.fault(place, "a text", &words(other));
                None
            }
        }
    }

    fn list<'a>(&mut self, place: &Place, value: &'a Value, what: &str) -> Option<&'a Vec<Value>> {
        let Value::Array(list) = value else {
            self.fault(place, what, &words(value));
            return None;
        };
        self.bounded(place, list.len());
        Some(list)
    }

    fn bounded(&mut self, place: &Place, length: usize) {
        if length > MAX_LIST {
            self.fault(place, &format!("at most {MAX_LIST}"), &length.to_string());
        }
    }

    fn object<'a>(
        &mut self,
        place: &Place,
        value: &'a Value,
        known: &[&str],
    ) -> Option<&'a Map<String, Value>> {
        let Value::Object(members) = value else {
            self.fault(place, &format!("an object of {}", known.join(", ")), &words(value));
            return None;
        };
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let expected = format!("one of {}", known.join(", "));
            self.fault(&place.member(name), &expected, "an unknown member");
        }
        Some(members)
    }

    fn missing<T>(&mut self, place: &Place, expected: &str) -> Option<T> {
        self.fault(place, expected, "nothing");
        None
    }

    fn fault(&mut self, place: &Place, expected: &str, found: &str) {
        let fault = Fault {
            field: place.0.clone(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        self.faults.push(fault);
    }
}

/// A value as an error shows it.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        Value::String(text) if text.len() <= 40 => format!("`{text}`"),
        Value::String(_) => "a long text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
