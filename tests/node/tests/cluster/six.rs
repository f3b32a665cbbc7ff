//! Nodes whose network knows IPv6 only: tunnels are VXLAN under IPv6.

use super::await_listed;
use super::overlay::inside;
use mizzen_tests_node::apps::{self, PORT, Task};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, in_lab_of, lab};
use serde_json::json;
use std::net::{SocketAddr, TcpStream};

/// The address of a node of the lab.
fn address(number: u8) -> String {
    format!("fd00:1f::{number}")
}

/// A place that has no address of IPv4 any more.
fn place(number: u8, hostname: &str, flags: &[&str]) -> Place {
    let address = address(number);
    let place =
        Place::at(number, &[&["--hostname", hostname, "--address", &address], flags].concat());
    let words = format!(
        "ip address flush dev eth0 scope global; ip address add {address}/64 dev eth0 nodad"
    );
    let said = place.shell(&words);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    place
}

fn connects(from: &Task, to: &Task) -> bool {
    let server = SocketAddr::new(to.addresses[0], PORT);
    inside(from, || TcpStream::connect_timeout(&server, SOON / 10).is_ok())
}

#[test]
fn tunnels_go_over_a_network_that_knows_nothing_but_ipv6() {
    in_lab_of(2, || {
        let one = place(1, "one", &[]).start();
        let token = one.text(&["join-token"]).trim().to_owned();
        let host = format!("[{}]", address(1));
        let two = place(2, "two", &["--join", &host, "--token", &token]).start();
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
        let mut web = apps::web(2);
        web["constraints"] = json!([["hostname", "UNIQUE"]]);
        let file = lab::scratch("web.json");
        std::fs::write(&file, web.to_string()).unwrap();
        let said = two.mizzen(&["run", &file.display().to_string()]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let of = |node: &Node| apps::await_tasks(node, "web", 1).remove(0);
        let [a, b] = [of(&one), of(&two)];
        eventually("containers reach each other", SOON, || {
            (connects(&a, &b) && connects(&b, &a)).then_some(())
        });
        for (node, other) in [(&one, "two"), (&two, "one")] {
            let echo = node.json(&["ping", other, "-c", "1"]);
            assert_eq!(echo["path"]["kind"], "tunnel", "{echo}");
            assert!(echo["round_trip_ms"]["least"].is_f64() && echo["path_mtu"].is_u64(), "{echo}");
            let peers = node.json(&["overlay"])["peers"].clone();
            assert_eq!(
                (&peers[0]["reached"], peers.as_array().map(Vec::len)),
                (&json!(true), Some(1))
            );
            node.await_well();
        }
        let said = one.mizzen(&["ping", "web", "-c", "1"]);
        assert!(said.stderr.contains("several tasks"), "{}", said.stderr);
    });
}
