//! Machines are maintained.

use super::bench::{Bench, able, call, framework_info};
use super::lives::{ALL, running};
use crate::OperatorReply;
use crate::timers::Alarm;
use mizzen_api::v1::framework_info::capability::Type as Capability;
use mizzen_api::v1::scheduler::{Call, call, call::Type};
use mizzen_api::v1::{self, TaskState};
use mizzen_types::time::Mono;
use serde_json::{Value, json};

/// The bench's clock begins so many seconds after the epoch.
const BEGIN: i64 = 1000;

fn window(machine: &Value, start: i64, seconds: Option<i64>) -> Value {
    let nanoseconds = |seconds: i64| json!({ "nanoseconds": seconds * 1_000_000_000 });
    let mut unavailability = json!({ "start": nanoseconds(start) });
    if let Some(seconds) = seconds {
        unavailability["duration"] = nanoseconds(seconds);
    }
    json!({ "machine_ids": [machine], "unavailability": unavailability })
}

fn schedule(windows: &[Value]) -> Value {
    let part = json!({ "schedule": { "windows": windows } });
    json!({ "type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule": part })
}

fn down(machines: &[Value]) -> Value {
    json!({ "type": "START_MAINTENANCE", "start_maintenance": { "machines": machines } })
}

fn up(machines: &[Value]) -> Value {
    json!({ "type": "STOP_MAINTENANCE", "stop_maintenance": { "machines": machines } })
}

fn node() -> Value {
    json!({ "hostname": "Node", "ip": "10.0.0.2" })
}

fn status(bench: &mut Bench) -> Value {
    let call = json!({ "type": "GET_MAINTENANCE_STATUS" });
    let OperatorReply::Answer(answer) = bench.operate(call) else { panic!("no answer") };
    serde_json::to_value(answer.get_maintenance_status.unwrap().status).unwrap()
}

fn answer(bench: &mut Bench, kind: Type, id: &str, refuse: f64) {
    let inverse_offer_ids = vec![v1::OfferId { value: id.to_owned() }];
    let filters = Some(v1::Filters { refuse_seconds: Some(refuse) });
    let base = call(kind, "m-0000");
    bench.call(match kind {
        Type::AcceptInverseOffers => {
            let part = call::AcceptInverseOffers { inverse_offer_ids, filters };
            Call { accept_inverse_offers: Some(part), ..base }
        }
        _ => {
            let part = call::DeclineInverseOffers { inverse_offer_ids, filters };
            Call { decline_inverse_offers: Some(part), ..base }
        }
    });
}

#[test]
fn frameworks_are_asked_to_leave_and_operators_see_what_they_say() {
    let mut bench = running();
    bench.advance(6).expect(&["s1 offers m-O1 m-S0 cpus:3; mem:924; ports:[31001-31009]"]);
    let plan = schedule(&[window(&node(), BEGIN + 100, Some(50))]);
    assert_eq!(bench.operate(plan.clone()), OperatorReply::Done);
    bench.expect(&[
        "save master/maintenance",
        "s1 rescind m-O1",
        "s1 offers m-O2 m-S0 cpus:3; mem:924; ports:[31001-31009]",
        "s1 inverse m-O3 m-S0",
    ]);
    let machine = json!({ "hostname": "node", "ip": "10.0.0.2" });
    assert_eq!(status(&mut bench), json!({ "draining_machines": [{ "id": machine }] }));

    answer(&mut bench, Type::DeclineInverseOffers, "m-O3", 5.0);
    let shown = &status(&mut bench)["draining_machines"][0]["statuses"][0];
    assert_eq!(
        (&shown["status"], &shown["framework_id"]["value"]),
        (&json!("DECLINE"), &json!("m-0000"))
    );
    bench.advance(4).expect(&[]);
    bench.advance(2).expect(&["s1 inverse m-O4 m-S0"]);
    answer(&mut bench, Type::AcceptInverseOffers, "m-O4", 1000.0);
    // Of an offer that is over nothing is heard.
    answer(&mut bench, Type::DeclineInverseOffers, "m-O4", 0.0);
    let shown = &status(&mut bench)["draining_machines"][0]["statuses"];
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_eq!(shown[0]["status"], "ACCEPT");

    // The same plan again changes nothing; no plan takes everything back.
    bench.operate(plan);
    bench.expect(&["save master/maintenance"]);
    bench.operate(schedule(&[window(&node(), BEGIN + 200, None)]));
    bench.expect(&[
        "save master/maintenance",
        "s1 rescind m-O2",
        "s1 offers m-O5 m-S0 cpus:3; mem:924; ports:[31001-31009]",
        "s1 inverse m-O6 m-S0",
    ]);
    bench.operate(schedule(&[]));
    bench.expect(&["save master/maintenance gone", "s1 rescind m-O5", "s1 rescind inverse m-O6"]);
    assert_eq!(status(&mut bench), json!({}));
}

#[test]
fn offers_say_when_the_machine_will_not_be_there() {
    let mut bench = Bench::new();
    bench.operate(schedule(&[window(&json!({ "hostname": "node" }), BEGIN + 100, Some(50))]));
    bench.register(1, None, ALL, vec![], vec![]);
    let message = v1::Unavailability {
        start: v1::TimeInfo { nanoseconds: (BEGIN + 100) * 1_000_000_000 },
        duration: Some(v1::DurationInfo { nanoseconds: 50_000_000_000 }),
    };
    let id = "m-S0".into();
    assert_eq!(bench.master.agents[&id].unavailability, Some(message));
}

#[test]
fn clients_stay_away_while_the_time_of_the_plan_runs() {
    let mut bench = running();
    bench.operate(schedule(&[window(&node(), BEGIN + 100, Some(50))]));
    bench.log.clear();
    let told = |bench: &mut Bench| {
        let log = std::mem::take(&mut bench.log);
        log.into_iter().filter(|line| line.starts_with("agent")).collect::<Vec<_>>()
    };
    bench.advance(99);
    assert_eq!(told(&mut bench), [""; 0]);
    bench.advance(1);
    assert_eq!(told(&mut bench), ["agent 1 maintain"]);
    bench.register(2, Some("m-S0"), ALL, vec![], vec![]);
    assert_eq!(told(&mut bench), ["agent 2 registered m-S0, to maintain"]);
    bench.advance(50);
    assert_eq!(told(&mut bench), ["agent 2 serve"]);
}

#[test]
fn a_machine_goes_down_and_comes_back() {
    for (info, state) in [
        (framework_info("web"), "TASK_LOST"),
        (able(framework_info("web"), Capability::PartitionAware), "TASK_GONE"),
    ] {
        let mut bench = Bench::new();
        bench.register(1, None, ALL, vec![], vec![]);
        bench.subscribe(info);
        bench.accept("m-0000", &["m-O0"], vec![super::bench::task("t1", "m-S0", "cpus:1;mem:64")]);
        bench.update(1, "m-0000", "t1", TaskState::TaskRunning, 1);
        bench.operate(schedule(&[window(&node(), BEGIN, None)]));
        bench.log.clear();
        assert_eq!(bench.operate(down(&[node()])), OperatorReply::Done);
        let update = format!("s1 update t1 {state} REASON_AGENT_REMOVED");
        bench.expect(&[
            "save master/maintenance",
            "save master/agent/m-S0",
            "s1 rescind inverse m-O1",
            &update,
            "s1 failure m-S0",
            "agent 1 shut out: the machine 'node' (10.0.0.2) is DOWN for maintenance",
        ]);
        // Also after a restart of the master, and of the agent.
        let mut bench = bench.restarted("n");
        bench.register(1, Some("m-S0"), ALL, vec![], vec![]);
        let text = "agent 1 shut out: the machine 'node' (10.0.0.2) is DOWN for maintenance";
        bench.expect(&[text]);
        assert_eq!(
            status(&mut bench)["down_machines"],
            json!([{ "hostname": "node", "ip": "10.0.0.2" }])
        );
        assert_eq!(bench.operate(up(&[node()])), OperatorReply::Done);
        bench.expect(&["save master/maintenance gone", "agent 1 introduce"]);
        bench.register(1, Some("m-S0"), ALL, vec![], vec![]);
        bench.expect(&["save master/agent/m-S0", "agent 1 registered m-S0"]);
    }
}

#[test]
fn a_framework_that_disconnects_is_asked_again() {
    let mut bench = running();
    bench.operate(schedule(&[window(&node(), BEGIN + 100, None)]));
    bench.close("s1");
    bench.log.clear();
    bench.subscribe(super::lives::info_with_id("web", "m-0000"));
    let log = std::mem::take(&mut bench.log);
    assert!(log.iter().any(|line| line.contains("inverse")), "{log:?}");
}

#[test]
fn plans_that_cannot_be_are_refused_with_words() {
    let mut bench = running();
    let other = json!({ "hostname": "other" });
    let mut empty = window(&node(), 0, None);
    empty["machine_ids"] = json!([]);
    #[rustfmt::skip]
    let table = [
        (schedule(&[empty]),                                              "window is empty"),
        (schedule(&[window(&json!({}), 0, None)]),                        "are empty"),
        (schedule(&[window(&json!({ "ip": "x" }), 0, None)]),             "invalid IP"),
        (schedule(&[window(&node(), 0, Some(-1))]),                       "is negative"),
        (schedule(&[window(&node(), 0, None), window(&node(), 5, None)]), "more than once"),
        (down(&[]),                                                       "List of machines is empty"),
        (down(&[node()]),                                                 "not part of a maintenance schedule"),
        (up(&[node()]),                                                   "not part of a maintenance schedule"),
    ];
    for (call, part) in table {
        let (status, text) = bench.refused(call.clone());
        assert!(status == 400 && text.contains(part), "{call}: {status} {text}");
    }
    bench.operate(schedule(&[window(&node(), 0, None), window(&other, 0, None)]));
    assert!(bench.refused(up(&[node()])).1.contains("not in DOWN mode"));
    bench.operate(down(&[node()]));
    assert!(bench.refused(down(&[node()])).1.contains("not in DRAINING mode"));
    let without = schedule(&[window(&other, 0, None)]);
    assert!(bench.refused(without).1.contains("cannot be removed from the schedule"));
    bench.operate(up(&[node()]));
    let left = json!({ "draining_machines": [{ "id": { "hostname": "other" } }] });
    assert_eq!(status(&mut bench), left);
}

#[test]
fn a_plan_that_is_said_again_and_again_is_looked_at_once() {
    let mut bench = running();
    for begin in 0..10 {
        bench.operate(schedule(&[window(&node(), BEGIN + 1000, None)]));
        bench.advance(1 + begin % 3);
    }
    let alarms = bench.master.timers.take_due(Mono(u64::MAX));
    assert_eq!(alarms.into_iter().filter(|alarm| *alarm == Alarm::Maintenance).count(), 1);
}

#[test]
fn an_agent_that_was_taken_out_of_service_is_so_after_its_maintenance() {
    let mut bench = running();
    let part = json!({ "agent_id": { "value": "m-S0" } });
    bench.operate(json!({ "type": "DEACTIVATE_AGENT", "deactivate_agent": part }));
    bench.operate(schedule(&[window(&node(), BEGIN, None)]));
    bench.operate(down(&[node()]));
    bench.operate(up(&[node()]));
    bench.register(1, Some("m-S0"), ALL, vec![], vec![]);
    assert!(bench.master.registry.is_deactivated(&"m-S0".into()));
}
