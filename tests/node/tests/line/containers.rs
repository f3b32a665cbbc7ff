//! From an app to its containers.

use mizzen_tests_node::apps::{self, Task, deploy, deploy_web, web};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, http, in_lab, kernel, lab};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

#[test]
fn each_task_has_a_container_with_namespaces_limits_and_an_address() {
    in_lab(|| {
        let node = Node::start(&[]);
        let tasks = deploy_web(&node, 2);
        let own = std::process::id();
        for kind in ["pid", "net", "mnt"] {
            let of = |pid| kernel::namespace(pid, kind);
            let distinct: BTreeSet<_> =
                [own, tasks[0].pid, tasks[1].pid].into_iter().map(of).collect();
            assert_eq!(distinct.len(), 3, "each has a {kind} namespace of its own");
        }
        let addresses: BTreeSet<IpAddr> =
            tasks.iter().flat_map(|task| task.addresses.clone()).collect();
        assert_eq!(addresses.len(), 2, "each has one address: {tasks:?}");
        for address in addresses {
            assert!(matches!(address, IpAddr::V4(ip) if ip.octets()[0] == 9), "{address}");
        }
        let links = kernel::link_states();
        let bridge = links.iter().find(|link| link.name == "m-dcos").expect("the bridge");
        let ports: Vec<_> = links.iter().filter(|link| link.master == Some(bridge.index)).collect();
        assert_eq!(ports.len(), 2, "{links:#?}");
        assert!(ports.iter().all(|port| port.hairpin == Some(true) && port.mtu == 1420));
        for task in &tasks {
            limits_are_set(task);
            // Init and the server, and nobody else's processes.
            let seen = task.ask("/processes").text();
            assert!(seen.lines().any(|pid| pid == "1") && seen.lines().count() < 5, "{seen}");
        }
    });
}

fn limits_are_set(task: &Task) {
    let memory = kernel::limit(task.pid, &["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(memory, (32 << 20).to_string(), "32 MiB of memory");
    let processes = kernel::limit(task.pid, &["pids.max"]);
    assert!(processes.parse::<u32>().is_ok(), "a limit of processes, not {processes}");
    // A tenth of a CPU: 1024 shares are one in v1, a weight of 100 is one in v2.
    let share: f64 = kernel::limit(task.pid, &["cpu.shares", "cpu.weight"]).parse().unwrap();
    assert!((3.0..=103.0).contains(&share), "a share of a tenth, not {share}");
}

#[test]
fn a_task_finds_the_environment_of_the_mesos_contract() {
    in_lab(|| {
        let node = Node::start(&[]);
        let mut app = web(1);
        app["env"] = json!({ "OWN": "a value with spaces", "EMPTY": "" });
        app["labels"] = json!({ "tier": "front" });
        let task = deploy(&node, &app).remove(0);
        apps::await_server(&task);
        let text = task.ask("/env").text();
        let variable = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")).map(str::to_owned))
        };
        let status = node.json(&["status"]);
        let agent = status["agent"]["id"].as_str().unwrap();
        let port = apps::PORT.to_string();
        let address = task.addresses[0].to_string();
        let endpoint = lab::at(5051).to_string();
        for (name, want) in [
            ("MESOS_TASK_ID", task.id.as_str()),
            ("MESOS_EXECUTOR_ID", &task.id),
            ("MESOS_SLAVE_ID", agent),
            ("MESOS_AGENT_ENDPOINT", &endpoint),
            ("MESOS_CONTAINER_IP", &address),
            ("MARATHON_APP_ID", "/web"),
            ("MARATHON_APP_LABEL_TIER", "front"),
            ("HOST", &lab::address().to_string()),
            ("PORT0", &port),
            ("PORT_HTTP", &port),
            ("OWN", "a value with spaces"),
            ("EMPTY", ""),
        ] {
            assert_eq!(variable(name).as_deref(), Some(want), "{name} in\n{text}");
        }
        for name in ["MESOS_SANDBOX", "MESOS_DIRECTORY", "MESOS_FRAMEWORK_ID", "PATH"] {
            assert!(variable(name).is_some_and(|value| !value.is_empty()), "{name} in\n{text}");
        }
        assert_eq!(variable("MIZZEN_STATE_DIR"), None, "nothing of the daemon's own:\n{text}");
    });
}

#[test]
fn how_a_task_ended_is_told_in_words() {
    in_lab(|| {
        let node = Node::start(&[]);
        for (id, path, message) in [
            ("/code", "/exit/3", "exited with status 3"),
            ("/signal", "/abort", "terminated with signal SIGABRT"),
            ("/memory", "/hog", "emory"),
        ] {
            let mut app = web(1);
            app["id"] = json!(id);
            let task = deploy(&node, &app).remove(0);
            apps::await_server(&task);
            // The server has no time to answer.
            let _ = http::get(task.server(), path);
            let app = apps::await_app(id, "tells its last failure", SOON, |app| {
                app["lastTaskFailure"]["taskId"] == task.id
            });
            let failure = &app["lastTaskFailure"];
            assert_eq!(failure["state"], "TASK_FAILED", "{failure:#}");
            let words = failure["message"].as_str().unwrap_or_default();
            assert!(words.contains(message), "{id}: {failure:#}");
        }
    });
}

#[test]
fn an_app_on_the_hosts_network_has_its_port_and_a_vip() {
    in_lab(|| {
        let node = Node::start(&[]);
        let app = json!({
            "id": "/plain", "cmd": apps::server("$PORT0"), "cpus": 0.1, "mem": 32,
            "networks": [{ "mode": "host" }],
            "portDefinitions": [{ "port": 0, "name": "http", "labels": { "VIP_0": "/plain:80" } }],
        });
        let task = deploy(&node, &app).remove(0);
        let ns = |pid| kernel::namespace(pid, "net");
        assert_eq!(ns(task.pid), ns(std::process::id()), "it is on the host's network");
        let answer = http::get(apps::api(), "/v2/apps/plain").unwrap().json();
        let port = answer["app"]["tasks"][0]["ports"][0].as_u64().expect("a host port");
        assert!((31_000..=32_000).contains(&port), "{port} is one of the agent's");
        let at = lab::at(u16::try_from(port).unwrap());
        eventually("it answers on its host port", SOON, || http::get(at, "/").ok());
        let vip = "plain.marathon.l4lb.thisdcos.directory";
        apps::await_backends(&node, vip, 1);
        let vip = apps::vip_address(&node, vip);
        let answer = http::get(vip, "/").expect("the VIP leads to it");
        assert_eq!(answer.text(), task.id);
    });
}

#[test]
fn an_app_is_scaled_and_removed() {
    in_lab(|| {
        let node = Node::start(&[]);
        let first = deploy_web(&node, 1);
        assert_eq!(node.mizzen(&["scale", "web", "3"]).code, Some(0));
        let three = apps::await_tasks(&node, "/web", 3);
        assert!(three.contains(&first[0]), "the first task was left alone");
        apps::await_backends(&node, apps::WEB_VIP, 3);

        assert_eq!(node.mizzen(&["scale", "web", "1"]).code, Some(0));
        let one = apps::await_tasks(&node, "/web", 1);
        apps::await_backends(&node, apps::WEB_VIP, 1);
        for task in three.iter().filter(|task| !one.contains(task)) {
            eventually("its process is gone", SOON, || (!kernel::runs(task.pid)).then_some(()));
        }

        assert_eq!(node.mizzen(&["rm", "web"]).code, Some(0));
        apps::await_tasks(&node, "/web", 0);
        eventually("the app is gone", SOON, || {
            (http::get(apps::api(), "/v2/apps/web").ok()?.status == 404).then_some(())
        });
        let nothing = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
        eventually("its VIP is gone", SOON, || nothing(&node.json(&["vips"])).then_some(()));
    });
}
