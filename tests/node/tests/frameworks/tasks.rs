//! Tasks of a foreign framework, from the offer to the last update.

use mizzen_tests_node::framework::{Framework, scalar, task};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, kernel, lab};
use serde_json::{Value, json};
use std::time::Duration;

/// More rounds of offers than the master's own pace has.
const BRISK: &[&str] = &["--master-allocation-interval", "100ms"];

#[test]
fn a_task_is_launched_on_an_offer_and_told_of_until_acknowledged() {
    in_lab(|| {
        let node = Node::start(BRISK);
        let mut framework = Framework::subscribe("foreign");
        framework.next("HEARTBEAT");
        let offer = framework.offer();
        assert_eq!(offer["framework_id"]["value"], framework.id.as_str());
        assert_eq!(offer["hostname"], lab::address().to_string());
        let amount = |name: &str| {
            let resources = offer["resources"].as_array().unwrap().iter();
            let named = resources.filter(|resource| resource["name"] == name);
            named.filter_map(|resource| resource["scalar"]["value"].as_f64()).sum::<f64>()
        };
        assert!(amount("cpus") >= 1.0 && amount("mem") >= 64.0, "{offer:#}");

        framework.launch(&offer, &[task("t1", "echo $MESOS_TASK_ID; exec sleep 1000")]);
        let starting = framework.status("t1");
        assert_eq!(starting["state"], "TASK_STARTING", "{starting:#}");
        assert!(!starting["uuid"].is_null(), "{starting:#}");
        // The next update waits for the acknowledgement of this one.
        eventually("the task runs", SOON, || pid(&node, "t1"));
        assert_eq!(framework.next_within("UPDATE", Duration::from_millis(300)), None);
        framework.acknowledge(&starting);
        let running = framework.expect("t1", "TASK_RUNNING");
        assert_eq!(running["agent_id"], offer["agent_id"]);
        assert_eq!(running["source"], "SOURCE_EXECUTOR");
        eventually("its output is there", SOON, || {
            (node.text(&["logs", "t1"]) == "t1\n").then_some(())
        });

        let pid = pid(&node, "t1").unwrap();
        framework.must_call("KILL", &json!({ "task_id": { "value": "t1" } }));
        let killed = framework.until("t1", "TASK_KILLED");
        assert_eq!(killed["task_id"]["value"], "t1");
        eventually("its process is gone", SOON, || (!kernel::runs(pid)).then_some(()));
    });
}

#[test]
fn an_update_is_sent_again_after_a_crash_if_it_was_not_acknowledged() {
    in_lab(|| {
        let mut node = Node::start(BRISK);
        let place = node.place();
        let info = info("forgetful");
        let mut framework = Framework::subscribe_as(&info);
        let offer = framework.offer();
        framework.launch(&offer, &[task("t1", "exec sleep 1000")]);
        let first = framework.status("t1");
        let process = eventually("the task runs", SOON, || pid(&node, "t1"));
        node.kill();
        let node = place.start();
        let mut framework = Framework::subscribe_as(&with_id(&info, &framework.id));
        let again = framework.status("t1");
        assert_eq!((&again["uuid"], &again["state"]), (&first["uuid"], &first["state"]));
        framework.acknowledge(&again);
        framework.expect("t1", "TASK_RUNNING");
        assert_eq!(pid(&node, "t1"), Some(process));
    });
}

#[test]
fn the_end_of_a_task_has_its_reason() {
    in_lab(|| {
        let _node = Node::start(BRISK);
        let mut framework = Framework::subscribe("ends");
        let hog = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
        let missing = json!({ "shell": false, "value": "/no/such/program" });
        let mut absent = task("absent", "true");
        absent["command"] = missing;
        let offer = framework.offer();
        framework.launch(
            &offer,
            &[
                task("good", "exit 0"),
                task("bad", "exit 7"),
                task("signal", "kill -SEGV $$"),
                task("memory", hog),
                absent,
            ],
        );
        for (id, state, reason, message) in [
            ("good", "TASK_FINISHED", None, "status 0"),
            ("bad", "TASK_FAILED", Some("REASON_COMMAND_EXECUTOR_FAILED"), "status 7"),
            ("signal", "TASK_FAILED", Some("REASON_COMMAND_EXECUTOR_FAILED"), "SIGSEGV"),
            ("memory", "TASK_FAILED", Some("REASON_CONTAINER_LIMITATION_MEMORY"), "emory"),
            ("absent", "TASK_FAILED", None, "/no/such/program"),
        ] {
            let end = framework.until(id, state);
            let words = end["message"].as_str().unwrap_or_default();
            assert!(words.contains(message), "{id}: `{message}` in {end:#}");
            if let Some(reason) = reason {
                assert_eq!(end["reason"], reason, "{id}: {end:#}");
            }
        }
    });
}

#[test]
fn a_task_that_does_not_listen_is_killed_after_its_grace() {
    in_lab(|| {
        let node = Node::start(BRISK);
        let mut framework = Framework::subscribe("stubborn");
        let offer = framework.offer();
        let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        framework.launch(&offer, &[task("t1", stubborn)]);
        framework.until("t1", "TASK_RUNNING");
        eventually("it ignores SIGTERM", SOON, || {
            (node.text(&["logs", "t1"]) == "ready\n").then_some(())
        });
        let grace = json!({ "grace_period": { "nanoseconds": 300_000_000 } });
        framework.must_call("KILL", &json!({ "task_id": { "value": "t1" }, "kill_policy": grace }));
        let killed = framework.until("t1", "TASK_KILLED");
        let words = killed["message"].as_str().unwrap_or_default();
        assert!(words.contains("SIGKILL"), "{killed:#}");
    });
}

#[test]
fn what_the_offer_does_not_have_cannot_be_taken() {
    in_lab(|| {
        let _node = Node::start(BRISK);
        let mut framework = Framework::subscribe("greedy");
        for (id, resource) in [("much", scalar("cpus", 1e6)), ("negative", scalar("cpus", -1.0))] {
            let mut wants = task(id, "true");
            wants["resources"] = json!([resource, scalar("mem", 32.0)]);
            let offer = framework.offer();
            framework.must_call(
                "ACCEPT",
                &json!({
                    "offer_ids": [offer["id"]], "filters": { "refuse_seconds": 0.0 },
                    "operations": [{ "type": "LAUNCH", "launch": { "task_infos": [
                        with(&wants, "agent_id", &offer["agent_id"]),
                    ]}}],
                }),
            );
            let status = framework.status(id);
            assert_eq!(status["state"], "TASK_ERROR", "{status:#}");
            assert!(status["message"].as_str().is_some_and(|words| !words.is_empty()));
        }
        // An offer can be taken once.
        let offer = framework.offer();
        framework.launch(&offer, &[task("first", "exec sleep 1000")]);
        framework.until("first", "TASK_RUNNING");
        framework.launch(&offer, &[task("second", "true")]);
        let status = framework.status("second");
        assert_eq!(status["reason"], "REASON_INVALID_OFFERS", "{status:#}");
    });
}

#[test]
fn a_framework_that_subscribes_again_after_a_crash_keeps_its_task() {
    in_lab(|| {
        let mut node = Node::start(BRISK);
        let place = node.place();
        let info = info("durable");
        let mut framework = Framework::subscribe_as(&info);
        let offer = framework.offer();
        framework.launch(&offer, &[task("t1", "exec sleep 1000")]);
        framework.until("t1", "TASK_RUNNING");
        let before = pid(&node, "t1").unwrap();
        node.kill();

        let node = place.start();
        let mut framework = Framework::subscribe_as(&with_id(&info, &framework.id));
        assert_eq!(pid(&node, "t1"), Some(before), "the same process");
        let status = eventually("the master knows the task", SOON, || {
            framework.must_call("RECONCILE", &json!({ "tasks": [] }));
            framework.next_within("UPDATE", Duration::from_millis(200))
        });
        let status = &status["update"]["status"];
        assert_eq!(
            (&status["task_id"]["value"], &status["state"]),
            (&json!("t1"), &json!("TASK_RUNNING"))
        );
        framework.must_call("KILL", &json!({ "task_id": { "value": "t1" } }));
        let killed = framework.next_where("UPDATE", "TASK_KILLED", |event| {
            event["update"]["status"]["state"] == "TASK_KILLED"
        });
        framework.acknowledge(&killed["update"]["status"]);
        eventually("its process is gone", SOON, || (!kernel::runs(before)).then_some(()));
    });
}

#[test]
fn teardown_ends_a_framework_and_its_tasks() {
    in_lab(|| {
        let node = Node::start(BRISK);
        let mut framework = Framework::subscribe("short");
        let offer = framework.offer();
        framework.launch(&offer, &[task("t1", "exec sleep 1000")]);
        framework.until("t1", "TASK_RUNNING");
        let pid = pid(&node, "t1").unwrap();
        framework.must_call("TEARDOWN", &Value::Null);
        framework.await_end();
        eventually("its process is gone", SOON, || (!kernel::runs(pid)).then_some(()));
        let refused = framework.call("REVIVE", &json!({}));
        assert_eq!(refused.status, 400, "{}", refused.text());
        eventually("the agent forgot the task", SOON, || {
            node.json(&["tasks"]).as_array()?.is_empty().then_some(())
        });
    });
}

fn info(name: &str) -> Value {
    json!({
        "user": "root", "name": name, "failover_timeout": 3600, "checkpoint": true,
        "roles": ["*"], "capabilities": [{ "type": "MULTI_ROLE" }],
    })
}

fn with_id(info: &Value, id: &str) -> Value {
    with(info, "id", &json!({ "value": id }))
}

fn with(object: &Value, name: &str, value: &Value) -> Value {
    let mut object = object.clone();
    object[name] = value.clone();
    object
}

/// The process of a running task.
fn pid(node: &Node, task: &str) -> Option<u32> {
    let rows = node.json(&["tasks"]);
    let row = rows.as_array()?.iter().find(|row| row["id"] == task)?.clone();
    let runs = row["state"] == "TASK_RUNNING";
    u32::try_from(row["pid"].as_u64()?).ok().filter(|_| runs)
}
