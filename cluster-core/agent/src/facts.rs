//! What the owner log says of a task: all that names and VIPs may know.

use crate::Settings;
use crate::record::{Phase, Record};
use crate::task::Task;
use mizzen_api::link::Duty;
use mizzen_api::v1;
use mizzen_types::fact::{PortFact, Reach, TaskFact, TaskPhase};
use std::collections::BTreeMap;

/// The fact of a task; none once it ended.
pub(crate) fn of_task(task: &Task, settings: &Settings, duty: &Duty) -> Option<TaskFact> {
    let record = &task.record;
    if task.is_gone() {
        return None;
    }
    let phase = match record.phase {
        Phase::Launching => TaskPhase::Staging,
        Phase::Running if *duty == Duty::Serve => TaskPhase::Running,
        Phase::Running => TaskPhase::Draining,
        Phase::Killing => TaskPhase::Killing,
        Phase::Ended => return None,
    };
    let discovery = record.task.discovery.as_ref();
    Some(TaskFact {
        task_id: record.task_id(),
        framework_id: record.framework_id(),
        framework_name: record.framework.name.clone(),
        agent_id: record.agent.clone(),
        container_id: record.container.clone(),
        name: record.task.name.clone(),
        discovery_name: discovery.and_then(|discovery| discovery.name.clone()),
        phase,
        health: task.health(),
        host_address: settings.address,
        container_addresses: record.addresses.clone(),
        container_reach: reach(record, settings),
        host_ports: host_ports(record),
        ports: ports(record),
        labels: labels(record.task.labels.as_ref()),
        launched: record.launched,
    })
}

/// A container that is also in a network of the cluster is reached there.
fn reach(record: &Record, settings: &Settings) -> Reach {
    let mut names = networks(record).filter_map(|info| info.name.as_ref()).peekable();
    let has_some = names.peek().is_some();
    match has_some && names.all(|name| settings.local_networks.contains(name)) {
        true => Reach::Node,
        false => Reach::Cluster,
    }
}

/// Host ports in the order of the task's resources. With a network of its own, only those
/// that lead into it: on others nobody listens.
fn host_ports(record: &Record) -> Vec<u16> {
    let own = has_own_network(record);
    let leads = |port: &u16| {
        let port = u32::from(*port);
        !own || published(record).any(|mapping| mapping.host_port == port)
    };
    record
        .task
        .resources
        .iter()
        .filter(|resource| resource.name == "ports")
        .filter_map(|resource| resource.ranges.as_ref())
        .flat_map(|ranges| &ranges.range)
        .flat_map(|range| range.begin..=range.end.min(u64::from(u16::MAX)))
        .filter_map(|port| u16::try_from(port).ok())
        .filter(leads)
        .collect()
}

fn ports(record: &Record) -> Vec<PortFact> {
    let discovery = record.task.discovery.as_ref();
    let announced = discovery.and_then(|discovery| discovery.ports.as_ref());
    announced
        .into_iter()
        .flat_map(|ports| &ports.ports)
        .flat_map(|port| {
            // "udp,tcp" is one port twice.
            let protocols: Vec<&str> = port.protocol().split(',').map(str::trim).collect();
            protocols
                .into_iter()
                .filter_map(|protocol| fact_of(port, protocol, record))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn fact_of(port: &v1::Port, protocol: &str, record: &Record) -> Option<PortFact> {
    let announced = u16::try_from(port.number).ok().filter(|number| *number > 0)?;
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    let labels = labels(port.labels.as_ref());
    let (number, host_port) = if has_own_network(record) {
        let scope = labels.get(SCOPE).map(String::as_str);
        inside(announced, protocol, scope, record)
    } else {
        (announced, Some(announced))
    };
    Some(PortFact {
        number,
        host_port,
        name: port.name.clone().filter(|name| !name.is_empty()),
        protocol: protocol.to_ascii_lowercase(),
        labels,
    })
}

/// The label that says whose number a port is announced by.
const SCOPE: &str = "network-scope";

/// The container's port that an announced number stands for, and the port of the host that
/// leads there: schedulers that asked for a port of the host announce that one, unless they
/// speak of the container.
fn inside(
    announced: u16,
    protocol: &str,
    scope: Option<&str>,
    record: &Record,
) -> (u16, Option<u16>) {
    let number = u32::from(announced);
    let all = || mappings(record).filter(|mapping| is_of(mapping, protocol));
    let by_host = || all().find(|mapping| mapping.host_port == number);
    let by_container = || all().find(|mapping| mapping.container_port == number);
    let meant = match scope {
        Some("container") => by_container().or_else(by_host),
        _ => by_host().or_else(by_container),
    };
    let Some(mapping) = meant else { return (announced, None) };
    let port = |number: u32| u16::try_from(number).ok().filter(|number| *number > 0);
    let host = port(mapping.host_port).filter(|_| published(record).any(|one| one == mapping));
    (port(mapping.container_port).unwrap_or(announced), host)
}

/// The ports of the host that the task wants to lead to it.
fn mappings(record: &Record) -> impl Iterator<Item = &v1::network_info::PortMapping> {
    networks(record).flat_map(|info| &info.port_mappings)
}

/// Those that do. Plugins of a network may know nothing of ports, and those of a container
/// that an older agent launched were not told of any.
fn published(record: &Record) -> impl Iterator<Item = &v1::network_info::PortMapping> {
    let publishes = |info: &&v1::NetworkInfo| record.publishing.iter().any(|n| n == info.name());
    networks(record).filter(publishes).flat_map(|info| &info.port_mappings)
}

fn is_of(mapping: &v1::network_info::PortMapping, protocol: &str) -> bool {
    mapping.protocol.as_ref().is_none_or(|of| of.eq_ignore_ascii_case(protocol))
}

fn networks(record: &Record) -> impl Iterator<Item = &v1::NetworkInfo> {
    record.task.container.iter().flat_map(|container| &container.network_infos)
}

fn has_own_network(record: &Record) -> bool {
    networks(record).any(|info| info.name.is_some()) || !record.addresses.is_empty()
}

fn labels(labels: Option<&v1::Labels>) -> BTreeMap<String, String> {
    labels
        .into_iter()
        .flat_map(|labels| &labels.labels)
        .map(|label| (label.key.clone(), label.value.clone().unwrap_or_default()))
        .collect()
}
