//! Connections through a VIP.

use mizzen_tests_node::apps::{self, WEB_VIP, deploy_web};
use mizzen_tests_node::http::get;
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, load};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};

/// How many connects a share is measured with.
const CONNECTS: u32 = 1_000;

#[test]
fn connects_spread_over_the_backends_and_are_counted() {
    in_lab(|| {
        let node = Node::start(&[]);
        // The usual rule judges by times, which a busy machine makes unequal.
        let mut app = apps::web(2);
        app["container"]["portMappings"][0]["labels"]["l4lb-rule"] = "random".into();
        let tasks = apps::deploy(&node, &app);
        tasks.iter().for_each(apps::await_server);
        apps::await_backends(&node, WEB_VIP, tasks.len());
        let vip = apps::vip_address(&node, WEB_VIP);
        assert!(matches!(vip.ip(), IpAddr::V4(ip) if ip.octets()[0] == 11), "{vip}");
        assert_eq!(vip.port(), 80);

        let mut answers: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..CONNECTS {
            *answers.entry(get(vip, "/").unwrap().text()).or_default() += 1;
        }
        let ids: Vec<&String> = tasks.iter().map(|task| &task.id).collect();
        assert_eq!(answers.keys().collect::<Vec<_>>(), ids);
        for (task, count) in &answers {
            assert!((350..=650).contains(count), "{task} got {count} of {CONNECTS}: {answers:?}");
        }

        let minuteman: SocketAddr = "127.0.0.1:61421".parse().unwrap();
        let all = eventually("all connects are counted", SOON, || {
            let all = get(minuteman, "/vips").unwrap().json();
            let backends = all["vips"][vip.to_string()].as_object()?.values();
            let counted: u64 = backends.filter_map(|row| row["total_sucesses"].as_u64()).sum();
            (counted >= u64::from(CONNECTS)).then_some(all)
        });
        let shown = all["vips"][vip.to_string()].as_object().expect("the VIP").clone();
        assert_eq!(shown.len(), tasks.len(), "{all:#}");
        let mut successes = 0;
        for task in &tasks {
            let backend = &shown[&task.server().to_string()];
            assert_eq!(backend["is_healthy"], true);
            assert_eq!(backend["total_failures"], 0);
            assert_eq!(backend["pending_connections"], 0);
            assert!(backend["latency_last_60s"].is_object());
            let count = backend["total_sucesses"].as_u64().unwrap();
            assert_eq!(count, u64::from(answers[&task.id]), "{all:#}");
            successes += count;
        }
        assert_eq!(successes, u64::from(CONNECTS), "{all:#}");

        let one = get(minuteman, &format!("/vip/{vip}")).unwrap().json();
        assert_eq!(one.as_object(), Some(&shown));
        let server = tasks[0].server().to_string();
        let backend = get(minuteman, &format!("/backend/{server}")).unwrap().json();
        assert_eq!(backend, shown[&server]);
        let unknown = get(minuteman, "/vip/11.255.255.1:1").unwrap().json();
        assert_eq!(unknown["error"], "no_backends");
        let wrong = get(minuteman, "/vip/nonsense").unwrap().json();
        assert_eq!(wrong["error"], "invalid_vip");
    });
}

#[test]
fn a_client_sees_the_vip_as_its_peer() {
    in_lab(|| {
        let node = Node::start(&[]);
        deploy_web(&node, 2);
        let vip = apps::vip_address(&node, WEB_VIP);
        let stream = TcpStream::connect(vip).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), vip);
    });
}

#[test]
fn a_client_in_a_container_reaches_a_vip_even_its_own() {
    in_lab(|| {
        let node = Node::start(&[]);
        let alone = deploy_web(&node, 1).remove(0);
        let vip = apps::vip_address(&node, WEB_VIP);
        let path = format!("/fetch/{WEB_VIP}/80");
        let own = alone.ask(&path);
        assert_eq!(own.text(), format!("{vip} {}", alone.id), "it finds itself by its VIP's name");

        assert_eq!(node.mizzen(&["scale", "web", "2"]).code, Some(0));
        let both = apps::await_tasks(&node, "/web", 2);
        both.iter().for_each(apps::await_server);
        apps::await_backends(&node, WEB_VIP, 2);
        let path = format!("/fetch/{}/80", vip.ip());
        let want: BTreeSet<String> = both.iter().map(|task| format!("{vip} {}", task.id)).collect();
        let mut seen = BTreeSet::new();
        eventually("it reaches both, and its peer is the VIP", SOON, || {
            seen.insert(alone.ask(&path).text());
            assert!(seen.is_subset(&want), "{seen:?}");
            (seen == want).then_some(())
        });
        let other = both.iter().find(|task| task.id != alone.id).unwrap();
        let direct = format!("/fetch/{}/{}", other.addresses[0], apps::PORT);
        let text = alone.ask(&direct).text();
        assert_eq!(text, format!("{} {}", other.server(), other.id), "and the other one directly");
    });
}

#[test]
fn a_vip_with_an_address_of_its_own_is_that_address() {
    in_lab(|| {
        let node = Node::start(&[]);
        let mut app = apps::web(1);
        app["container"]["portMappings"][0]["labels"]["VIP_0"] = "10.11.12.13:4321".into();
        let task = apps::deploy(&node, &app).remove(0);
        apps::await_server(&task);
        let vip = "10.11.12.13:4321".parse().unwrap();
        let answer = eventually("the VIP leads to it", SOON, || get(vip, "/").ok());
        assert_eq!(answer.text(), task.id);
    });
}

#[test]
fn connects_to_a_vip_without_backends_are_refused() {
    in_lab(|| {
        let node = Node::start(&[]);
        deploy_web(&node, 1);
        let vip = apps::vip_address(&node, WEB_VIP);
        let load = load::Load::start(vip);
        load.await_more(20);
        let seen = load.stop();
        assert_eq!(seen.failures, Vec::<String>::new());
        assert_eq!(node.mizzen(&["scale", "web", "0"]).code, Some(0));
        apps::await_tasks(&node, "/web", 0);
        let error = get(vip, "/").expect_err("nobody is there");
        let kinds = [ErrorKind::ConnectionRefused, ErrorKind::HostUnreachable];
        assert!(kinds.contains(&error.kind()), "at once, not: {error}");
    });
}
