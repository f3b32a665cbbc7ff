//! Nobody leads, and what else can go wrong does; and packets that get lost in one direction.

use super::{again, await_listed, first, id, joining, lab_command, token};
use mizzen_tests_node::apps::{self, Task, WEB_VIP};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, lab};
use serde_json::json;
use std::net::IpAddr;

const ALL: [(&str, &str); 3] = [("one", "alive"), ("three", "alive"), ("two", "alive")];

fn shell(place: &Place, command: &str) -> String {
    let said = place.shell(command);
    assert_eq!(said.code, Some(0), "{command}: {}", said.stderr);
    said.stdout
}

/// The master is on a node of its own; two others run a container each.
fn cluster() -> (Node, [Node; 2], [Task; 2]) {
    let one = first(&["--roles", "master,services,dns,vip,overlay"]);
    let (host, token) = (lab::address().to_string(), token(&one, 2));
    let join = ["--join", &host, "--token", &token];
    let start =
        |number, name| Place::at(number, &[&["--hostname", name], &join[..]].concat()).start();
    let others = [start(2, "two"), start(3, "three")];
    await_listed(&one, &ALL);
    eventually("both agents have registered", SOON, || {
        let agents = http::get(lab::at(5050), "/slaves").ok()?.json();
        let agents = agents["slaves"].as_array()?;
        (agents.iter().filter(|agent| agent["active"] == true).count() == 2).then_some(())
    });
    let mut web = apps::web(2);
    web["constraints"] = json!([["hostname", "UNIQUE"]]);
    assert_eq!(apps::post(&web).status, 201);
    let tasks = others.each_ref().map(|node| apps::await_tasks(node, "web", 1).remove(0));
    (one, others, tasks)
}

/// What the container of `from` gets from an URL, by a program inside of it.
fn fetch(node: &Node, from: &Task, url: &str) -> Option<String> {
    let said = node.place().shell(&format!("nsenter -t {} -n curl -s -m 1 {url}", from.pid));
    (said.code == Some(0)).then_some(said.stdout)
}

/// Waits until each container reaches the other one, and each node has both in name and VIP.
fn await_whole(nodes: &[Node; 2], tasks: &[Task; 2], when: &str) {
    let url = |task: &Task| format!("http://{}/", task.server());
    let mut addresses: Vec<IpAddr> = tasks.iter().map(|task| task.addresses[0]).collect();
    addresses.sort();
    for (at, node) in nodes.iter().enumerate() {
        let (here, there) = (&tasks[at], &tasks[1 - at]);
        eventually(&format!("node {at} is whole {when}"), SOON * 2, || {
            let reached = fetch(node, here, &url(there))? == there.id;
            let backends = apps::backends(node, WEB_VIP).len() == 2;
            (reached && backends && named(node, "web.marathon.mesos") == addresses).then_some(())
        });
    }
}

/// The addresses of a name, as the node's own resolver has them.
fn named(node: &Node, name: &str) -> Vec<IpAddr> {
    let Some(answer) = node.place().try_json(&["dns", name, "A"]) else {
        return Vec::new();
    };
    let rows = answer["answers"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<IpAddr> =
        rows.iter().filter_map(|row| row["data"].as_str()?.parse().ok()).collect();
    found.sort();
    found
}

#[test]
fn all_of_it_is_survived_without_a_master() {
    in_lab_of(3, || {
        let (mut one, mut nodes, tasks) = cluster();
        let before = [tasks[0].pid, tasks[1].pid];
        one.kill();
        await_listed(&nodes[0], &[("one", "dead"), ("three", "alive"), ("two", "alive")]);
        await_whole(&nodes, &tasks, "without a master");

        lab_command(&["lab", "--cut", "3"]);
        await_listed(&nodes[0], &[("one", "dead"), ("three", "dead"), ("two", "alive")]);
        eventually("what is dead is no backend", SOON, || {
            (apps::backends(&nodes[0], WEB_VIP).len() == 1).then_some(())
        });
        lab_command(&["lab", "--heal", "3"]);
        await_whole(&nodes, &tasks, "after a partition");

        for harm in [
            "ip link del vtep1024",
            "ip addr flush dev m-dcos; ip route flush proto 109",
            "nft flush ruleset",
        ] {
            shell(&nodes[0].place(), harm);
            await_whole(&nodes, &tasks, harm);
        }

        nodes[1].kill();
        nodes[1] = Place::at(3, &["--hostname", "three"]).start();
        await_whole(&nodes, &tasks, "after a restart of a node");

        // When it is back, it finds everything as it was.
        let one = first(&["--roles", "master,services,dns,vip,overlay"]);
        nodes.iter().for_each(|node| await_listed(node, &ALL));
        apps::await_app("/web", "is whole", SOON * 2, |app| app["tasksRunning"] == 2);
        let after = nodes.each_ref().map(|node| apps::await_tasks(node, "web", 1)[0].pid);
        assert_eq!(after, before, "nothing was started anew");
        [&one, &nodes[0], &nodes[1]].into_iter().for_each(Node::await_well);
    });
}

#[test]
fn packets_that_are_lost_in_one_direction_kill_nobody() {
    in_lab_of(3, || {
        let one = first(&[]);
        let token = token(&one, 2);
        let two = joining(2, "two", &token).start();
        let three = joining(3, "three", &token).start();
        for node in [&one, &two, &three] {
            await_listed(node, &ALL);
        }
        // Whatever three sends two is lost, and nothing else.
        let source = shell(&three.place(), "printf %s \"$MIZZEN_ADDRESS\"");
        let rules = format!(
            "nft 'table inet test {{ chain in {{ type filter hook input priority -300; \
             ip saddr {source} counter drop; }}; }}'"
        );
        shell(&two.place(), &rules);
        eventually("much was lost", SOON * 4, || {
            let said = shell(&two.place(), "nft list table inet test");
            let (_, rest) = said.split_once("packets ")?;
            let lost: u64 = rest.split(' ').next()?.parse().ok()?;
            (lost > 60).then_some(())
        });
        for node in [&one, &two, &three] {
            let out = node.place().log().matches("a node is out").count();
            assert_eq!(out, 0, "{}", node.place().log());
        }
        // What they say goes round by the third one.
        let said = three.mizzen(&["vip", "set", "demo:80", "--backend", "192.0.2.9:80"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let name = "demo.static.l4lb.thisdcos.directory";
        eventually("it is known behind the loss", SOON * 2, || {
            let vips = two.json(&["vips"]);
            vips.as_array()?.iter().any(|row| row["name"] == name).then_some(())
        });
        shell(&two.place(), "nft delete table inet test");
        for node in [&one, &two, &three] {
            await_listed(node, &ALL);
        }
    });
}

#[test]
fn two_nodes_with_one_address_are_told_of() {
    in_lab_of(3, || {
        let one = first(&[]);
        let token = token(&one, 2);
        let two = joining(2, "two", &token).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        // Three has the address as well; answers to it find two.
        let place = joining(3, "three", &token);
        let address = shell(&two.place(), "printf %s \"$MIZZEN_ADDRESS\"");
        shell(
            &place,
            &format!("sysctl -qw net.ipv4.conf.all.arp_ignore=1; ip addr add {address}/32 dev lo"),
        );
        let listen = format!("{address}:62501");
        let host = lab::address().to_string();
        let flags = ["--join", &host, "--token", &token, "--cluster-listen", &listen];
        let mut three = again(3, "three", &flags).start();
        let both = [id(&one, "two"), id(&three, "three")];
        let told = |node: &Node| {
            let problems = node.problems();
            let is = |text: &String| {
                text.starts_with("node addresses: ")
                    && [&both[0], &both[1], &listen].iter().all(|word| text.contains(*word))
            };
            problems.iter().any(is)
        };
        eventually("it is told", SOON * 2, || told(&one).then_some(()));
        eventually("it is a problem of the node for others as well", SOON, || {
            let nodes = one.json(&["nodes"]);
            let own = nodes.as_array()?.iter().find(|node| node["here"] == true)?;
            own["problems"].to_string().contains("believed to be at one address").then_some(())
        });
        three.kill();
        eventually("it is over", SOON * 3, || (!told(&one) && !told(&two)).then_some(()));
    });
}

#[test]
fn a_node_that_starts_while_another_one_is_dead_believes_nothing_of_it() {
    in_lab_of(3, || {
        let (one, [mut two, three], tasks) = cluster();
        let host = |name| named(&one, &format!("{name}.node.thisdcos.directory"))[0];
        let hosts = ["two", "three"].map(host);
        let agents = |node: &Node| named(node, "slave.mesos");
        let await_agents = |node: &Node, want: &[IpAddr], when: &str| {
            eventually(&format!("{want:?} are the agents by name {when}"), SOON * 2, || {
                (agents(node) == want).then_some(())
            });
        };
        await_agents(&two, &hosts, "at first");
        lab_command(&["lab", "--cut", "3"]);
        await_listed(&one, &[("one", "alive"), ("three", "dead"), ("two", "alive")]);
        two.kill();
        let two = Place::at(2, &["--hostname", "two"]).start();
        eventually("what the dead node said last has come", SOON * 2, || {
            let all = two.json(&["tasks"]);
            let last = all.as_array()?.iter().find(|task| task["id"] == tasks[1].id)?;
            (last["state"] == "TASK_UNREACHABLE").then_some(())
        });
        for node in [&one, &two] {
            await_agents(node, &hosts[..1], "while one is dead");
            assert_eq!(named(node, "web.marathon.mesos"), tasks[0].addresses);
            assert_eq!(apps::backends(node, WEB_VIP).len(), 1);
        }
        lab_command(&["lab", "--heal", "3"]);
        await_listed(&two, &ALL);
        await_agents(&two, &hosts, "when it is back");
        await_whole(&[two, three], &tasks, "when it is back");
    });
}
