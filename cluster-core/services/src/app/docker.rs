//! Where networks and ports were written before Marathon 1.5: in `container.docker`.
//!
//! Containers without an image have them there too, because definitions were copied from
//! those of Docker; what they mean does not need Docker.

use serde_json::{Map, Value, json};

/// Moves `container.docker.network` and `container.docker.portMappings` to where they are
/// written today. What contradicts a member that is there already stays, to be refused.
pub(super) fn move_networking(app: &mut Map<String, Value>) {
    let has_networks = app.get("networks").is_some_and(|networks| !networks.is_null());
    let Some(container) = app.get_mut("container").and_then(Value::as_object_mut) else { return };
    let Some(docker) = container.get_mut("docker").and_then(Value::as_object_mut) else { return };
    let mode = docker.get("network").and_then(Value::as_str).and_then(mode);
    let mode = mode.filter(|_| !has_networks);
    if mode.is_some() {
        docker.remove("network");
    }
    let mappings = docker.remove("portMappings").filter(|mappings| !mappings.is_null());
    if docker.is_empty() {
        container.remove("docker");
    }
    if let Some(mappings) = mappings {
        container.entry("portMappings").or_insert(mappings);
    }
    if let Some(mode) = mode {
        app.insert("networks".to_owned(), json!([{ "mode": mode }]));
    }
}

/// What a network of Docker's is called today.
fn mode(network: &str) -> Option<&'static str> {
    match network {
        "BRIDGE" => Some("container/bridge"),
        "HOST" => Some("host"),
        "USER" => Some("container"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_places_of_networks_and_ports() {
        let ports = json!([{ "containerPort": 80, "hostPort": 0 }]);
        let bridge = json!([{ "mode": "container/bridge" }]);
        // What is written, and what it means.
        #[rustfmt::skip]
        let table = [
            (json!({"container": {"docker": {"network": "BRIDGE", "portMappings": ports}}}),
             json!({"container": {"portMappings": ports}, "networks": bridge})),
            (json!({"container": {"docker": {"portMappings": ports}}}),
             json!({"container": {"portMappings": ports}})),
            (json!({"container": {"type": "MESOS", "docker": {"network": "HOST"}}}),
             json!({"container": {"type": "MESOS"}, "networks": [{ "mode": "host" }]})),
            (json!({"container": {"docker": {"image": "nginx", "network": "USER"}}}),
             json!({"container": {"docker": {"image": "nginx"}}, "networks": [{ "mode": "container" }]})),
            (json!({"container": {"docker": {"network": "NONE"}}}),
             json!({"container": {"docker": {"network": "NONE"}}})),
            (json!({"container": {"docker": {"network": "HOST"}}, "networks": bridge}),
             json!({"container": {"docker": {"network": "HOST"}}, "networks": bridge})),
            (json!({"container": {"portMappings": ports}}), json!({"container": {"portMappings": ports}})),
            (json!({"container": {"docker": []}}), json!({"container": {"docker": []}})),
            (json!({}), json!({})),
        ];
        for (written, want) in table {
            let mut app = written.as_object().unwrap().clone();
            move_networking(&mut app);
            assert_eq!(Value::from(app), want, "{written}");
        }
    }
}
