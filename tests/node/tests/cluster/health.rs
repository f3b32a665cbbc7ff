//! What is wrong with a node, seen from another one.

use super::{again, await_listed, first, token};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, lab};
use serde_json::Value;
use std::net::SocketAddr;

/// A node as another one lists it.
fn seen(from: &Node, hostname: &str) -> Value {
    let nodes = from.json(&["nodes"]);
    let all = nodes.as_array().cloned().unwrap_or_default();
    all.into_iter().find(|node| node["hostname"] == hostname).expect("it is listed")
}

/// What a node says is wrong with it, as another one lists it.
pub(super) fn problems(from: &Node, hostname: &str) -> Vec<String> {
    let listed = seen(from, hostname)["problems"].as_array().cloned().unwrap_or_default();
    let text = |problem: &Value| problem["problem"].as_str().unwrap_or_default().to_owned();
    listed.iter().map(text).collect()
}

/// A series of the first node's metrics.
fn metric(name: &str) -> Option<f64> {
    let at = SocketAddr::from(([127, 0, 0, 1], 62080));
    let text = http::get(at, "/v1/metrics").ok()?.text();
    let line = text.lines().find(|line| line.starts_with(name))?.to_owned();
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn problems_of_a_node_are_known_on_the_others() {
    in_lab_of(2, || {
        let one = first(&[]);
        let host = lab::address().to_string();
        let token = token(&one, 1);
        // No cgroup is there, so VIPs are queued, which is told as a problem.
        let flags = ["--join", &host, "--token", &token, "--vip-cgroup", "/proc"];
        let two = again(2, "two", &flags).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        eventually("the other node knows", SOON, || {
            let told = problems(&one, "two");
            told.iter()
                .any(|text| text.contains("VIPs are balanced by queued packets"))
                .then_some(())
        });
        assert_eq!(problems(&one, "one"), [] as [&str; 0]);
        let since = seen(&one, "two")["problems"][0]["since_seconds"].as_u64();
        assert!(since.is_some(), "it is said since when");
        let text = one.text(&["nodes"]);
        assert!(text.contains("1 problem") && text.contains("two, for "), "{text}");
        eventually("it is counted", SOON, || {
            (metric("mizzen_cluster_unhealthy_nodes") == Some(1.0)).then_some(())
        });
        assert_eq!(metric("mizzen_node_problems"), Some(0.0));
        assert!(metric("mizzen_cluster_certificate_seconds") > Some(0.0));
        assert!(metric("mizzen_overlay_addresses{overlay=\"dcos\"}") > Some(0.0));

        eventually("both know each other's clock", SOON, || {
            let ahead = seen(&one, "two")["clock_ahead_seconds"].as_f64()?;
            (ahead.abs() < 5.0).then_some(())
        });
        drop(two);
    });
}
