//! Policies as people write them: read strictly, with everything that is wrong at once.
//!
//! ```json
//! { "id": "db", "applies_to": { "labels": { "app": "db" } },
//!   "ingress": [{ "name": "web", "peers": [{ "labels": { "app": "web" } }], "ports": ["5432/tcp"] }] }
//! ```
//!
//! What is shown can be sent back.

mod reader;

use mizzen_types::policy::{Policy, PolicyId};
use reader::Reader;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Something that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `ingress[0].ports[1]`; empty is the document.
    pub field: String,
    /// What should be there.
    pub expected: String,
    /// What is.
    pub found: String,
}

/// A document that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no policy: {}", sentences(.0))]
pub struct Faults(pub Vec<Fault>);

/// A policy as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown<'a> {
    id: &'a PolicyId,
    #[serde(flatten)]
    policy: &'a Policy,
}

/// Shows a policy as it is written.
#[must_use]
pub fn show<'a>(id: &'a PolicyId, policy: &'a Policy) -> Shown<'a> {
    Shown { id, policy }
}

/// Reads one policy.
///
/// # Errors
///
/// [`Faults`] with everything that is wrong.
pub fn read(document: &Value) -> Result<(PolicyId, Policy), Faults> {
    let mut reader = Reader::default();
    let read = reader.policy(document);
    match read {
        Some(read) if reader.faults.is_empty() => Ok(read),
        _ => Err(Faults(reader.faults)),
    }
}

/// The policies of a file: one, a list of them, or an object with a list `policies`.
#[must_use]
pub fn documents(file: &Value) -> Vec<&Value> {
    let list = match file {
        Value::Array(list) => Some(list),
        Value::Object(members) if members.len() == 1 => {
            members.get("policies").and_then(Value::as_array)
        }
        _ => None,
    };
    list.map_or_else(|| vec![file], |list| list.iter().collect())
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

fn sentences(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let sent = json!({
            "id": "db", "description": "the shop's", "audit": true,
            "applies_to": {"overlay": "dcos", "labels": {"app": "db"}},
            "ingress": [
                {"name": "web", "peers": [{"overlay": "web", "name": "/shop/*"}], "ports": ["5432/tcp", "icmp"]},
                {"peers": [{"address": "10.0.0.0/8"}, {"entity": "world", "address": "::/0"}]},
            ],
            "egress": [],
        });
        let (id, policy) = read(&sent).unwrap();
        assert_eq!(serde_json::to_value(show(&id, &policy)).unwrap(), sent);
        let one = json!({"id": "x", "applies_to": {"address": "9.0.0.1"}, "egress": []});
        assert_eq!(read(&one).unwrap().1.applies_to.address, "9.0.0.1/32".parse().ok());
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let document = json!({
            "id": "DB", "audit": "yes", "apply": {},
            "applies_to": {"entity": "host"},
            "ingress": [{"peers": {}, "ports": ["80", 443]}, 7],
            "egress": [{"peers": [{"address": "10.0.0.1/8"}, {"entity": "moon"},
                {"entity": "world", "name": "x"}, {"name": "a*b"}, {"labels": {"a b": 1}}]}],
        });
        let Faults(faults) = read(&document).unwrap_err();
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let want = [
            "apply: expected one of id, description, audit, applies_to, ingress, egress, found an unknown member",
            "id: expected an id of at most 63 lower case letters, digits, `-`, `.` and `_` that begins with a letter or digit, found `DB`",
            "applies_to.entity: expected containers, which `entity` does not name, found `host`",
            "ingress[0].peers: expected a list of selectors, found an object",
            "ingress[0].ports[0]: expected ports such as `5432/tcp`, `8000-8010/udp`, `tcp` (all of them) or `icmp`, found `80`",
            "ingress[0].ports[1]: expected a text, found `443`",
            "ingress[1]: expected an object of name, peers, ports, found `7`",
            "egress[0].peers[0].address: expected a network without bits behind its prefix, 10.0.0.0/8, found `10.0.0.1/8`",
            "egress[0].peers[1].entity: expected `host` or `world`, found `moon`",
            "egress[0].peers[2]: expected nothing beside `entity` but `address`, found `name`, which only containers have",
            "egress[0].peers[3].name: expected the name of a task or an app, at most one `*` at its end, found `a*b`",
            "egress[0].peers[4].labels[\"a b\"]: expected a text, found `1`",
            "audit: expected true or false, found `yes`",
        ];
        assert_eq!(told, want);
    }

    #[test]
    fn what_is_missing() {
        let told = read(&json!({})).unwrap_err().to_string();
        let want = "this is no policy: id: expected the policy's name, found nothing; \
            applies_to: expected whom it guards, `{}` for all containers, found nothing; \
            expected `ingress`, `egress` or both, found neither";
        assert_eq!(told, want);
        assert!(read(&json!([])).unwrap_err().to_string().contains("expected an object of id"));
    }

    #[test]
    fn one_policy_or_several_in_a_file() {
        let (one, two) = (json!({"id": "a", "egress": []}), json!({"id": "b"}));
        assert_eq!(documents(&one), [&one]);
        assert_eq!(documents(&json!([one, two])), [&one, &two]);
        assert_eq!(documents(&json!({"policies": [two]})), [&two]);
        assert!(documents(&json!([])).is_empty());
    }
}
