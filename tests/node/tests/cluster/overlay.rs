//! Containers on several nodes reach each other, whatever happens to links, routes and daemons.

use super::{await_listed, first, token};
use mizzen_netlink::in_namespace;
use mizzen_tests_node::apps::{self, PORT, Task};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, lab};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

/// Node two, which runs containers and joins by `token`.
pub(super) fn joining(token: &str) -> Place {
    let host = lab::address().to_string();
    Place::at(2, &["--hostname", "two", "--join", &host, "--token", token])
}

/// The place of node two when it has joined.
fn again() -> Place {
    Place::at(2, &["--hostname", "two"])
}

/// Two nodes with a container each.
pub(super) fn two() -> (Node, Node, [Task; 2]) {
    let one = first(&[]);
    let two = joining(&token(&one, 1)).start();
    await_listed(&one, &[("one", "alive"), ("two", "alive")]);
    await_agents(2);
    let mut web = apps::web(2);
    web["constraints"] = json!([["hostname", "UNIQUE"]]);
    let response = apps::post(&web);
    assert!(response.status < 300, "{response:?}");
    let [first] = &apps::await_tasks(&one, "web", 1)[..] else { panic!("one task each") };
    let [second] = &apps::await_tasks(&two, "web", 1)[..] else { panic!("one task each") };
    let tasks = [first.clone(), second.clone()];
    (one, two, tasks)
}

/// Waits until so many agents are there.
pub(super) fn await_agents(count: usize) {
    eventually("all agents have registered", SOON, || {
        let agents = http::get(lab::at(5050), "/slaves").ok()?.json();
        let agents = agents["slaves"].as_array()?;
        let active = agents.iter().filter(|agent| agent["active"] == true).count();
        (active == count).then_some(())
    });
}

/// Whether a container gets an answer from another one's server.
fn reaches(from: &Task, to: &Task) -> bool {
    let url = format!("http://{}/", SocketAddr::new(to.addresses[0], PORT));
    let net = format!("--net=/proc/{}/ns/net", from.pid);
    let words = [&net, "curl", "-s", "-o", "/dev/null", "-m", "2", &url];
    Command::new("nsenter").args(words).status().is_ok_and(|status| status.success())
}

/// Runs something in the network of a container.
pub(super) fn inside<T: Send>(task: &Task, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/proc/{}/ns/net", task.pid);
    in_namespace(Path::new(&path), work).unwrap()
}

fn await_reached(tasks: &[Task; 2], when: &str) {
    let [a, b] = tasks;
    eventually(&format!("containers reach each other {when}"), SOON, || {
        (reaches(a, b) && reaches(b, a)).then_some(())
    });
}

/// The one other node, as a node sees it.
fn peer(node: &Node) -> Value {
    let overlay = node.json(&["overlay"]);
    let peers = overlay["peers"].as_array().cloned().unwrap_or_default();
    assert_eq!(peers.len(), 1, "{overlay}");
    peers[0].clone()
}

/// The blocks that a node has of the first overlay.
pub(super) fn block(node: &Node) -> Value {
    node.json(&["overlay"])["overlays"][0]["blocks"].clone()
}

/// Waits until a node has a block of the first overlay.
pub(super) fn await_block(node: &Node) -> Value {
    eventually("it has a block", SOON, || Some(block(node)).filter(|block| !block.is_null()))
}

fn harm(place: &Place, command: &str) {
    let said = place.shell(command);
    assert_eq!(said.code, Some(0), "{command}: {}", said.stderr);
}

#[test]
fn containers_reach_each_other_and_what_is_removed_comes_back() {
    in_lab_of(2, || {
        let (one, two, tasks) = two();
        await_reached(&tasks, "at first");
        assert_eq!(
            (peer(&one)["reached"].as_bool(), &peer(&two)["reached"]),
            (Some(true), &json!(true))
        );
        assert_ne!(block(&one), block(&two));
        for command in [
            "ip link del vtep1024",
            "ip route flush proto 109",
            "ip neigh flush dev vtep1024 nud permanent; ip link set vtep1024 down",
            "ip link set m-dcos down; ip addr flush dev m-dcos",
            "ip link del m-dcos",
        ] {
            harm(&two.place(), command);
            // The fast path passes by the bridge, the node does not.
            let url = format!("http://{}/", tasks[1].server());
            eventually(&format!("the node reaches its container: {command}"), SOON, || {
                let said = two.place().shell(&format!("curl -s -o /dev/null -m 2 {url}"));
                (said.code == Some(0)).then_some(())
            });
            await_reached(&tasks, command);
        }
        // As packet filters are restarted.
        harm(&two.place(), "nft flush ruleset");
        eventually("the node's rules are back", SOON, || {
            let rules = two.place().shell("nft list table inet mizzen");
            (rules.code == Some(0)).then_some(())
        });
        two.await_well();

        // It is removed again and again: that is given up for a while, and said.
        eventually("it is said", SOON, || {
            harm(&two.place(), "ip route flush proto 109");
            two.problems().iter().any(|text| text.contains("again and again")).then_some(())
        });
        await_reached(&tasks, "when it has stopped");
    });
}

#[test]
fn what_leads_elsewhere_than_it_should_is_mended() {
    in_lab_of(2, || {
        let one = first(&[]);
        let two = joining(&token(&one, 1)).start();
        await_agents(2);
        let entry = || two.place().shell("bridge fdb show dev vtep1024").stdout;
        let here = lab::address().to_string();
        eventually("a tunnel leads to the other node", SOON, || {
            entry().contains(&here).then_some(())
        });
        // The look of each minute comes between two of these at most once.
        for _ in 0..2 {
            let mac = entry().split(' ').next().unwrap_or_default().to_owned();
            harm(&two.place(), &format!("bridge fdb replace {mac} dev vtep1024 dst 192.0.2.77"));
            eventually("it leads there again", SOON, || {
                let entry = entry();
                (entry.contains(&here) && !entry.contains("192.0.2.77")).then_some(())
            });
        }
    });
}

#[test]
fn a_link_that_becomes_narrower_is_heard_of_at_once() {
    in_lab_of(2, || {
        let (one, two, _) = two();
        let of = |node: &Node| (peer(node)["path_mtu"].clone(), peer(node)["mtu"].clone());
        let await_size = |size: Value, inside: Value, when: &str| {
            // The look at everything comes after a minute only.
            eventually(&format!("both know {when}"), SOON, || {
                [&one, &two]
                    .iter()
                    .all(|node| of(node) == (size.clone(), inside.clone()))
                    .then_some(())
            });
        };
        await_size(json!(1500), json!(null), "how wide the path is");
        harm(&two.place(), "ip link set eth0 mtu 1400");
        await_size(json!(1400), json!(1350), "that it is narrower");
        harm(&two.place(), "ip link set eth0 mtu 1500");
        await_size(json!(1500), json!(null), "that it is as wide as before");
    });
}

#[test]
fn daemons_and_masters_may_be_away() {
    in_lab_of(2, || {
        let (mut one, mut two, tasks) = two();
        await_reached(&tasks, "at first");
        let blocks = (block(&one), block(&two));
        // The master's daemon ends; its container is reached all the same, also when it is
        // taken for dead.
        one.kill();
        await_listed(&two, &[("one", "dead"), ("two", "alive")]);
        await_reached(&tasks, "without a master");
        assert_eq!(peer(&two)["alive"], false);
        // A node starts without a master, and has what it had.
        two.kill();
        let two = again().start();
        assert_eq!(block(&two), blocks.1);
        await_reached(&tasks, "after a start without a master");
        let one = first(&[]);
        assert_eq!(block(&one), blocks.0);
        await_listed(&two, &[("one", "alive"), ("two", "alive")]);
        await_reached(&tasks, "when all are back");
        assert_eq!((block(&one), block(&two)), blocks);
    });
}

#[test]
fn addresses_of_a_lost_state_are_not_given_away_before_it_is_safe() {
    in_lab_of(2, || {
        let one = first(&[]);
        let mut two = joining(&token(&one, 1)).start();
        await_agents(2);
        let lost = await_block(&two);
        two.stop();
        harm(&two.place(), "rm -rf \"$MIZZEN_STATE_DIR\"");
        let mut two = joining(&token(&one, 1)).start();
        assert_ne!(await_block(&two), lost, "it has another block");
        let delete = |address: &str| {
            let master = lab::at(5050);
            let body = json!({ "agents": [address] });
            http::send_json(master, "POST", "/overlay-master/agents/delete", &body).unwrap().status
        };
        let overlay = two.json(&["overlay"]);
        let address = overlay["underlay"].as_str().unwrap().to_owned();
        assert_eq!(delete(&address), 409, "it is alive");
        assert_eq!(delete("192.0.2.99"), 404, "nobody has been there");
        let state = http::get(lab::at(5050), "/overlay-master/state").unwrap().json();
        assert_eq!(state["agents"].as_array().unwrap().len(), 3, "{state}");
        let agent = http::get(lab::at(5051), "/overlay-agent/overlay").unwrap().json();
        assert_eq!(agent["overlays"][0]["state"]["status"], "STATUS_OK", "{agent}");
        let accept = "curl -s -D - -o /dev/null -H 'Accept: application/x-protobuf'";
        let url = format!("http://{}/overlay-agent/overlay", lab::at(5051));
        let head = one.place().shell(&format!("{accept} {url}")).stdout;
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        two.stop();
    });
}

#[test]
fn a_node_gets_another_block_before_its_addresses_are_used_up() {
    in_lab_of(1, || {
        // Eight addresses: the network's, the bridge's, broadcast, and five for containers.
        let one = first(&["--overlay-network", "9.7.0.0/24", "--overlay-prefix", "29"]);
        assert_eq!(block(&one), json!(["9.7.0.0/29"]));
        // Containers count, and no files that the plugins keep beside the leases.
        let leases = || one.json(&["overlay"])["overlays"][0]["leases"].as_u64();
        apps::deploy(&one, &apps::web(3));
        assert_eq!(leases(), Some(3));
        let _ = one.text(&["rm", "/web"]);
        eventually("all addresses are free", SOON, || (leases() == Some(0)).then_some(()));
        let mut single = apps::command("/single", "exec sleep 600");
        single["networks"] = json!([{ "mode": "container", "name": "dcos" }]);
        apps::deploy(&one, &single);
        assert_eq!((leases(), block(&one)), (Some(1), json!(["9.7.0.0/29"])));

        let tasks = apps::deploy(&one, &apps::web(8));
        let addresses: BTreeSet<IpAddr> = tasks.iter().map(|task| task.addresses[0]).collect();
        assert_eq!(addresses.len(), 8, "{addresses:?}");
        assert!(block(&one).as_array().unwrap().len() >= 2);
        let old = http::get(lab::at(5051), "/overlay-agent/overlay").unwrap().json();
        let old = old["overlays"].as_array().unwrap().iter().map(|entry| &entry["subnet"]);
        assert_eq!(json!(old.collect::<Vec<_>>()), block(&one), "old readers find them all");
        tasks.iter().for_each(apps::await_server);
    });
}

#[test]
fn several_overlays_of_both_families() {
    in_lab_of(2, || {
        let further = "web=10.128.0.0/12/24,web=vni=2000,six=fd01:b::/64/80,six=10.64.0.0/12/24";
        let one = first(&["--overlay-networks", further]);
        let two = joining(&token(&one, 1)).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        await_agents(2);
        let shares = eventually("both reach each other", SOON, || {
            let reached = |node: &Node| node.json(&["overlay"])["peers"][0]["reached"] == true;
            (reached(&one) && reached(&two)).then(|| two.json(&["overlay"])["overlays"].clone())
        });
        let row = |at: usize| (shares[at]["name"].clone(), shares[at]["vni"].clone());
        assert_eq!(row(0), (json!("dcos"), json!(1024)));
        assert_eq!(row(1), (json!("six"), json!(1025)));
        assert_eq!(row(2), (json!("web"), json!(2000)));
        let networks = [("/web", "web"), ("/six", "six")];
        let tasks = networks.map(|(id, network)| {
            let mut app = apps::web(2);
            app["id"] = json!(id);
            app["constraints"] = json!([["hostname", "UNIQUE"]]);
            app["networks"][0]["name"] = json!(network);
            let mut mapping = app["container"]["portMappings"][0].clone();
            mapping["labels"] = json!({});
            app["container"]["portMappings"] = json!([mapping]);
            assert!(apps::post(&app).status < 300);
            let name = id.trim_start_matches('/');
            let of = |node: &Node| apps::await_tasks(node, name, 1).remove(0);
            [of(&one), of(&two)]
        });
        let [web, six] = &tasks;
        await_reached(web, "in one overlay");
        await_reached(six, "in the other one");
        let v6 = |task: &Task| task.addresses.iter().copied().find(IpAddr::is_ipv6).unwrap();
        let listener = inside(&six[1], || TcpListener::bind((v6(&six[1]), 0)).unwrap());
        let to = listener.local_addr().unwrap();
        eventually("IPv6 works", SOON, || {
            inside(&six[0], || TcpStream::connect_timeout(&to, SOON / 10).ok()).map(drop)
        });
        assert!(!reaches(&web[0], &six[0]) && !reaches(&web[0], &six[1]), "they are apart");
    });
}

/// Where the kernel has WireGuard, packets are encrypted; where it has none, none are sent.
#[test]
fn asked_for_encryption_a_node_is_never_plain() {
    in_lab_of(2, || {
        let flags = ["--overlay-encryption", "wireguard"];
        let one = first(&flags);
        let host = lab::address().to_string();
        let (token, join) = (token(&one, 1), ["--hostname", "two", "--join", &host, "--token"]);
        let two = Place::at(2, &[&join[..], &[&token], &flags].concat()).start();
        await_agents(2);
        let view = |node: &Node| node.json(&["overlay"]);
        if view(&one)["encryption"]["public_key"].is_string() {
            for node in [&one, &two] {
                eventually("packets are encrypted", SOON, || {
                    (view(node)["peers"][0]["encryption"]["state"] == "encrypted").then_some(())
                });
            }
            let ping = one.json(&["ping", "two", "-c", "1"]);
            assert_eq!(ping["path"]["encryption"], "encrypted", "{ping}");
        } else {
            for node in [&one, &two] {
                eventually("it is said", SOON, || {
                    let problems = node.problems();
                    problems.iter().any(|text| text.contains("no WireGuard")).then_some(())
                });
                assert!(view(node)["peers"].as_array().is_some_and(Vec::is_empty));
            }
        }
        let drops = |rule: &&str| rule.contains("udp dport 64000") && rule.contains(" drop");
        eventually("plain packets are dropped", SOON, || {
            let rules = two.place().shell("nft list table inet mizzen").stdout;
            (rules.lines().filter(drops).count() == 2).then_some(())
        });
        for node in [&one, &two] {
            let all = format!("{} {}", node.json(&["overlay"]), node.place().log());
            assert!(!all.to_lowercase().contains("private"), "no word of secret keys");
        }
    });
}

#[test]
fn pings_say_by_which_way_they_go_and_what_is_lost() {
    in_lab_of(2, || {
        let (one, two, tasks) = two();
        await_reached(&tasks, "at first");
        let [_, elsewhere] = &tasks;
        let node = one.json(&["ping", "two", "-c", "2"]);
        assert_eq!(node["path"]["kind"], "tunnel", "{node}");
        assert_eq!((&node["path"]["link"], &node["loss"]), (&json!("vtep1024"), &json!(0.0)));
        assert_eq!(
            (&node["path_mtu"], &node["path"]["encryption"]),
            (&json!(1420), &json!("plain"))
        );
        let task = one.json(&["ping", &elsewhere.id, "-c", "1"]);
        assert_eq!((&task["kind"], &task["node"]), (&json!("task"), &json!("two")), "{task}");
        assert_eq!(task["address"], elsewhere.addresses[0].to_string());
        let here = two.json(&["ping", &elsewhere.id, "-c", "1"]);
        assert_eq!(
            (&here["path"]["kind"], &here["loss"]),
            (&json!("local"), &json!(0.0)),
            "{here}"
        );
        assert_eq!(here["path"]["encryption"], Value::Null, "it stays here");
        let text = one.text(&["ping", "two", "-c", "1"]);
        let words = ["by the tunnel vtep1024 to", ", plain\n", "0 % lost"];
        assert!(words.iter().all(|word| text.contains(word)), "{text}");

        let said = one.mizzen(&["ping", "nobody"]);
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("`nobody` is neither a node"), "{}", said.stderr);
        let both = one.mizzen(&["ping", "web"]);
        assert!(both.stderr.contains("several tasks"), "{}", both.stderr);

        harm(&one.place(), "ip link set eth0 down");
        let said = one.mizzen(&["ping", "two", "-c", "1"]);
        assert_eq!(said.code, Some(1), "{}", said.stdout);
        assert!(said.stderr.contains("two does not answer"), "{}", said.stderr);
    });
}
