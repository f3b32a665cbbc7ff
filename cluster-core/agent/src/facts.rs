//! What the owner log says of a task: all that names and VIPs may know.

use crate::Settings;
use crate::record::{Phase, Record};
use crate::task::Task;
use mizzen_api::link::Duty;
use mizzen_api::v1;
use mizzen_types::fact::{PortFact, TaskFact, TaskPhase};
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
        host_ports: host_ports(record),
        ports: ports(record),
        labels: labels(record.task.labels.as_ref()),
        launched: record.launched,
    })
}

/// Host ports in the order of the task's resources. Nothing forwards them into a
/// container with a network of its own, so there nobody listens on them.
fn host_ports(record: &Record) -> Vec<u16> {
    if has_own_network(record) {
        return Vec::new();
    }
    record
        .task
        .resources
        .iter()
        .filter(|resource| resource.name == "ports")
        .filter_map(|resource| resource.ranges.as_ref())
        .flat_map(|ranges| &ranges.range)
        .flat_map(|range| range.begin..=range.end.min(u64::from(u16::MAX)))
        .filter_map(|port| u16::try_from(port).ok())
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
    let number = u16::try_from(port.number).ok().filter(|number| *number > 0)?;
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    let own = has_own_network(record);
    Some(PortFact {
        number: if own { inside(number, record) } else { number },
        host_port: (!own).then_some(number),
        name: port.name.clone().filter(|name| !name.is_empty()),
        protocol: protocol.to_ascii_lowercase(),
        labels: labels(port.labels.as_ref()),
    })
}

/// The container's port that an announced number stands for: schedulers that asked for
/// a port of the host announce that one.
fn inside(number: u16, record: &Record) -> u16 {
    let container = record.task.container.iter();
    container
        .flat_map(|container| &container.network_infos)
        .flat_map(|network| &network.port_mappings)
        .find(|mapping| mapping.host_port == u32::from(number))
        .and_then(|mapping| u16::try_from(mapping.container_port).ok())
        .unwrap_or(number)
}

fn has_own_network(record: &Record) -> bool {
    let infos = record.task.container.as_ref().map(|container| &container.network_infos);
    let named = infos.into_iter().flatten().any(|info| info.name.is_some());
    named || !record.addresses.is_empty()
}

fn labels(labels: Option<&v1::Labels>) -> BTreeMap<String, String> {
    labels
        .into_iter()
        .flat_map(|labels| &labels.labels)
        .map(|label| (label.key.clone(), label.value.clone().unwrap_or_default()))
        .collect()
}
