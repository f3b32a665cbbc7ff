//! Labels that make VIPs, as DC/OS users write them.
//!
//! * on an announced port: `VIP_0=/web:80`, `VIP_1=1.2.3.4:80` – any key that starts
//!   with `VIP` or `vip`; the value is split at its last colon;
//! * on the task: `vip_PORT0=tcp://web:80`, where the number is the index of a host
//!   port;
//! * beside them, on the port or for all ports on the task, how the VIP works: see
//!   [`super::policy`].

use super::policy::{self, Said};
use super::problem::LabelError;
use super::source::Target;
use mizzen_dns_core::mangle;
use mizzen_types::fact::{PortFact, TaskFact};
use mizzen_types::vip::{PolicyWish, Protocol, VipText};
use std::net::IpAddr;

/// Most labels of one task that make VIPs: each may claim an address for good.
const MAX_LABELS: usize = 64;
/// Most mistakes of one task that are remembered.
const MAX_PROBLEMS: usize = 64;

/// Which port of the task is meant.
#[derive(Clone, Copy)]
pub(super) enum TaskPort<'a> {
    Announced(&'a PortFact),
    Host(u16),
}

/// One VIP that a task wants to stand behind.
pub(super) struct Wish<'a> {
    pub label: &'a str,
    pub target: Target,
    pub vip_port: u16,
    pub protocol: Protocol,
    pub port: TaskPort<'a>,
    /// 0 takes no new connections.
    pub weight: u16,
    pub policy: PolicyWish,
}

/// A label that asks for a VIP, with what is said beside it.
struct Asking<'a> {
    label: &'a str,
    value: &'a str,
    port: Option<&'a PortFact>,
    said: Said,
}

/// Every VIP that the task's labels ask for, ports before the task, up to a limit; and
/// what is wrong with its labels.
pub(super) fn wishes(task: &TaskFact) -> (Vec<Wish<'_>>, Vec<LabelError>) {
    let mut problems = Vec::new();
    let asking = asking(task, &mut problems);
    let count = asking.len();
    let mut wishes = Vec::new();
    for asking in asking.into_iter().take(MAX_LABELS) {
        match read(task, &asking) {
            Ok(wish) => wishes.push(wish),
            Err(problem) => problems.push(problem),
        }
    }
    if count > MAX_LABELS {
        problems.insert(0, LabelError::TooMany { count, limit: MAX_LABELS });
    }
    let misplaced = task.labels.keys().filter(|key| is_misplaced(key));
    problems.extend(misplaced.map(|label| LabelError::NotOnPort { label: label.clone() }));
    problems.truncate(MAX_PROBLEMS);
    (wishes, problems)
}

/// Whether a task's label would make a VIP if it were a port's: `VIP_0`. Others that begin like that
/// are the user's own.
fn is_misplaced(key: &str) -> bool {
    let number = key.strip_prefix("VIP_").or_else(|| key.strip_prefix("vip_"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a port's label of this key makes a VIP.
pub(super) fn is_vip(key: &str) -> bool {
    VipText::is_key(key) && key != policy::OLD_WEIGHT
}

fn asking<'a>(task: &'a TaskFact, problems: &mut Vec<LabelError>) -> Vec<Asking<'a>> {
    let is_task_vip = |key: &str| key.starts_with("vip_PORT");
    let of_task = policy::read(&task.labels, is_task_vip, problems);
    let mut all = Vec::new();
    for port in &task.ports {
        let of_port = policy::read(&port.labels, is_vip, problems);
        for (label, value) in port.labels.iter().filter(|(key, _)| is_vip(key)) {
            let said = of_port.about(label).or(of_task.general());
            all.push(Asking { label, value, port: Some(port), said });
        }
    }
    for (label, value) in task.labels.iter().filter(|(key, _)| is_task_vip(key)) {
        all.push(Asking { label, value, port: None, said: of_task.about(label) });
    }
    all
}

fn read<'a>(task: &TaskFact, asking: &Asking<'a>) -> Result<Wish<'a>, LabelError> {
    let (label, value) = (asking.label, asking.value);
    let (scheme, port, rest) = match asking.port {
        Some(port) => (port.protocol.as_str(), TaskPort::Announced(port), value),
        None => {
            let (scheme, rest) = value.split_once("://").ok_or_else(|| form(label, value))?;
            (scheme, TaskPort::Host(host_port(task, label)?), rest)
        }
    };
    let (target, vip_port) = target(task, label, value, rest)?;
    let protocol = Protocol::from_text(scheme).ok_or_else(|| LabelError::Protocol {
        label: label.to_owned(),
        protocol: scheme.to_owned(),
    })?;
    let (weight, policy) = (asking.said.weight.unwrap_or(1), asking.said.policy);
    Ok(Wish { label, target, vip_port, protocol, port, weight, policy })
}

fn host_port(task: &TaskFact, label: &str) -> Result<u16, LabelError> {
    let index: Option<usize> = label.strip_prefix("vip_PORT").and_then(|text| text.parse().ok());
    let port = index.and_then(|index| task.host_ports.get(index));
    port.copied().ok_or_else(|| LabelError::NoSuchPort { label: label.to_owned() })
}

fn target(
    task: &TaskFact,
    label: &str,
    value: &str,
    text: &str,
) -> Result<(Target, u16), LabelError> {
    match VipText::read(text).ok_or_else(|| form(label, value))? {
        (VipText::Address(address), _) if is_private(address) => {
            Err(LabelError::Address { label: label.to_owned(), address })
        }
        (VipText::Address(address), port) => Ok((Target::Address(address), port)),
        (VipText::Name(name), port) => {
            let name = mangle::vip_name(name, &task.framework_name);
            Ok((Target::Name(name.ok_or_else(|| form(label, value))?), port))
        }
    }
}

/// Addresses that mean something else on each node, or nothing: a task must not take
/// them away from everybody.
fn is_private(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    address.is_loopback() || address.is_unspecified() || address.is_multicast() || broadcast
}

fn form(label: &str, value: &str) -> LabelError {
    LabelError::Form { label: label.to_owned(), value: value.to_owned() }
}
