//! What happens when a task is no longer what it should be.

use mizzen_tests_node::apps::{self, WEB_VIP, checked_web, deploy, deploy_web};
use mizzen_tests_node::load::Load;
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, dns, eventually, http, in_lab, kernel, lab};
use serde_json::json;
use std::net::IpAddr;

#[test]
fn a_dead_task_leaves_its_vip_and_is_replaced() {
    in_lab(|| {
        let node = Node::start(&[]);
        let tasks = deploy_web(&node, 2);
        let vip = apps::vip_address(&node, WEB_VIP);
        let (victim, survivor) = (&tasks[0], &tasks[1]);
        victim.kill();
        eventually("the dead task is out of the VIP", SOON, || {
            (!apps::backends(&node, WEB_VIP).contains(&victim.id)).then_some(())
        });
        let load = Load::start(vip);
        load.await_more(200);
        apps::await_backends(&node, WEB_VIP, 2);
        let after = apps::await_tasks(&node, "/web", 2);
        after.iter().for_each(apps::await_server);
        let seen = load.stop();
        assert!(!seen.answers.contains_key(&victim.id), "{seen:?}");
        assert!(after.contains(survivor), "the other one was left alone");
        let fresh = after.iter().find(|task| !tasks.contains(task)).expect("a new task");
        assert_ne!(fresh.id, victim.id);
        let addresses: Vec<IpAddr> = after.iter().map(|task| task.addresses[0]).collect();
        dns::await_addresses("web.marathon.mesos", &addresses);
    });
}

#[test]
fn no_connect_fails_while_a_checked_task_is_replaced() {
    in_lab(|| {
        let node = Node::start(&[]);
        let tasks = deploy(&node, &checked_web(2));
        apps::await_backends(&node, WEB_VIP, 2);
        let vip = apps::vip_address(&node, WEB_VIP);
        tasks[0].kill();
        eventually("the dead task is out of the VIP", SOON, || {
            (!apps::backends(&node, WEB_VIP).contains(&tasks[0].id)).then_some(())
        });
        let load = Load::start(vip);
        apps::await_backends(&node, WEB_VIP, 2);
        load.await_more(100);
        let seen = load.stop();
        assert_eq!(seen.failures, Vec::<String>::new());
        assert_eq!(seen.answers.len(), 2, "both answer: {:?}", seen.answers);
        assert!(!seen.answers.contains_key(&tasks[0].id), "{:?}", seen.answers);
    });
}

#[test]
fn a_sick_task_leaves_its_vip_and_is_replaced() {
    in_lab(|| {
        let node = Node::start(&[]);
        let mut app = checked_web(2);
        // It runs on for as many seconds.
        app["healthChecks"][0]["maxConsecutiveFailures"] = json!(10);
        let tasks = deploy(&node, &app);
        apps::await_backends(&node, WEB_VIP, 2);
        let sick = &tasks[0];
        assert_eq!(sick.ask("/sicken").status, 200);
        eventually("the sick task is out of the VIP while it still runs", SOON, || {
            let out = !apps::backends(&node, WEB_VIP).contains(&sick.id);
            out.then(|| http::get(sick.server(), "/").map(|answer| answer.text()))
        })
        .expect("it still answers: it left for its health, not for its death");
        let after = eventually("it is replaced", SOON, || {
            let tasks = apps::tasks(&node, "/web");
            (tasks.len() == 2 && !tasks.contains(sick)).then_some(tasks)
        });
        let mut backends = apps::await_backends(&node, WEB_VIP, 2);
        backends.sort();
        let ids: Vec<String> = after.iter().map(|task| task.id.clone()).collect();
        assert_eq!(backends, ids);
    });
}

#[test]
fn a_task_is_no_backend_before_it_is_healthy() {
    in_lab(|| {
        let node = Node::start(&[]);
        let mut app = checked_web(1);
        let flag = lab::scratch("go");
        let server = apps::server(&apps::PORT.to_string());
        app["cmd"] =
            format!("until [ -e {} ]; do sleep 0.05; done; {server}", flag.display()).into();
        let task = deploy(&node, &app).remove(0);
        eventually("the task runs and is not healthy", SOON, || {
            let rows = node.json(&["tasks"]);
            (rows[0]["health"] != "healthy").then_some(())
        });
        assert_eq!(apps::backends(&node, WEB_VIP), Vec::<String>::new());
        std::fs::write(&flag, "").unwrap();
        assert_eq!(apps::await_backends(&node, WEB_VIP, 1), [task.id]);
    });
}

#[test]
fn a_health_check_can_be_a_command_in_the_container() {
    in_lab(|| {
        let node = Node::start(&[]);
        let ill = lab::scratch("ill");
        let command = format!(
            "readlink /proc/self/ns/net > $MESOS_SANDBOX/where; ! [ -e {} ]",
            ill.display()
        );
        let mut app = checked_web(1);
        app["healthChecks"] = json!([{
            "protocol": "COMMAND", "command": { "value": command }, "delaySeconds": 0,
            "intervalSeconds": 1, "timeoutSeconds": 20, "gracePeriodSeconds": 120,
            "maxConsecutiveFailures": 2,
        }]);
        let task = deploy(&node, &app).remove(0);
        apps::await_backends(&node, WEB_VIP, 1);
        let rows = node.json(&["tasks"]);
        let sandbox = rows[0]["sandbox"].as_str().expect("a sandbox");
        let found = std::fs::read_to_string(format!("{sandbox}/where")).unwrap();
        assert_eq!(found.trim(), kernel::namespace(task.pid, "net"), "where the command ran");

        std::fs::write(&ill, "").unwrap();
        apps::await_backends(&node, WEB_VIP, 0);
        std::fs::remove_file(&ill).unwrap();
        apps::await_backends(&node, WEB_VIP, 1);
    });
}

#[test]
fn what_a_dead_task_held_can_be_used_again() {
    in_lab(|| {
        let node = Node::start(&["--agent-resources", "cpus:1;mem:64;ports:[31000-31001]"]);
        let mut app = apps::command("/all", "exec sleep 1000");
        app["cpus"] = json!(1);
        app["mem"] = json!(64);
        app["backoffSeconds"] = json!(0.1);
        app["portDefinitions"] = json!([{ "port": 31_000 }, { "port": 31_001 }]);
        app["requirePorts"] = json!(true);
        let mut task = deploy(&node, &app).remove(0);
        for _ in 0..3 {
            task.kill();
            task = eventually("it is replaced", SOON, || {
                apps::tasks(&node, "/all").into_iter().find(|fresh| *fresh != task)
            });
        }
    });
}
