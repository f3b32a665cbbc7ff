//! What a task tells to those who look for it: its name and its ports, with the
//! labels that make VIPs.

use super::labels;
use super::ports::AssignedPort;
use crate::app::{App, NetworkMode};
use mizzen_api::v1;

/// The discovery info of a copy of `app`.
#[must_use]
pub fn info(app: &App, ports: &[AssignedPort]) -> v1::DiscoveryInfo {
    let ports: Vec<_> = ports.iter().flat_map(|port| announced(app, port)).collect();
    v1::DiscoveryInfo {
        visibility: v1::discovery_info::Visibility::Framework.into(),
        name: Some(app.id.discovery_name()),
        ports: Some(v1::Ports { ports }),
        ..v1::DiscoveryInfo::default()
    }
}

/// One entry per transport. A port of the host leads to the agent's address, any
/// other one to the container's, which the label `network-scope` says.
fn announced<'a>(app: &'a App, port: &'a AssignedPort) -> impl Iterator<Item = v1::Port> + 'a {
    let mut marks = port.labels.clone();
    if app.network_mode() != NetworkMode::Host {
        let scope = if port.host.is_some() { "host" } else { "container" };
        marks.insert("network-scope".to_owned(), scope.to_owned());
        let name = app.networks.first().and_then(|network| network.name.clone());
        if let Some(name) = name.filter(|_| port.host.is_none()) {
            marks.insert("network-name".to_owned(), name);
        }
    } else {
        marks.insert("network-scope".to_owned(), "host".to_owned());
    }
    port.protocol.each().iter().map(move |protocol| v1::Port {
        number: port.effective().into(),
        name: port.name.clone(),
        protocol: Some((*protocol).to_owned()),
        labels: Some(labels(&marks)),
        ..v1::Port::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::ports::{assign, wanted};
    use crate::testing::app;
    use mizzen_types::random::Dice;
    use serde_json::{Value, json};

    fn announced(members: Value) -> Vec<(u32, String, String)> {
        let app = app(members);
        let ports = assign(wanted(&app), &[31_000, 31_001], &mut Dice::new(1));
        let info = info(&app, &ports);
        let words = |port: v1::Port| {
            let labels = port.labels.unwrap_or_default().labels;
            let words =
                labels.into_iter().map(|l| format!("{}={}", l.key, l.value.unwrap_or_default()));
            (port.number, port.protocol.unwrap_or_default(), words.collect::<Vec<_>>().join(" "))
        };
        info.ports.unwrap_or_default().ports.into_iter().map(words).collect()
    }

    #[test]
    fn ports_are_announced_where_they_can_be_reached() {
        let row =
            |number, protocol: &str, labels: &str| (number, protocol.to_owned(), labels.to_owned());
        let host = json!({"portDefinitions": [{"labels": {"VIP_0": "/web:80"}}]});
        assert_eq!(announced(host), [row(31_000, "tcp", "VIP_0=/web:80 network-scope=host")]);
        let container = json!({"networks": [{"mode": "container"}], "container": {"portMappings": [
            {"containerPort": 80, "labels": {"VIP_0": "/web:80"}}, {"containerPort": 53, "hostPort": 0, "protocol": "udp,tcp"}]}});
        assert_eq!(
            announced(container),
            [
                row(80, "tcp", "VIP_0=/web:80 network-name=dcos network-scope=container"),
                row(31_000, "udp", "network-scope=host"),
                row(31_000, "tcp", "network-scope=host"),
            ]
        );
        assert_eq!(announced(json!({"portDefinitions": []})), []);
    }
}
