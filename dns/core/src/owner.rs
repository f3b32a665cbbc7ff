//! Whose a record is, so that it can be replaced and explained.

use mizzen_types::fact::Key;
use mizzen_types::ids::OwnerId;
use std::fmt;

/// What the first byte of a key says.
const STATIC: u8 = 1;
const VIP: u8 = 2;
const FACT: u8 = 3;

/// Whose records these are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnerKey {
    /// Set by hand or built in, under this name.
    Static(String),
    /// A named VIP, `label.framework`.
    Vip(String),
    /// A fact of an owner log.
    Fact {
        /// Whose log: the node that runs the task.
        owner: OwnerId,
        /// What the fact is about.
        key: Key,
    },
}

impl OwnerKey {
    /// The owner of the records that every node has.
    #[must_use]
    pub fn built_in() -> Self {
        Self::Static("built-in".to_owned())
    }

    /// The key as bytes, by which it is kept.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        match self {
            Self::Static(name) => push(&mut bytes, STATIC, name.as_bytes()),
            Self::Vip(name) => push(&mut bytes, VIP, name.as_bytes()),
            Self::Fact { owner, key } => {
                push(&mut bytes, FACT, owner.as_str().as_bytes());
                bytes.push(0);
                // A key is made of texts, which can always be written.
                let _ = serde_json::to_writer(&mut bytes, key);
            }
        }
        bytes.truncate(usize::from(u16::MAX));
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| Some(std::str::from_utf8(bytes).ok()?.to_owned());
        match bytes.split_first()? {
            (&STATIC, name) => Some(Self::Static(text(name)?)),
            (&VIP, name) => Some(Self::Vip(text(name)?)),
            (&FACT, rest) => {
                let end = rest.iter().rposition(|byte| *byte == 0)?;
                let key = serde_json::from_slice(rest.get(end + 1..)?).ok()?;
                Some(Self::Fact { owner: text(&rest[..end])?.as_str().into(), key })
            }
            _ => None,
        }
    }
}

fn push(bytes: &mut Vec<u8>, tag: u8, text: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(text);
}

impl fmt::Display for OwnerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(name) => write!(f, "{name}"),
            Self::Vip(name) => write!(f, "VIP {name}"),
            Self::Fact { owner, key } => match key {
                Key::Node => write!(f, "node {owner}"),
                Key::Leader => write!(f, "leading master {owner}"),
                Key::Framework(id) => write!(f, "framework {id}, said by {owner}"),
                Key::Task(framework, task) => {
                    write!(f, "task {task} of framework {framework} on node {owner}")
                }
                Key::VipClaim(name) => write!(f, "address of {name}, claimed by {owner}"),
                Key::VipService(service) => write!(f, "service {service}, registered on {owner}"),
                Key::NodeProblems => write!(f, "problems of node {owner}"),
                Key::DnsRecord(name, kind) => write!(f, "{kind} of {name}, set on {owner}"),
                Key::Policy(id) => write!(f, "policy {id}, said by {owner}"),
                Key::ForeignAgent(address) => write!(f, "agent {address}, said by {owner}"),
                Key::GoneAgent(id) => write!(f, "end of agent {id}, said by {owner}"),
            },
        }
    }
}
