//! Ends of tasks, and what is told meanwhile.

use super::*;

fn secret(data: &[u8]) -> v1::environment::Variable {
    let value = Some(v1::secret::Value { data: data.to_vec() });
    let kind = v1::secret::Type::Value.into();
    v1::environment::Variable {
        name: "PASSWORD".into(),
        r#type: Some(v1::environment::variable::Type::Secret.into()),
        secret: Some(v1::Secret { r#type: Some(kind), value, ..v1::Secret::default() }),
        ..v1::environment::Variable::default()
    }
}

#[test]
fn a_killed_task_is_killed_whatever_ran_out_of_memory_before() {
    let mut bench = Bench::new();
    let container = bench.run(task_info());
    bench.start(&container);
    bench.kill();
    let message = Some("Memory limit exceeded".to_owned());
    let ended = task::Ended { exit: Exit::Signal(15), out_of_memory: message };
    bench.agent.ended(&container, &ended, bench.now);
    bench.settle();
    let status = bench.last_status();
    assert_eq!((status.state(), status.reason), (S::TaskKilled, None));
}

#[test]
fn a_task_that_was_never_here_is_dropped() {
    let mut bench = Bench::new();
    bench.take_log();
    bench.kill();
    assert_eq!(bench.take_log(), ["send TASK_DROPPED latest TASK_DROPPED"]);
}

#[test]
fn a_task_that_is_killed_before_its_record_was_refused_by_the_disk_ends() {
    let mut bench = Bench::new();
    let run = ToAgent::RunTask { framework: framework(), task: task_info() };
    bench.agent.handle_master(run, bench.now);
    let container = bench.agent.tasks.keys().next().unwrap().clone();
    let (framework_id, task_id) =
        (v1::FrameworkId { value: "f".into() }, v1::TaskId { value: "t".into() });
    let kill = ToAgent::KillTask { framework_id, task_id, kill_policy: None };
    bench.agent.handle_master(kill, bench.now);
    bench.agent.checkpoint_failed(&container, "no space left", bench.now);
    bench.settle();
    assert_eq!(bench.last_status().state(), S::TaskKilled);
    bench.acknowledge_all();
    assert_eq!(bench.agent.live_tasks(), 0);
}

#[test]
fn health_that_comes_and_goes_while_nobody_listens_fills_nothing() {
    let check = v1::HealthCheck {
        tcp: Some(v1::health_check::TcpCheckInfo { port: 1, ..Default::default() }),
        consecutive_failures: Some(5),
        ..v1::HealthCheck::default()
    };
    let mut bench = Bench::new();
    let container = bench.run(v1::TaskInfo { health_check: Some(check), ..task_info() });
    bench.start(&container);
    for _ in 0..100 {
        bench.agent.probed(&container, Answer::Well, bench.now);
        bench.agent.probed(&container, Answer::Unwell("refused".into()), bench.now);
    }
    bench.settle();
    let pending = bench.records[&container].pending.clone();
    let said: Vec<_> = pending.iter().map(|status| (status.state(), status.healthy)).collect();
    assert_eq!(said, [(S::TaskStarting, None), (S::TaskRunning, Some(false))]);
}

#[test]
fn a_secret_that_brings_its_value_along_is_in_the_environment() {
    let mut task = task_info();
    let variables = vec![secret(b"hush")];
    task.command.as_mut().unwrap().environment = Some(v1::Environment { variables });
    let mut bench = Bench::new();
    bench.agent.handle_master(ToAgent::RunTask { framework: framework(), task }, bench.now);
    let order = std::iter::from_fn(|| bench.agent.poll_effect()).find_map(|effect| match effect {
        Effect::Launch(order) => Some(order),
        _ => None,
    });
    assert_eq!(order.unwrap().spec.environment["PASSWORD"], "hush");
}
