//! What is wrong with wishes for VIPs.

use super::source::{Standing, Target};
use super::{Planner, Source, policy, table};
use mizzen_types::vip::VipKey;
use mizzen_types::vip_service::VipServiceId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Something that was asked for and is not as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Who asked.
    pub source: Arc<Source>,
    /// The VIP that is not as asked for; `None` if none was made.
    pub vip: Option<VipKey>,
    /// What is wrong.
    pub error: LabelError,
}

impl Planner {
    /// Labels that do not do what they say, and why.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let of_labels = self.problems.iter().flat_map(|(source, errors)| {
            let problem = |error: &LabelError| Problem {
                source: source.clone(),
                vip: None,
                error: error.clone(),
            };
            errors.iter().map(problem)
        });
        let of_plan = self.unaddressed().chain(self.misplaced()).chain(self.nested());
        of_labels.chain(of_plan).chain(self.conflicts()).collect()
    }

    /// What is wrong with services that are registered by hand, on whichever node.
    #[must_use]
    pub fn service_problems(&self) -> BTreeMap<VipServiceId, Vec<LabelError>> {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Problem { source, error, .. } in self.problems() {
            if let Source::Service { service, .. } = source.as_ref() {
                found.entry(service.clone()).or_default().push(error);
            }
        }
        found
    }

    /// Named services for which no address is left.
    fn unaddressed(&self) -> impl Iterator<Item = Problem> {
        self.table.iter().flat_map(|(key, service)| {
            let name = match &key.target {
                Target::Name(name) if self.claims.address_of(name).is_none() => Some(name),
                _ => None,
            };
            name.into_iter().flat_map(|name| {
                service.sources.iter().map(|source| Problem {
                    source: source.clone(),
                    vip: None,
                    error: LabelError::NoAddressLeft { name: name.clone() },
                })
            })
        })
    }

    /// Services at addresses that are this node's own affair.
    fn misplaced(&self) -> impl Iterator<Item = Problem> {
        let literal = self.table.iter().filter_map(|(key, service)| match key.target {
            Target::Address(address) => {
                Some((VipKey { address, port: key.port, protocol: key.protocol }, service))
            }
            Target::Name(_) => None,
        });
        literal.filter(|(vip, _)| self.is_own(vip)).flat_map(|(vip, service)| {
            service.sources.iter().map(move |source| Problem {
                source: source.clone(),
                vip: None,
                error: LabelError::Own { vip },
            })
        })
    }

    /// Registered services that lead to other VIPs: nothing is translated twice.
    fn nested(&self) -> impl Iterator<Item = Problem> {
        let by_hand = self.sources.iter().filter(|(source, _)| source.task().is_none());
        by_hand.flat_map(|(source, standings)| {
            let backends = standings.iter().flat_map(backends_as_vips);
            backends.filter(|backend| self.has_vip(backend)).map(|backend| Problem {
                source: source.clone(),
                vip: None,
                error: LabelError::Nested { backend },
            })
        })
    }

    fn conflicts(&self) -> impl Iterator<Item = Problem> {
        let keys: BTreeSet<VipKey> = self
            .table
            .iter()
            .filter(|(_, service)| service.is_opinionated())
            .filter_map(|(key, _)| self.keys_of(key).next())
            .collect();
        keys.into_iter().flat_map(|vip| {
            let literal = self.table.get(Target::Address(vip.address), vip.port, vip.protocol);
            let named = self.name_of(&vip).map(|name| Target::Name(name.to_owned()));
            let named = named.and_then(|target| self.table.get(target, vip.port, vip.protocol));
            let services: Vec<_> = literal.into_iter().chain(named).collect();
            let problem = move |(source, error)| Problem { source, vip: Some(vip), error };
            policy::conflicts(&table::voices(&services)).into_iter().map(problem)
        })
    }
}

impl LabelError {
    /// The label that is wrong, if it is one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Form { label, .. }
            | Self::Protocol { label, .. }
            | Self::Address { label, .. }
            | Self::NoSuchPort { label }
            | Self::NotOnPort { label }
            | Self::NoAddress { label }
            | Self::Value { label, .. }
            | Self::Unknown { label }
            | Self::NoSuchVip { label } => Some(label),
            Self::Conflict { label, .. } => Some(label),
            Self::NoAddressLeft { .. }
            | Self::Own { .. }
            | Self::Nested { .. }
            | Self::TooMany { .. } => None,
        }
    }
}

/// A label, or a setting of a registered service, that does not do what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Not of the form `name:port` or `address:port`; it makes no VIP.
    #[error("label `{label}`: `{value}` is not of the form /NAME:PORT or ADDRESS:PORT")]
    Form {
        /// Its key.
        label: String,
        /// Its value.
        value: String,
    },
    /// Neither `tcp` nor `udp`; it makes no VIP.
    #[error("label `{label}`: `{protocol}` is not a protocol that a VIP can have (tcp, udp)")]
    Protocol {
        /// Its key.
        label: String,
        /// What stands there.
        protocol: String,
    },
    /// An address that is not for others to take; it makes no VIP.
    #[error("label `{label}`: {address} cannot be a VIP")]
    Address {
        /// Its key.
        label: String,
        /// What stands there.
        address: IpAddr,
    },
    /// `vip_PORTn` beyond the task's ports; it makes no VIP.
    #[error("label `{label}` means a port that the task does not have")]
    NoSuchPort {
        /// Its key.
        label: String,
    },
    /// `VIP_n` on the task and not on one of its ports; it makes no VIP.
    #[error(
        "label `{label}` is on the task, where it makes no VIP: it belongs on a port (of \
         `portDefinitions` or `portMappings`)"
    )]
    NotOnPort {
        /// Its key.
        label: String,
    },
    /// The task has no address of the VIP's family; it makes no VIP.
    #[error("label `{label}`: the task has no address of that family")]
    NoAddress {
        /// Its key.
        label: String,
    },
    /// A value that cannot be read; the default is used.
    #[error("label `{label}`: `{value}` is not {expected}; it is not heeded")]
    Value {
        /// Its key.
        label: String,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// `l4lb-…` that nobody knows.
    #[error(
        "label `{label}` is not known (l4lb-rule, -weight, -locality, -slow-start, -on-removal)"
    )]
    Unknown {
        /// Its key.
        label: String,
    },
    /// `l4lb-….VIP_7` without a label `VIP_7` beside it.
    #[error("label `{label}` means a VIP label that is not there")]
    NoSuchVip {
        /// Its key.
        label: String,
    },
    /// Another one that stands behind the same VIP says otherwise and is heard.
    #[error("`{label}` is `{value}`, but `{holds}` of {holder} holds")]
    Conflict {
        /// What is said differently.
        label: &'static str,
        /// What this one says.
        value: String,
        /// What the other one says.
        holds: String,
        /// Who that is.
        holder: String,
    },
    /// All addresses for names are claimed; there is no VIP.
    #[error("no address is left for {name}")]
    NoAddressLeft {
        /// `label.framework`.
        name: String,
    },
    /// The node itself answers there; it makes no VIP.
    #[error("{vip} cannot be a VIP: {}", own(.vip))]
    Own {
        /// What was asked for.
        vip: VipKey,
    },
    /// A backend that is a VIP: nobody can connect to it there.
    #[error("backend {backend} is itself a VIP, and connections to it fail")]
    Nested {
        /// Address, port and transport of that VIP.
        backend: VipKey,
    },
    /// More labels than one task may have.
    #[error("the task has {count} labels that ask for VIPs; only the first {limit} make any")]
    TooMany {
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
}

/// The backends of a registered service, as if they were VIPs.
fn backends_as_vips(standing: &Standing) -> impl Iterator<Item = VipKey> {
    let protocol = standing.service.protocol;
    let addresses = standing.shares.iter().map(|(address, _)| *address);
    addresses.map(move |at| VipKey { address: at.ip(), port: at.port(), protocol })
}

fn own(vip: &VipKey) -> &'static str {
    match vip.address.is_loopback() {
        true => "loopback addresses are each machine's own",
        false => "this node itself listens there",
    }
}
