//! Lives of frameworks and tasks.

use super::bench::{Bench, able, call, framework_info, launch, task};
use crate::SchedulerReply;
use mizzen_api::v1::framework_info::capability::Type as Capability;
use mizzen_api::v1::scheduler::{Call, call, call::Type};
use mizzen_api::v1::{self, TaskState};

pub(super) const ALL: &str = "cpus:4;mem:1024;ports:[31000-31009]";

fn refused(reply: &SchedulerReply) -> (u16, &str) {
    match reply {
        SchedulerReply::Refused { status, text } => (*status, text),
        other => panic!("{other:?}"),
    }
}

pub(super) fn info_with_id(name: &str, id: &str) -> v1::FrameworkInfo {
    let id = Some(v1::FrameworkId { value: id.to_owned() });
    v1::FrameworkInfo { id, ..framework_info(name) }
}

/// A framework with an offer of everything, and nothing else happened.
fn offered() -> Bench {
    let mut bench = Bench::new();
    bench.register(1, None, ALL, vec![], vec![]);
    bench.subscribe(framework_info("web"));
    bench.expect(&[
        "save master/agent/m-S0",
        "agent 1 registered m-S0",
        "fact m-0000 web",
        "s1 subscribed m-0000",
        "s1 offers m-O0 m-S0 cpus:4; mem:1024; ports:[31000-31009]",
    ]);
    bench
}

/// A framework with one running task, acknowledged.
pub(super) fn running() -> Bench {
    let mut bench = offered();
    bench.accept(
        "m-0000",
        &["m-O0"],
        vec![task("t1", "m-S0", "cpus:1;mem:100;ports:[31000-31000]")],
    );
    bench.update(1, "m-0000", "t1", TaskState::TaskRunning, 1);
    bench.acknowledge("m-0000", "m-S0", "t1", 1);
    bench.expect(&[
        "agent 1 run t1 of web: cpus(allocated: *):1; mem(allocated: *):100; \
         ports(allocated: *):[31000-31000]",
        "s1 update t1 TASK_RUNNING #1",
        "agent 1 ack t1 #1",
    ]);
    bench
}

#[test]
fn from_subscription_to_the_end_of_a_task() {
    let mut bench = running();
    // The rest was declined implicitly, for five seconds.
    bench.advance(4).expect(&[]);
    bench.advance(2).expect(&["s1 offers m-O1 m-S0 cpus:3; mem:924; ports:[31001-31009]"]);
    bench.kill("m-0000", "t1");
    bench.expect(&["agent 1 kill t1"]);
    bench.update(1, "m-0000", "t1", TaskState::TaskKilled, 2);
    bench.expect(&["s1 update t1 TASK_KILLED #2"]);
    // Resources are free at once, the task is remembered until the acknowledgement.
    bench.advance(1).expect(&["s1 offers m-O2 m-S0 cpus:1; mem:100; ports:[31000-31000]"]);
    let count = |bench: &Bench, list: &str| {
        bench.master.state()["frameworks"][0][list].as_array().unwrap().len()
    };
    assert_eq!((count(&bench, "tasks"), count(&bench, "completed_tasks")), (1, 0));
    bench.acknowledge("m-0000", "m-S0", "t1", 2);
    bench.expect(&["agent 1 ack t1 #2"]);
    assert_eq!((count(&bench, "tasks"), count(&bench, "completed_tasks")), (0, 1));
    // Repeated: the agent is told again, nothing else.
    bench.acknowledge("m-0000", "m-S0", "t1", 2);
    bench.expect(&["agent 1 ack t1 #2"]);
}

#[test]
fn an_end_that_needs_no_acknowledgement_is_the_end() {
    let mut bench = running();
    bench.update(1, "m-0000", "t1", TaskState::TaskFinished, 0);
    bench.expect(&["s1 update t1 TASK_FINISHED"]);
    let framework = &bench.master.state()["frameworks"][0];
    assert_eq!(framework["tasks"].as_array().unwrap().len(), 0);
    assert_eq!(framework["completed_tasks"][0]["state"], "TASK_FINISHED");
    bench.advance(6).expect(&["s1 offers m-O1 m-S0 cpus:4; mem:1024; ports:[31000-31009]"]);
}

#[test]
fn calls_must_come_on_the_framework_s_own_stream() {
    let mut bench = offered();
    let teardown = || call(Type::Teardown, "m-0000");
    let now = bench.now;
    let mut ask = |call: Call, stream: Option<&str>| {
        let reply = bench.master.scheduler_call(call, stream, "fresh".into(), now);
        let (status, text) = refused(&reply);
        (status, text.to_owned())
    };
    #[rustfmt::skip]
    let table = [
        (teardown(), None, 400, "should include the 'Mesos-Stream-Id'"),
        (teardown(), Some("other"), 400, "didn't match"),
        (call(Type::Teardown, "nobody"), Some("s1"), 400, "Framework cannot be found"),
        (Call { framework_id: None, ..teardown() }, Some("s1"), 400, "Expecting 'framework_id'"),
        (Call { r#type: None, ..teardown() }, Some("s1"), 400, "Expecting 'type'"),
        (Call { r#type: Some(99), ..teardown() }, Some("s1"), 501, "unknown type"),
        (call(Type::Accept, "m-0000"), Some("s1"), 400, "Expecting 'accept'"),
        (call(Type::Kill, "m-0000"), Some("s1"), 400, "Expecting 'kill'"),
        (Call { acknowledge: Some(call::Acknowledge { uuid: vec![1; 15], ..Default::default() }), ..call(Type::Acknowledge, "m-0000") }, Some("s1"), 400, "16 bytes"),
        (Call { subscribe: Some(call::Subscribe::default()), ..call(Type::Subscribe, "m-0000") }, None, 400, "framework_info.id"),
    ];
    for (call, stream, status, part) in table {
        let got = ask(call.clone(), stream);
        assert!(got.0 == status && got.1.contains(part), "{call:?}: {got:?}");
    }
    let subscribe = Call {
        framework_id: None,
        subscribe: Some(call::Subscribe {
            framework_info: framework_info("x"),
            ..Default::default()
        }),
        ..call(Type::Subscribe, "")
    };
    assert_eq!(ask(subscribe, Some("s1")).0, 400);
    bench.close("s1");
    let reply = bench.call(teardown());
    assert_eq!(refused(&reply).0, 403);
}

#[test]
fn a_bad_subscription_gets_an_error_and_the_end_of_its_stream() {
    let mut bench = Bench::new();
    let bad = v1::FrameworkInfo { role: Some("a b".into()), ..framework_info("web") };
    assert!(matches!(bench.subscribe(bad), SchedulerReply::Subscribed { .. }));
    bench.expect(&[
        "s1 error Framework has an invalid role: role \"a b\" contains the invalid character ' '",
        "s1 closed",
    ]);
    assert!(bench.master.state()["frameworks"].as_array().unwrap().is_empty());
}

#[test]
fn heartbeats_come_at_once_and_every_fifteen_seconds() {
    use crate::Effect;
    let mut bench = Bench::new();
    bench.subscribe(framework_info("web"));
    let mut beats = 0;
    for _ in 0..60 {
        bench.set_second();
        bench.master.handle_timeout(bench.now);
        while let Some(effect) = bench.master.poll_effect() {
            beats += u32::from(matches!(effect, Effect::Event { .. }));
        }
    }
    assert_eq!(beats, 4);
}

#[test]
fn the_newest_subscription_wins() {
    let mut bench = offered();
    bench.subscribe(info_with_id("web2", "m-0000"));
    bench.expect(&[
        "s1 error Framework failed over",
        "s1 closed",
        "fact m-0000 web2",
        "s2 subscribed m-0000",
        "s2 offers m-O1 m-S0 cpus:4; mem:1024; ports:[31000-31009]",
    ]);
    // The end of the old stream means nothing any more.
    bench.close("s1");
    bench.advance(100).expect(&[]);
    assert!(bench.master.knows_framework(&"m-0000".into()));
    // The old offer went with the old stream.
    bench.accept("m-0000", &["m-O0"], vec![task("t1", "m-S0", "cpus:1")]);
    bench.expect(&["s2 update t1 TASK_LOST REASON_INVALID_OFFERS"]);

    let principal = Some("someone else".to_owned());
    bench.subscribe(v1::FrameworkInfo { principal, ..info_with_id("web", "m-0000") });
    bench.expect(&["s3 error Changing the framework's principal is not allowed", "s3 closed"]);
}

#[test]
fn a_framework_may_stay_away_for_its_failover_timeout() {
    let mut bench = running();
    bench.close("s1");
    bench.advance(59).expect(&[]);
    bench.subscribe(info_with_id("web", "m-0000"));
    bench.advance(61);
    assert_eq!(bench.log[..2], ["fact m-0000 web", "s2 subscribed m-0000"]);
    bench.log.clear();
    bench.close("s2");
    bench.advance(61).expect(&["agent 1 shut down m-0000", "fact m-0000 gone"]);
    bench.subscribe(info_with_id("web", "m-0000"));
    bench.expect(&["s3 error Framework has been removed", "s3 closed"]);
    let state = bench.master.state();
    let task = &state["completed_frameworks"][0]["completed_tasks"][0];
    assert_eq!(task["state"], "TASK_KILLED");
    assert_eq!(state["slaves"][0]["used_resources"]["cpus"], 0.0);
}

#[test]
fn teardown_ends_everything() {
    let mut bench = running();
    let reply = bench.call(call(Type::Teardown, "m-0000"));
    assert_eq!(reply, SchedulerReply::Accepted);
    bench.expect(&["s1 closed", "agent 1 shut down m-0000", "fact m-0000 gone"]);
    // What the agent still says of it is answered with the same order.
    bench.update(1, "m-0000", "t1", TaskState::TaskKilled, 3);
    bench.expect(&["agent 1 shut down m-0000"]);
    bench.subscribe(framework_info("next"));
    bench.expect(&[
        "fact m-0001 next",
        "s2 subscribed m-0001",
        "s2 offers m-O1 m-S0 cpus:4; mem:1024; ports:[31000-31009]",
    ]);
}

#[test]
fn one_bad_offer_spoils_the_call() {
    let mut bench = offered();
    bench.accept("m-0000", &["m-O0", "nonsense"], vec![task("t1", "m-S0", "cpus:1")]);
    bench.expect(&["s1 update t1 TASK_LOST REASON_INVALID_OFFERS"]);
    // The good one came back without a filter.
    bench.advance(1).expect(&["s1 offers m-O1 m-S0 cpus:4; mem:1024; ports:[31000-31009]"]);
    bench.accept("m-0000", &["m-O1", "m-O1"], vec![task("t1", "m-S0", "cpus:1")]);
    bench.expect(&["s1 update t1 TASK_LOST REASON_INVALID_OFFERS"]);
    bench.accept("m-0000", &[], vec![task("t1", "m-S0", "cpus:1")]);
    bench.expect(&["s1 update t1 TASK_LOST REASON_INVALID_OFFERS"]);

    bench.subscribe(able(framework_info("aware"), Capability::PartitionAware));
    bench.log.clear();
    bench.accept("m-0001", &["nonsense"], vec![task("t1", "m-S0", "cpus:1")]);
    bench.expect(&["s2 update t1 TASK_DROPPED REASON_INVALID_OFFERS"]);
}

#[test]
fn a_bad_task_does_not_stop_its_neighbours() {
    let mut bench = offered();
    let tasks = vec![
        task("big", "m-S0", "cpus:5"),
        task("one", "m-S0", "cpus:3"),
        task("two", "m-S0", "cpus:3"),
        task("one", "m-S0", "cpus:1"),
        task("three", "elsewhere", "cpus:1"),
        task("last", "m-S0", "cpus:1"),
    ];
    bench.accept("m-0000", &["m-O0"], tasks);
    bench.expect(&[
        "s1 update big TASK_ERROR REASON_TASK_INVALID",
        "agent 1 run one of web: cpus(allocated: *):3",
        "s1 update two TASK_ERROR REASON_TASK_INVALID",
        "s1 update one TASK_ERROR REASON_TASK_INVALID",
        "s1 update three TASK_ERROR REASON_TASK_INVALID",
        "agent 1 run last of web: cpus(allocated: *):1",
    ]);
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    use v1::offer::operation::{LaunchGroup, Reserve, Type as Kind};
    let mut bench = offered();
    let operation = |kind: Kind, id: Option<&str>| v1::offer::Operation {
        r#type: Some(kind.into()),
        id: id.map(|id| v1::OperationId { value: id.to_owned() }),
        ..v1::offer::Operation::default()
    };
    let group = LaunchGroup {
        task_group: v1::TaskGroupInfo { tasks: vec![task("g", "m-S0", "cpus:1")] },
        ..LaunchGroup::default()
    };
    let operations = vec![
        v1::offer::Operation { launch_group: Some(group), ..operation(Kind::LaunchGroup, None) },
        v1::offer::Operation {
            reserve: Some(Reserve::default()),
            ..operation(Kind::Reserve, Some("r"))
        },
        operation(Kind::Create, None),
        v1::offer::Operation {
            id: Some(v1::OperationId::default()),
            ..launch(task("t", "m-S0", "cpus:1"))
        },
    ];
    bench.accept_operations("m-0000", &["m-O0"], operations);
    bench.expect(&[
        "s1 update g TASK_ERROR REASON_TASK_GROUP_INVALID",
        "s1 operation r OPERATION_ERROR",
        "s1 update t TASK_ERROR REASON_TASK_INVALID",
    ]);
}

#[test]
fn declined_offers_stay_away_until_revived() {
    let mut bench = offered();
    bench.decline("m-0000", &["m-O0"], 1000.0);
    bench.advance(30).expect(&[]);
    let revive = |roles: &[&str]| Call {
        revive: Some(call::Revive { roles: roles.iter().map(|r| (*r).to_owned()).collect() }),
        ..call(Type::Revive, "m-0000")
    };
    // A role that is not the framework's makes the call void.
    bench.call(revive(&["*", "other"]));
    bench.expect(&[]);
    bench.call(revive(&[]));
    bench.expect(&["s1 offers m-O1 m-S0 cpus:4; mem:1024; ports:[31000-31009]"]);
    bench.call(call(Type::Suppress, "m-0000"));
    bench.decline("m-0000", &["m-O1"], 0.0);
    bench.advance(30).expect(&[]);
    bench.call(revive(&["*"]));
    bench.expect(&["s1 offers m-O2 m-S0 cpus:4; mem:1024; ports:[31000-31009]"]);
}

#[test]
fn frameworks_with_several_roles_see_to_which_one_an_offer_is() {
    use crate::Effect;
    let mut bench = Bench::new();
    bench.register(1, None, "cpus(a):1;mem(a):64;cpus:1;mem:64", vec![], vec![]);
    let roles = vec!["a".to_owned(), "b".to_owned()];
    let info = v1::FrameworkInfo { roles, ..able(framework_info("web"), Capability::MultiRole) };
    let subscribe = Call {
        r#type: Some(Type::Subscribe.into()),
        subscribe: Some(call::Subscribe { framework_info: info, ..Default::default() }),
        ..Call::default()
    };
    bench.master.scheduler_call(subscribe, None, "s1".into(), bench.now);
    let mut offers = Vec::new();
    while let Some(effect) = bench.master.poll_effect() {
        if let Effect::Event { event, .. } = effect {
            offers.extend(event.offers.into_iter().flat_map(|offers| offers.offers));
        }
    }
    let [offer] = &offers[..] else { panic!("{offers:?}") };
    assert_eq!(offer.allocation_info.as_ref().unwrap().role(), "a");
    assert!(offer.resources.iter().all(|r| r.allocation_info == offer.allocation_info));
    // Without RESERVATION_REFINEMENT, reservations are told the old way.
    assert!(offer.resources.iter().all(|r| r.reservations.is_empty()));
    assert!(offer.resources.iter().any(|r| r.role() == "a"));
    assert_eq!(offer.url.as_ref().unwrap().address.ip(), "10.0.0.2");
}

#[test]
fn views_have_the_documented_fields() {
    let bench = running();
    let state = bench.master.state();
    #[rustfmt::skip]
    let fields = ["version", "start_time", "id", "pid", "hostname", "activated_slaves", "deactivated_slaves", "leader",
        "leader_info", "flags", "slaves", "recovered_slaves", "frameworks", "completed_frameworks", "orphan_tasks", "unregistered_frameworks"];
    for field in fields {
        assert!(state.get(field).is_some(), "{field}");
    }
    assert_eq!(state["pid"], "master@10.0.0.1:5050");
    let slave = &state["slaves"][0];
    assert_eq!(slave["pid"], "slave(1)@10.0.0.2:5051");
    assert_eq!(slave["used_resources"]["ports"], "[31000-31000]");
    let task = &state["frameworks"][0]["tasks"][0];
    assert_eq!(task["state"], "TASK_RUNNING");
    assert_eq!(task["slave_id"], "m-S0");
    assert_eq!(task["role"], "*");

    assert_eq!(bench.master.state_summary()["frameworks"][0]["TASK_RUNNING"], 1);
    assert_eq!(bench.master.state_summary()["slaves"][0]["TASK_RUNNING"], 1);
    assert_eq!(bench.master.slaves(Some("none"))["slaves"].as_array().unwrap().len(), 0);
    assert!(bench.master.slaves(None)["slaves"][0]["used_resources_full"].is_array());
    assert_eq!(bench.master.frameworks(Some("m-0000"))["frameworks"][0]["name"], "web");
    assert_eq!(bench.master.tasks(&Default::default())["tasks"][0]["id"], "t1");
    let roles = bench.master.roles();
    assert_eq!(roles["roles"][0]["name"], "*");
    assert_eq!(roles["roles"][0]["quota"]["consumed"]["cpus"], 1.0);
    let metrics = bench.master.metrics();
    assert_eq!(metrics["master/tasks_running"], 1.0);
    assert_eq!(metrics["master/cpus_used"], 1.0);
    assert_eq!(metrics["master/frameworks/web/m-0000/calls/ACCEPT"], 1.0);
}

#[test]
fn a_framework_can_change_its_roles() {
    let mut bench = offered();
    let update = |info: v1::FrameworkInfo| Call {
        update_framework: Some(call::UpdateFramework {
            framework_info: info,
            ..Default::default()
        }),
        ..call(Type::UpdateFramework, "m-0000")
    };
    let other_user = v1::FrameworkInfo { user: "you".into(), ..info_with_id("web", "m-0000") };
    assert_eq!(refused(&bench.call(update(other_user))).0, 400);
    let info = v1::FrameworkInfo { role: Some("b".into()), ..info_with_id("web", "m-0000") };
    assert_eq!(bench.call(update(info)), SchedulerReply::Accepted);
    bench.expect(&["s1 rescind m-O0", "fact m-0000 web"]);
    bench.advance(1).expect(&["s1 offers m-O1 m-S0 cpus:4; mem:1024; ports:[31000-31009]"]);
}
