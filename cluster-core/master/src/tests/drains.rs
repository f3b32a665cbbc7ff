//! Agents are drained, deactivated and reactivated.

use super::agents::reported;
use super::bench::{Bench, able, framework_info, task};
use super::lives::{ALL, info_with_id, running};
use crate::OperatorReply;
use mizzen_api::v1::framework_info::capability::Type as Capability;
use mizzen_api::v1::{self, TaskState};
use serde_json::{Value, json};

pub(super) fn drain(agent: &str, more: &Value) -> Value {
    let mut part = json!({ "agent_id": { "value": agent } });
    part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "type": "DRAIN_AGENT", "drain_agent": part })
}

fn deactivate(agent: &str) -> Value {
    json!({ "type": "DEACTIVATE_AGENT", "deactivate_agent": { "agent_id": { "value": agent } } })
}

fn reactivate(agent: &str) -> Value {
    json!({ "type": "REACTIVATE_AGENT", "reactivate_agent": { "agent_id": { "value": agent } } })
}

pub(super) fn mark_gone(agent: &str) -> Value {
    json!({ "type": "MARK_AGENT_GONE", "mark_agent_gone": { "agent_id": { "value": agent } } })
}

/// What an operator sees of the only agent: active, deactivated, how far its drain is.
fn shown(bench: &Bench) -> (bool, bool, Option<String>) {
    let slave = bench.master.slaves(None)["slaves"][0].clone();
    let state = slave["drain_info"]["state"].as_str().map(str::to_owned);
    (slave["active"] == true, slave["deactivated"] == true, state)
}

fn state(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_drain_from_the_call_to_the_return_of_the_agent() {
    let mut bench = running();
    bench.advance(6).log.clear();
    let call = drain("m-S0", &json!({ "max_grace_period": { "seconds": 10 } }));
    assert_eq!(bench.operate(call), OperatorReply::Done);
    bench.expect(&["save master/agent/m-S0", "s1 rescind m-O1", "agent 1 drain within 10 s"]);
    assert_eq!(shown(&bench), (false, true, state("DRAINING")));
    assert_eq!(bench.refused(reactivate("m-S0")).0, 400);

    bench.update(1, "m-0000", "t1", TaskState::TaskKilled, 2);
    bench.expect(&["s1 update t1 TASK_KILLED #2"]);
    assert_eq!(shown(&bench).2, state("DRAINING"), "the end is not acknowledged");
    bench.acknowledge("m-0000", "m-S0", "t1", 2);
    bench.expect(&["save master/agent/m-S0", "agent 1 ack t1 #2"]);
    assert_eq!(shown(&bench), (false, true, state("DRAINED")));
    bench.advance(60).expect(&[]);

    assert_eq!(bench.operate(reactivate("m-S0")), OperatorReply::Done);
    bench.expect(&["save master/agent/m-S0", "agent 1 serve"]);
    assert_eq!(shown(&bench), (true, false, None));
    bench.advance(1).expect(&["s1 offers m-O2 m-S0 cpus:4; mem:1024; ports:[31000-31009]"]);
}

#[test]
fn a_drain_goes_on_after_restarts_and_absences() {
    let mut bench = running();
    bench.operate(drain("m-S0", &json!({})));
    let task = || reported("t1", "m-0000", "cpus:1;mem:100", TaskState::TaskRunning);
    // Of the agent.
    bench.disconnect(1);
    bench.log.clear();
    bench.register(2, Some("m-S0"), ALL, vec![], vec![task()]);
    bench.expect(&["save master/agent/m-S0", "agent 2 registered m-S0, to drain"]);
    // Of the master.
    let mut bench = bench.restarted("n");
    bench.subscribe(info_with_id("web", "m-0000"));
    bench.log.clear();
    bench.register(1, Some("m-S0"), ALL, vec![], vec![task()]);
    bench.expect(&["save master/agent/m-S0", "agent 1 registered m-S0, to drain"]);
    assert_eq!(shown(&bench).2, state("DRAINING"));
    // Of the agent, until it is given up: drained is who is there and has nothing.
    bench.disconnect(1);
    bench.advance(600).log.clear();
    bench.register(3, Some("m-S0"), ALL, vec![], vec![task()]);
    assert_eq!(shown(&bench).2, state("DRAINING"));
    bench.log.clear();
    bench.register(4, Some("m-S0"), ALL, vec![], vec![]);
    let log = std::mem::take(&mut bench.log);
    assert!(log.contains(&"agent 4 registered m-S0, to drain".to_owned()), "{log:?}");
    assert_eq!(shown(&bench).2, state("DRAINED"));
    // A task that nobody knew of comes back with it.
    bench.register(5, Some("m-S0"), ALL, vec![], vec![task()]);
    assert_eq!(shown(&bench).2, state("DRAINING"));
}

#[test]
fn an_agent_that_is_away_is_drained_when_it_comes_back() {
    let mut bench = running();
    bench.disconnect(1);
    bench.advance(600).log.clear();
    assert_eq!(bench.operate(drain("m-S0", &json!({}))), OperatorReply::Done);
    bench.expect(&["save master/agent/m-S0"]);
    let task = reported("t1", "m-0000", "cpus:1", TaskState::TaskRunning);
    bench.register(2, Some("m-S0"), ALL, vec![], vec![task]);
    let log = std::mem::take(&mut bench.log);
    assert!(log.contains(&"agent 2 registered m-S0, to drain".to_owned()), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("offers")), "{log:?}");
}

#[test]
fn who_is_marked_gone_never_comes_back() {
    let mut bench = running();
    bench.operate(drain("m-S0", &json!({ "mark_gone": true })));
    bench.update(1, "m-0000", "t1", TaskState::TaskGoneByOperator, 2);
    bench.log.clear();
    bench.acknowledge("m-0000", "m-S0", "t1", 2);
    bench.expect(&[
        "save master/agent/m-S0",
        "fact m-S0 is out for good",
        "s1 failure m-S0",
        "agent 1 shut out: the agent has been marked as gone",
    ]);
    for call in [drain("m-S0", &json!({})), deactivate("m-S0"), reactivate("m-S0")] {
        assert_eq!(bench.refused(call).0, 409);
    }
    bench.reconcile("m-0000", &[("x", Some("m-S0"))]);
    bench.expect(&["s1 update x TASK_LOST REASON_RECONCILIATION"]);
    bench.subscribe(able(framework_info("aware"), Capability::PartitionAware));
    bench.log.clear();
    bench.reconcile("m-0001", &[("x", Some("m-S0"))]);
    bench.expect(&["s2 update x TASK_GONE_BY_OPERATOR REASON_RECONCILIATION"]);
    let mut bench = bench.restarted("n");
    bench.register(1, Some("m-S0"), ALL, vec![], vec![]);
    bench.expect(&[
        "fact m-S0 is out for good",
        "agent 1 shut out: the agent has been marked as gone",
    ]);
    // The machine comes back as another agent.
    bench.register(2, None, ALL, vec![], vec![]);
    bench.expect(&["save master/agent/n-S0", "agent 2 registered n-S0"]);
}

#[test]
fn an_agent_is_marked_gone_with_all_that_runs_on_it() {
    let mut bench = running();
    bench.advance(6).log.clear();
    assert_eq!(bench.operate(mark_gone("m-S0")), OperatorReply::Done);
    bench.expect(&[
        "save master/agent/m-S0",
        "fact m-S0 is out for good",
        "s1 rescind m-O1",
        "s1 update t1 TASK_LOST REASON_AGENT_REMOVED_BY_OPERATOR",
        "s1 failure m-S0",
        "agent 1 shut out: the agent has been marked as gone",
    ]);
    assert_eq!(bench.operate(mark_gone("m-S0")), OperatorReply::Done, "asked again");
    bench.expect(&[]);
    assert_eq!(bench.refused(mark_gone("m-S1")).0, 404);
    let mut bench = bench.restarted("n");
    bench.register(1, Some("m-S0"), ALL, vec![], vec![]);
    bench.expect(&[
        "fact m-S0 is out for good",
        "agent 1 shut out: the agent has been marked as gone",
    ]);
}

/// Whoever knows of partitions waits for tasks that are out of reach.
#[test]
fn an_unreachable_agent_is_marked_gone() {
    let mut bench = Bench::new();
    bench.register(1, None, ALL, vec![], vec![]);
    bench.subscribe(able(framework_info("aware"), Capability::PartitionAware));
    bench.accept("m-0000", &["m-O0"], vec![task("t1", "m-S0", "cpus:1")]);
    bench.subscribe(framework_info("web"));
    bench.advance(6);
    bench.accept("m-0001", &["m-O1"], vec![task("t2", "m-S0", "cpus:1")]);
    bench.disconnect(1);
    bench.advance(600).log.clear();
    assert_eq!(bench.operate(mark_gone("m-S0")), OperatorReply::Done);
    bench.expect(&[
        "save master/agent/m-S0",
        "fact m-S0 is out for good",
        "s1 update t1 TASK_GONE_BY_OPERATOR REASON_AGENT_REMOVED_BY_OPERATOR",
    ]);
    bench.reconcile("m-0000", &[("t1", Some("m-S0"))]);
    bench.expect(&["s1 update t1 TASK_GONE_BY_OPERATOR REASON_RECONCILIATION"]);
    let counters = bench.master.metrics();
    assert_eq!(counters["master/tasks_gone_by_operator"], 1.0);
    assert_eq!(counters["master/slave_removals"], 1.0, "it was removed before");
}

#[test]
fn an_empty_agent_is_drained_at_once() {
    let mut bench = Bench::new();
    bench.register(1, None, ALL, vec![], vec![]);
    bench.operate(drain("m-S0", &json!({})));
    assert_eq!(shown(&bench), (false, true, state("DRAINED")));
}

#[test]
fn a_framework_that_is_removed_leaves_nothing_to_wait_for() {
    let mut bench = running();
    bench.operate(drain("m-S0", &json!({})));
    bench.close("s1");
    bench.advance(60);
    assert_eq!(shown(&bench).2, state("DRAINED"));
}

/// A framework that lets its tasks live for a week without it.
fn patient(id: &str) -> v1::FrameworkInfo {
    v1::FrameworkInfo { failover_timeout: Some(604_800.0), ..info_with_id("web", id) }
}

#[test]
fn the_last_words_of_tasks_wait_for_a_framework_and_the_drain_does_not() {
    let ended = || reported("t1", "m-0000", "cpus:1", TaskState::TaskKilled);
    let lives = || reported("t1", "m-0000", "cpus:1", TaskState::TaskRunning);
    let mut before = running();
    before.operate(drain("m-S0", &json!({})));
    // The master starts anew, and the framework never comes back.
    let mut bench = before.restarted("n");
    bench.register(1, Some("m-S0"), ALL, vec![patient("m-0000")], vec![lives()]);
    bench.advance(300);
    assert_eq!(shown(&bench).2, state("DRAINING"), "its task lives");
    bench.update(1, "m-0000", "t1", TaskState::TaskKilled, 2);
    assert_eq!(shown(&bench).2, state("DRAINED"));
    // It had ended when the master came to know of it: the framework has a minute.
    let mut bench = before.restarted("n");
    bench.register(1, Some("m-S0"), ALL, vec![patient("m-0000")], vec![ended()]);
    bench.advance(59);
    assert_eq!(shown(&bench).2, state("DRAINING"));
    bench.advance(1);
    assert_eq!(shown(&bench).2, state("DRAINED"));
    // It comes after all, and hears of the end: nothing begins again.
    bench.subscribe(info_with_id("web", "m-0000"));
    bench.update(1, "m-0000", "t1", TaskState::TaskKilled, 2);
    assert_eq!(shown(&bench).2, state("DRAINED"));
    bench.acknowledge("m-0000", "m-S0", "t1", 2);
    assert!(bench.log.contains(&"agent 1 ack t1 #2".to_owned()), "{:?}", bench.log);
}

#[test]
fn a_scheduler_that_fails_over_during_a_drain_hears_of_its_tasks() {
    let mut bench = running();
    bench.operate(drain("m-S0", &json!({ "mark_gone": true })));
    bench.close("s1");
    bench.update(1, "m-0000", "t1", TaskState::TaskKilled, 2);
    bench.advance(30);
    assert_eq!(shown(&bench).2, state("DRAINING"), "it may be back soon");
    bench.subscribe(info_with_id("web", "m-0000"));
    bench.advance(120);
    assert_eq!(shown(&bench).2, state("DRAINING"), "it listens, and owes the acknowledgement");
    bench.acknowledge("m-0000", "m-S0", "t1", 2);
    assert_eq!(bench.refused(drain("m-S0", &json!({}))).0, 409, "gone");
}

/// The agent was away when its framework was removed, and comes back under another master.
#[test]
fn tasks_of_a_framework_that_was_removed_meanwhile_hold_up_no_drain() {
    let task = || reported("t1", "m-0000", "cpus:1", TaskState::TaskRunning);
    let mut bench = running();
    bench.operate(drain("m-S0", &json!({})));
    bench.disconnect(1);
    bench.close("s1");
    bench.advance(60).log.clear();
    bench.register(2, Some("m-S0"), ALL, vec![patient("m-0000")], vec![task()]);
    let log = std::mem::take(&mut bench.log);
    assert!(log.contains(&"agent 2 shut down m-0000".to_owned()), "{log:?}");
    assert_eq!(shown(&bench).2, state("DRAINED"));

    let mut bench = bench.restarted("n");
    bench.register(1, Some("m-S0"), ALL, vec![patient("m-0000")], vec![task()]);
    assert_eq!(shown(&bench).2, state("DRAINING"), "its task lives");
    bench.advance(100);
    bench.update(1, "m-0000", "t1", TaskState::TaskKilled, 2);
    assert_eq!(shown(&bench).2, state("DRAINED"));
}

#[test]
fn operators_see_tasks() {
    let mut bench = running();
    let OperatorReply::Answer(answer) = bench.operate(json!({ "type": "GET_TASKS" })) else {
        panic!("no answer")
    };
    let shown = serde_json::to_value(answer).unwrap();
    assert_eq!(shown["type"], "GET_TASKS");
    let tasks = shown["get_tasks"]["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 1);
    let task = (&tasks[0]["task_id"]["value"], &tasks[0]["state"], &tasks[0]["agent_id"]["value"]);
    assert_eq!(task, (&json!("t1"), &json!("TASK_RUNNING"), &json!("m-S0")));
}

#[test]
fn a_deactivated_agent_keeps_its_tasks() {
    let mut bench = running();
    bench.advance(6).log.clear();
    assert_eq!(bench.operate(deactivate("m-S0")), OperatorReply::Done);
    bench.expect(&["save master/agent/m-S0", "s1 rescind m-O1"]);
    assert_eq!(shown(&bench), (false, true, None));
    bench.advance(60).expect(&[]);
    let mut bench = bench.restarted("n");
    bench.subscribe(info_with_id("web", "m-0000"));
    let task = reported("t1", "m-0000", "cpus:1", TaskState::TaskRunning);
    bench.register(1, Some("m-S0"), ALL, vec![], vec![task]);
    bench.log.clear();
    bench.advance(60).expect(&[]);
    assert_eq!(bench.operate(reactivate("m-S0")), OperatorReply::Done);
    bench.advance(1);
    let log = std::mem::take(&mut bench.log);
    assert!(log.iter().any(|line| line.starts_with("s2 offers")), "{log:?}");
}

#[test]
fn what_cannot_be_is_refused_with_words() {
    let mut bench = running();
    #[rustfmt::skip]
    let table = [
        (drain("nobody", &json!({})),      400, "Unknown agent nobody"),
        (deactivate("nobody"),            400, "Unknown agent nobody"),
        (reactivate("nobody"),            400, "Unknown agent nobody"),
        (reactivate("m-S0"),              400, "is not deactivated"),
        (mark_gone("nobody"),             404, "Unknown agent nobody"),
        (json!({}),                       400, "Expecting 'type'"),
        (json!({"type": "DRAIN_AGENT"}),  400, "Expecting 'drain_agent'"),
        (json!({"type": "GET_WEIGHTS"}),  501, "GET_WEIGHTS is not implemented"),
        (drain("m-S0", &json!({"max_grace_period": {"seconds": -1}})), 400, "must not be negative"),
        (drain("m-S0", &json!({"max_grace_period": {"seconds": i64::MAX}})), 400, "too long"),
    ];
    bench.log.clear();
    for (call, status, part) in table {
        let (got, text) = bench.refused(call.clone());
        assert!(got == status && text.contains(part), "{call}: {got} {text}");
    }
    bench.expect(&[]);
}

#[test]
fn operators_see_agents_and_their_drains() {
    let mut bench = running();
    let agents = |bench: &mut Bench| {
        let OperatorReply::Answer(answer) = bench.operate(json!({ "type": "GET_AGENTS" })) else {
            panic!("no answer")
        };
        serde_json::to_value(answer).unwrap()
    };
    bench.operate(drain("m-S0", &json!({ "max_grace_period": { "seconds": 2, "nanos": 5 } })));
    let shown = agents(&mut bench);
    assert_eq!(shown["type"], "GET_AGENTS");
    let agent = &shown["get_agents"]["agents"][0];
    assert_eq!(agent["agent_info"]["id"]["value"], "m-S0");
    assert_eq!((&agent["active"], &agent["deactivated"]), (&json!(false), &json!(true)));
    let config =
        json!({ "max_grace_period": { "nanoseconds": 2_000_000_005_i64 }, "mark_gone": false });
    assert_eq!(agent["drain_info"], json!({ "state": "DRAINING", "config": config }));
    let since = agent["estimated_drain_start_time"]["nanoseconds"].as_i64().unwrap();
    assert_eq!(since, 1_000_000_000_000);
    let capabilities = agent["capabilities"].as_array().unwrap();
    assert!(capabilities.contains(&json!({ "type": "AGENT_DRAINING" })));
    let mut bench = bench.restarted("n");
    let shown = agents(&mut bench);
    assert_eq!(shown["get_agents"]["recovered_agents"][0]["hostname"], "node");
}
