//! A node that gets another address, and which backends of a VIP a node's clients get.

use super::overlay::{await_block, block, inside, two};
use super::{await_listed, id};
use mizzen_tests_node::apps::{self, Task, WEB_VIP};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, lab};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// An address of the lab's network that no node has.
fn elsewhere() -> IpAddr {
    let IpAddr::V4(here) = lab::address() else { panic!("labs are IPv4") };
    let [a, b, c, _] = here.octets();
    Ipv4Addr::new(a, b, c, 222).into()
}

/// Who answers so many requests from a node to [`WEB_VIP`].
fn answered(node: &Node, requests: u32) -> BTreeSet<String> {
    let curl = format!("curl -s -m 5 http://{WEB_VIP}/");
    let said =
        node.place().shell(&format!("for i in $(seq {requests}); do {curl} || echo -; echo; done"));
    said.stdout.lines().map(str::to_owned).collect()
}

/// The same from a task in a container.
fn answered_to(task: &Task, vip: SocketAddr, requests: u32) -> BTreeSet<String> {
    let fetch = format!("/fetch/{}/{}", vip.ip(), vip.port());
    let answer = || task.ask(&fetch).text().rsplit(' ').next().unwrap_or_default().to_owned();
    (0..requests).map(|_| answer()).collect()
}

/// What a node says of the other one's agent: its id, and where its names lead.
fn agents(node: &Node) -> (Value, Vec<Value>) {
    let slaves = http::get(lab::at(5050), "/slaves").unwrap().json();
    let all = slaves["slaves"].as_array().cloned().unwrap_or_default();
    let two = all.iter().find(|agent| agent["hostname"] == "two").cloned().unwrap_or_default();
    let names = node.json(&["dns", "slave.mesos", "A"])["answers"].clone();
    let names = names.as_array().cloned().unwrap_or_default();
    (two["id"].clone(), names.iter().map(|row| row["data"].clone()).collect())
}

#[test]
fn a_node_with_another_address_is_the_node_that_it_was() {
    in_lab_of(2, || {
        let (one, mut node, [first, second]) = two();
        let known = id(&one, "two");
        let (agent, names) = agents(&one);
        let blocks = await_block(&node);
        let (before, after) = (node.json(&["overlay"])["underlay"].clone(), elsewhere());
        assert!(names.contains(&before), "{names:?} and {before}");
        apps::await_backends(&one, WEB_VIP, 2);
        node.stop();
        let old = before.as_str().unwrap();
        let change = format!("ip addr del {old}/24 dev eth0 && ip addr add {after}/24 dev eth0");
        let said = node.place().shell(&change);
        assert_eq!(said.code, Some(0), "{change}: {}", said.stderr);
        let flags = ["--hostname", "two", "--address", &after.to_string()];
        let node = Place::at(2, &flags).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        assert_eq!((id(&one, "two"), block(&node)), (known, blocks), "the same node");

        eventually("the tunnel and the names follow", SOON, || {
            let peer = one.json(&["overlay"])["peers"][0].clone();
            let (now, names) = agents(&one);
            let led = names.contains(&json!(after)) && !names.contains(&before);
            (peer["reached"] == true && now == agent && led).then_some(())
        });
        apps::await_backends(&one, WEB_VIP, 2);
        assert_eq!(
            apps::await_tasks(&node, "web", 1),
            std::slice::from_ref(&second),
            "it was never started again"
        );
        eventually("containers reach each other", SOON, || {
            let reached =
                |from: &Task, to: &Task| inside(from, || http::get(to.server(), "/").is_ok());
            (reached(&first, &second) && reached(&second, &first)).then_some(())
        });
    });
}

#[test]
fn clients_of_a_vip_stay_on_their_node_while_it_has_a_backend() {
    in_lab_of(2, || {
        let (one, two, [first, second]) = two();
        let only = |task: &Task| BTreeSet::from([task.id.clone()]);
        for node in [&one, &two] {
            apps::await_backends(node, WEB_VIP, 2);
        }
        let vip = apps::vip_address(&one, WEB_VIP);
        assert_eq!((answered(&one, 20), answered(&two, 20)), (only(&first), only(&second)));
        assert_eq!(answered_to(&first, vip, 20), only(&first));
        assert_eq!(answered_to(&second, vip, 20), only(&second));

        // Without one of its own, a node's clients go to the other one.
        let _ = two.text(&["drain", "two"]);
        for node in [&one, &two] {
            apps::await_backends(node, WEB_VIP, 1);
        }
        assert_eq!((answered(&one, 20), answered(&two, 20)), (only(&first), only(&first)));
    });
}
