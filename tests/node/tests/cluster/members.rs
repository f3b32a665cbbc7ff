//! A cluster of two.

use super::{again, await_listed, first, id, joining, lab_command, token};
use mizzen_tests_node::apps::{self, WEB_VIP, server};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, lab};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An app on the host's network, behind the VIP [`WEB_VIP`].
fn web() -> Value {
    json!({
        "id": "/web", "cmd": server("$PORT0"), "cpus": 0.1, "mem": 32, "instances": 1,
        "portDefinitions": [{ "port": 0, "name": "http", "labels": { "VIP_0": "/web:80" } }],
    })
}

fn run_web(node: &Node) {
    let file = lab::scratch("web.json");
    std::fs::write(&file, web().to_string()).unwrap();
    let said = node.mizzen(&["run", &file.display().to_string()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(apps::tasks(node, "/web").len(), 1);
}

/// How many backends of the VIP take connections, as a node has it.
fn backends(node: &Node) -> usize {
    let vips = node.json(&["vips", WEB_VIP]);
    let backends = vips[0]["backends"].as_array().cloned().unwrap_or_default();
    backends.iter().filter(|backend| backend["admitted"] == true).count()
}

/// The first line that the VIP answers a program beside a node.
fn ask(node: &Node, vip: &str) -> Option<String> {
    let command = format!(
        "exec 3<>/dev/tcp/{vip}/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3"
    );
    let said = node.place().shell(&command);
    (said.code == Some(0)).then_some(said.stdout).filter(|text| text.starts_with("HTTP/1."))
}

#[test]
fn an_app_of_one_node_is_reached_from_the_other_until_the_cable_is_pulled() {
    in_lab_of(2, || {
        let one = first(&[]);
        let two = joining(2, "two", &token(&one, 1)).start();
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
        run_web(&one);
        eventually("the other node has the backend", SOON, || (backends(&two) == 1).then_some(()));
        let address = apps::vip_address(&two, WEB_VIP).ip().to_string();
        eventually("the VIP answers on the other node", SOON, || ask(&two, &address));
        let names = two.json(&["dns", "web.marathon.mesos", "A"]);
        assert_eq!(names["answers"][0]["data"], lab::address().to_string(), "{names}");

        lab_command(&["lab", "--cut", "2"]);
        await_listed(&one, &[("one", "alive"), ("two", "dead")]);
        await_listed(&two, &[("one", "dead"), ("two", "alive")]);
        eventually("what is dead is no backend", SOON, || (backends(&two) == 0).then_some(()));
        let said = two.mizzen(&["dns", "web.marathon.mesos", "A"]);
        assert!(said.stderr.contains("NXDOMAIN"), "{}{}", said.stdout, said.stderr);
        assert_eq!(backends(&one), 1, "here it runs on");

        lab_command(&["lab", "--heal", "2"]);
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
        eventually("the backend is back", SOON, || (backends(&two) == 1).then_some(()));
        assert!(ask(&two, &address).is_some());
    });
}

/// The state of node two and whether its backend takes connections, both of one moment; nothing
/// if the state changed meanwhile.
fn seen_of_two() -> Option<(String, bool)> {
    let at = SocketAddr::from(([127, 0, 0, 1], 62080));
    let state = || {
        let nodes = http::get(at, "/v1/cluster/nodes").ok()?.json();
        let two = nodes.as_array()?.iter().find(|node| node["hostname"] == "two")?.clone();
        two["state"].as_str().map(str::to_owned)
    };
    let before = state()?;
    let vips = http::get(at, "/v1/vips").ok()?.json();
    // Backends that take no connections are not listed.
    let has_backend = |row: &Value| row["backend"].as_array().is_some_and(|all| !all.is_empty());
    let admitted = vips.as_array()?.iter().any(has_backend);
    (state()? == before).then_some((before, admitted))
}

#[test]
fn a_suspect_gets_no_new_connections() {
    in_lab_of(2, || {
        let one = first(&[]);
        let (host, token) = (lab::address().to_string(), token(&one, 1));
        let two = Place::at(2, &["--hostname", "two", "--join", &host, "--token", &token]).start();
        let mut app = web();
        app["constraints"] = json!([["hostname", "CLUSTER", "two"]]);
        assert_eq!(apps::post(&app).status, 201);
        let vip = apps::vip_address(&one, WEB_VIP);
        let alive = ("alive".to_owned(), true);
        let connect = || TcpStream::connect_timeout(&vip, Duration::from_secs(5));
        // Suspicion lasts little more than a second: a slow machine may see it the next time only.
        eventually("a suspect is seen", SOON * 4, || {
            eventually("its backend is admitted", SOON * 2, || {
                (seen_of_two() == Some(alive.clone()) && connect().is_ok()).then_some(())
            });
            lab_command(&["lab", "--cut", "2"]);
            let suspect = eventually("it is noticed", SOON, || {
                let (state, admitted) = seen_of_two()?;
                (state != "alive").then_some((state == "suspect").then_some(admitted))
            });
            // Not by silence: nobody there could say so.
            let refused = connect().map_err(|error| error.kind() != ErrorKind::TimedOut);
            lab_command(&["lab", "--heal", "2"]);
            assert_eq!(refused.err(), Some(true), "it is refused here");
            suspect.map(|admitted| assert!(!admitted, "a suspect's backend is admitted"))
        });
        drop(two);
    });
}

#[test]
fn killed_nodes_find_their_cluster_again_without_being_told() {
    in_lab_of(2, || {
        let mut one = first(&[]);
        let token = token(&one, 1);
        let mut two = joining(2, "two", &token).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        let known = id(&one, "two");

        // At once, before it could write down whom it knows.
        two.kill();
        await_listed(&one, &[("one", "alive"), ("two", "dead")]);
        let two_again = again(2, "two", &[]);
        let mut two = two_again.start();
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
        assert_eq!(id(&one, "two"), known, "it is the same node");

        one.kill();
        two.kill();
        let (one, two) = (first(&[]), two_again.start());
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
        one.await_well();
    });
}

#[test]
fn a_node_that_leaves_is_gone_at_once_and_needs_a_token_to_come_back() {
    in_lab_of(2, || {
        let one = first(&[]);
        let mut two = joining(2, "two", &token(&one, 1)).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        let said = one.mizzen(&["leave"]);
        assert_eq!(said.code, Some(1), "others need it");
        assert!(said.stderr.contains("authority"), "{}", said.stderr);

        let said = two.mizzen(&["leave"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        await_listed(&one, &[("one", "alive"), ("two", "left")]);
        await_listed(&two, &[("two", "alive")]);
        two.stop();
        let two = joining(2, "two", &token(&one, 1)).start();
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
    });
}

#[test]
fn certificates_and_keys_renew_themselves() {
    in_lab_of(2, || {
        let flags = ["--cluster-certificate-life", "12s", "--cluster-key-rotation", "6s"];
        let one = first(&flags);
        let two = joining(2, "two", &token(&one, 1)).start();
        await_listed(&two, &[("one", "alive"), ("two", "alive")]);
        for _ in 0..2 {
            let renewed =
                |node: &Node| node.place().log().matches("certificate was renewed").count();
            let (a, b) = (renewed(&one), renewed(&two));
            eventually("both have another certificate", SOON, || {
                (renewed(&one) > a && renewed(&two) > b).then_some(())
            });
        }
        one.await_log(&["a new key of datagrams", "epoch=3"]);
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
            node.await_well();
        }
        // Streams that are opened now are opened with certificates of now.
        let third = two.mizzen(&["join-token"]);
        assert_eq!(third.code, Some(1));
        assert!(third.stderr.contains("ask one"), "{}", third.stderr);
    });
}
