//! Where clients reach a task.

use super::labels::{self, TaskPort, Wish};
use super::problem::LabelError;
use super::source::{ServiceKey, Share, Standing, Target, merge};
use mizzen_types::fact::{PortFact, Reach, TaskFact, TaskPhase};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// By which ports clients reach a container to which ports of its host lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    /// Those of the host.
    Host,
    /// Its own on its node's bridge, where clients of that node reach it without a detour;
    /// those of the host in an overlay, whose containers others may not reach by themselves.
    HostIfNeeded,
    /// Its own.
    Container,
}

/// The services that a task stands behind, and what is wrong with its labels.
pub(super) fn standings(task: &TaskFact, ports: Ports) -> (Vec<Standing>, Vec<LabelError>) {
    let (wishes, mut problems) = labels::wishes(task);
    let mut standings = Vec::new();
    for wish in wishes {
        let addresses = addresses(task, &wish, ports, &mut problems);
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
fn addresses(
    task: &TaskFact,
    wish: &Wish<'_>,
    ports: Ports,
    problems: &mut Vec<LabelError>,
) -> Vec<SocketAddr> {
    let reached = match wish.port {
        TaskPort::Announced(port) => announced(task, port, ports, problems),
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

/// Where clients reach a port: at the host's where one leads there, else at the container's
/// own addresses. A port that says that it is meant for the container's is reached there,
/// as far as other nodes can reach them.
fn announced(
    task: &TaskFact,
    port: &PortFact,
    ports: Ports,
    problems: &mut Vec<LabelError>,
) -> Vec<SocketAddr> {
    let inside = |addresses: &[IpAddr]| -> Vec<SocketAddr> {
        addresses.iter().map(|address| SocketAddr::new(*address, port.number)).collect()
    };
    let is_direct = match ports {
        Ports::Host => false,
        Ports::HostIfNeeded => task.container_reach == Reach::Node,
        Ports::Container => true,
    };
    let is_of_container = is_of_container(port, problems);
    if is_direct && !task.container_addresses.is_empty() {
        return inside(&task.container_addresses);
    }
    let reachable = inside(task.reachable_addresses());
    match port.host_port.map(|number| SocketAddr::new(task.host_address, number)) {
        Some(host) if !is_of_container || reachable.is_empty() => vec![host],
        _ => reachable,
    }
}

/// Whether a port is meant for the container's addresses, whatever leads there.
fn is_of_container(port: &PortFact, problems: &mut Vec<LabelError>) -> bool {
    match port.labels.get(SCOPE).map(String::as_str) {
        Some("container") => true,
        Some("host") | None => false,
        Some(value) => {
            let problem = LabelError::Value {
                label: SCOPE.to_owned(),
                value: value.to_owned(),
                expected: "a scope (container, host)",
            };
            if !problems.contains(&problem) {
                problems.push(problem);
            }
            false
        }
    }
}

const SCOPE: &str = "network-scope";
