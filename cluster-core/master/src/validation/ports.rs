//! Ports of the host that are to lead to a container: it must have been given them.

use mizzen_api::v1;
use mizzen_types::resources::{Ranges, Resources};

/// Checks the port mappings of the container's networks against its resources.
pub(super) fn check(container: &v1::ContainerInfo, resources: &Resources) -> Result<(), String> {
    let held = resources.ranges("ports");
    let networks = container.network_infos.iter().filter(|network| network.name.is_some());
    networks.flat_map(|network| &network.port_mappings).try_for_each(|mapping| one(mapping, &held))
}

fn one(mapping: &v1::network_info::PortMapping, held: &Ranges) -> Result<(), String> {
    let number = u64::from(mapping.host_port);
    let missing = Ranges::new([(number, number)]).difference(held);
    if !missing.is_empty() {
        return Err(format!("host port {number} is not among the task's resources"));
    }
    if !(1..=u32::from(u16::MAX)).contains(&mapping.container_port) {
        return Err(format!("{} is not a port of a container", mapping.container_port));
    }
    match mapping.protocol().to_ascii_lowercase().as_str() {
        "" | "tcp" | "udp" | "sctp" => Ok(()),
        other => Err(format!("'{other}' is not a protocol (tcp, udp, sctp)")),
    }
}
