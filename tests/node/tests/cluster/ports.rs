//! Ports of a host that lead to containers, from other nodes.

use super::{await_listed, first, token};
use mizzen_tests_node::apps::{self, PORT, Task, WEB_VIP};
use mizzen_tests_node::dns;
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, lab};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

/// A port of the host that apps here ask for.
const FIXED: u16 = 31_999;

/// Two nodes, and the second one's address.
fn two() -> (Node, Node, IpAddr) {
    let one = first(&[]);
    let (host, token) = (lab::address().to_string(), token(&one, 1));
    let two = Place::at(2, &["--hostname", "two", "--join", &host, "--token", &token]).start();
    await_listed(&one, &[("one", "alive"), ("two", "alive")]);
    let address = two.json(&["overlay"])["underlay"].as_str().unwrap().parse().unwrap();
    (one, two, address)
}

/// An app on the bridge of a node; that of the second one has a VIP.
fn bridged(id: &str, node: &str) -> Value {
    let mut app = apps::bridged_web(FIXED);
    app["id"] = json!(id);
    app["constraints"] = json!([["hostname", "CLUSTER", node]]);
    if node == "one" {
        app["container"]["portMappings"][0]["labels"] = json!({});
    }
    app
}

/// An app with a container in the overlay on each node.
fn in_overlay() -> Value {
    let mut app = apps::web(2);
    app["id"] = json!("/plain");
    app["constraints"] = json!([["hostname", "UNIQUE"]]);
    app["container"]["portMappings"][0]["labels"] = json!({});
    app["container"]["portMappings"][0]["hostPort"] = (FIXED - 1).into();
    app
}

fn post(app: &Value) {
    let answer = apps::post(app);
    assert!(answer.status < 300, "{}", answer.text());
}

/// What a container gets: from whom, and the answer.
fn fetched(from: &Task, host: &str, port: u16) -> String {
    from.ask(&format!("/fetch/{host}/{port}")).text()
}

/// Waits until a container gets a task's answer at an address.
fn await_fetched(from: &Task, at: SocketAddr, task: &Task) {
    let want = format!("{at} {}", task.id);
    eventually(&format!("{} gets to {at}", from.id), SOON, || {
        (fetched(from, &at.ip().to_string(), at.port()) == want).then_some(())
    });
}

/// The address under which a server sees a container.
fn seen_by(from: &Task, at: SocketAddr) -> String {
    let (net, url) = (format!("--net=/proc/{}/ns/net", from.pid), format!("http://{at}/peer"));
    let said = Command::new("nsenter").args([&net, "curl", "-s", "-m", "5", &url]).output();
    String::from_utf8_lossy(&said.expect("nsenter starts").stdout).into_owned()
}

#[test]
fn a_bridge_of_another_node_is_reached_by_that_node_s_address() {
    in_lab_of(2, || {
        let (one, two, address) = two();
        post(&bridged("/here", "one"));
        post(&bridged("/web", "two"));
        let here = apps::await_tasks(&one, "/here", 1).remove(0);
        let there = apps::await_tasks(&two, "/web", 1).remove(0);
        apps::await_server(&here);
        assert_eq!(here.addresses, there.addresses, "both are the first on their bridge");

        let at = SocketAddr::new(address, FIXED);
        eventually("the other node's port leads there", SOON, || {
            http::get(at, "/").ok().filter(|answer| answer.text() == there.id)
        });
        apps::await_backends(&one, WEB_VIP, 1);
        let vip = apps::vip_address(&one, WEB_VIP);
        assert_eq!(http::get(vip, "/").unwrap().text(), there.id);
        dns::await_addresses("web.marathon.mesos", &[address]);
        await_fetched(&here, at, &there);
        assert_eq!(fetched(&here, WEB_VIP, 80), format!("{vip} {}", there.id), "by the VIP");
        assert_eq!(seen_by(&here, at), lab::address().to_string(), "it speaks as its node");
    });
}

#[test]
fn a_container_of_an_overlay_is_reached_by_its_address_and_by_a_port_of_its_host() {
    in_lab_of(2, || {
        let (one, two, address) = two();
        post(&in_overlay());
        post(&bridged("/here", "one"));
        let beside = apps::await_tasks(&one, "/plain", 1).remove(0);
        let there = apps::await_tasks(&two, "/plain", 1).remove(0);
        let bridged = apps::await_tasks(&one, "/here", 1).remove(0);
        let own = SocketAddr::new(there.addresses[0], PORT);
        let published = SocketAddr::new(address, FIXED - 1);
        for client in [&bridged, &beside, &there] {
            apps::await_server(client);
            for at in [own, published] {
                await_fetched(client, at, &there);
            }
        }
        let answer = http::get(published, "/").expect("from the other node's host");
        assert_eq!(answer.text(), there.id);
    });
}
