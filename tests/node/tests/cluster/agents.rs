//! Agents on other nodes than the master's: tasks there, and what becomes of them when a
//! daemon or the network between the two is away.

use super::{await_listed, first, token};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, apps, eventually, in_lab_of, lab, node};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Running tasks of a node with the pids of their processes.
type Tasks = BTreeMap<String, u64>;

/// The place of the second node, which runs tasks.
fn second(flags: &[&str]) -> Place {
    Place::at(2, &[&["--hostname", "two"], flags].concat())
}

/// A master that runs no task itself, and an agent on another node.
fn master_and_agent() -> (Node, Node) {
    let one = first(&["--roles", "master,services,dns,vip"]);
    let host = lab::address().to_string();
    let two = second(&["--join", &host, "--token", &token(&one, 1)]).start();
    await_agent(&one, true);
    (one, two)
}

/// Waits until the agent is registered, or is not.
fn await_agent(one: &Node, active: bool) {
    eventually(&format!("the agent's being active is {active}"), SOON * 3, || {
        let answer = one.place().try_json(&["agents"])?;
        let agents = answer["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
        let is = agents.iter().any(|agent| agent["active"] == true);
        (is == active).then_some(())
    });
}

fn running(node: &Node) -> Tasks {
    let rows = node.json(&["tasks"]);
    let rows = rows.as_array().cloned().unwrap_or_default();
    let pid = |row: &Value| Some((row["id"].as_str()?.to_owned(), row["pid"].as_u64()?));
    rows.iter().filter(|row| row["state"] == "TASK_RUNNING").filter_map(pid).collect()
}

fn await_running(node: &Node, count: usize) -> Tasks {
    eventually(&format!("{count} tasks run"), SOON, || {
        let tasks = running(node);
        (tasks.len() == count).then_some(tasks)
    })
}

/// Runs an app from the node without a master, and waits until it is there.
fn run_sleepers(two: &Node, instances: u32) -> Tasks {
    let mut app = apps::command("/sleep", "exec sleep 1000");
    app["instances"] = json!(instances);
    let file = lab::scratch("sleep.json");
    std::fs::write(&file, app.to_string()).unwrap();
    let said = two.mizzen(&["run", &file.display().to_string()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    await_running(two, instances as usize)
}

fn lab_command(arguments: &[&str]) {
    let said = node::run(lab::mizzen(arguments), Duration::from_secs(10));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn tasks_run_on_another_node_and_outlive_either_daemon() {
    in_lab_of(2, || {
        let (mut one, mut two) = master_and_agent();
        let before = run_sleepers(&two, 2);
        let elsewhere = one.json(&["tasks"]);
        assert_eq!(elsewhere.as_array().map(Vec::len), Some(2), "seen from there: {elsewhere}");
        assert_eq!(elsewhere[0]["host"], "two");

        two.kill();
        await_agent(&one, false);
        let mut two = second(&[]).start();
        await_agent(&one, true);
        assert_eq!(running(&two), before, "after a kill of the agent's daemon");

        one.kill();
        eventually("the agent knows that nobody leads", SOON, || {
            two.problems().iter().any(|text| text.contains("no master leads")).then_some(())
        });
        let said = two.mizzen(&["apps"]);
        assert!(said.stderr.contains("No master leads"), "{}", said.stderr);
        assert_eq!(running(&two), before, "without a master");

        let one = first(&["--roles", "master,services,dns,vip"]);
        await_agent(&one, true);
        eventually("the app is whole", SOON, || {
            let app = two.place().try_json(&["apps"])?;
            (app["apps"][0]["tasksRunning"] == 2).then_some(())
        });
        assert_eq!(running(&two), before, "after a kill of the master's daemon");
        assert_eq!(two.problems(), [] as [&str; 0]);

        // Both ends still act on each other.
        let said = two.mizzen(&["scale", "sleep", "1"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let left = await_running(&two, 1);
        assert!(left.iter().all(|(id, pid)| before.get(id) == Some(pid)), "{left:?}");
        let _ = two.stop();
    });
}

#[test]
fn what_happened_behind_a_partition_is_told_after_it() {
    in_lab_of(2, || {
        let (one, two) = master_and_agent();
        let before = run_sleepers(&two, 2);
        lab_command(&["lab", "--cut", "2"]);
        await_listed(&one, &[("one", "alive"), ("two", "dead")]);
        await_agent(&one, false);
        assert_eq!(running(&two), before, "they run on");
        // One of them ends where nobody hears of it.
        let (ended, pid) = before.first_key_value().unwrap();
        let said = two.place().shell(&format!("kill -9 {pid}"));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        await_running(&two, 1);

        lab_command(&["lab", "--heal", "2"]);
        await_agent(&one, true);
        // The scheduler hears of it, and starts another one in its place.
        let after = await_running(&two, 2);
        assert!(!after.contains_key(ended), "{after:?}");
        let kept = before.iter().filter(|(id, pid)| after.get(*id) == Some(pid)).count();
        assert_eq!(kept, 1, "the other one is the same: {before:?}, {after:?}");
    });
}
