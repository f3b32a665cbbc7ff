//! Labels that make VIPs, as DC/OS users write them.
//!
//! * on an announced port: `VIP_0=/web:80`, `VIP_1=1.2.3.4:80` – any key that starts
//!   with `VIP` or `vip`; the value is split at its last colon;
//! * on the task: `vip_PORT0=tcp://web:80`, where the number is the index of a host
//!   port;
//! * beside them `VIP_WEIGHT` on a port, ours: its relative share.

use mizzen_dns_core::mangle;
use mizzen_types::fact::{PortFact, TaskFact};
use mizzen_types::vip::Protocol;
use std::net::IpAddr;

const WEIGHT: &str = "VIP_WEIGHT";

/// Most labels of one task that make VIPs: each may claim an address for good.
pub(super) const MAX_LABELS: usize = 64;

/// What a VIP is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Address(IpAddr),
    /// `label.framework`, mangled.
    Name(String),
}

/// Which port of the task is meant.
pub(super) enum TaskPort<'a> {
    Announced(&'a PortFact),
    Host(u16),
}

/// One VIP that a task wants to stand behind.
pub(super) struct Wish<'a> {
    pub label: String,
    pub target: Target,
    pub vip_port: u16,
    pub protocol: Protocol,
    pub port: TaskPort<'a>,
    pub weight: u16,
}

/// A label that makes no VIP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Not of the form `name:port` or `address:port`.
    #[error("label `{label}`: `{value}` is not of the form /NAME:PORT or ADDRESS:PORT")]
    Form {
        /// Its key.
        label: String,
        /// Its value.
        value: String,
    },
    /// Neither `tcp` nor `udp`.
    #[error("label `{label}`: `{protocol}` is not a protocol that a VIP can have (tcp, udp)")]
    Protocol {
        /// Its key.
        label: String,
        /// What stands there.
        protocol: String,
    },
    /// `vip_PORTn` beyond the task's ports.
    #[error("label `{label}` means a port that the task does not have")]
    NoSuchPort {
        /// Its key.
        label: String,
    },
    /// The task has no address of the VIP's family.
    #[error("label `{label}`: the task has no address of that family")]
    NoAddress {
        /// Its key.
        label: String,
    },
    /// Not a whole number from 1 to 65535.
    #[error("label `{label}`: `{value}` is not a weight (1 to 65535)")]
    Weight {
        /// Its key.
        label: String,
        /// Its value.
        value: String,
    },
    /// More labels than one task may have.
    #[error("the task has {count} labels that ask for VIPs; only the first {MAX_LABELS} make any")]
    TooMany {
        /// How many it has.
        count: usize,
    },
}

/// Every VIP that the task's labels ask for, ports before the task, up to a limit.
pub(super) fn wishes(task: &TaskFact) -> Vec<Result<Wish<'_>, LabelError>> {
    let of_ports = task.ports.iter().flat_map(|port| {
        port.labels
            .iter()
            .filter(|(key, _)| is_vip(key))
            .map(move |(key, value)| of_port(task, port, key, value))
    });
    let of_task = task
        .labels
        .iter()
        .filter(|(key, _)| key.starts_with("vip_PORT"))
        .map(|(key, value)| of_task_label(task, key, value));
    let mut all = of_ports.chain(of_task);
    let mut wishes: Vec<_> = all.by_ref().take(MAX_LABELS).collect();
    let beyond = all.count();
    if beyond > 0 {
        wishes.push(Err(LabelError::TooMany { count: MAX_LABELS + beyond }));
    }
    wishes
}

fn is_vip(key: &str) -> bool {
    (key.starts_with("VIP") || key.starts_with("vip")) && key != WEIGHT
}

fn of_port<'a>(
    task: &TaskFact,
    port: &'a PortFact,
    label: &str,
    value: &str,
) -> Result<Wish<'a>, LabelError> {
    let (target, vip_port) = target(task, label, value)?;
    let protocol = protocol(label, &port.protocol)?;
    let weight = match port.labels.get(WEIGHT) {
        Some(text) => weight(text)?,
        None => 1,
    };
    let port = TaskPort::Announced(port);
    Ok(Wish { label: label.to_owned(), target, vip_port, protocol, port, weight })
}

fn of_task_label<'a>(task: &TaskFact, label: &str, value: &str) -> Result<Wish<'a>, LabelError> {
    let form = || LabelError::Form { label: label.to_owned(), value: value.to_owned() };
    let (scheme, rest) = value.split_once("://").ok_or_else(form)?;
    let (target, vip_port) = target(task, label, rest)?;
    let index: Option<usize> = label.strip_prefix("vip_PORT").and_then(|text| text.parse().ok());
    let port = index
        .and_then(|index| task.host_ports.get(index))
        .ok_or_else(|| LabelError::NoSuchPort { label: label.to_owned() })?;
    let (protocol, port) = (protocol(label, scheme)?, TaskPort::Host(*port));
    Ok(Wish { label: label.to_owned(), target, vip_port, protocol, port, weight: 1 })
}

fn target(task: &TaskFact, label: &str, value: &str) -> Result<(Target, u16), LabelError> {
    let form = || LabelError::Form { label: label.to_owned(), value: value.to_owned() };
    let (left, right) = value.rsplit_once(':').ok_or_else(form)?;
    let port: u16 = right.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
    let literal = left.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(left);
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Ok((Target::Address(address), port));
    }
    let name = mangle::vip_name(left, &task.framework_name).ok_or_else(form)?;
    Ok((Target::Name(name), port))
}

fn protocol(label: &str, text: &str) -> Result<Protocol, LabelError> {
    Protocol::from_text(text)
        .ok_or_else(|| LabelError::Protocol { label: label.to_owned(), protocol: text.to_owned() })
}

fn weight(text: &str) -> Result<u16, LabelError> {
    text.parse()
        .ok()
        .filter(|weight| *weight > 0)
        .ok_or_else(|| LabelError::Weight { label: WEIGHT.to_owned(), value: text.to_owned() })
}
