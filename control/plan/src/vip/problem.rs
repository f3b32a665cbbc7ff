//! What is wrong with wishes for VIPs.

use super::Source;
use mizzen_types::vip::VipKey;
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

impl LabelError {
    /// The label that is wrong, if it is one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Form { label, .. }
            | Self::Protocol { label, .. }
            | Self::Address { label, .. }
            | Self::NoSuchPort { label }
            | Self::NoAddress { label }
            | Self::Value { label, .. }
            | Self::Unknown { label }
            | Self::NoSuchVip { label } => Some(label),
            Self::Conflict { label, .. } => Some(label),
            Self::NoAddressLeft { .. } | Self::Own { .. } | Self::TooMany { .. } => None,
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
    /// More labels than one task may have.
    #[error("the task has {count} labels that ask for VIPs; only the first {limit} make any")]
    TooMany {
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
}

fn own(vip: &VipKey) -> &'static str {
    match vip.address.is_loopback() {
        true => "loopback addresses are each machine's own",
        false => "this node itself listens there",
    }
}
