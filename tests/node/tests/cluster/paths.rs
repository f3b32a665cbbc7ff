//! Packets between containers of different nodes.

use super::{await_listed, first, token};
use mizzen_tests_node::apps::{self, Task};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, kernel, lab};
use serde_json::json;
use std::net::SocketAddr;

/// A count of node `number`, as its metrics have it.
fn counted(node: &Node, name: &str) -> u64 {
    let said = node.place().shell("curl -s http://127.0.0.1:62080/v1/metrics");
    let line = said.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.rsplit(' ').next().unwrap_or_default().parse::<f64>().unwrap_or(0.0) as u64
}

#[test]
fn containers_of_two_nodes_reach_each_other_past_bridges_and_routes() {
    in_lab_of(2, || {
        let one = first(&[]);
        let host = lab::address().to_string();
        let token = token(&one, 1);
        let flags = ["--hostname", "two", "--roles", "agent,dns,vip,overlay"];
        let join = ["--join", &host, "--token", &token];
        let two = Place::at(2, &[&flags[..], &join[..]].concat()).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);

        let mut app = apps::web(2);
        app["constraints"] = json!([["hostname", "UNIQUE"]]);
        assert_eq!(apps::post(&app).status, 201);
        // A node knows the processes of its own tasks.
        let tasks = [&one, &two].map(|node| apps::await_tasks(node, "/web", 1).remove(0));
        let servers: Vec<SocketAddr> = tasks.iter().map(Task::server).collect();
        let sent = "mizzen_overlay_fast_sent_packets_total";
        let delivered = "mizzen_overlay_fast_delivered_packets_total";
        eventually("packets of both directions take the fast path", SOON * 3, || {
            // From inside each container to the other one.
            for (task, server) in tasks.iter().zip(servers.iter().rev()) {
                let words = format!("nsenter -t {} -n curl -s -m 2 http://{server}/", task.pid);
                for node in [&one, &two] {
                    let _ = node.place().shell(&words);
                }
            }
            let all = [&one, &two].map(|node| counted(node, sent).min(counted(node, delivered)));
            all.iter().all(|count| *count > 0).then_some(())
        });
        assert!(kernel::links().iter().any(|link| link.starts_with("vtep")));
        let server = servers.iter().find(|server| http::get(**server, "/").is_err());
        assert_eq!(server, None, "the node itself reaches both");
        [&one, &two].into_iter().for_each(Node::await_well);
    });
}
