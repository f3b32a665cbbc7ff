//! Whose a record is, so that it can be replaced and explained.

use mizzen_types::fact::Key;
use mizzen_types::ids::OwnerId;
use std::fmt;

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
                Key::DnsRecord(name, kind) => write!(f, "{kind} of {name}, set on {owner}"),
            },
        }
    }
}
