//! Where clients reach a task, and how far away that is.

use super::labels::{self, TaskPort, Wish};
use super::problem::LabelError;
use super::source::{ServiceKey, Share, Standing, Target, merge};
use mizzen_types::fact::{NodeFact, PortFact, TaskFact, TaskPhase};
use mizzen_types::ids::OwnerId;
use mizzen_types::vip::Distance;
use std::collections::BTreeMap;
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
        let share = Share::new(wish.weight, task.takes_clients());
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

/// Where the nodes of the cluster are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    here: OwnerId,
    nodes: BTreeMap<OwnerId, (IpAddr, Option<String>)>,
    by_address: BTreeMap<IpAddr, OwnerId>,
}

impl Places {
    /// Nothing is known but who this node is.
    pub fn new(here: OwnerId) -> Self {
        Self { here, nodes: BTreeMap::new(), by_address: BTreeMap::new() }
    }

    /// Takes in what a node says about itself; whether that changes any distance.
    pub fn apply(&mut self, owner: &OwnerId, node: Option<&NodeFact>) -> bool {
        let after = node.map(|node| (node.address.to_canonical(), node.zone.clone()));
        if self.nodes.get(owner) == after.as_ref() {
            return false;
        }
        match after {
            Some(place) => drop(self.nodes.insert(owner.clone(), place)),
            None => drop(self.nodes.remove(owner)),
        }
        let address = |(owner, (address, _)): (&OwnerId, &(IpAddr, _))| (*address, owner.clone());
        self.by_address = self.nodes.iter().map(address).collect();
        true
    }

    /// Whether this is the node that plans.
    pub fn is_here(&self, owner: &OwnerId) -> bool {
        self.here == *owner
    }

    /// How far away a node is.
    pub fn distance(&self, owner: &OwnerId) -> Distance {
        let zone = |owner| self.nodes.get(owner).and_then(|(_, zone)| zone.as_ref());
        match zone(owner) {
            _ if self.is_here(owner) => Distance::Node,
            Some(theirs) if Some(theirs) == zone(&self.here) => Distance::Zone,
            _ => Distance::Far,
        }
    }

    /// How far away an address is that no task has: that of a node, or anything else.
    pub fn distance_of(&self, address: IpAddr) -> Distance {
        match self.by_address.get(&address) {
            _ if address.is_loopback() => Distance::Node,
            Some(owner) => self.distance(owner),
            None => Distance::Far,
        }
    }
}
