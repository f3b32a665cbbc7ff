//! What the parts of an app must not be.

use super::Found;
use crate::app::document::Document;
use crate::app::{
    Constraint, Container, ContainerKind, HealthCheck, HealthProtocol, IpProtocol, NetworkMode,
    Operator,
};

/// A container and its volumes.
pub fn container(container: &Container, found: &mut Found) {
    let image = container.docker.as_ref().and_then(|docker| docker.get("image"));
    if image.is_some() {
        let error = "images are not supported yet; a container sees the host's files";
        found.add("/container/docker/image", error);
    } else if container.docker.as_ref().is_some_and(|docker| docker != &serde_json::json!({})) {
        found.add("/container/docker", "Docker settings are not supported");
    }
    if container.kind == Some(ContainerKind::Docker) {
        found.add(
            "/container/type",
            "DOCKER is not supported, there is no Docker daemon; use MESOS",
        );
    }
    if container.linux_info.is_some() {
        found.add("/container/linuxInfo", "is not supported yet");
    }
    for (index, volume) in container.volumes.iter().enumerate() {
        let path = format!("/container/volumes({index})");
        if volume.persistent.is_some() || volume.external.is_some() || volume.secret.is_some() {
            found.add(&path, "only volumes with a hostPath are supported yet");
            continue;
        }
        let absolute = |path: &str| path.starts_with('/') && !path.contains('\0');
        let host = volume.host_path.as_deref().is_some_and(absolute);
        found.check(host, &format!("{path}/hostPath"), "must be an absolute path");
        let inside = !volume.container_path.is_empty() && !volume.container_path.contains('\0');
        found.check(inside, &format!("{path}/containerPath"), "must be a path");
    }
    for (index, mapping) in container.port_mappings.iter().enumerate() {
        let one = mapping.network_names.len() <= 1;
        let path = format!("/container/portMappings({index})/networkNames");
        found.check(one, &path, "more than one network is not supported yet");
    }
}

/// One health check.
pub fn health_check(check: &HealthCheck, path: &str, document: &Document, found: &mut Found) {
    use HealthProtocol as P;

    let command = check.protocol == P::Command;
    let has_command = check.command.as_ref().is_some_and(|c| !c.value.trim().is_empty());
    if command != check.command.is_some() || command != has_command {
        found.add(path, "a command goes with protocol COMMAND and only with it");
    }
    let http = matches!(check.protocol, P::Http | P::Https | P::MesosHttp | P::MesosHttps);
    let has_path = check.path.is_some();
    found.check(http || !has_path, path, "a path goes with HTTP only");
    let absolute = check.path.as_deref().is_none_or(|path| path.starts_with('/'));
    found.check(absolute, &format!("{path}/path"), "must begin with '/'");
    let has_port = check.port.is_some() || check.port_index.is_some();
    found.check(!command || !has_port, path, "COMMAND has no port");
    let both = check.port.is_some() && check.port_index.is_some();
    found.check(!both, path, "must have either 'port' or 'portIndex', not both");
    found.check(check.port != Some(0), &format!("{path}/port"), "must not be 0");
    if !command && check.port.is_none() {
        let index = check.port_index.unwrap_or_default() as usize;
        let ports = port_count(document);
        if index >= ports {
            found.add(format!("{path}/portIndex"), format!("the app has only {ports} ports"));
        }
    }
    let positive = check.interval_seconds > 0 && check.timeout_seconds > 0;
    found.check(positive, path, "intervalSeconds and timeoutSeconds must be more than 0");
    unsupported_probe(check, path, found);
}

/// What the agent's prober would silently do in another way. `ignoreHttp1xx` is no
/// such thing: it never takes an interim answer for the answer.
fn unsupported_probe(check: &HealthCheck, path: &str, found: &mut Found) {
    use HealthProtocol as P;

    let instead = match check.protocol {
        P::Https => Some("HTTPS is not supported yet, use HTTP, TCP or COMMAND"),
        P::MesosHttps => {
            Some("MESOS_HTTPS is not supported yet, use MESOS_HTTP, MESOS_TCP or COMMAND")
        }
        P::Http | P::Tcp | P::Command | P::MesosHttp | P::MesosTcp => None,
    };
    if let Some(error) = instead {
        found.add(format!("{path}/protocol"), error);
    }
    let error = "IPv6 is not supported yet, use IPv4: the address of the container is probed";
    found.check(check.ip_protocol == IpProtocol::IPv4, &format!("{path}/ipProtocol"), error);
}

fn port_count(document: &Document) -> usize {
    let mappings = document.container.as_ref().map_or(0, |c| c.port_mappings.len());
    let networks = document.networks.as_deref().unwrap_or_default();
    let mode = networks.first().map(|network| network.mode);
    if mode.is_some_and(|mode| mode != NetworkMode::Host) || (mode.is_none() && mappings > 0) {
        return mappings;
    }
    let definitions = document.port_definitions.as_ref().map(Vec::len);
    definitions.or(document.ports.as_ref().map(Vec::len)).unwrap_or(1)
}

/// One rule about where copies may run.
pub fn constraint(constraint: &Constraint, path: &str, found: &mut Found) {
    use Operator as O;

    let value = constraint.value.as_deref();
    found.check(!constraint.field.is_empty(), path, "the field must not be empty");
    match constraint.operator {
        O::Unique => found.check(value.is_none(), path, "UNIQUE has no value"),
        O::Cluster => {}
        O::GroupBy => found.add(path, "GROUP_BY is not supported yet; use MAX_PER"),
        O::MaxPer => {
            let number = value.and_then(|value| value.parse::<u32>().ok());
            found.check(number.is_some(), path, "MAX_PER needs a whole number as its value");
        }
        O::Is => found.check(value.is_some(), path, "IS needs a value"),
        O::Like | O::Unlike => {
            match value.filter(|value| !value.is_empty()).map(regex_lite::Regex::new) {
                None => found.add(path, "LIKE and UNLIKE need a regular expression"),
                Some(Err(error)) => found.add(path, format!("is no regular expression: {error}")),
                Some(Ok(_)) => {}
            }
        }
    }
}
