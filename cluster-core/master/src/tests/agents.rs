//! Lives of agents and masters.

use super::bench::{Bench, able, framework_info};
use super::lives::{ALL, info_with_id, running};
use mizzen_api::resources::to_v1;
use mizzen_api::v1::framework_info::capability::Type as Capability;
use mizzen_api::v1::{self, TaskState};
use mizzen_types::overlay::OverlayClaim;
use mizzen_types::resources::Resources;

pub(super) fn reported(id: &str, framework: &str, resources: &str, state: TaskState) -> v1::Task {
    v1::Task {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        framework_id: v1::FrameworkId { value: framework.to_owned() },
        state: state.into(),
        resources: to_v1(&Resources::parse(resources).unwrap().allocated_to("*")),
        ..v1::Task::default()
    }
}

#[test]
fn an_agent_that_is_lost_takes_its_tasks_along() {
    let mut bench = running();
    bench.advance(6).log.clear();
    bench.subscribe(able(framework_info("aware"), Capability::PartitionAware));
    bench.log.clear();
    bench.disconnect(1);
    bench.expect(&["s1 rescind m-O1"]);
    bench.advance(75).expect(&[]);
    bench.advance(15).expect(&[
        "save master/agent/m-S0",
        "s1 update t1 TASK_LOST REASON_AGENT_REMOVED",
        "s1 failure m-S0",
        "s2 failure m-S0",
    ]);
    assert_eq!(bench.master.state()["unreachable_slaves"], 1);
    bench.reconcile("m-0000", &[("t1", None), ("nonsense", Some("m-S0"))]);
    bench.expect(&[
        "s1 update t1 TASK_LOST REASON_RECONCILIATION",
        "s1 update nonsense TASK_LOST REASON_RECONCILIATION",
    ]);
    bench.reconcile("m-0001", &[("t1", Some("m-S0")), ("t1", Some("m-S9"))]);
    bench.expect(&[
        "s2 update t1 TASK_UNREACHABLE REASON_RECONCILIATION",
        "s2 update t1 TASK_UNKNOWN REASON_RECONCILIATION",
    ]);
    // It comes back with the task.
    let task = reported("t1", "m-0000", "cpus:1;mem:100", TaskState::TaskRunning);
    bench.register(2, Some("m-S0"), ALL, vec![], vec![task]);
    assert_eq!(
        bench.log[..3],
        [
            "save master/agent/m-S0",
            "s1 update t1 TASK_RUNNING REASON_AGENT_REREGISTERED",
            "agent 2 registered m-S0",
        ]
    );
    assert!(bench.log[3].contains("m-S0 cpus:3; mem:924; ports:[31000-31009]"), "{:?}", bench.log);
}

#[test]
fn an_agent_that_does_not_answer_is_lost_until_it_speaks() {
    use crate::{AgentError, LinkId};
    use mizzen_api::link::ToMaster;
    let mut bench = running();
    bench.advance(400).log.clear();
    assert_eq!(bench.master.state()["activated_slaves"], 1, "it answers all the time");
    bench.silent.insert(1);
    bench.advance(74).expect(&[]);
    bench.advance(31).expect(&[
        "save master/agent/m-S0",
        "s1 rescind m-O1",
        "s1 update t1 TASK_LOST REASON_AGENT_REMOVED",
        "s1 failure m-S0",
    ]);
    // It was only stopped for a while.
    bench.silent.clear();
    let late = bench.master.agent_message(LinkId(1), ToMaster::Pong, bench.now);
    assert!(matches!(late, Err(AgentError::NotRegistered(_))));
    bench.settle();
    bench.expect(&["agent 1 introduce"]);
    let task = reported("t1", "m-0000", "cpus:1;mem:100", TaskState::TaskRunning);
    bench.register(1, Some("m-S0"), ALL, vec![], vec![task]);
    assert_eq!(bench.log[1], "s1 update t1 TASK_RUNNING REASON_AGENT_REREGISTERED");
    bench.advance(400);
    assert_eq!(bench.master.state()["activated_slaves"], 1);
}

#[test]
fn only_its_node_speaks_for_an_agent() {
    use crate::{AgentError, LinkId};
    use mizzen_api::link::ToMaster;
    let info = v1::AgentInfo {
        id: Some(v1::AgentId { value: "m-S0".to_owned() }),
        ..v1::AgentInfo::default()
    };
    let register = || ToMaster::Register {
        agent: info.clone(),
        frameworks: vec![],
        tasks: vec![],
        overlay: OverlayClaim::default(),
    };
    // Also a master that starts anew knows whose agent it is.
    for mut bench in [running(), running().restarted("n")] {
        bench.connect(7, "n2");
        let refused = bench.master.agent_message(LinkId(7), register(), bench.now).unwrap_err();
        assert!(matches!(refused, AgentError::OtherNode { .. }), "{refused}");
        assert_eq!(refused.to_string(), "node 'n2' registers as agent 'm-S0', which is node 'n1'");
        bench.settle();
        assert_eq!(bench.master.agent_on(LinkId(7)), None);
    }
}

#[test]
fn an_agent_that_comes_back_is_asked_what_it_has() {
    let mut bench = running();
    bench.disconnect(1);
    bench.kill("m-0000", "t1");
    bench.expect(&[]);
    let task = reported("t1", "m-0000", "cpus:1;mem:100", TaskState::TaskRunning);
    bench.register(2, Some("m-S0"), ALL, vec![], vec![task]);
    bench.expect(&[
        "save master/agent/m-S0",
        "agent 2 registered m-S0",
        "agent 2 kill t1",
        "s1 offers m-O1 m-S0 cpus:3; mem:924; ports:[31000-31009]",
    ]);
    bench.disconnect(2);
    bench.log.clear();
    bench.register(3, Some("m-S0"), ALL, vec![], vec![]);
    bench.expect(&[
        "save master/agent/m-S0",
        "agent 3 registered m-S0",
        "s1 update t1 TASK_LOST REASON_RECONCILIATION",
        "s1 offers m-O2 m-S0 cpus:4; mem:1024; ports:[31000-31009]",
    ]);
}

#[test]
fn reconciliation_tells_what_is_known() {
    let mut bench = running();
    bench.reconcile("m-0000", &[]);
    bench.expect(&["s1 update t1 TASK_RUNNING REASON_RECONCILIATION"]);
    bench.reconcile("m-0000", &[("t1", None), ("t2", Some("m-S0")), ("t3", None)]);
    bench.expect(&[
        "s1 update t1 TASK_RUNNING REASON_RECONCILIATION",
        "s1 update t2 TASK_LOST REASON_RECONCILIATION",
        "s1 update t3 TASK_LOST REASON_RECONCILIATION",
    ]);
    // Killing what nobody knows is a question, too.
    bench.kill("m-0000", "t4");
    bench.expect(&["s1 update t4 TASK_LOST REASON_RECONCILIATION"]);
}

#[test]
fn a_new_master_learns_from_agents_and_frameworks() {
    let mut bench = running().restarted("n");
    bench.subscribe(info_with_id("web", "m-0000"));
    bench.expect(&["fact m-0000 web", "s2 subscribed m-0000"]);
    // The agent may still report the task: no answer is better than a wrong one.
    bench.reconcile("m-0000", &[("t1", None), ("t1", Some("m-S0"))]);
    bench.expect(&[]);
    let resources = "cpus:1;mem:100;ports:[31000-31000]";
    let tasks = vec![
        reported("t1", "m-0000", resources, TaskState::TaskRunning),
        reported("x", "m-0007", "cpus:1", TaskState::TaskRunning),
    ];
    let frameworks = vec![info_with_id("web", "m-0000"), info_with_id("other", "m-0007")];
    bench.register(1, Some("m-S0"), ALL, frameworks, tasks);
    bench.expect(&[
        "fact m-0007 other",
        "save master/agent/m-S0",
        "agent 1 registered m-S0",
        "s2 offers n-O0 m-S0 cpus:2; mem:924; ports:[31001-31009]",
    ]);
    bench.reconcile("m-0000", &[("t1", None), ("t2", None)]);
    bench.expect(&[
        "s2 update t1 TASK_RUNNING REASON_RECONCILIATION",
        "s2 update t2 TASK_LOST REASON_RECONCILIATION",
    ]);
    bench.subscribe(info_with_id("other", "m-0007"));
    bench.expect(&["fact m-0007 other", "s3 subscribed m-0007", "agent 1 m-0007 listens"]);
    bench.kill("m-0007", "x");
    bench.expect(&["agent 1 kill x"]);
    // New ids begin with the new master's.
    bench.subscribe(framework_info("new"));
    assert_eq!(bench.log[0], "fact n-0000 new");
}

#[test]
fn a_framework_that_a_new_master_never_hears_of_is_removed() {
    let patient =
        v1::FrameworkInfo { failover_timeout: Some(900.0), ..info_with_id("b", "m-0008") };
    for (info, seconds) in [(info_with_id("a", "m-0007"), 600), (patient, 900)] {
        let id = info.id.clone().unwrap().value;
        let mut bench = running().restarted("n");
        bench.subscribe(info_with_id("web", "m-0000"));
        let tasks = vec![reported("x", &id, "cpus:1", TaskState::TaskRunning)];
        bench.register(1, Some("m-S0"), ALL, vec![info.clone()], tasks);
        bench.log.clear();
        bench.advance(seconds - 1).expect(&[]);
        assert!(bench.master.knows_framework(&id.as_str().into()));
        bench.advance(1);
        assert_eq!(bench.log[..2], [format!("agent 1 shut down {id}"), format!("fact {id} gone")]);
        assert_eq!(bench.master.state()["slaves"][0]["used_resources"]["cpus"], 0.0);
        // Another agent that comes back with its tasks is told the same.
        bench.log.clear();
        let tasks = vec![reported("y", &id, "cpus:1", TaskState::TaskRunning)];
        bench.register(2, Some("m-S1"), ALL, vec![info], tasks);
        let order = format!("agent 2 shut down {id}");
        assert!(bench.log.contains(&order), "{:?}", bench.log);
    }
}

#[test]
fn a_framework_that_subscribes_after_a_restart_stays() {
    let mut bench = running().restarted("n");
    let tasks = vec![reported("t1", "m-0000", "cpus:1", TaskState::TaskRunning)];
    bench.register(1, Some("m-S0"), ALL, vec![info_with_id("web", "m-0000")], tasks);
    bench.advance(500);
    bench.subscribe(info_with_id("web", "m-0000"));
    bench.advance(80);
    bench.close("s2");
    // Its time is counted from now on, not from the master's start.
    bench.advance(59);
    assert!(bench.master.knows_framework(&"m-0000".into()));
    bench.advance(1);
    assert!(!bench.master.knows_framework(&"m-0000".into()));
}

#[test]
fn agents_of_the_registry_that_stay_away_are_lost() {
    let mut bench = running().restarted("n");
    bench.subscribe(info_with_id("web", "m-0000"));
    bench.log.clear();
    assert_eq!(bench.master.state()["recovered_slaves"][0]["id"], "m-S0");
    bench.advance(600).expect(&["save master/agent/m-S0", "s2 failure m-S0"]);
    bench.reconcile("m-0000", &[("t1", Some("m-S0"))]);
    bench.expect(&["s2 update t1 TASK_LOST REASON_RECONCILIATION"]);
}

#[test]
fn what_an_agent_says_wrong_changes_nothing() {
    use crate::{AgentError, LinkId};
    use mizzen_api::link::ToMaster;
    use mizzen_types::overlay::OverlayClaim;
    let mut bench = Bench::new();
    let (link, now) = (LinkId(1), bench.now);
    let register = |agent| ToMaster::Register {
        agent,
        frameworks: vec![],
        tasks: vec![],
        overlay: OverlayClaim::default(),
    };
    let agent = |id: &str| v1::AgentInfo {
        id: Some(v1::AgentId { value: id.to_owned() }),
        ..v1::AgentInfo::default()
    };
    let update = || ToMaster::StatusUpdate {
        framework_id: v1::FrameworkId::default(),
        status: v1::TaskStatus::default(),
        latest_state: TaskState::TaskRunning,
    };
    let mut resources = to_v1(&Resources::parse("cpus:1").unwrap());
    resources[0].scalar = Some(v1::value::Scalar { value: f64::NAN });
    let broken = v1::AgentInfo { resources, ..v1::AgentInfo::default() };

    let unknown = bench.master.agent_message(link, update(), now);
    assert!(matches!(unknown, Err(AgentError::NoLink(_))));
    bench.connect(1, "n1");
    let mut say = |message| bench.master.agent_message(link, message, now);
    assert!(matches!(say(update()), Err(AgentError::NotRegistered(_))));
    assert!(matches!(say(register(agent("a/b"))), Err(AgentError::Id { .. })));
    assert!(matches!(say(register(broken)), Err(AgentError::Resources { .. })));
    bench.settle();
    bench.expect(&["agent 1 introduce"]);
    bench.register(2, None, ALL, vec![], vec![]);
    bench.log.clear();
    bench.master.agent_message(LinkId(2), update(), now).unwrap();
    bench.settle();
    bench.expect(&["agent 2 shut down "]);
}

#[test]
fn repeated_registrations_keep_the_id() {
    let mut bench = Bench::new();
    bench.register(1, None, ALL, vec![], vec![]);
    let message = mizzen_api::link::ToMaster::Register {
        agent: v1::AgentInfo::default(),
        frameworks: vec![],
        tasks: vec![],
        overlay: OverlayClaim::default(),
    };
    bench.master.agent_message(crate::LinkId(1), message, bench.now).unwrap();
    bench.settle();
    bench.register(2, Some("m-S0"), ALL, vec![], vec![]);
    bench.expect(&[
        "save master/agent/m-S0",
        "agent 1 registered m-S0",
        "save master/agent/m-S0",
        "agent 1 registered m-S0",
        "save master/agent/m-S0",
        "agent 2 registered m-S0",
    ]);
    // The end of the old link means nothing any more.
    bench.disconnect(1);
    assert_eq!(bench.master.state()["activated_slaves"], 1);
    bench.disconnect(2);
    assert_eq!(bench.master.state()["activated_slaves"], 0);
}
