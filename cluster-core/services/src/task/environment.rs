//! The environment of a copy.
//!
//! Variables of the app win over those made here. `PORTS` lists every `PORTn`,
//! also container ports that were named in the app, so `PORT` is always `PORT0`.

use super::ports::AssignedPort;
use crate::app::App;
use crate::instance::Instance;
use std::collections::BTreeMap;

/// Longer labels are not put into the environment.
const MAX_LABEL: usize = 512;

/// All variables, by name.
#[must_use]
pub fn variables(app: &App, copy: &Instance, ports: &[AssignedPort]) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        variables.insert(name.to_owned(), value);
    };
    set("HOST", copy.host.clone());
    set("MESOS_TASK_ID", copy.task_id.clone());
    set("MARATHON_APP_ID", app.id.to_string());
    set("MARATHON_APP_VERSION", app.version.to_string());
    set("MARATHON_APP_ENFORCE_GROUP_ROLE", "false".to_owned());
    for (name, amount) in [("CPUS", app.cpus), ("MEM", app.mem), ("DISK", app.disk)] {
        set(&format!("MARATHON_APP_RESOURCE_{name}"), format!("{amount:?}"));
    }
    set("MARATHON_APP_RESOURCE_GPUS", app.gpus.to_string());
    variables.extend(of_labels(app));
    variables.extend(of_ports(ports));
    variables.extend(app.env.clone());
    variables
}

fn of_labels(app: &App) -> BTreeMap<String, String> {
    let short = app.labels.iter().filter(|(k, v)| k.len() < MAX_LABEL && v.len() < MAX_LABEL);
    let named = short.map(|(name, value)| (shouted(name), value));
    let mut variables = BTreeMap::new();
    let mut names = Vec::new();
    for (name, value) in named {
        variables.insert(format!("MARATHON_APP_LABEL_{name}"), value.clone());
        names.push(name);
    }
    variables.insert("MARATHON_APP_LABELS".to_owned(), names.join(" "));
    variables
}

fn of_ports(ports: &[AssignedPort]) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let numbers: Vec<String> = ports.iter().map(|port| port.effective().to_string()).collect();
    let Some(first) = numbers.first() else { return variables };
    variables.insert("PORT".to_owned(), first.clone());
    variables.insert("PORTS".to_owned(), numbers.join(","));
    for (index, (port, number)) in ports.iter().zip(&numbers).enumerate() {
        if port.requested != 0 {
            variables.insert(format!("PORT_{}", port.requested), number.clone());
        }
        if let Some(name) = &port.name {
            variables.insert(format!("PORT_{}", shouted(name)), number.clone());
        }
        variables.insert(format!("PORT{index}"), number.clone());
    }
    variables
}

/// Upper case, with `_` for what no name of a variable has.
fn shouted(name: &str) -> String {
    let shouted = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(shouted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::ports::{assign, wanted};
    use crate::testing::{app, instance};
    use mizzen_types::random::Dice;
    use serde_json::{Value, json};

    #[test]
    fn the_environment_of_a_copy() {
        let host = json!({"portDefinitions": [{"port": 8080, "name": "http-api"}, {"port": 0}]});
        let container = json!({"networks": [{"mode": "container"}], "container": {"portMappings": [
            {"containerPort": 80, "name": "web"}, {"containerPort": 443, "hostPort": 0}]}});
        let labels =
            json!({"labels": {"a.b": "c", "long": "x".repeat(512), "HAPROXY_0_VHOST": "h"}});
        let own = json!({"env": {"HOST": "mine", "X": "$Y"}});
        #[rustfmt::skip]
        let table: &[(&Value, &str, Option<&str>)] = &[
            (&host, "HOST", Some("node")),
            (&host, "MESOS_TASK_ID", Some("web.1")),
            (&host, "MARATHON_APP_ID", Some("/web")),
            (&host, "MARATHON_APP_VERSION", Some("1970-01-01T00:00:00.000Z")),
            (&host, "MARATHON_APP_RESOURCE_CPUS", Some("1.0")),
            (&host, "MARATHON_APP_RESOURCE_MEM", Some("128.0")),
            (&host, "MARATHON_APP_RESOURCE_GPUS", Some("0")),
            (&host, "MARATHON_APP_DOCKER_IMAGE", None),
            (&host, "MARATHON_APP_LABELS", Some("")),
            (&host, "PORT", Some("31000")),
            (&host, "PORT0", Some("31000")),
            (&host, "PORT1", Some("31001")),
            (&host, "PORT2", None),
            (&host, "PORTS", Some("31000,31001")),
            (&host, "PORT_8080", Some("31000")),
            (&host, "PORT_HTTP_API", Some("31000")),
            (&container, "PORT0", Some("80")),
            (&container, "PORT_80", Some("80")),
            (&container, "PORT_WEB", Some("80")),
            (&container, "PORT1", Some("31000")),
            (&container, "PORT_443", Some("31000")),
            (&container, "PORTS", Some("80,31000")),
            (&labels, "MARATHON_APP_LABELS", Some("HAPROXY_0_VHOST A_B")),
            (&labels, "MARATHON_APP_LABEL_A_B", Some("c")),
            (&labels, "MARATHON_APP_LABEL_LONG", None),
            (&own, "HOST", Some("mine")),
            (&own, "X", Some("$Y")),
        ];
        for (members, name, want) in table {
            let app = app((*members).clone());
            let ports = assign(wanted(&app), &[31_000, 31_001], &mut Dice::new(1));
            let variables = variables(&app, &instance("web.1"), &ports);
            assert_eq!(variables.get(*name).map(String::as_str), *want, "{name} of {members:.60}");
        }
    }
}
