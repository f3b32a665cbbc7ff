//! Several nodes in one kernel.

use mizzen_tests_node::apps::{self, WEB_VIP, web};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, http, in_lab, kernel, lab};
use std::net::SocketAddr;

/// An instance with listeners, addresses and directories of its own.
fn instance(name: &str, number: u8) -> Place {
    let port = |port: u16| format!(":{}", port + u16::from(number) * 100);
    let state = lab::scratch(&format!("state-{name}")).display().to_string();
    let group = format!("{}-{name}", lab::variable("MIZZEN_CGROUP_ROOT"));
    let (subnet, range) = (format!("9.0.{number}.0/24"), format!("11.{number}.0.0/16"));
    let resolver = format!("198.51.100.{}", 100 + number);
    Place::apart(
        name,
        &[
            "--instance",
            name,
            "--state-dir",
            &state,
            "--cgroup-root",
            &group,
            "--cluster-listen",
            &port(62501),
            "--master-listen",
            &port(5050),
            "--agent-listen",
            &port(5051),
            "--services-listen",
            &port(8080),
            "--admin-mesos-dns",
            &port(8123),
            "--admin-minuteman",
            &port(61421),
            "--admin-node",
            &port(62080),
            "--dns-addresses",
            &resolver,
            "--overlay-subnet",
            &subnet,
            "--vip-named-range",
            &range,
        ],
    )
}

/// Runs [`web`] on an instance and returns its VIP and its one task.
fn run_web(node: &Node, name: &str) -> (SocketAddr, apps::Task) {
    let file = lab::scratch(&format!("{name}.json"));
    std::fs::write(&file, web(1).to_string()).unwrap();
    let said = node.mizzen(&["run", &file.display().to_string()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let task = apps::tasks(node, "/web").remove(0);
    apps::await_server(&task);
    apps::await_backends(node, WEB_VIP, 1);
    (apps::vip_address(node, WEB_VIP), task)
}

#[test]
fn two_instances_live_side_by_side_and_neither_touches_the_other() {
    in_lab(|| {
        let (place_a, place_b) = (instance("a", 1), instance("b", 2));
        let b = place_b.start();
        let (vip_b, task_b) = run_web(&b, "b");
        let links = kernel::links();
        let mut a = place_a.start();
        let (vip_a, task_a) = run_web(&a, "a");
        assert_ne!(vip_a, vip_b);
        for (vip, task) in [(vip_a, &task_a), (vip_b, &task_b)] {
            for _ in 0..20 {
                assert_eq!(http::get(vip, "/").unwrap().text(), task.id);
            }
        }

        a.kill();
        for (vip, task) in [(vip_a, &task_a), (vip_b, &task_b)] {
            assert_eq!(http::get(vip, "/").unwrap().text(), task.id, "without the daemon of a");
        }
        let mut a = place_a.start();
        assert_eq!(apps::tasks(&a, "/web"), std::slice::from_ref(&task_a));

        a.stop();
        let said = place_a.run(&["--teardown"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(!kernel::runs(task_a.pid));
        assert!(http::get(vip_a, "/").is_err(), "nothing of a is left");
        assert_eq!(kernel::links(), links, "no link of a is left, and none of b is gone");
        assert_eq!(kernel::tables(), ["mizzen-b"]);

        assert_eq!(apps::tasks(&b, "/web"), std::slice::from_ref(&task_b), "b does not notice");
        assert_eq!(http::get(vip_b, "/").unwrap().text(), task_b.id);
        task_b.kill();
        let fresh = eventually("b replaces its dead task", SOON, || {
            let tasks = apps::tasks(&b, "/web");
            tasks.first().filter(|task| **task != task_b).cloned()
        });
        apps::await_server(&fresh);
        eventually("its VIP leads to it alone", SOON, || {
            (apps::backends(&b, WEB_VIP) == [fresh.id.as_str()]).then_some(())
        });
        assert_eq!(http::get(vip_b, "/").unwrap().text(), fresh.id);
    });
}
