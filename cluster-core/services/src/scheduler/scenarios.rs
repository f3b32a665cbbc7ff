//! Stories: what a user sees when this and that happens.

use crate::testing::World;
use mizzen_api::v1;
use mizzen_api::v1::TaskState as S;
use mizzen_api::v1::scheduler::call::Type as C;
use mizzen_api::v1::task_status::{Reason, Source};
use serde_json::{Value, json};
use std::slice;
use std::time::Duration;

const PROBED: &str =
    r#"{"instances": 2, "cpus": 0.5, "mem": 64, "healthChecks": [{"protocol": "MESOS_HTTP"}]}"#;

fn probed() -> Value {
    serde_json::from_str(PROBED).unwrap()
}

fn small(instances: u32) -> Value {
    json!({"instances": instances, "cpus": 0.1, "mem": 10})
}

/// Two copies of a small app run.
fn two_running() -> World {
    let mut world = World::new();
    world.post(small(2));
    world.offer(1);
    world.run_from(0);
    assert_eq!(world.get("/v2/deployments"), json!([]));
    world.calls.clear();
    world
}

#[test]
fn an_app_is_deployed_until_its_copies_are_healthy() {
    let mut world = World::new();
    world.post(probed());
    assert_eq!(world.take_calls(), [C::Revive]);
    world.offer(2);
    assert_eq!(world.take_calls(), [C::Accept, C::Accept, C::Suppress], "one copy on each agent");
    let tasks = world.ids();
    assert_eq!(tasks.len(), 2);
    assert!(tasks[0].starts_with("web.instance-") && tasks[0].ends_with("._app.1"));
    for task in &tasks {
        world.update(task, S::TaskStarting, None);
        world.update(task, S::TaskRunning, None);
    }
    assert_eq!(world.take_calls(), [C::Acknowledge; 4]);
    let deployment = &world.get("/v2/deployments")[0];
    assert_eq!(deployment["currentActions"][0]["action"], "ScaleApplication");
    assert_eq!(
        (deployment["currentStep"].clone(), deployment["totalSteps"].clone()),
        (json!(2), json!(2))
    );
    let why = world.get("/v2/queue/why");
    assert_eq!(why, json!([{"id": "/web", "why": "2 of 2 running but not healthy"}]));
    for task in &tasks {
        world.update(task, S::TaskRunning, Some(true));
    }
    assert_eq!(world.get("/v2/deployments"), json!([]));
    assert_eq!(world.get("/v2/queue/why"), json!([]));
    let app = &world.get("/v2/apps/web")["app"];
    assert_eq!((app["tasksRunning"].clone(), app["tasksHealthy"].clone()), (json!(2), json!(2)));
    assert_eq!(app["tasks"][0]["healthCheckResults"][0]["alive"], true);
}

#[test]
fn a_copy_that_dies_is_replaced_after_its_delay() {
    let mut world = two_running();
    let dead = world.ids()[0].clone();
    world.update(&dead, S::TaskFailed, None);
    assert_eq!(world.take_calls(), [C::Acknowledge], "it waits for its delay first");
    let queue = &world.get("/v2/queue")["queue"][0];
    assert_eq!(
        (queue["count"].clone(), queue["delay"]["timeLeftSeconds"].clone()),
        (json!(1), json!(1))
    );
    let why = world.get("/v2/queue/why")[0]["why"].to_string();
    assert!(
        why.contains("the next one is started in 1 s") && why.contains("TASK_FAILED as told"),
        "{why}"
    );
    world.offer(1);
    assert_eq!(world.take_calls(), [C::Decline]);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.take_calls(), [C::Revive]);
    world.offer(1);
    assert_eq!(world.take_calls(), [C::Accept, C::Suppress]);
    assert_eq!(world.launched.len(), 3);
    let app = &world.get("/v2/apps/web")["app"];
    assert_eq!(app["lastTaskFailure"]["taskId"], json!(dead));
    assert_eq!(app["tasks"].as_array().unwrap().len(), 2);
}

/// What an agent that is drained says of a task.
fn drained(world: &mut World, task: &str, state: S) {
    world.status(v1::TaskStatus {
        task_id: v1::TaskId { value: task.to_owned() },
        agent_id: Some(v1::AgentId { value: "S0".to_owned() }),
        state: state.into(),
        reason: Some(Reason::AgentDraining.into()),
        uuid: Some(vec![7; 16]),
        healthy: Some(false),
        ..v1::TaskStatus::default()
    });
}

#[test]
fn copies_on_a_drained_agent_are_replaced_at_once_as_the_upgrade_strategy_has_room() {
    let mut world = two_running();
    let ids = world.ids();
    for id in &ids {
        drained(&mut world, id, S::TaskKilling);
    }
    assert!(world.take_calls().contains(&C::Revive));
    world.offer(1);
    world.run_from(2);
    assert_eq!(world.launched.len(), 4, "both have successors before they end");
    for (id, state) in ids.iter().zip([S::TaskKilled, S::TaskGoneByOperator]) {
        drained(&mut world, id, state);
    }
    let app = &world.get("/v2/apps/web")["app"];
    assert_eq!(app["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/v2/queue")["queue"], json!([]));
    assert_eq!(world.take_kills(), [""; 0]);

    let strict = json!({"maximumOverCapacity": 0, "minimumHealthCapacity": 0});
    let mut world = World::new();
    let mut app = small(2);
    app["upgradeStrategy"] = strict;
    world.post(app);
    world.offer(1);
    world.run_from(0);
    let first = world.ids()[0].clone();
    drained(&mut world, &first, S::TaskKilling);
    world.offer(1);
    assert_eq!(world.launched.len(), 2, "there is no room for a third");
    drained(&mut world, &first, S::TaskKilled);
    world.offer(1);
    assert_eq!(world.launched.len(), 3, "and no delay, though it was not healthy");
}

#[test]
fn a_restart_knows_who_leaves_with_its_agent() {
    let mut world = two_running();
    let first = world.ids()[0].clone();
    drained(&mut world, &first, S::TaskKilling);
    world.restart();
    world.subscribe();
    world.offer(1);
    assert_eq!(world.launched.len(), 3);
}

#[test]
fn machines_in_maintenance_get_no_copies() {
    let mut world = World::new();
    world.post(small(1));
    let now = i64::try_from(world.now.wall.0).unwrap();
    let planned = |start: i64| {
        let start = v1::TimeInfo { nanoseconds: start };
        Some(v1::Unavailability { start, duration: Some(v1::DurationInfo { nanoseconds: 10 }) })
    };
    world.offer_with(|offer| offer.unavailability = planned(now - 5));
    assert_eq!(world.launched.len(), 0);
    let why = world.get("/v2/queue/why")[0]["why"].to_string();
    assert!(why.contains("its machine is in maintenance"), "{why}");
    for (start, launched) in [(now + 5, 1), (now - 15, 2)] {
        world.request("PUT", "/v2/apps/web", &json!({"instances": launched}));
        world.offer_with(|offer| offer.unavailability = planned(start));
        assert_eq!(world.launched.len(), launched);
        world.run_from(launched - 1);
    }
}

#[test]
fn the_delay_can_be_skipped() {
    let mut world = two_running();
    let dead = world.ids()[0].clone();
    world.update(&dead, S::TaskFailed, None);
    world.calls.clear();
    let (status, _) = world.request("DELETE", "/v2/queue//web/delay", &Value::Null);
    assert_eq!((status, world.take_calls()), (204, vec![C::Revive]));
}

#[test]
fn scaling_up_and_down() {
    let mut world = two_running();
    let (status, _) = world.request("PUT", "/v2/apps/web", &json!({"instances": 3}));
    assert_eq!((status, world.take_calls()), (200, vec![C::Revive]));
    world.advance(Duration::from_millis(1));
    world.offer(1);
    world.run_from(2);
    assert_eq!(world.launched.len(), 3, "running copies stay");
    assert_eq!(world.get("/v2/deployments"), json!([]));
    world.calls.clear();
    world.request("PUT", "/v2/apps/web", &json!({"instances": 2}));
    let youngest = world.ids()[2].clone();
    assert_eq!(world.take_kills(), slice::from_ref(&youngest), "the youngest goes first");
    assert_eq!(
        world.get("/v2/deployments")[0]["steps"][0]["actions"][0]["action"],
        "ScaleApplication"
    );
    world.update(&youngest, S::TaskKilled, None);
    assert_eq!(world.get("/v2/deployments"), json!([]));
    assert_eq!(world.get("/v2/apps/web")["app"]["tasksRunning"], 2);
}

#[test]
fn deleting_an_app_ends_its_copies() {
    let mut world = two_running();
    let (status, body) = world.request("DELETE", "/v2/apps/web", &Value::Null);
    assert!(status == 200 && body["deploymentId"].is_string(), "{body}");
    let mut kills = world.take_kills();
    kills.sort();
    let mut tasks = world.ids();
    tasks.sort();
    assert_eq!(kills, tasks);
    assert_eq!(world.request("GET", "/v2/apps/web", &Value::Null).0, 404);
    assert_eq!(world.get("/v2/deployments").as_array().unwrap().len(), 1);
    for task in tasks {
        world.update(&task, S::TaskKilled, None);
    }
    assert_eq!(world.get("/v2/deployments"), json!([]));
    let left: Vec<_> = world.disk.keys().cloned().collect();
    assert_eq!(left, ["framework:"], "nothing is left on the disk");
}

#[test]
fn a_kill_is_repeated_until_it_is_heard() {
    let mut world = two_running();
    let task = world.ids()[0].clone();
    world.request("DELETE", &format!("/v2/apps/web/tasks/{task}"), &Value::Null);
    assert_eq!(world.take_kills(), slice::from_ref(&task));
    for seconds in [10, 20, 40] {
        world.advance(Duration::from_secs(seconds - 1));
        assert_eq!(world.take_kills(), [] as [String; 0]);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.take_kills(), slice::from_ref(&task));
    }
}

#[test]
fn an_upgrade_replaces_copies_as_new_ones_become_healthy() {
    let mut world = World::new();
    world.post(probed());
    world.offer(1);
    let old = world.ids();
    for task in &old {
        world.update(task, S::TaskRunning, Some(true));
    }
    world.advance(Duration::from_secs(1));
    world.calls.clear();
    let (status, _) = world.request("PUT", "/v2/apps/web", &json!({"env": {"A": "b"}}));
    assert_eq!(status, 200);
    world.offer(1);
    assert_eq!(world.launched.len(), 4, "both new copies start beside the old ones");
    world.take_calls();
    let new = world.ids().split_off(2);
    world.update(&new[0], S::TaskRunning, None);
    assert_eq!(world.take_kills(), [] as [String; 0], "it is not healthy yet");
    world.update(&new[0], S::TaskRunning, Some(true));
    let first = world.take_kills();
    assert_eq!(first.len(), 1, "one for one");
    world.update(&first[0], S::TaskKilled, None);
    assert_eq!(world.get("/v2/apps/web")["app"]["tasksHealthy"], 2);
    world.calls.clear();
    world.update(&new[1], S::TaskRunning, Some(true));
    let second = world.take_kills();
    assert_eq!(second.len(), 1);
    assert!(old.contains(&first[0]) && old.contains(&second[0]));
    assert_eq!(
        world.get("/v2/deployments")[0]["currentActions"][0]["action"],
        "RestartApplication"
    );
    world.update(&second[0], S::TaskKilled, None);
    assert_eq!(world.get("/v2/deployments"), json!([]));
    assert_eq!(world.get("/v2/apps/web/versions")["versions"].as_array().unwrap().len(), 2);
    assert_eq!(
        world.launched[3]
            .command
            .as_ref()
            .unwrap()
            .environment
            .as_ref()
            .unwrap()
            .variables
            .iter()
            .find(|variable| variable.name == "A")
            .unwrap()
            .value
            .as_deref(),
        Some("b")
    );
}

#[test]
fn a_deployment_under_way_locks_its_app_unless_forced() {
    let mut world = World::new();
    world.post(small(1));
    let id = world.get("/v2/deployments")[0]["id"].clone();
    let (status, body) = world.request("PUT", "/v2/apps/web", &json!({"instances": 2}));
    assert_eq!((status, body["deployments"].clone()), (409, json!([{"id": id}])));
    let (status, _) = world.request("PUT", "/v2/apps/web?force=true", &json!({"instances": 2}));
    assert_eq!(status, 200);
    let deployments = world.get("/v2/deployments");
    assert_eq!(deployments.as_array().unwrap().len(), 1);
    assert_ne!(deployments[0]["id"], id);
}

#[test]
fn a_deployment_is_taken_back() {
    let mut world = two_running();
    world.advance(Duration::from_secs(1));
    world.request("PUT", "/v2/apps/web", &json!({"cmd": "false"}));
    world.offer(1);
    let id = world.get("/v2/deployments")[0]["id"].as_str().unwrap().to_owned();
    world.calls.clear();
    let (status, _) = world.request("DELETE", &format!("/v2/deployments/{id}"), &Value::Null);
    assert_eq!(status, 200);
    let mut kills = world.take_kills();
    kills.sort();
    let mut new = world.ids().split_off(2);
    new.sort();
    assert_eq!(kills, new, "the old copies are the right ones again");
    for task in new {
        world.update(&task, S::TaskKilled, None);
    }
    assert_eq!(world.get("/v2/deployments"), json!([]));
    let app = &world.get("/v2/apps/web")["app"];
    assert_eq!((app["cmd"].clone(), app["tasksRunning"].clone()), (json!("true"), json!(2)));
}

#[test]
fn after_a_crash_nothing_is_launched_twice() {
    let mut world = World::new();
    world.post(small(3));
    world.offer(1);
    let tasks = world.ids();
    world.update(&tasks[0], S::TaskRunning, None);
    world.restart();
    assert_eq!(world.services.subscribe_call().framework_id.unwrap().value, "F-0000");
    assert_eq!(world.get("/v2/apps/web")["app"]["tasksRunning"], 1, "the same tasks are shown");
    assert_eq!(world.get("/v2/apps/web")["app"]["tasksStaged"], 2);
    assert_eq!(world.get("/v2/deployments").as_array().unwrap().len(), 1);
    world.subscribe();
    assert_eq!(world.take_calls(), [C::Reconcile, C::Reconcile, C::Suppress]);
    world.offer(1);
    assert_eq!(world.take_calls(), [C::Decline]);
    assert_eq!(world.launched.len(), 3);
    // The first two are known; the third one was never heard of on its agent.
    for task in &tasks[..2] {
        world.update(task, S::TaskRunning, None);
    }
    world.update(&tasks[2], S::TaskGone, None);
    world.advance(Duration::from_secs(2));
    world.offer(1);
    assert_eq!(world.launched.len(), 4);
    world.run_from(3);
    assert_eq!(world.get("/v2/deployments"), json!([]));
}

#[test]
fn a_master_that_does_not_know_a_task_yet_is_not_believed() {
    let mut world = two_running();
    world.services.disconnected(world.now);
    world.subscribe();
    let unknown = |task: &String| v1::TaskStatus {
        task_id: v1::TaskId { value: task.clone() },
        state: S::TaskUnknown.into(),
        source: Some(Source::Master.into()),
        reason: Some(Reason::Reconciliation.into()),
        ..v1::TaskStatus::default()
    };
    let tasks = world.ids();
    tasks.iter().for_each(|task| world.status(unknown(task)));
    assert_eq!(world.get("/v2/apps/web")["app"]["tasksRunning"], 2);
    world.calls.clear();
    world.advance(Duration::from_secs(10));
    let asked = world.calls[0].reconcile.clone().unwrap();
    assert_eq!(asked.tasks.len(), 2, "they are asked about again");
    world.update(&tasks[0], S::TaskRunning, None);
    world.advance(Duration::from_secs(60));
    world.status(unknown(&tasks[1]));
    assert_eq!(world.get("/v2/apps/web")["app"]["tasksRunning"], 1, "now it is believed");
}

#[test]
fn a_copy_on_a_lost_agent_is_replaced_and_killed_if_it_returns() {
    let mut world = two_running();
    let lost = world.ids()[0].clone();
    world.update(&lost, S::TaskUnreachable, None);
    assert_eq!(world.take_calls(), [C::Acknowledge, C::Revive]);
    world.offer(1);
    assert_eq!(world.launched.len(), 3);
    world.calls.clear();
    world.update(&lost, S::TaskRunning, None);
    assert_eq!(world.take_kills(), [lost]);
    world.update("somebody-elses-task", S::TaskRunning, None);
    assert_eq!(world.take_kills(), [] as [String; 0], "other ids are left alone");
}

#[test]
fn an_app_that_is_too_large_waits_and_says_why() {
    let mut world = World::new();
    world.post(json!({"cpus": 4000, "mem": 10}));
    assert_eq!(world.get("/v2/queue/why")[0]["why"], "waits for an offer, none has come yet");
    world.calls.clear();
    world.offer(2);
    let decline = world.calls[0].decline.clone().unwrap();
    assert_eq!(decline.offer_ids.len(), 2);
    assert_eq!(decline.filters.unwrap().refuse_seconds, Some(5.0));
    let why = world.get("/v2/queue/why");
    assert_eq!(why, json!([{"id": "/web", "why": "needs 4000 cpus, the largest offer has 2"}]));
    let item = &world.get("/v2/queue")["queue"][0];
    let stage = &item["processedOffersSummary"]["rejectSummaryLastOffers"][4];
    assert_eq!(*stage, json!({"reason": "InsufficientCpus", "declined": 2, "processed": 2}));
    // Another app that fits is not kept waiting by it.
    world.calls.clear();
    let (status, _) =
        world.request("POST", "/v2/apps", &json!({"id": "/other", "cmd": "x", "cpus": 1}));
    assert_eq!((status, world.take_calls()), (201, vec![C::Revive]));
    world.offer(1);
    assert_eq!(world.take_calls(), [C::Accept]);
}

#[test]
fn a_task_that_never_runs_is_ended_and_tried_anew() {
    let mut world = World::new();
    world.post(small(1));
    world.offer(1);
    let task = world.ids()[0].clone();
    world.calls.clear();
    world.advance(Duration::from_secs(300));
    assert_eq!(world.take_kills(), slice::from_ref(&task));
    world.update(&task, S::TaskKilled, None);
    world.offer(1);
    assert_eq!(world.launched.len(), 2);
}

#[test]
fn what_was_not_sent_before_a_disconnection_is_void() {
    let mut world = two_running();
    let request = crate::api::Request {
        method: "DELETE",
        path: "/v2/apps/web",
        query: "",
        accept: "",
        body: b"",
    };
    world.services.handle_request(&request, world.now);
    world.services.disconnected(world.now);
    world.drain();
    assert_eq!(world.take_calls(), []);
    world.subscribe();
    assert_eq!(world.take_kills().len(), 2, "it is done after the next subscription");
}

#[test]
fn a_framework_that_was_removed_begins_anew() {
    let mut world = two_running();
    world.event(v1::scheduler::Event {
        r#type: Some(v1::scheduler::event::Type::Error.into()),
        error: Some(v1::scheduler::event::Error {
            message: "Framework has been removed".to_owned(),
        }),
        ..v1::scheduler::Event::default()
    });
    assert_eq!(world.services.subscribe_call().framework_id, None);
    world.services.disconnected(world.now);
    world.subscribe();
    world.offer(1);
    assert_eq!(world.launched.len(), 4);
}

#[test]
fn tasks_are_ended_by_name_and_the_app_shrinks_with_them() {
    let mut world = two_running();
    let oldest = world.ids()[0].clone();
    let body = json!({"ids": [oldest, "unknown"]});
    let (status, answer) = world.request("POST", "/v2/tasks/delete?scale=true", &body);
    assert!(status == 200 && answer["deploymentId"].is_string(), "{answer}");
    assert_eq!(world.take_kills(), slice::from_ref(&oldest));
    world.update(&oldest, S::TaskKilled, None);
    let app = &world.get("/v2/apps/web")["app"];
    assert_eq!((app["instances"].clone(), app["deployments"].clone()), (json!(1), json!([])));
}

#[test]
fn apps_are_deployed_after_those_that_they_depend_on() {
    let mut world = World::new();
    let app = |id: &str, on: &[&str]| json!({"id": id, "cmd": "x", "cpus": 0.1, "mem": 1, "dependencies": on});
    let (status, body) =
        world.request("PUT", "/v2/apps", &json!([app("/a", &["/b"]), app("/b", &[])]));
    assert_eq!(status, 200, "{body}");
    world.offer(1);
    let names =
        |world: &World| world.launched.iter().map(|task| task.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&world), ["b"]);
    let why = world.get("/v2/queue/why")[0].clone();
    assert!(why["id"] == "/a" && why["why"].to_string().contains("earlier step"), "{why}");
    world.run_from(0);
    world.offer(1);
    assert_eq!(names(&world), ["b", "a"]);
    world.run_from(1);
    let (status, body) = world.request("PUT", "/v2/apps/b", &json!({"dependencies": ["/a"]}));
    assert!(status == 422 && body.to_string().contains("circle"), "{body}");
}
