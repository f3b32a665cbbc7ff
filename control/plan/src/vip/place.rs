//! Where clients reach a task.

use super::labels::{self, TaskPort, Wish};
use super::problem::LabelError;
use super::source::{ServiceKey, Share, Standing, Target, merge};
use mizzen_types::fact::{PortFact, TaskFact, TaskPhase};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The services that a task stands behind, and what is wrong with its labels.
pub(super) fn standings(task: &TaskFact) -> (Vec<Standing>, Vec<LabelError>) {
    let (wishes, mut problems) = labels::wishes(task);
    let mut standings = Vec::new();
    for wish in wishes {
        let addresses = addresses(task, &wish, &mut problems);
        if addresses.is_empty() {
            // Before it runs, its addresses are not known yet.
            if !matches!(task.phase, TaskPhase::Staging | TaskPhase::Starting) {
                problems.push(LabelError::NoAddress { label: wish.label.to_owned() });
            }
            continue;
        }
        let share = Share::new(wish.weight, task.withheld());
        let (target, port, protocol) = (wish.target, wish.vip_port, wish.protocol);
        standings.push(Standing {
            service: Arc::new(ServiceKey { target, port, protocol }),
            shares: addresses.into_iter().map(|address| (address, share)).collect(),
            policy: wish.policy,
        });
    }
    (merge(standings), problems)
}

/// One address of each family that the VIP can have.
fn addresses(task: &TaskFact, wish: &Wish<'_>, problems: &mut Vec<LabelError>) -> Vec<SocketAddr> {
    let reached = match wish.port {
        TaskPort::Announced(port) => announced(task, port, problems),
        TaskPort::Host(port) => vec![SocketAddr::new(task.host_address, port)],
    };
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let reached: Vec<SocketAddr> = reached.into_iter().map(plain).collect();
    let first = |is_v4: bool| reached.iter().copied().find(|address| address.is_ipv4() == is_v4);
    match &wish.target {
        Target::Address(vip) => first(vip.is_ipv4()).into_iter().collect(),
        Target::Name(_) => first(true).into_iter().chain(first(false)).collect(),
    }
}

/// Where clients reach a port: at the container's own addresses where it has any,
/// unless the port says that it is meant for the host's and a port of the host leads
/// there.
fn announced(task: &TaskFact, port: &PortFact, problems: &mut Vec<LabelError>) -> Vec<SocketAddr> {
    let on_host = |number| vec![SocketAddr::new(task.host_address, number)];
    match (port.labels.get(SCOPE).map(String::as_str), port.host_port) {
        (Some("host"), Some(number)) => return on_host(number),
        (Some("host" | "container") | None, _) => {}
        (Some(value), _) => {
            let problem = LabelError::Value {
                label: SCOPE.to_owned(),
                value: value.to_owned(),
                expected: "a scope (container, host)",
            };
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    if task.container_addresses.is_empty() {
        return port.host_port.map(on_host).unwrap_or_default();
    }
    let of_container = |address: &IpAddr| SocketAddr::new(*address, port.number);
    task.container_addresses.iter().map(of_container).collect()
}

const SCOPE: &str = "network-scope";
