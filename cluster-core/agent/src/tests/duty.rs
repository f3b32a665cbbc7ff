//! What the operator wants of the agent.

use super::*;
use v1::task_status::Reason;

fn config(max_seconds: Option<i64>, mark_gone: bool) -> Duty {
    let period = |seconds: i64| v1::DurationInfo { nanoseconds: seconds * 1_000_000_000 };
    Duty::Drain(v1::DrainConfig {
        max_grace_period: max_seconds.map(period),
        mark_gone: Some(mark_gone),
    })
}

/// A running task of a framework that can do everything, with a grace of a minute.
fn running() -> (Bench, ContainerId) {
    let mut bench = Bench::new();
    let grace = v1::DurationInfo { nanoseconds: 60_000_000_000 };
    let kill_policy = Some(v1::KillPolicy { grace_period: Some(grace) });
    let task = v1::TaskInfo { kill_policy, ..task_info() };
    let mut framework = framework();
    let aware = v1::framework_info::capability::Type::PartitionAware.into();
    framework.capabilities.push(v1::framework_info::Capability { r#type: Some(aware) });
    bench.agent.handle_master(ToAgent::RunTask { framework, task }, bench.now);
    bench.settle();
    let container = bench.records.keys().next().cloned().expect("a record");
    bench.start(&container);
    bench.acknowledge_all();
    bench.take_log();
    (bench, container)
}

fn order(bench: &mut Bench, duty: Duty) {
    bench.agent.handle_master(ToAgent::Duty(duty), bench.now);
    bench.settle();
}

#[test]
fn a_drained_task_says_why_it_ends() {
    for (gone, state) in [(false, S::TaskKilled), (true, S::TaskGoneByOperator)] {
        let (mut bench, container) = running();
        order(&mut bench, config(None, gone));
        assert_eq!(bench.fact().0, TaskPhase::Killing);
        let status = bench.last_status();
        assert_eq!((status.state(), status.reason()), (S::TaskKilling, Reason::AgentDraining));
        bench.end(&container, Exit::Signal(15));
        let status = bench.last_status();
        assert_eq!((status.state(), status.reason()), (state, Reason::AgentDraining));
        bench.acknowledge_all();
        assert!(bench.records.is_empty());
    }
}

#[test]
fn the_grace_is_the_shorter_of_two() {
    for (longest, forced_after) in [(Some(5), 5), (Some(90), 60), (None, 60)] {
        let (mut bench, _) = running();
        order(&mut bench, config(longest, false));
        bench.take_log();
        bench.wait(Duration::from_secs(forced_after - 1));
        assert!(!bench.take_log().contains(&"signal 9".to_owned()), "{longest:?}");
        bench.wait(Duration::from_secs(1));
        assert!(bench.take_log().contains(&"signal 9".to_owned()), "{longest:?}");
    }
}

#[test]
fn clients_leave_before_the_task_is_told() {
    let (mut bench, _) = running();
    bench.agent.handle_master(ToAgent::Duty(config(None, false)), bench.now);
    let mut effects = std::iter::from_fn(|| bench.agent.poll_effect());
    let says = |effect: &Effect| {
        matches!(effect, Effect::Fact(_, Some(fact))
            if matches!(&**fact, Fact::Task(task) if task.phase == TaskPhase::Killing))
    };
    assert!(effects.any(|effect| says(&effect)));
    assert!(effects.any(|effect| matches!(effect, Effect::Signal(_, 15))));
}

#[test]
fn tasks_on_a_maintained_machine_run_on_without_new_clients() {
    let (mut bench, _) = running();
    order(&mut bench, Duty::Maintain);
    assert_eq!(bench.fact().0, TaskPhase::Draining);
    assert!(bench.orders.is_some());
    order(&mut bench, Duty::Serve);
    assert_eq!(bench.fact().0, TaskPhase::Running);
    assert_eq!(bench.orders, None);
    assert_eq!(bench.take_log(), [""; 0], "nothing else happens to it");
}

#[test]
fn a_restart_drains_on_as_it_was_told() {
    let (mut bench, container) = running();
    let told_late = bench.records.clone();
    order(&mut bench, config(Some(5), true));
    // The crash came before the record of the kill, or after it.
    for record in [&told_late[&container], &bench.records[&container]] {
        let mut agent = Agent::new(settings(), Some("s0".into()), 2, bench.now);
        agent.adopt_orders(Orders::from_bytes(bench.orders.as_ref().unwrap()).unwrap());
        let found = Found {
            container: container.clone(),
            running: true,
            pid: Some(7),
            addresses: vec![],
            publishing: vec![],
        };
        agent.recover(vec![record.clone()], vec![found], bench.now);
        let mut next = Bench::around(agent, bench.now);
        assert!(next.take_log().contains(&"signal 15".to_owned()));
        assert_eq!(next.fact().0, TaskPhase::Killing);
        assert_eq!(next.agent.state()["drain_config"]["mark_gone"], true);
        next.wait(Duration::from_secs(5));
        assert!(next.take_log().contains(&"signal 9".to_owned()));
        next.end(&container, Exit::Signal(9));
        assert_eq!(next.last_status().state(), S::TaskGoneByOperator);
        // The master says the same again, and nothing more happens.
        let agent_id = v1::AgentId { value: "s0".into() };
        let duty = config(Some(5), true);
        next.take_log();
        next.agent.handle_master(ToAgent::Registered { agent_id, duty, overlay: None }, next.now);
        assert!(next.take_log().iter().all(|line| line.starts_with("send")));
    }
}

#[test]
fn who_is_shut_out_ends_its_tasks_in_silence_and_may_come_back() {
    let (mut bench, container) = running();
    bench.agent.handle_master(ToAgent::ShutOut { message: "Machine is DOWN".into() }, bench.now);
    assert_eq!(bench.take_log(), ["signal 15"]);
    assert_eq!(bench.agent.shut_out(), Some("Machine is DOWN"));
    bench.end(&container, Exit::Signal(15));
    assert_eq!(bench.take_log(), ["destroy", "forget"]);
    bench.agent.handle_master(ToAgent::Introduce, bench.now);
    assert_eq!(bench.take_log(), ["register 0"]);
    let agent_id = v1::AgentId { value: "s0".into() };
    bench.agent.handle_master(
        ToAgent::Registered { agent_id, duty: Duty::Serve, overlay: None },
        bench.now,
    );
    assert_eq!(bench.agent.shut_out(), None);
}

#[test]
fn a_task_that_comes_while_the_agent_drains_does_not_stay() {
    let mut bench = Bench::new();
    order(&mut bench, config(None, false));
    let container = bench.run(task_info());
    bench.start(&container);
    assert!(bench.take_log().contains(&"signal 15".to_owned()));
    bench.end(&container, Exit::Signal(15));
    assert_eq!(bench.last_status().reason(), Reason::AgentDraining);
}
