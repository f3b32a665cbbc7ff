//! Five nodes: every container reaches every other one, every name and every VIP.

use super::{await_listed, first, token};
use mizzen_tests_mesh::{Expected, ask_all};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{apps, eventually, http, in_lab_of, lab, until_none};
use std::time::Duration;

const NODES: u8 = 5;
/// Each has two containers on each node.
const APPS: usize = 4;
const EACH: usize = 2;
/// Five daemons and all of their containers share a machine with other tests.
const LIMIT: Duration = Duration::from_secs(55);

/// A whole cluster whose nodes run containers.
fn cluster() -> Vec<Node> {
    let one = first(&[]);
    let (host, token) = (lab::address().to_string(), token(&one, NODES - 1));
    let name = |number: u8| format!("n{number}");
    let mut nodes = vec![one];
    for number in 2..=NODES {
        let hostname = name(number);
        let flags = ["--hostname", &hostname, "--join", &host, "--token", &token];
        nodes.push(Place::at(number, &flags).spawn());
    }
    nodes.iter_mut().for_each(Node::wait_ready);
    let names: Vec<String> = (2..=NODES).map(name).collect();
    let others = names.iter().map(|name| (name.as_str(), "alive"));
    let want: Vec<(&str, &str)> = others.chain([("one", "alive")]).collect();
    nodes.iter().for_each(|node| await_listed(node, &want));
    nodes
}

/// What a node's own port answers.
fn ask(node: &Node, path: &str) -> serde_json::Value {
    let said = node.place().shell(&format!("curl -s http://127.0.0.1:62080{path}"));
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_container_of_five_nodes_reaches_all_others_and_all_names_and_vips() {
    in_lab_of(NODES, || {
        let nodes = cluster();
        eventually("all agents have registered", LIMIT, || {
            let agents = http::get(lab::at(5050), "/slaves").ok()?.json();
            let active = agents["slaves"].as_array()?.iter().filter(|row| row["active"] == true);
            (active.count() == nodes.len()).then_some(())
        });
        let prober = lab::executable("mizzen-test-prober").display().to_string();
        for number in 0..APPS {
            let name = format!("app{number}");
            let app = mizzen_tests_mesh::app(&name, &prober, EACH * nodes.len(), EACH);
            assert_eq!(apps::post(&app).status, 201);
        }
        let expected = eventually("all containers run", LIMIT, || {
            let mut expected = Expected::default();
            nodes.iter().for_each(|node| expected.add(&ask(node, "/v1/tasks")));
            (expected.tasks() == APPS * EACH * nodes.len()).then_some(expected)
        });
        let found = ask_all(&expected.question(LIMIT)).unwrap();
        assert_eq!(found.len(), expected.tasks());
        for (task, findings) in found {
            assert_eq!(findings.wrong, [] as [&str; 0], "{task} finds wrong");
        }
        for node in &nodes {
            until_none("wrong VIPs", LIMIT, || expected.wrong_vips(&ask(node, "/v1/vip-table")));
            node.await_well();
        }
    });
}
