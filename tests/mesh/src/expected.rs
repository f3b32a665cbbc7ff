//! What must be seen from everywhere, put together from what each node says of its own tasks.

use crate::question::Question;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Where probers answer in their containers.
pub const APP_PORT: u16 = 7000;

/// Port of each app's VIP.
pub const VIP_PORT: u16 = 80;

/// Apps with their tasks and where these are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    apps: BTreeMap<String, BTreeMap<String, IpAddr>>,
}

/// An app of probers behind a VIP of its own, `instances` of them with at most `each` on a
/// node. `command` is how a shell calls the prober.
#[must_use]
pub fn app(name: &str, command: &str, instances: usize, each: usize) -> Value {
    json!({
        "id": format!("/{name}"),
        "cmd": format!("exec {command} {APP_PORT}"),
        "cpus": 0.01,
        "mem": 16,
        "instances": instances,
        "constraints": [["hostname", "MAX_PER", each.to_string()]],
        "networks": [{ "mode": "container", "name": "dcos" }],
        "container": { "portMappings": [{
            "containerPort": APP_PORT,
            "name": "probe",
            "labels": { "VIP_0": format!("/{name}:{VIP_PORT}") },
        }]},
    })
}

impl Expected {
    /// Adds what one node says of its own tasks (`/v1/tasks`).
    pub fn add(&mut self, tasks: &Value) {
        for row in tasks.as_array().into_iter().flatten() {
            let runs = row["state"] == "TASK_RUNNING";
            let address = row["addresses"][0].as_str().and_then(|text| text.parse().ok());
            let (Some(id), Some(address), true) = (row["id"].as_str(), address, runs) else {
                continue;
            };
            let app = id.split_once('.').map_or(id, |(app, _)| app).to_owned();
            self.apps.entry(app).or_default().insert(id.to_owned(), address);
        }
    }

    /// How many tasks there are.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.apps.values().map(BTreeMap::len).sum()
    }

    /// What each of the tasks is to find within `limit`.
    #[must_use]
    pub fn question(&self, limit: Duration) -> Question {
        let all = self.apps.values().flatten();
        let name = |app: &String| format!("{app}.marathon.mesos");
        let ids = |tasks: &BTreeMap<String, IpAddr>| tasks.keys().cloned().collect();
        Question {
            tasks: all.map(|(id, ip)| (SocketAddr::new(*ip, APP_PORT), id.clone())).collect(),
            names: self
                .apps
                .iter()
                .map(|(app, tasks)| (name(app), tasks.values().copied().collect()))
                .collect(),
            vips: self.apps.iter().map(|(app, tasks)| (vip(app), ids(tasks))).collect(),
            milliseconds: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What is wrong with the VIPs of a node (`/v1/vip-table`): each app's must lead to all of
    /// its tasks and to nothing else.
    #[must_use]
    pub fn wrong_vips(&self, table: &Value) -> Vec<String> {
        let rows = table.as_array().cloned().unwrap_or_default();
        let mut wrong = Vec::new();
        for (app, tasks) in &self.apps {
            let name = vip(app);
            let row = rows.iter().find(|row| row["name"] == name.as_str());
            let want: BTreeSet<SocketAddr> =
                tasks.values().map(|ip| SocketAddr::new(*ip, APP_PORT)).collect();
            let found = row.map(admitted).unwrap_or_default();
            if found != want {
                wrong.push(format!("{name} leads to {found:?} instead of {want:?}"));
            }
        }
        wrong
    }
}

fn vip(app: &str) -> String {
    format!("{app}.marathon.l4lb.thisdcos.directory")
}

/// The backends of a VIP that get connections.
fn admitted(row: &Value) -> BTreeSet<SocketAddr> {
    let backends = row["backends"].as_array().into_iter().flatten();
    let admitted = backends.filter(|backend| backend["admitted"] == true);
    admitted.filter_map(|backend| backend["address"].as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_say_becomes_what_all_must_see() {
        let mut expected = Expected::default();
        expected.add(&json!([
            { "id": "a.1", "state": "TASK_RUNNING", "addresses": ["9.0.0.2"] },
            { "id": "a.2", "state": "TASK_STAGING", "addresses": [] },
        ]));
        expected.add(&json!([{ "id": "a.3", "state": "TASK_RUNNING", "addresses": ["9.0.1.2"] }]));
        assert_eq!(expected.tasks(), 2);
        let question = expected.question(Duration::from_secs(1));
        let ips: BTreeSet<IpAddr> =
            ["9.0.0.2", "9.0.1.2"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(question.names["a.marathon.mesos"], ips);
        assert_eq!(question.tasks.len(), 2);
        let backends = |all: &[(&str, bool)]| {
            let all = all.iter().map(|(at, is)| json!({ "address": at, "admitted": is }));
            json!([{ "name": vip("a"), "backends": all.collect::<Vec<_>>() }])
        };
        let good = [("9.0.0.2:7000", true), ("9.0.1.2:7000", true), ("9.0.9.9:7000", false)];
        assert_eq!(expected.wrong_vips(&backends(&good)), [] as [&str; 0]);
        assert_eq!(expected.wrong_vips(&backends(&good[1..])).len(), 1);
        assert_eq!(expected.wrong_vips(&json!([])).len(), 1);
    }
}
