//! From a copy and what it got of an offer to the `TaskInfo` that an agent runs.

pub mod discovery;
mod environment;
mod health;
pub mod ports;

use crate::app::{App, NetworkMode, VolumeMode};
use crate::instance::Instance;
use crate::settings::Settings;
use mizzen_api::v1;
use mizzen_types::random::Dice;
use ports::AssignedPort;
use std::collections::BTreeMap;

/// A new task id: `shop_cart.instance-<uuid>._app.1`.
#[must_use]
pub fn new_id(app: &App, dice: &mut Dice) -> String {
    format!("{}.instance-{}._app.1", app.id.task_prefix(), uuid(dice))
}

/// Whether `task_id` looks like one of [`new_id`].
#[must_use]
pub fn is_own_id(task_id: &str) -> bool {
    let Some((prefix, rest)) = task_id.rsplit_once(".instance-") else { return false };
    let Some((uuid, attempt)) = rest.split_once("._app.") else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let hex = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    !prefix.is_empty() && uuid.len() == 36 && uuid.bytes().all(hex) && digits(attempt)
}

/// A version 4 UUID from the scheduler's own stream of numbers.
#[must_use]
pub fn uuid(dice: &mut Dice) -> String {
    let (high, low) = (dice.draw(), dice.draw());
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// The task of `copy`.
#[must_use]
pub fn info(
    app: &App,
    copy: &Instance,
    resources: Vec<v1::Resource>,
    ports: &[AssignedPort],
    settings: &Settings,
) -> v1::TaskInfo {
    let grace = app.task_kill_grace_period_seconds.map(|seconds| v1::KillPolicy {
        grace_period: Some(v1::DurationInfo { nanoseconds: nanoseconds(seconds) }),
    });
    v1::TaskInfo {
        name: app.id.discovery_name(),
        task_id: v1::TaskId { value: copy.task_id.clone() },
        agent_id: v1::AgentId { value: copy.agent.clone() },
        resources,
        command: Some(command(app, copy, ports)),
        container: Some(container(app, ports, settings)),
        health_check: app.health_checks.first().and_then(|check| health::check(check, app, ports)),
        kill_policy: grace,
        labels: (!app.labels.is_empty()).then(|| labels(&app.labels)),
        discovery: Some(discovery::info(app, ports)),
        ..v1::TaskInfo::default()
    }
}

fn command(app: &App, copy: &Instance, ports: &[AssignedPort]) -> v1::CommandInfo {
    let variable = |(name, value)| v1::environment::Variable {
        name,
        value: Some(value),
        ..v1::environment::Variable::default()
    };
    let variables = environment::variables(app, copy, ports).into_iter().map(variable).collect();
    let arguments = app.args.clone().unwrap_or_default();
    v1::CommandInfo {
        environment: Some(v1::Environment { variables }),
        shell: Some(app.cmd.is_some()),
        value: app.cmd.clone().or_else(|| arguments.first().cloned()),
        arguments,
        user: app.user.clone(),
        ..v1::CommandInfo::default()
    }
}

fn container(app: &App, ports: &[AssignedPort], settings: &Settings) -> v1::ContainerInfo {
    let volumes = app.container.iter().flat_map(|container| &container.volumes);
    let volume = |volume: &crate::app::Volume| v1::Volume {
        mode: match volume.mode {
            VolumeMode::Ro => v1::volume::Mode::Ro,
            VolumeMode::Rw => v1::volume::Mode::Rw,
        }
        .into(),
        container_path: volume.container_path.clone(),
        host_path: volume.host_path.clone(),
        ..v1::Volume::default()
    };
    v1::ContainerInfo {
        r#type: v1::container_info::Type::Mesos.into(),
        volumes: volumes.map(volume).collect(),
        network_infos: network(app, ports, settings).into_iter().collect(),
        ..v1::ContainerInfo::default()
    }
}

fn network(app: &App, ports: &[AssignedPort], settings: &Settings) -> Option<v1::NetworkInfo> {
    let network = app.networks.first()?;
    let name = match network.mode {
        NetworkMode::Host => return None,
        NetworkMode::Container => network.name.clone(),
        NetworkMode::Bridge => Some(settings.bridge_network.clone()),
    };
    let mappings = ports.iter().flat_map(|port| {
        let protocols = port.protocol.each().iter();
        protocols.filter_map(|protocol| {
            Some(v1::network_info::PortMapping {
                host_port: port.host?.into(),
                container_port: port.container?.into(),
                protocol: Some((*protocol).to_owned()),
            })
        })
    });
    Some(v1::NetworkInfo {
        name,
        labels: (!network.labels.is_empty()).then(|| labels(&network.labels)),
        port_mappings: mappings.collect(),
        ..v1::NetworkInfo::default()
    })
}

fn labels(labels: &BTreeMap<String, String>) -> v1::Labels {
    let label = |(key, value): (&String, &String)| v1::Label {
        key: key.clone(),
        value: Some(value.clone()),
    };
    v1::Labels { labels: labels.iter().map(label).collect() }
}

#[allow(clippy::cast_possible_truncation, reason = "saturates, and was checked")]
fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{app, instance};
    use serde_json::json;

    fn built(members: serde_json::Value) -> v1::TaskInfo {
        let app = app(members);
        let wanted = ports::wanted(&app);
        let ports = ports::assign(wanted, &[31_000, 31_001], &mut Dice::new(1));
        info(&app, &instance("web.1"), Vec::new(), &ports, &Settings::default())
    }

    #[test]
    fn ids_are_recognised() {
        let app = App { id: crate::app_id::AppId::parse("/shop/cart").unwrap(), ..app(json!({})) };
        let id = new_id(&app, &mut Dice::new(5));
        assert!(id.starts_with("shop_cart.instance-") && is_own_id(&id), "{id}");
        assert!(mizzen_types::ids::check_id(&id).is_ok());
        assert_eq!(id.split('-').nth(3).map(|part| &part[..1]), Some("4"), "{id}");
        for other in ["", "web.1", "web.instance-x._app.1", ".instance-", "a.instance-b"] {
            assert!(!is_own_id(other), "{other}");
        }
    }

    #[test]
    fn commands() {
        let shell = built(json!({"cmd": "echo $X", "user": "nobody"})).command.unwrap();
        assert_eq!((shell.shell, shell.value.as_deref()), (Some(true), Some("echo $X")));
        assert_eq!((shell.user.as_deref(), shell.arguments.len()), (Some("nobody"), 0));
        let exec = built(json!({"cmd": null, "args": ["/bin/x", "-y"]})).command.unwrap();
        assert_eq!((exec.shell, exec.value.as_deref()), (Some(false), Some("/bin/x")));
        assert_eq!(exec.arguments, ["/bin/x", "-y"]);
    }

    #[test]
    fn containers_and_networks() {
        let host = built(json!({})).container.unwrap();
        assert_eq!((host.r#type(), host.network_infos.len()), (v1::container_info::Type::Mesos, 0));
        let dcos = built(json!({
            "networks": [{"mode": "container"}],
            "container": {
                "portMappings": [{"containerPort": 80}, {"containerPort": 53, "hostPort": 0, "protocol": "udp,tcp"}],
                "volumes": [{"containerPath": "/d", "hostPath": "/srv", "mode": "RO"}],
            },
            "taskKillGracePeriodSeconds": 1.5,
        }));
        assert_eq!(dcos.kill_policy.unwrap().grace_period.unwrap().nanoseconds, 1_500_000_000);
        let container = dcos.container.unwrap();
        assert_eq!(container.volumes[0].mode(), v1::volume::Mode::Ro);
        let network = &container.network_infos[0];
        assert_eq!(network.name.as_deref(), Some("dcos"));
        let row = |mapping: &v1::network_info::PortMapping| {
            (mapping.host_port, mapping.container_port, mapping.protocol.clone().unwrap())
        };
        let mapped: Vec<_> = network.port_mappings.iter().map(row).collect();
        let want = |protocol: &str| (31_000, 53, protocol.to_owned());
        assert_eq!(mapped, [want("udp"), want("tcp")], "and none for the port without one");
        let bridge = built(json!({"container": {"portMappings": [{"containerPort": 80}]}}));
        let network = &bridge.container.unwrap().network_infos[0];
        assert_eq!(network.name.as_deref(), Some("mesos-bridge"));
        assert_eq!(row(&network.port_mappings[0]), (31_000, 80, "tcp".to_owned()));
    }
}
