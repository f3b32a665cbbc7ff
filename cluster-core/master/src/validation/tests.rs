use super::*;
use mizzen_api::resources::to_v1;

fn task() -> v1::TaskInfo {
    v1::TaskInfo {
        name: "t".to_owned(),
        task_id: v1::TaskId { value: "t".to_owned() },
        agent_id: v1::AgentId { value: "a".to_owned() },
        resources: to_v1(&Resources::parse("cpus:1;mem:32").unwrap()),
        command: Some(v1::CommandInfo::default()),
        ..v1::TaskInfo::default()
    }
}

fn with(change: impl FnOnce(&mut v1::TaskInfo)) -> v1::TaskInfo {
    let mut task = task();
    change(&mut task);
    task
}

fn environment(variable: v1::environment::Variable) -> Option<v1::CommandInfo> {
    let environment = Some(v1::Environment { variables: vec![variable] });
    Some(v1::CommandInfo { environment, ..v1::CommandInfo::default() })
}

#[test]
fn each_rule_has_its_message() {
    let long = "x".repeat(10_000);
    let minus = Some(v1::DurationInfo { nanoseconds: -1 });
    let check = v1::HealthCheck::default;
    let http = |path: &str| v1::HealthCheck {
        http: Some(v1::health_check::HttpCheckInfo {
            port: 80,
            path: Some(path.to_owned()),
            ..Default::default()
        }),
        ..check()
    };
    let mapped = |host: u32, container: u32, protocol: &str| {
        let protocol = Some(protocol.to_owned());
        let mapping =
            v1::network_info::PortMapping { host_port: host, container_port: container, protocol };
        let name = Some("dcos".to_owned());
        let network = v1::NetworkInfo { name, port_mappings: vec![mapping], ..Default::default() };
        let r#type = v1::container_info::Type::Mesos.into();
        let container =
            v1::ContainerInfo { r#type, network_infos: vec![network], ..Default::default() };
        let resources = to_v1(&Resources::parse("cpus:1;ports:[31000-31001]").unwrap());
        with(|t| (t.container, t.resources) = (Some(container), resources))
    };
    let secret = |data: Option<&[u8]>| {
        let value = data.map(|data| v1::secret::Value { data: data.to_vec() });
        let kind = match data {
            Some(_) => v1::secret::Type::Value,
            None => v1::secret::Type::Reference,
        };
        let secret = Some(v1::Secret { r#type: Some(kind.into()), value, ..Default::default() });
        let r#type = Some(v1::environment::variable::Type::Secret.into());
        v1::environment::Variable { name: "A".into(), r#type, secret, ..Default::default() }
    };
    let asking = |command| v1::HealthCheck { command, ..v1::HealthCheck::default() };
    let limits = |name: &str, value| [(name.to_owned(), v1::value::Scalar { value })].into();
    let mut negative = task();
    negative.resources[0].scalar = Some(v1::value::Scalar { value: -1.0 });
    let mut nan = task();
    nan.resources[0].scalar = Some(v1::value::Scalar { value: f64::NAN });
    #[rustfmt::skip]
    let table: Vec<(v1::TaskInfo, Option<&str>)> = vec![
        (task(), None),
        (with(|t| t.name.clone_from(&long)), None),
        (with(|t| t.task_id.value.clone_from(&long)), Some("Task has an invalid ID: ID must not be greater than 255")),
        (with(|t| t.task_id.value = "a/b".into()), Some("invalid character")),
        (with(|t| t.agent_id.value = "b".into()), Some("Task uses invalid agent b")),
        (with(|t| t.kill_policy = Some(v1::KillPolicy { grace_period: minus })), Some("grace_period")),
        (with(|t| t.max_completion_time = minus), Some("max_completion_time")),
        (with(|t| t.check = Some(v1::CheckInfo::default())), Some("invalid check")),
        (with(|t| t.health_check = Some(check())), Some("exactly one of")),
        (with(|t| t.health_check = Some(http("/"))), None),
        (with(|t| t.health_check = Some(http("x"))), Some("must start with '/'")),
        (with(|t| t.health_check = Some(v1::HealthCheck { interval_seconds: Some(-1.0), ..http("/") })), Some("interval_seconds")),
        (with(|t| t.resources.clear()), Some("Task uses no resources")),
        (negative, Some("'cpus' is negative")),
        (nan, Some("no usable amount")),
        (with(|t| t.resources = to_v1(&Resources::parse("cpus:1").unwrap().allocated_to("other"))), Some("allocated to role 'other'")),
        (with(|t| t.resources = to_v1(&Resources::parse("cpus:1").unwrap().allocated_to("role"))), None),
        (with(|t| t.command = None), Some("at least one (but not both)")),
        (with(|t| t.executor = Some(v1::ExecutorInfo::default())), Some("at least one (but not both)")),
        (with(|t| t.command = environment(v1::environment::Variable { name: "A".into(), ..Default::default() })), Some("must have a value")),
        (with(|t| t.command = environment(secret(Some(b"hush")))), None),
        (with(|t| t.command = environment(secret(Some(&[0xff])))), Some("not UTF-8")),
        (with(|t| t.command = environment(secret(None))), Some("no secret resolver")),
        (with(|t| t.health_check = Some(asking(environment(secret(None))))), Some("invalid health check: Environment variable 'A' refers")),
        (mapped(31_001, 80, "UDP"), None),
        (mapped(31_002, 80, "tcp"), Some("invalid port mapping: host port 31002 is not among the task's resources")),
        (mapped(0, 80, "tcp"), Some("host port 0 is not among")),
        (mapped(31_000, 0, "tcp"), Some("0 is not a port of a container")),
        (mapped(31_000, 80, "icmp"), Some("'icmp' is not a protocol")),
        (with(|t| t.limits = limits("cpus", 2.0)), Some("no TASK_RESOURCE_LIMITS capability")),
        (with(|t| t.limits = limits("cpus", f64::INFINITY)), Some("no TASK_RESOURCE_LIMITS capability")),
        (with(|t| t.limits = limits("cpus", 0.5)), Some("less than its request")),
        (with(|t| t.limits = limits("cpus", f64::NAN)), Some("less than its request")),
        (with(|t| t.limits = limits("disk", 1.0)), Some("not allowed")),
    ];
    for (task, want) in table {
        let got = check_task(&task, Known::New, &"a".into(), "role").err();
        match want {
            None => assert_eq!(got, None),
            Some(part) => {
                assert!(got.as_ref().is_some_and(|t| t.contains(part)), "{part}: {got:?}");
            }
        }
    }
}

#[test]
fn the_type_of_a_health_check_is_inferred() {
    let tcp = Some(v1::health_check::TcpCheckInfo { port: 1, ..Default::default() });
    let mut task = with(|t| {
        t.health_check = Some(v1::HealthCheck { tcp, ..v1::HealthCheck::default() });
    });
    fill_in(&mut task);
    assert_eq!(task.health_check.unwrap().r#type(), v1::health_check::Type::Tcp);
}
