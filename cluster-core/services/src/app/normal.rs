//! From a valid [`Document`] to an [`App`]: names made absolute, defaults that
//! depend on other members, numbers for service ports.

use super::document::{Document, EnvValue};
use super::parts::{Container, ContainerKind, Network, NetworkMode, PortDefinition, PortMapping};
use super::{App, VersionInfo};
use crate::app_id::{AppId, AppIdError};
use crate::settings::Settings;
use crate::version::Version;
use std::collections::BTreeSet;

/// The app that `document` describes; versions and service ports come later.
///
/// # Errors
///
/// [`AppIdError`] if the document has no usable id. Everything else is taken as
/// `validation` let it pass.
pub fn app(document: Document, settings: &Settings) -> Result<App, AppIdError> {
    let id = AppId::parse(document.id.as_deref().unwrap_or_default())?;
    let container = document.container.map(container);
    let networks = networks(document.networks, container.as_ref(), settings);
    let mode = networks.first().map_or(NetworkMode::Host, |network| network.mode);
    let port_definitions = match mode {
        NetworkMode::Host => port_definitions(document.port_definitions, document.ports),
        _ => Vec::new(),
    };
    Ok(App {
        id,
        cmd: document.cmd,
        args: document.args.filter(|args| !args.is_empty()),
        user: document.user,
        cpus: document.cpus,
        mem: document.mem,
        disk: document.disk,
        gpus: u32::try_from(document.gpus).unwrap_or_default(),
        instances: u32::try_from(document.instances).unwrap_or_default(),
        env: document.env.into_iter().filter_map(|(k, v)| Some((k, text(v)?))).collect(),
        labels: document.labels,
        constraints: document.constraints,
        container: container.map(|container| bridge_ports(container, mode)),
        networks,
        port_definitions,
        require_ports: document.require_ports,
        health_checks: document.health_checks,
        dependencies: document.dependencies.iter().map(|path| absolute(path)).collect(),
        backoff_seconds: document.backoff_seconds,
        backoff_factor: document.backoff_factor,
        max_launch_delay_seconds: document.max_launch_delay_seconds,
        upgrade_strategy: document.upgrade_strategy,
        task_kill_grace_period_seconds: document.task_kill_grace_period_seconds,
        unreachable_strategy: document.unreachable_strategy,
        kill_selection: document.kill_selection,
        role: document.role.unwrap_or_else(|| settings.role.clone()),
        accepted_resource_roles: document
            .accepted_resource_roles
            .filter(|roles| !roles.is_empty())
            .unwrap_or_else(|| default_roles(settings)),
        executor: String::new(),
        version: Version::default(),
        version_info: VersionInfo::default(),
    })
}

/// Gives numbers to service ports that are 0. A port keeps the number that the
/// same port of `old` has, unless the document gives it to another; others get the lowest one that is not `taken`. Required
/// host ports are left as they are: there, 0 means any host port.
pub fn assign_service_ports(
    app: &mut App,
    old: Option<&App>,
    taken: &BTreeSet<u16>,
    settings: &Settings,
) {
    let kept = old.map(App::service_ports).unwrap_or_default();
    let host = app.network_mode() == NetworkMode::Host;
    if host && app.require_ports {
        return;
    }
    let mappings = app.container.as_mut().map(|container| container.port_mappings.iter_mut());
    let ports: Vec<&mut u16> = if host {
        app.port_definitions.iter_mut().map(|port| &mut port.port).collect()
    } else {
        mappings.into_iter().flatten().map(|mapping| &mut mapping.service_port).collect()
    };
    let explicit: BTreeSet<u16> = ports.iter().map(|port| **port).filter(|n| *n != 0).collect();
    let mut used: BTreeSet<u16> = explicit.iter().copied().chain(kept.clone()).collect();
    let (first, last) = settings.service_ports;
    for (index, port) in ports.into_iter().enumerate().filter(|(_, port)| **port == 0) {
        let free = || (first..=last).find(|n| !taken.contains(n) && !used.contains(n));
        let kept = kept.get(index).filter(|kept| **kept != 0 && !explicit.contains(kept));
        let number = kept.copied().or_else(free);
        *port = number.unwrap_or_default();
        used.insert(*port);
    }
}

/// `path` with its leading slash.
#[must_use]
pub fn absolute(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

fn text(value: EnvValue) -> Option<String> {
    match value {
        EnvValue::Text(text) => Some(text),
        EnvValue::Secret { .. } => None,
    }
}

fn container(container: Container) -> Container {
    Container { kind: Some(ContainerKind::Mesos), ..container }
}

/// A bridge without mapped ports would reach nobody, so each mapping has a host port.
fn bridge_ports(container: Container, mode: NetworkMode) -> Container {
    if mode != NetworkMode::Bridge {
        return container;
    }
    let with_host_port =
        |mapping: PortMapping| PortMapping { host_port: mapping.host_port.or(Some(0)), ..mapping };
    let port_mappings = container.port_mappings.into_iter().map(with_host_port).collect();
    Container { port_mappings, ..container }
}

/// Without a word about networks, port mappings tell that a container wants its own.
fn networks(
    given: Option<Vec<Network>>,
    container: Option<&Container>,
    settings: &Settings,
) -> Vec<Network> {
    let mapped = container.is_some_and(|container| !container.port_mappings.is_empty());
    let given = given.filter(|networks| !networks.is_empty()).unwrap_or_else(|| {
        let mode = if mapped { NetworkMode::Bridge } else { NetworkMode::Host };
        vec![Network { mode, ..Network::default() }]
    });
    let named = |network: Network| match network.mode {
        NetworkMode::Container => {
            let name = network.name.or_else(|| Some(settings.default_network.clone()));
            Network { name, ..network }
        }
        NetworkMode::Host | NetworkMode::Bridge => network,
    };
    given.into_iter().map(named).collect()
}

fn port_definitions(
    given: Option<Vec<PortDefinition>>,
    ports: Option<Vec<u16>>,
) -> Vec<PortDefinition> {
    let old = |ports: Vec<u16>| {
        ports.into_iter().map(|port| PortDefinition { port, ..PortDefinition::default() }).collect()
    };
    given.or_else(|| ports.map(old)).unwrap_or_else(|| {
        let name = Some("default".to_owned());
        vec![PortDefinition { name, ..PortDefinition::default() }]
    })
}

fn default_roles(settings: &Settings) -> Vec<String> {
    let mut roles = vec!["*".to_owned()];
    if settings.role != "*" {
        roles.push(settings.role.clone());
    }
    roles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::document;
    use serde_json::{Value, json};

    fn normal(value: Value) -> Value {
        let settings = Settings::default();
        let mut app = app(document::read(value).unwrap(), &settings).unwrap();
        assign_service_ports(&mut app, None, &BTreeSet::from([10_000]), &settings);
        serde_json::to_value(app).unwrap()
    }

    /// Documents with one interesting member, and what becomes of it.
    #[test]
    fn defaults_are_filled_in() {
        let dcos = json!([{"mode": "container", "name": "dcos"}]);
        let default_port =
            json!([{"port": 10001, "name": "default", "protocol": "tcp", "labels": {}}]);
        #[rustfmt::skip]
        let table: &[(Value, &str, Value)] = &[
            (json!({}), "/cpus", json!(1.0)),
            (json!({}), "/mem", json!(128.0)),
            (json!({}), "/disk", json!(0.0)),
            (json!({}), "/gpus", json!(0)),
            (json!({}), "/instances", json!(1)),
            (json!({}), "/id", json!("/web")),
            (json!({}), "/backoffSeconds", json!(1.0)),
            (json!({}), "/backoffFactor", json!(1.15)),
            (json!({}), "/maxLaunchDelaySeconds", json!(300.0)),
            (json!({}), "/upgradeStrategy", json!({"minimumHealthCapacity": 1.0, "maximumOverCapacity": 1.0})),
            (json!({}), "/unreachableStrategy", json!({"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0})),
            (json!({"unreachableStrategy": "disabled"}), "/unreachableStrategy", json!("disabled")),
            (json!({}), "/killSelection", json!("YOUNGEST_FIRST")),
            (json!({}), "/acceptedResourceRoles", json!(["*"])),
            (json!({}), "/networks", json!([{"mode": "host"}])),
            (json!({}), "/portDefinitions", default_port),
            (json!({"portDefinitions": []}), "/portDefinitions", json!([])),
            (json!({"ports": [0, 80]}), "/portDefinitions/1/port", json!(80)),
            (json!({"networks": [{"mode": "container"}]}), "/networks", dcos.clone()),
            (json!({"networks": [{}]}), "/networks", dcos),
            (json!({"networks": [{"mode": "container"}]}), "/portDefinitions", json!([])),
            (json!({"container": {"portMappings": [{}]}}), "/networks/0/mode", json!("container/bridge")),
            (json!({"container": {"portMappings": [{}]}}), "/container/portMappings/0/hostPort", json!(0)),
            (json!({"container": {"portMappings": [{}]}}), "/container/portMappings/0/servicePort", json!(10001)),
            (json!({"container": {}}), "/container/type", json!("MESOS")),
            (json!({"healthChecks": [{}]}), "/healthChecks/0", json!({
                "protocol": "HTTP", "gracePeriodSeconds": 300, "intervalSeconds": 60, "timeoutSeconds": 20,
                "maxConsecutiveFailures": 3, "delaySeconds": 15, "ipProtocol": "IPv4"})),
            (json!({"dependencies": ["db", "/x/"]}), "/dependencies", json!(["/db", "/x"])),
            (json!({"constraints": [["hostname", "unique"]]}), "/constraints", json!([["hostname", "UNIQUE"]])),
        ];
        for (members, pointer, want) in table {
            let mut value = json!({"id": "web", "cmd": "true"});
            value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let app = normal(value);
            assert_eq!(app.pointer(pointer), Some(want), "{members} {pointer}");
        }
    }

    #[test]
    fn service_ports_are_unique_and_stay() {
        let settings = Settings::default();
        let make = |value| app(document::read(value).unwrap(), &settings).unwrap();
        let mut old = make(json!({"id": "/a", "cmd": "x", "ports": [0, 0, 10_002]}));
        assign_service_ports(&mut old, None, &BTreeSet::from([10_000]), &settings);
        assert_eq!(old.service_ports(), [10_001, 10_003, 10_002]);
        let mut new = make(json!({"id": "/a", "cmd": "y", "ports": [0, 0, 0, 0]}));
        assign_service_ports(&mut new, Some(&old), &BTreeSet::from([10_000]), &settings);
        assert_eq!(new.service_ports(), [10_001, 10_003, 10_002, 10_004]);
        let mut moved = make(json!({"id": "/a", "cmd": "y", "ports": [0, 10_001]}));
        assign_service_ports(&mut moved, Some(&old), &BTreeSet::from([10_000]), &settings);
        assert_eq!(moved.service_ports(), [10_004, 10_001], "a number is given once");
    }

    #[test]
    fn an_app_survives_being_written_and_read() {
        let settings = Settings::default();
        let document = document::read(json!({
            "id": "/a", "args": ["x"], "constraints": [["rack", "LIKE", "r.*"]], "unreachableStrategy": "disabled",
            "container": {"portMappings": [{"containerPort": 53, "protocol": "tcp,udp"}]},
            "healthChecks": [{"protocol": "MESOS_TCP"}],
        }));
        let app = app(document.unwrap(), &settings).unwrap();
        let text = serde_json::to_string(&app).unwrap();
        assert_eq!(serde_json::from_str::<App>(&text).unwrap(), app);
    }
}
