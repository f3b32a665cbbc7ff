//! The ports of an app: which ones it wants, and which ones a copy got.

use crate::app::{App, NetworkMode, PortProtocol};
use mizzen_types::random::Dice;
use std::collections::BTreeMap;

/// First number that may be made up for a container port.
const FIRST_UNPRIVILEGED: u16 = 1025;

/// Which port of the host a port needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPort {
    /// None: its container's address leads to it.
    None,
    /// Any that is offered.
    Any,
    /// This one.
    Exact(u16),
}

/// A port that an app wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPort {
    /// The number in the app: a container port, or a service port on the host's network.
    pub requested: u16,
    /// Which port of the host it needs.
    pub host: HostPort,
    /// Whether it has a number inside a container too.
    pub in_container: bool,
    /// Transports.
    pub protocol: PortProtocol,
    /// Its name.
    pub name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A port that a copy got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedPort {
    /// The number in the app.
    pub requested: u16,
    /// On the host.
    pub host: Option<u16>,
    /// In its container.
    pub container: Option<u16>,
    /// Transports.
    pub protocol: PortProtocol,
    /// Its name.
    pub name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl AssignedPort {
    /// The number that the copy is told: the host's where there is one.
    #[must_use]
    pub fn effective(&self) -> u16 {
        self.host.or(self.container).unwrap_or_default()
    }

    /// The number to listen on and to probe.
    #[must_use]
    pub fn listened(&self) -> u16 {
        self.container.or(self.host).unwrap_or_default()
    }
}

/// The ports that `app` wants, in order.
#[must_use]
pub fn wanted(app: &App) -> Vec<WantedPort> {
    if app.network_mode() != NetworkMode::Host {
        let mapping = |mapping: &crate::app::PortMapping| WantedPort {
            requested: mapping.container_port,
            host: match mapping.host_port {
                None => HostPort::None,
                Some(0) => HostPort::Any,
                Some(number) => HostPort::Exact(number),
            },
            in_container: true,
            protocol: mapping.protocol,
            name: mapping.name.clone(),
            labels: mapping.labels.clone(),
        };
        return app.port_mappings().iter().map(mapping).collect();
    }
    let definition = |port: &crate::app::PortDefinition| WantedPort {
        requested: port.port,
        host: match port.port {
            number if app.require_ports && number != 0 => HostPort::Exact(number),
            _ => HostPort::Any,
        },
        in_container: false,
        protocol: port.protocol,
        name: port.name.clone(),
        labels: port.labels.clone(),
    };
    app.port_definitions.iter().map(definition).collect()
}

/// Where the port number `index` stands among those that have one of the host.
#[must_use]
pub fn place_on_host(wanted: &[WantedPort], index: usize) -> Option<usize> {
    let has_host = |port: &WantedPort| port.host != HostPort::None;
    let (before, rest) = wanted.split_at_checked(index)?;
    rest.first().is_some_and(has_host).then(|| before.iter().filter(|port| has_host(port)).count())
}

/// Puts `host_ports` to those that need one, in order, and makes up container
/// ports that nobody named.
#[must_use]
pub fn assign(wanted: Vec<WantedPort>, host_ports: &[u16], dice: &mut Dice) -> Vec<AssignedPort> {
    let mut used: Vec<u16> = wanted.iter().map(|port| port.requested).collect();
    let mut host_ports = host_ports.iter().copied();
    let mut one = |port: WantedPort| {
        let host = match port.host {
            HostPort::None => None,
            HostPort::Any | HostPort::Exact(_) => host_ports.next(),
        };
        let container = port.in_container.then(|| match port.requested {
            0 => host.unwrap_or_else(|| made_up(&mut used, dice)),
            number => number,
        });
        AssignedPort {
            requested: port.requested,
            host,
            container,
            protocol: port.protocol,
            name: port.name,
            labels: port.labels,
        }
    };
    wanted.into_iter().map(&mut one).collect()
}

fn made_up(used: &mut Vec<u16>, dice: &mut Dice) -> u16 {
    let span = usize::from(u16::MAX - FIRST_UNPRIVILEGED) + 1;
    let start = dice.below(span);
    let number = |offset| {
        let offset = u16::try_from((start + offset) % span).unwrap_or_default();
        FIRST_UNPRIVILEGED + offset
    };
    let free = (0..span).map(number).find(|number| !used.contains(number)).unwrap_or_default();
    used.push(free);
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::app;
    use serde_json::{Value, json};

    #[test]
    fn ports_of_the_host_stand_in_their_order() {
        let app = app(json!({"networks": [{"mode": "container"}], "container": {"portMappings": [
            {"containerPort": 1, "hostPort": 0}, {"containerPort": 2}, {"containerPort": 3, "hostPort": 7}]}}));
        let wanted = wanted(&app);
        let places: Vec<_> = (0..4).map(|index| place_on_host(&wanted, index)).collect();
        assert_eq!(places, [Some(0), None, Some(1), None]);
    }

    #[test]
    fn numbers_by_network_mode() {
        let container = |mapping: Value| json!({"networks": [{"mode": "container"}], "container": {"portMappings": [mapping]}});
        #[rustfmt::skip]
        let table: &[(&str, Value, Option<u16>, Option<u16>)] = &[
            ("host",              json!({}),                                            Some(31_000), None),
            ("host, required",    json!({"ports": [80], "requirePorts": true}),         Some(31_000), None),
            ("container",         container(json!({"containerPort": 80})),              None,         Some(80)),
            ("container, mapped", container(json!({"containerPort": 80, "hostPort": 0})), Some(31_000), Some(80)),
            ("container, same",   container(json!({"hostPort": 0})),                    Some(31_000), Some(31_000)),
            ("bridge",            json!({"container": {"portMappings": [{"containerPort": 80}]}}), Some(31_000), Some(80)),
        ];
        for (name, members, host, inside) in table {
            let ports = assign(wanted(&app(members.clone())), &[31_000], &mut Dice::new(1));
            assert_eq!((ports[0].host, ports[0].container), (*host, *inside), "{name}");
        }
        let fixed = wanted(&app(container(json!({"containerPort": 80, "hostPort": 8080}))));
        assert_eq!(fixed[0].host, HostPort::Exact(8080));
        let both =
            json!({"networks": [{"mode": "container"}], "container": {"portMappings": [{}, {}]}});
        let ports = assign(wanted(&app(both)), &[], &mut Dice::new(1));
        let (one, other) = (ports[0].listened(), ports[1].listened());
        assert!(one >= 1025 && other >= 1025 && one != other);
    }
}
