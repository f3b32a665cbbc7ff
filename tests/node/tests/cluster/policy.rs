//! Policies of a cluster: set anywhere, kept by the master, in force on every node, whoever is away.

use super::overlay::{inside, two};
use super::{await_listed, first};
use mizzen_tests_node::apps::Task;
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, in_lab_of, lab};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than a connection takes, and shorter than its first packet is sent again.
const SHORT: Duration = Duration::from_millis(700);

fn passes(from: &Task, to: &Task) -> bool {
    let to = to.server();
    inside(from, || TcpStream::connect_timeout(&to, SHORT).is_ok())
}

fn await_closed(from: &Task, to: &Task, when: &str) {
    eventually(&format!("it is closed {when}"), SOON, || (!passes(from, to)).then_some(()));
}

fn await_open(from: &Task, to: &Task, when: &str) {
    eventually(&format!("it is open {when}"), SOON, || passes(from, to).then_some(()));
}

/// Sets, by way of a node, what the tasks `web` take in.
fn set(node: &Node, ingress: &Value) {
    let policy = json!({ "id": "web", "applies_to": { "name": "/web" }, "ingress": ingress });
    let file = lab::scratch("policy.json");
    std::fs::write(&file, policy.to_string()).unwrap();
    let _ = node.text(&["policy", "apply", &file.display().to_string()]);
}

/// What somebody gets who wants the policy removed at the master's API or, on its machine, at
/// the node's own: the statuses.
fn by_others_than_root(master: &Node) -> [String; 2] {
    let address = master.json(&["status"])["address"].as_str().unwrap().to_owned();
    [format!("{address}:5050"), "127.0.0.1:62080".to_owned()].map(|at| removed_at(master, &at))
}

fn removed_at(master: &Node, at: &str) -> String {
    let url = format!("http://{at}/v1/policies/web");
    let shell = |words: &str| master.place().shell(&format!("curl -s {words} {url}")).stdout;
    assert!(shell("-X DELETE").contains("socket"), "the answer says how");
    assert!(shell("").contains("applies_to"), "it may be read");
    shell("-o /dev/null -w '%{http_code}' -X DELETE")
}

fn ids(node: &Node) -> Vec<String> {
    let all = node.json(&["policy", "ls"])["policies"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|policy| policy["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn policies_hold_on_every_node_while_masters_and_daemons_are_away() {
    in_lab_of(2, || {
        let (mut one, mut two, [a, b]) = two();
        await_open(&a, &b, "without a policy");
        await_open(&b, &a, "without a policy");
        // Set on the node that keeps none; the leading master has it, and all follow.
        set(&two, &json!([]));
        await_closed(&a, &b, "by a policy");
        await_closed(&b, &a, "by a policy");
        assert_eq!((ids(&one), ids(&two)), (vec!["web".to_owned()], vec!["web".to_owned()]));
        set(&one, &json!([{ "peers": [{ "name": "web" }] }]));
        await_open(&a, &b, "for its like");
        await_open(&b, &a, "for its like");
        set(&one, &json!([{ "peers": [{ "name": "others" }] }]));
        await_closed(&a, &b, "for all but others");

        assert_eq!(by_others_than_root(&one), ["403", "403"], "one's API is open to strangers");
        assert_eq!((ids(&one), ids(&two)), (vec!["web".to_owned()], vec!["web".to_owned()]));
        assert!(!passes(&a, &b), "it was opened from the network");

        one.kill();
        await_listed(&two, &[("one", "dead"), ("two", "alive")]);
        assert!(!passes(&a, &b) && !passes(&b, &a), "without a master");
        two.kill();
        assert!(!passes(&a, &b) && !passes(&b, &a), "without any daemon");
        let two = Place::at(2, &["--hostname", "two"]).start();
        assert_eq!(ids(&two), ["web"], "it keeps what it knew");
        assert!(!passes(&a, &b) && !passes(&b, &a), "after a start without a master");
        let said = two.mizzen(&["policy", "rm", "web"]);
        assert_ne!(said.code, Some(0), "nobody takes it back while no master leads");

        let one = first(&[]);
        await_listed(&two, &[("one", "alive"), ("two", "alive")]);
        assert!(!passes(&a, &b) && !passes(&b, &a), "when all are back");
        eventually("it can be removed", SOON, || {
            (two.mizzen(&["policy", "rm", "web"]).code == Some(0)).then_some(())
        });
        await_open(&a, &b, "when it is removed");
        await_open(&b, &a, "when it is removed");
        assert_eq!(ids(&one), Vec::<String>::new());
        eventually("all follow", SOON, || ids(&two).is_empty().then_some(()));
    });
}
