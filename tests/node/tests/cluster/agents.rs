//! Agents on other nodes than the master's: tasks there, and what becomes of them when a
//! daemon or the network between the two is away.

use super::{await_listed, first, lab_command, token};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, apps, eventually, in_lab_of, kernel, lab};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

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

#[test]
fn tasks_run_on_another_node_and_outlive_either_daemon() {
    in_lab_of(2, || {
        let (mut one, mut two) = master_and_agent();
        let before = run_sleepers(&two, 2);
        eventually("both are seen from there", SOON, || {
            let elsewhere = one.json(&["tasks"]);
            let rows = elsewhere.as_array()?;
            (rows.len() == 2 && rows.iter().all(|row| row["host"] == "two")).then_some(())
        });

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
        two.await_well();

        // Both ends still act on each other.
        let said = two.mizzen(&["scale", "sleep", "1"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let left = await_running(&two, 1);
        assert!(left.iter().all(|(id, pid)| before.get(id) == Some(pid)), "{left:?}");
        let _ = two.stop();
    });
}

/// Waits until each node's resolver leads to the leader by its names, and the leader answers there.
fn await_leader_by_name(nodes: &[&Node], when: &str) {
    for node in nodes {
        for name in ["leader.mesos", "master.mesos", "marathon.mesos"] {
            eventually(&format!("{name} is the leader {when}"), SOON, || {
                let found = node.place().try_json(&["dns", name, "A"])?;
                let rows = found["answers"].as_array()?;
                let is = rows.len() == 1 && rows[0]["data"] == lab::address().to_string();
                is.then_some(())
            });
        }
        for url in ["leader.mesos:5050/version", "marathon.mesos:8080/v2/info"] {
            eventually(&format!("{url} answers {when}"), SOON, || {
                let said = node.place().shell(&format!("curl -s -f -m 5 http://{url}"));
                (said.code == Some(0)).then_some(())
            });
        }
    }
}

#[test]
fn the_leader_is_found_by_its_names_on_every_node() {
    in_lab_of(2, || {
        let (mut one, two) = master_and_agent();
        await_leader_by_name(&[&one, &two], "at first");
        one.kill();
        eventually("nobody leads", SOON, || {
            let said = two.mizzen(&["dns", "leader.mesos", "A"]);
            said.stderr.contains("NXDOMAIN").then_some(())
        });
        let one = first(&["--roles", "master,services,dns,vip"]);
        await_leader_by_name(&[&one, &two], "after its restart");
    });
}

#[test]
fn what_tasks_write_is_read_on_every_node() {
    in_lab_of(2, || {
        let (one, two) = master_and_agent();
        let words = "echo said there; echo complained there >&2; exec sleep 1000";
        let app = apps::command("/talk", words);
        let file = lab::scratch("talk.json");
        std::fs::write(&file, app.to_string()).unwrap();
        let said = two.mizzen(&["run", &file.display().to_string()]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let (id, _) = await_running(&two, 1).pop_first().unwrap();
        for node in [&one, &two] {
            let written =
                [(&["logs", "talk"][..], "said"), (&["logs", "--stderr", "talk"], "complained")];
            for (words, want) in written {
                eventually("it is read", SOON, || {
                    (node.text(words) == format!("{want} there\n")).then_some(())
                });
            }
        }
        // Who reads along is told of its end.
        let mut follow = one.place().command(&["logs", "-f", &id]);
        let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut lines, mut text) = (BufReader::new(follow.stdout.take().unwrap()), String::new());
        lines.read_line(&mut text).unwrap();
        let said = two.mizzen(&["rm", "talk"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        lines.read_to_string(&mut text).unwrap();
        assert_eq!(text, "said there\n");
        let output = follow.wait_with_output().unwrap();
        let last = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && last.contains("has ended"), "{last}");
        let said = one.mizzen(&["logs", "nobody"]);
        assert_eq!(said.code, Some(1), "{}", said.stdout);
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

/// Takes a node out of its cluster and ends its daemon; its tasks run on.
fn leave(two: &mut Node, tasks: &Tasks) {
    let said = two.mizzen(&["leave"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(&running(two), tasks, "after it has left");
    two.stop();
}

#[test]
fn a_node_that_left_and_comes_back_has_its_tasks() {
    in_lab_of(2, || {
        let (one, mut two) = master_and_agent();
        let before = run_sleepers(&two, 2);
        leave(&mut two, &before);
        await_agent(&one, false);
        let host = lab::address().to_string();
        let two = second(&["--join", &host, "--token", &token(&one, 1)]).start();
        await_agent(&one, true);
        assert_eq!(running(&two), before, "back in its cluster");
        eventually("the app is whole", SOON, || {
            (one.json(&["apps"])["apps"][0]["tasksRunning"] == 2).then_some(())
        });
        two.await_well();
    });
}

#[test]
fn what_a_node_brings_into_a_cluster_of_its_own_runs_on_until_it_is_torn_down() {
    in_lab_of(2, || {
        let (_one, mut two) = master_and_agent();
        let before = run_sleepers(&two, 2);
        leave(&mut two, &before);
        let mut two = second(&[]).start();
        eventually("its own master has taken it in", SOON, || {
            (two.json(&["status"])["agent"]["state"] == "registered").then_some(())
        });
        assert_eq!(running(&two), before, "nobody there knows their app");
        assert_eq!(two.json(&["apps"])["apps"], json!([]));
        two.stop();
        let said = two.place().run(&["--teardown"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        for pid in before.values() {
            let runs = kernel::runs(u32::try_from(*pid).unwrap());
            assert!(!runs, "process {pid} is there");
        }
    });
}
