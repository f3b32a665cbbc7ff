//! Several nodes: how they come together, and what they do when one of them goes, comes
//! back or is none of theirs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod agents;
mod authority;
mod blocks;
mod faults;
mod hardships;
mod health;
mod members;
mod mesh;
mod moves;
mod overlay;
mod paths;
mod policy;
mod ports;
mod runtimes;
mod silent;
mod six;
mod takeover;

use mizzen_tests_node::node::{self, Node, Place};
use mizzen_tests_node::{SOON, lab, until_none};
use serde_json::Value;
use std::time::Duration;

/// How a node is listed: host name, state.
type Listed = (String, String);

/// Starts the first node of a cluster.
fn first(flags: &[&str]) -> Node {
    Place::at(1, &[&["--hostname", "one"], flags].concat()).start()
}

/// A token for `uses` nodes.
fn token(first: &Node, uses: u8) -> String {
    first.text(&["join-token", "--uses", &uses.to_string()]).trim().to_owned()
}

/// The place of node `number`, which joins by `token`.
fn joining(number: u8, hostname: &str, token: &str) -> Place {
    let host = lab::address().to_string();
    again(number, hostname, &["--join", &host, "--token", token])
}

/// The place of node `number`, which looks names and VIPs up and runs nothing.
fn again(number: u8, hostname: &str, flags: &[&str]) -> Place {
    Place::at(number, &[&["--hostname", hostname, "--roles", "dns,vip"], flags].concat())
}

/// The nodes as one of them lists them, in the order of their names.
fn listed(node: &Node) -> Vec<Listed> {
    let nodes = node.json(&["nodes"]);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let all = nodes.as_array().cloned().unwrap_or_default();
    let mut all: Vec<Listed> =
        all.iter().map(|node| (text(&node["hostname"]), text(&node["state"]))).collect();
    all.sort();
    all
}

/// Waits until a node lists these.
fn await_listed(node: &Node, want: &[(&str, &str)]) {
    let want: Vec<Listed> = want.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    until_none(&format!("others listed than {want:?}"), SOON * 2, || {
        let last = listed(node);
        if last == want { Vec::new() } else { vec![last] }
    });
}

/// The id by which a node is known.
fn id(node: &Node, hostname: &str) -> String {
    let nodes = node.json(&["nodes"]);
    let all = nodes.as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|node| node["hostname"] == hostname).expect("it is listed");
    found["id"].as_str().expect("an id").to_owned()
}

/// Pulls a cable of the lab, or plugs it in again.
fn lab_command(arguments: &[&str]) {
    let said = node::run(lab::mizzen(arguments), Duration::from_secs(10));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}
