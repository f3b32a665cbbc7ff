//! What outlives the daemon, and what outlives nothing.

use mizzen_tests_node::apps::{self, Task, WEB_VIP, deploy_web, web};
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::load::Load;
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, http, in_lab, kernel, lab};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The API of the node itself.
const NODE: &str = "127.0.0.1:62080";

/// Requests without a daemon, and more after its return.
const REQUESTS: u64 = 150;

#[test]
fn connects_and_tasks_go_on_while_the_daemon_is_killed_and_restarted() {
    in_lab(|| survives(Node::kill));
}

#[test]
fn connects_and_tasks_go_on_while_the_daemon_is_stopped_and_restarted() {
    in_lab(|| {
        survives(|node| {
            assert!(node.stop().success(), "SIGTERM is no failure");
        });
    });
}

fn survives(end: impl Fn(&mut Node)) {
    let mut node = Node::start(&[]);
    let place = node.place();
    let before = deploy_web(&node, 2);
    let (vip, shown) = (apps::vip_address(&node, WEB_VIP), api_tasks());
    let load = Load::start(vip);
    load.await_more(REQUESTS);
    end(&mut node);
    load.await_more(REQUESTS);
    let mut node = place.start();
    load.await_more(REQUESTS);
    assert_eq!(apps::await_tasks(&node, "/web", 2), before, "the same tasks, pids, addresses");
    assert_eq!(apps::vip_address(&node, WEB_VIP), vip, "the VIP kept its address");
    let mut backends = apps::await_backends(&node, WEB_VIP, 2);
    backends.sort();
    assert_eq!(backends, ids(&before));
    assert_eq!(api_tasks(), shown, "the API shows the same tasks");
    assert_eq!(containers(), containers_of(&before), "nothing was launched twice");
    let seen = load.stop();
    assert_eq!(seen.failures, Vec::<String>::new());
    assert_eq!(seen.answers.into_keys().collect::<Vec<_>>(), ids(&before));

    // What was adopted is looked after as well.
    before[0].kill();
    let after = await_replacement(&node, &before[0]);
    assert!(after.contains(&before[1]));
    assert!(node.runs());
}

fn await_replacement(node: &Node, gone: &Task) -> Vec<Task> {
    eventually("it is replaced", SOON, || {
        let tasks = apps::tasks(node, "/web");
        (tasks.len() == 2 && !tasks.contains(gone)).then_some(tasks)
    })
}

fn ids(tasks: &[Task]) -> Vec<String> {
    tasks.iter().map(|task| task.id.clone()).collect()
}

/// Tasks of the app as its users' tools see them.
fn api_tasks() -> Vec<(Value, Value, Value)> {
    let app = http::get(apps::api(), "/v2/apps/web").unwrap().json();
    let tasks = app["app"]["tasks"].as_array().cloned().unwrap_or_default();
    let shown =
        |task: &Value| (task["id"].clone(), task["state"].clone(), task["ipAddresses"].clone());
    tasks.iter().map(shown).collect()
}

/// Ids of all containers that have a cgroup.
fn containers() -> BTreeSet<String> {
    let root = lab::variable("MIZZEN_CGROUP_ROOT");
    let of_root = |group: &PathBuf| group.parent().is_some_and(|parent| parent.ends_with(&root));
    let groups = kernel::cgroups(&root).into_iter().filter(of_root);
    groups.filter_map(|group| Some(group.file_name()?.to_str()?.to_owned())).collect()
}

fn containers_of(tasks: &[Task]) -> BTreeSet<String> {
    tasks.iter().map(|task| task.container.clone()).collect()
}

#[test]
fn a_crash_in_the_middle_of_launches_starts_nothing_twice() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let place = node.place();
        let mut app = web(0);
        app["backoffSeconds"] = json!(0.1);
        assert_eq!(apps::post(&app).status, 201);
        let mut goal = 0;
        for more in [2_usize, 1, 2] {
            let known = containers().len();
            goal += 3;
            let said = node.mizzen(&["scale", "web", &goal.to_string(), "--no-wait"]);
            assert_eq!(said.code, Some(0), "{}", said.stderr);
            eventually("launches are under way", SOON, || {
                (containers().len() >= known + more).then_some(())
            });
            node.kill();
            node = place.start();
            let tasks = eventually("each container is one of the tasks", SOON * 2, || {
                let tasks = apps::tasks(&node, "/web");
                let is_whole = tasks.len() == goal && containers() == containers_of(&tasks);
                is_whole.then_some(tasks)
            });
            tasks.iter().for_each(apps::await_server);
            let mut backends = apps::await_backends(&node, WEB_VIP, goal);
            backends.sort();
            assert_eq!(backends, ids(&tasks));
        }
    });
}

#[test]
fn a_task_that_dies_without_a_daemon_is_replaced_after_the_restart() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let place = node.place();
        let before = deploy_web(&node, 2);
        node.kill();
        before[0].kill();
        let node = place.start();
        let after = await_replacement(&node, &before[0]);
        assert!(after.contains(&before[1]), "the other one runs on");
    });
}

#[test]
fn teardown_leaves_nothing_in_the_kernel_and_keeps_the_apps() {
    in_lab(|| {
        let links = kernel::links();
        assert_eq!((kernel::tables(), kernel::pins()), (vec![], vec![]), "a fresh lab");
        let mut node = Node::start(&[]);
        let place = node.place();
        let tasks = deploy_web(&node, 2);
        let vip = apps::vip_address(&node, WEB_VIP);
        assert!(!kernel::pins().is_empty() && !kernel::tables().is_empty());
        node.stop();
        assert!(http::get(vip, "/").is_ok(), "tasks and VIPs go on after SIGTERM");

        let said = place.run(&["--teardown"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        for task in &tasks {
            assert!(!kernel::runs(task.pid), "{} runs on", task.id);
        }
        let others: Vec<String> = kernel::others().into_iter().map(kernel::command_line).collect();
        assert_eq!(others, Vec::<String>::new(), "no process is left");
        let groups = kernel::cgroups(&lab::variable("MIZZEN_CGROUP_ROOT"));
        assert_eq!(groups, Vec::<PathBuf>::new(), "no cgroup is left");
        assert_eq!(kernel::links(), links, "no link is left");
        assert_eq!(kernel::tables(), Vec::<String>::new(), "no table is left");
        assert_eq!(kernel::pins(), Vec::<PathBuf>::new(), "nothing is pinned");
        let run_dir = lab::variable("MIZZEN_RUN_DIR");
        assert!(!Path::new(&run_dir).exists(), "the run directory is gone");
        let leases = kernel::entries(&lab::state_dir().join("leases"));
        assert!(leases.iter().all(|lease| lease.is_dir()), "no lease is left: {leases:?}");
        assert!(http::get(vip, "/").is_err(), "the VIP leads nowhere");

        let node = place.start();
        let again = apps::await_tasks(&node, "/web", 2);
        assert!(
            again.iter().all(|task| !tasks.contains(task)),
            "the next start runs the app again"
        );
        assert_eq!(dns::addresses(By::Udp, "leader.mesos"), [lab::address()]);
    });
}

#[test]
fn sandboxes_are_kept_for_a_while_and_those_of_running_tasks_always() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let running = deploy_web(&node, 1).remove(0);
        let mut app = apps::command("/once", "echo ahoy; exit 1");
        app["backoffSeconds"] = 3600.into();
        assert_eq!(apps::post(&app).status, 201);
        let (id, ended) = eventually("it has ended", SOON, || {
            let rows = http::get(NODE.parse().unwrap(), "/v1/tasks/ended").ok()?.json();
            let text = |name: &str| Some(rows[0][name].as_str()?.to_owned());
            Some((text("id")?, text("sandbox")?))
        });
        let ended = PathBuf::from(ended);
        assert!(ended.join("stdout").exists());
        node.stop();
        drop(node);

        let node = Node::start(&["--agent-gc-delay", "1ms"]);
        eventually("its sandbox is gone", SOON, || (!ended.exists()).then_some(()));
        eventually("nobody knows it any more", SOON, || {
            (node.mizzen(&["logs", &id]).code == Some(1)).then_some(())
        });
        assert_eq!(node.text(&["logs", &running.id]), "listening on 8080\n");
        assert_eq!(node.problems(), Vec::<String>::new());
    });
}

#[test]
fn tasks_that_hold_more_than_is_offered_are_a_problem() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let task = deploy_web(&node, 1).remove(0);
        node.stop();
        drop(node);
        let node = Node::start(&["--agent-resources", "cpus:0.05;mem:1024;ports:[31000-31001]"]);
        assert_eq!(apps::await_tasks(&node, "/web", 1), [task]);
        eventually("it is a problem", SOON, || {
            let said = |problem: &String| problem.contains("0.1 cpus of 0.05");
            node.problems().iter().any(said).then_some(())
        });
    });
}
