//! Whole lives of tasks, as the shell would drive them.

use super::*;
use crate::record::Phase;
use mizzen_api::link::Duty;
use mizzen_types::container::Exit;
use mizzen_types::fact::{Fact, Health, Reach, TaskPhase};
use mizzen_types::time::Wall;
use std::time::Duration;
use v1::TaskState as S;

mod duty;
mod ends;
mod views;

/// An agent with a clock and what came out of it.
struct Bench {
    agent: Agent,
    now: Now,
    records: BTreeMap<ContainerId, Record>,
    fact: Option<Fact>,
    /// The update that waits for its acknowledgement.
    sent: Option<v1::TaskStatus>,
    orders: Option<Vec<u8>>,
    log: Vec<String>,
}

pub(crate) fn settings() -> Settings {
    Settings {
        info: v1::AgentInfo { hostname: "h".into(), ..v1::AgentInfo::default() },
        address: "10.0.0.1".parse().unwrap(),
        port: 5051,
        local_networks: ["mesos-bridge".to_owned()].into(),
        work_dir: "/w".into(),
        run_root: "/r".into(),
        cpu_limit: CpuLimit::Shares,
        pids: 1024,
    }
}

fn framework() -> v1::FrameworkInfo {
    let killing = v1::framework_info::capability::Type::TaskKillingState.into();
    v1::FrameworkInfo {
        id: Some(v1::FrameworkId { value: "f".into() }),
        name: "marathon".into(),
        user: "root".into(),
        capabilities: vec![v1::framework_info::Capability { r#type: Some(killing) }],
        ..v1::FrameworkInfo::default()
    }
}

fn task_info() -> v1::TaskInfo {
    v1::TaskInfo {
        name: "web".into(),
        task_id: v1::TaskId { value: "t".into() },
        command: Some(v1::CommandInfo { value: Some("true".into()), ..Default::default() }),
        ..v1::TaskInfo::default()
    }
}

impl Bench {
    fn new() -> Self {
        let now = Now { mono: Mono(1), wall: Wall(1) };
        let mut agent = Agent::new(settings(), None, 1, now);
        agent.master_connected();
        let mut bench = Self::around(agent, now);
        bench.settle();
        let agent_id = v1::AgentId { value: "s0".into() };
        bench
            .agent
            .handle_master(ToAgent::Registered { agent_id, duty: Duty::Serve, overlay: None }, now);
        bench.settle();
        bench
    }

    fn around(agent: Agent, now: Now) -> Self {
        Self {
            agent,
            now,
            records: BTreeMap::new(),
            fact: None,
            sent: None,
            orders: None,
            log: Vec::new(),
        }
    }

    /// Carries out what is queued and writes down what a reader of the log sees.
    fn settle(&mut self) {
        while let Some(effect) = self.agent.poll_effect() {
            let line = match effect {
                Effect::ToMaster(message) => match *message {
                    ToMaster::MoreAddresses { overlay } => format!("more of {overlay}"),
                    ToMaster::Register { tasks, .. } => format!("register {}", tasks.len()),
                    ToMaster::Pong => "pong".to_owned(),
                    ToMaster::StatusUpdate { status, latest_state, .. } => {
                        let state = status.state().as_str_name();
                        self.sent = status.uuid.is_some().then_some(status);
                        format!("send {state} latest {}", latest_state.as_str_name())
                    }
                },
                Effect::Checkpoint(record) => {
                    self.records.insert(record.container.clone(), *record);
                    continue;
                }
                Effect::Fact(_, fact) => {
                    self.fact = fact.map(|fact| *fact);
                    continue;
                }
                Effect::Forget(container) => {
                    self.records.remove(&container);
                    "forget".to_owned()
                }
                Effect::SaveId(id) => format!("save {id}"),
                Effect::Overlay(grant) => format!("overlay {} shares", grant.shares.len()),
                Effect::SaveOrders(orders) => {
                    self.orders = orders;
                    continue;
                }
                Effect::Launch(_) => "launch".to_owned(),
                Effect::Watch(_) => "watch".to_owned(),
                Effect::Signal(_, signal) => format!("signal {signal}"),
                Effect::Destroy(_) => "destroy".to_owned(),
                Effect::Probe(_) => "probe".to_owned(),
            };
            self.log.push(line);
        }
    }

    fn take_log(&mut self) -> Vec<String> {
        self.settle();
        std::mem::take(&mut self.log)
    }

    fn run(&mut self, task: v1::TaskInfo) -> ContainerId {
        self.agent.handle_master(ToAgent::RunTask { framework: framework(), task }, self.now);
        self.settle();
        self.records.keys().next().cloned().expect("a record")
    }

    fn start(&mut self, container: &ContainerId) {
        self.start_publishing(container, &[]);
    }

    /// The same, with ports of the host that lead to it by these networks.
    fn start_publishing(&mut self, container: &ContainerId, networks: &[&str]) {
        let addresses = vec!["9.0.0.2".parse().unwrap()];
        let publishing = networks.iter().map(|name| (*name).to_owned()).collect();
        self.agent.launched(container, task::Started { pid: 7, addresses, publishing }, self.now);
        self.settle();
    }

    fn end(&mut self, container: &ContainerId, exit: Exit) {
        let ended = task::Ended { exit, out_of_memory: None };
        self.agent.ended(container, &ended, self.now);
        self.settle();
    }

    fn kill(&mut self) {
        let (framework_id, task_id) =
            (v1::FrameworkId { value: "f".into() }, v1::TaskId { value: "t".into() });
        let kill = ToAgent::KillTask { framework_id, task_id, kill_policy: None };
        self.agent.handle_master(kill, self.now);
        self.settle();
    }

    /// The framework acknowledges everything that is on its way, until nothing is.
    fn acknowledge_all(&mut self) {
        while let Some(status) = self.sent.take() {
            let acknowledge = ToAgent::Acknowledge {
                framework_id: v1::FrameworkId { value: "f".into() },
                task_id: status.task_id.clone(),
                uuid: status.uuid.clone().unwrap(),
            };
            self.agent.handle_master(acknowledge, self.now);
            self.settle();
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now.mono = self.now.mono + span;
        self.agent.handle_timeout(self.now);
        self.settle();
    }

    fn fact(&self) -> (TaskPhase, Health) {
        match &self.fact {
            Some(Fact::Task(task)) => (task.phase, task.health),
            other => panic!("no task fact but {other:?}"),
        }
    }

    fn last_status(&self) -> v1::TaskStatus {
        let record = self.records.values().next().expect("a record");
        record.statuses.last().cloned().expect("a status")
    }
}

#[test]
fn a_task_runs_to_its_end() {
    let mut bench = Bench::new();
    assert_eq!(bench.take_log(), ["register 0", "save s0"]);
    let container = bench.run(task_info());
    assert_eq!(bench.fact(), (TaskPhase::Staging, Health::Unchecked));
    bench.start(&container);
    assert_eq!(bench.fact(), (TaskPhase::Running, Health::Unchecked));
    bench.end(&container, Exit::Code(0));
    assert_eq!(bench.fact, None, "no name leads to a task that ended");
    assert_eq!(
        bench.take_log(),
        ["send TASK_STARTING latest TASK_STARTING", "launch", "destroy"],
        "one update at a time is on its way"
    );
    bench.acknowledge_all();
    let want = [
        "send TASK_RUNNING latest TASK_FINISHED",
        "send TASK_FINISHED latest TASK_FINISHED",
        "forget",
    ];
    assert_eq!(bench.take_log(), want);
}

#[test]
fn a_volume_of_the_host_is_mounted_and_others_fail_the_task() {
    let with_volume = |host_path: Option<&str>| {
        let volume = v1::Volume {
            mode: v1::volume::Mode::Ro.into(),
            container_path: "data".into(),
            host_path: host_path.map(str::to_owned),
            ..v1::Volume::default()
        };
        let container = v1::ContainerInfo {
            r#type: v1::container_info::Type::Mesos.into(),
            volumes: vec![volume],
            ..v1::ContainerInfo::default()
        };
        let task = v1::TaskInfo { container: Some(container), ..task_info() };
        let mut bench = Bench::new();
        bench.agent.handle_master(ToAgent::RunTask { framework: framework(), task }, bench.now);
        std::iter::from_fn(move || bench.agent.poll_effect()).find_map(|effect| match effect {
            Effect::Launch(order) => Some(order.spec.mounts),
            _ => None,
        })
    };
    let mounts = with_volume(Some("/srv/data")).expect("a launch");
    assert_eq!(mounts[0].source.to_str(), Some("/srv/data"));
    assert!(mounts[0].read_only);
    assert_eq!(with_volume(Some("srv")), None);
    assert_eq!(with_volume(None), None);
}

#[test]
fn the_record_is_written_before_the_container_is_made() {
    let mut bench = Bench::new();
    bench
        .agent
        .handle_master(ToAgent::RunTask { framework: framework(), task: task_info() }, bench.now);
    let effects: Vec<_> = std::iter::from_fn(|| bench.agent.poll_effect()).collect();
    let at = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted).expect("an effect");
    assert!(at(|e| matches!(e, Effect::Checkpoint(_))) < at(|e| matches!(e, Effect::Launch(_))));
}

#[test]
fn how_a_task_ends_is_told() {
    let ended = |exit, out_of_memory: Option<&str>| task::Ended {
        exit,
        out_of_memory: out_of_memory.map(str::to_owned),
    };
    #[rustfmt::skip]
    let table = [
        (ended(Exit::Code(0), None),         S::TaskFinished, "Command exited with status 0"),
        (ended(Exit::Code(3), None),         S::TaskFailed,   "Command exited with status 3"),
        (ended(Exit::Signal(9), None),       S::TaskFailed,   "Command terminated with signal SIGKILL"),
        (ended(Exit::Unknown, None),         S::TaskFailed,   "The container ended and nobody saw how"),
        (ended(Exit::Signal(9), Some("Memory limit exceeded")), S::TaskFailed, "Memory limit exceeded"),
    ];
    for (ended, state, message) in table {
        let mut bench = Bench::new();
        let container = bench.run(task_info());
        bench.start(&container);
        bench.agent.ended(&container, &ended, bench.now);
        bench.settle();
        let status = bench.last_status();
        assert_eq!((status.state(), status.message.as_deref()), (state, Some(message)));
    }
}

#[test]
fn a_kill_grows_from_term_to_kill() {
    let mut bench = Bench::new();
    let container = bench.run(task_info());
    bench.start(&container);
    bench.acknowledge_all();
    bench.take_log();

    bench.kill();
    assert_eq!(bench.fact().0, TaskPhase::Killing);
    assert_eq!(bench.take_log(), ["send TASK_KILLING latest TASK_KILLING", "signal 15"]);
    bench.wait(Duration::from_millis(2_900));
    assert_eq!(bench.take_log(), [""; 0]);
    bench.wait(Duration::from_millis(200));
    assert_eq!(bench.take_log(), ["signal 9"]);
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.take_log(), ["signal 9"], "a signal may fail, so it is repeated");
    bench.end(&container, Exit::Signal(9));
    assert_eq!(bench.last_status().state(), S::TaskKilled);
}

#[test]
fn a_kill_during_the_launch_waits_for_its_target() {
    let mut bench = Bench::new();
    let container = bench.run(task_info());
    bench.take_log();
    bench.kill();
    assert_eq!(bench.take_log(), [""; 0], "nothing to signal yet, STARTING is unacknowledged");
    bench.wait(Duration::from_secs(4));
    assert_eq!(bench.take_log(), [""; 0], "the grace is over and there is still no target");
    bench.start(&container);
    assert_eq!(bench.take_log(), ["signal 15"]);
    bench.wait(Duration::from_secs(3));
    assert_eq!(bench.take_log(), ["signal 9"]);
    bench.end(&container, Exit::Signal(15));
    assert_eq!(bench.last_status().state(), S::TaskKilled);
}

#[test]
fn a_launch_that_fails_says_why() {
    let mut bench = Bench::new();
    let container = bench.run(task_info());
    bench.agent.launch_failed(&container, LaunchFailure::Network, "no address left", bench.now);
    bench.settle();
    let status = bench.last_status();
    assert_eq!(status.state(), S::TaskFailed);
    let message = "Failed to attach container to its network: no address left";
    assert_eq!(status.message.as_deref(), Some(message));
}

#[test]
fn a_full_disk_fails_new_tasks_and_spares_running_ones() {
    let mut bench = Bench::new();
    let run = ToAgent::RunTask { framework: framework(), task: task_info() };
    bench.agent.handle_master(run, bench.now);
    let first = std::iter::from_fn(|| bench.agent.poll_effect()).find_map(|effect| match effect {
        Effect::Checkpoint(record) => Some(record.container),
        _ => None,
    });
    bench.agent.checkpoint_failed(&first.expect("a record"), "No space left on device", bench.now);
    bench.settle();
    let message = bench.last_status().message.unwrap();
    assert!(message.contains("No space left on device"), "{message}");
    assert!(!bench.take_log().contains(&"launch".to_owned()));

    let mut bench = Bench::new();
    let container = bench.run(task_info());
    bench.start(&container);
    bench.agent.checkpoint_failed(&container, "No space left on device", bench.now);
    bench.records.clear();
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.records.len(), 1, "the record is written again later");
    assert_eq!(bench.fact().0, TaskPhase::Running);
}

#[test]
fn an_update_is_repeated_until_it_is_acknowledged() {
    let mut bench = Bench::new();
    bench.run(task_info());
    bench.take_log();
    let again = "send TASK_STARTING latest TASK_STARTING";
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.take_log(), [again]);
    bench.wait(Duration::from_secs(19));
    assert_eq!(bench.take_log(), [""; 0], "the pause doubles");
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.take_log(), [again]);
}

#[test]
fn health_decides_whether_clients_come_and_in_the_end_whether_it_lives() {
    let check = v1::HealthCheck {
        http: Some(v1::health_check::HttpCheckInfo { port: 80, ..Default::default() }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(1.0),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(2),
        ..v1::HealthCheck::default()
    };
    let mut bench = Bench::new();
    let container = bench.run(v1::TaskInfo { health_check: Some(check), ..task_info() });
    bench.start(&container);
    bench.acknowledge_all();
    bench.take_log();
    assert_eq!(bench.fact().1, Health::Unknown);

    bench.wait(Duration::ZERO);
    assert_eq!(bench.take_log(), ["probe"]);
    bench.agent.probed(&container, Answer::Well, bench.now);
    assert_eq!(bench.take_log(), ["send TASK_RUNNING latest TASK_RUNNING"]);
    assert_eq!(bench.fact().1, Health::Healthy);

    bench.acknowledge_all();
    bench.agent.probed(&container, Answer::Unwell("refused".into()), bench.now);
    bench.settle();
    assert_eq!(bench.fact().1, Health::Unhealthy);
    bench.acknowledge_all();
    bench.take_log();
    bench.agent.probed(&container, Answer::Unwell("refused".into()), bench.now);
    assert!(bench.take_log().contains(&"signal 15".to_owned()));
    bench.end(&container, Exit::Signal(15));
    let status = bench.last_status();
    assert_eq!((status.state(), status.healthy), (S::TaskKilled, Some(false)));
    assert!(status.message.unwrap().starts_with("Health check failed 2 times in a row"));
}

#[test]
fn a_restart_takes_every_task_up_where_it_was() {
    let found = |id: &ContainerId, pid| Found {
        container: id.clone(),
        running: true,
        pid,
        addresses: vec!["9.0.0.2".parse().unwrap()],
        publishing: Vec::new(),
    };
    let after_restart = |phase, found: Vec<Found>, record: &Record| {
        let record = Record { phase, ..record.clone() };
        let now = Now { mono: Mono(5), wall: Wall(5) };
        let mut agent = Agent::new(settings(), Some("s0".into()), 2, now);
        agent.recover(vec![record], found, now);
        let mut bench = Bench::around(agent, now);
        bench.settle();
        bench
    };
    let mut first = Bench::new();
    let container = first.run(task_info());
    let record = first.records[&container].clone();

    let mut running = after_restart(Phase::Running, vec![found(&container, Some(7))], &record);
    assert_eq!(running.take_log(), ["watch"]);
    assert_eq!(running.fact().0, TaskPhase::Running);
    running.agent.master_connected();
    assert_eq!(running.take_log(), ["register 1"]);
    let again = ToAgent::RunTask { framework: framework(), task: task_info() };
    running.agent.handle_master(again, running.now);
    assert_eq!(running.take_log(), [""; 0], "nothing is launched twice");

    let mut forked = after_restart(Phase::Launching, vec![found(&container, Some(7))], &record);
    assert_eq!(forked.take_log(), ["watch"]);
    assert_eq!(forked.last_status().state(), S::TaskRunning);

    let mut never = after_restart(Phase::Launching, vec![], &record);
    assert_eq!(never.take_log(), ["destroy"]);
    assert_eq!(never.last_status().state(), S::TaskDropped);

    let ended = Found { running: false, ..found(&container, Some(7)) };
    let mut ended = after_restart(Phase::Running, vec![ended], &record);
    assert_eq!(ended.take_log(), ["watch"]);
    assert_eq!(ended.fact, None, "no name leads to a task that ended while nobody looked");

    let mut vanished = after_restart(Phase::Running, vec![], &record);
    assert_eq!(vanished.take_log(), ["destroy"]);
    assert_eq!(vanished.last_status().state(), S::TaskFailed);

    let mut orphan = after_restart(Phase::Ended, vec![found(&"other".into(), Some(9))], &record);
    assert_eq!(orphan.take_log(), ["destroy", "destroy"]);
}

#[test]
fn a_framework_that_is_gone_hears_nothing() {
    let mut bench = Bench::new();
    let container = bench.run(task_info());
    bench.start(&container);
    bench.take_log();
    let framework_id = v1::FrameworkId { value: "f".into() };
    bench.agent.handle_master(ToAgent::ShutdownFramework { framework_id }, bench.now);
    bench.end(&container, Exit::Signal(15));
    let end = "send TASK_KILLED latest TASK_KILLED";
    assert_eq!(bench.take_log(), ["signal 15", end, "destroy", "forget"], "the master hears");
}

#[test]
fn a_container_that_comes_too_late_is_removed() {
    let mut bench = Bench::new();
    let container = bench.run(task_info());
    bench.agent.launch_failed(&container, LaunchFailure::Container, "lost it", bench.now);
    bench.acknowledge_all();
    bench.take_log();
    bench.start(&container);
    assert_eq!(bench.take_log(), ["destroy"]);
}

#[test]
fn a_failed_checkpoint_does_not_fail_a_launch_under_way() {
    let mut bench = Bench::new();
    let container = bench.run(task_info());
    bench.take_log();
    bench.agent.checkpoint_failed(&container, "No space left on device", bench.now);
    assert_eq!(bench.take_log(), [""; 0]);
    bench.start(&container);
    assert_eq!(bench.fact().0, TaskPhase::Running);
}
