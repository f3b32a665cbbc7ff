use super::*;
use mizzen_types::fact::{Health, NodeFact, PortFact, Reach, TaskPhase};
use mizzen_types::time::Wall;
use mizzen_types::vip::{BackendSpec, Distance, Rule, VipPolicy, Withheld};

mod nodes;
mod parts;
mod places;
mod policies;
mod registered;

fn task(id: &str, label: &str) -> TaskFact {
    let port = PortFact {
        number: 8080,
        host_port: None,
        name: None,
        protocol: "tcp".into(),
        labels: [("VIP_0".to_owned(), label.to_owned())].into(),
    };
    TaskFact {
        task_id: id.into(),
        framework_id: "f".into(),
        framework_name: "marathon".into(),
        agent_id: "s0".into(),
        container_id: id.into(),
        name: "web".into(),
        discovery_name: None,
        phase: TaskPhase::Running,
        health: Health::Unchecked,
        host_address: "10.0.0.1".parse().unwrap(),
        container_addresses: vec![format!("9.0.0.{}", id.len() + 1).parse().unwrap()],
        container_reach: Reach::Cluster,
        host_ports: vec![31000],
        ports: vec![port],
        labels: BTreeMap::new(),
        launched: Wall(0),
    }
}

fn planner() -> Planner {
    planner_in("11.0.0.0/8")
}

fn planner_in(range: &str) -> Planner {
    Planner::new(Claims::new(range.parse().unwrap()), "n1".into())
}

/// A task comes, changes or goes on this node.
fn put(planner: &mut Planner, id: &str, task: Option<&TaskFact>) -> Effects {
    put_on(planner, "n1", id, task)
}

fn put_on(planner: &mut Planner, owner: &str, id: &str, task: Option<&TaskFact>) -> Effects {
    let fact = task.map(|task| Fact::Task(Box::new(task.clone())));
    planner.apply(&owner.into(), &Key::Task("f".into(), id.into()), fact.as_ref())
}

/// What is wrong, each with who asked for it.
fn problems(planner: &Planner) -> Vec<String> {
    let all = planner.problems();
    all.iter().map(|problem| format!("{}: {}", problem.source, problem.error)).collect()
}

fn addresses(planner: &Planner) -> Vec<String> {
    planner
        .specs()
        .values()
        .flat_map(|spec| spec.backends.iter().map(|backend| backend.address.to_string()))
        .collect()
}

#[test]
fn tasks_of_one_name_share_one_vip_and_leave_it_one_by_one() {
    let mut planner = planner();
    let first = put(&mut planner, "a", Some(&task("a", "/web:80")));
    assert_eq!(first.claims[0].name, "web.marathon");
    let second = put(&mut planner, "bb", Some(&task("bb", "/web:80")));
    assert!(second.claims.is_empty(), "the name has its address already");
    assert_eq!(first.changed, second.changed);
    assert_eq!(addresses(&planner), ["9.0.0.2:8080", "9.0.0.3:8080"]);

    put(&mut planner, "a", None);
    assert_eq!(addresses(&planner), ["9.0.0.3:8080"]);
    let last = put(&mut planner, "bb", None);
    assert_eq!(planner.spec(last.changed.first().unwrap()), None);
    let again = put(&mut planner, "a", Some(&task("a", "/web:80")));
    assert_eq!(again.changed, first.changed, "the claim is sticky");
    assert!(again.claims.is_empty());
}

#[test]
fn an_unchanged_task_changes_nothing() {
    let mut planner = planner();
    put(&mut planner, "a", Some(&task("a", "/web:80")));
    let renamed = TaskFact { name: "other".into(), ..task("a", "/web:80") };
    assert_eq!(put(&mut planner, "a", Some(&renamed)), Effects::default());
}

#[test]
fn who_takes_no_clients_stays_in_the_list_but_is_not_admitted() {
    let mut planner = planner();
    for (phase, health, withheld) in [
        (TaskPhase::Running, Health::Healthy, None),
        (TaskPhase::Running, Health::Unknown, Some(Withheld::Unchecked)),
        (TaskPhase::Running, Health::Unhealthy, Some(Withheld::Unhealthy)),
        (TaskPhase::Killing, Health::Healthy, Some(Withheld::Stopping)),
        (TaskPhase::Draining, Health::Healthy, Some(Withheld::Drained)),
        (TaskPhase::Staging, Health::Unchecked, Some(Withheld::Starting)),
    ] {
        let fact = TaskFact { phase, health, ..task("a", "/web:80") };
        put(&mut planner, "a", Some(&fact));
        let specs = planner.specs();
        let backend = &specs.values().next().unwrap().backends[0];
        assert_eq!(backend.withheld, withheld, "{phase:?} {health:?}");
    }
}

#[test]
fn labels_are_read_as_users_write_them() {
    let vip = |label: &str| {
        let mut planner = planner();
        put(&mut planner, "a", Some(&task("a", label)));
        let problems: Vec<_> =
            planner.problems().iter().map(|problem| problem.error.to_string()).collect();
        let vips: Vec<_> = planner
            .specs()
            .values()
            .map(|spec| match &spec.name {
                Some(name) => format!("{name}:{}", spec.key.port),
                None => spec.key.to_string(),
            })
            .collect();
        vips.into_iter().chain(problems).collect::<Vec<_>>().join("; ")
    };
    #[rustfmt::skip]
    let table = [
        ("/web:80",           "web.marathon:80"),
        ("web:80",            "web.marathon:80"),
        ("/my.group/app:443", "my.groupapp.marathon:443"),
        ("11.4.4.4:53",       "11.4.4.4:53/tcp"),
        ("/web:0",            "label `VIP_0`: `/web:0` is not of the form /NAME:PORT or ADDRESS:PORT"),
        ("/web",              "label `VIP_0`: `/web` is not of the form /NAME:PORT or ADDRESS:PORT"),
        ("11.4.4.4:+5",       "11.4.4.4:5/tcp"),
        ("[::ffff:1.2.3.4]:5","1.2.3.4:5/tcp"),
        ("127.0.0.1:22",      "label `VIP_0`: 127.0.0.1 cannot be a VIP"),
        ("[::]:22",           "label `VIP_0`: :: cannot be a VIP"),
        ("224.0.0.1:22",      "label `VIP_0`: 224.0.0.1 cannot be a VIP"),
        ("",                  "label `VIP_0`: `` is not of the form /NAME:PORT or ADDRESS:PORT"),
        ("///:80",            "label `VIP_0`: `///:80` is not of the form /NAME:PORT or ADDRESS:PORT"),
        ("[fd01:c::1]:80",    "label `VIP_0`: the task has no address of that family"),
    ];
    for (label, want) in table {
        assert_eq!(vip(label), want, "{label}");
    }
}

/// `[address]:port name: backends` of each service.
fn lines(planner: &Planner) -> Vec<String> {
    let line = |spec: &VipSpec| {
        let backends = spec.backends.iter().map(|backend| backend.address.to_string());
        let name = spec.name.as_deref().unwrap_or("-");
        format!("{} {name}: {}", spec.key, backends.collect::<Vec<_>>().join(" "))
    };
    planner.specs().values().map(line).collect()
}

#[test]
fn an_address_that_a_name_holds_can_be_spelled_out_too() {
    let mut planner = planner();
    put(&mut planner, "a", Some(&task("a", "/web:80")));
    for (label, want) in [
        // On another port, on the same one.
        ("11.169.34.66:81", "11.169.34.66:81/tcp -: 9.0.0.3:8080"),
        ("11.169.34.66:80", "11.169.34.66:80/tcp web.marathon: 9.0.0.2:8080 9.0.0.3:8080"),
    ] {
        let effects = put(&mut planner, "bb", Some(&task("bb", label)));
        assert!(effects.claims.is_empty(), "{label}");
        assert!(lines(&planner).iter().any(|line| line == want), "{label}: {:?}", lines(&planner));
        let vip = effects.changed.first().unwrap();
        assert!(planner.spec(vip).is_some(), "{label}");
    }
    // Whoever stays is served alone.
    put(&mut planner, "a", None);
    assert_eq!(lines(&planner), ["11.169.34.66:80/tcp -: 9.0.0.3:8080"]);
    let last = put(&mut planner, "bb", None);
    assert_eq!(planner.spec(last.changed.first().unwrap()), None);
}

#[test]
fn an_address_that_is_spelled_out_is_not_claimed() {
    let mut planner = planner();
    put(&mut planner, "a", Some(&task("a", "11.169.34.66:443")));
    let effects = put(&mut planner, "bb", Some(&task("bb", "/web:80")));
    assert_eq!(effects.claims[0].address.to_string(), "11.169.34.67");
    // Free again, but a claim stays where it is.
    put(&mut planner, "a", None);
    assert_eq!(lines(&planner), ["11.169.34.67:80/tcp web.marathon: 9.0.0.3:8080"]);
}

#[test]
fn one_task_cannot_claim_the_whole_range() {
    let mut fact = task("a", "/web:80");
    fact.ports[0].labels =
        (0..1000).map(|n| (format!("VIP_{n:03}"), format!("/n{n}:80"))).collect();
    fact.labels = [("vip_PORT0".to_owned(), "tcp://last:80".to_owned())].into();
    let mut planner = planner();
    let effects = put(&mut planner, "a", Some(&fact));
    assert_eq!((effects.claims.len(), effects.changed.len()), (64, 64));
    let want = "task a: the task has 1001 labels that ask for VIPs; only the first 64 make any";
    assert_eq!(problems(&planner), [want]);
}

#[test]
fn a_task_label_means_a_host_port() {
    let mut fact = task("a", "/web:80");
    fact.ports.clear();
    fact.labels = [
        ("vip_PORT0".to_owned(), "udp://dns:53".to_owned()),
        ("vip_PORT7".to_owned(), "tcp://web:80".to_owned()),
    ]
    .into();
    let mut planner = planner();
    put(&mut planner, "a", Some(&fact));
    assert_eq!(addresses(&planner), ["10.0.0.1:31000"]);
    assert_eq!(
        problems(&planner),
        ["task a: label `vip_PORT7` means a port that the task does not have"]
    );
}

#[test]
fn a_label_of_a_port_that_stands_on_the_task_is_told() {
    let mut fact = task("a", "/web:80");
    let label = |key: &str| (key.to_owned(), "/other:80".to_owned());
    fact.labels = ["VIP_0", "vip_1", "VIP_CLASS", "VIP_", "VIPS"].map(label).into();
    let mut planner = planner();
    let effects = put(&mut planner, "a", Some(&fact));
    assert_eq!(lines(&planner), ["11.169.34.66:80/tcp web.marathon: 9.0.0.2:8080"]);
    let want = |label| {
        format!(
            "task a: label `{label}` is on the task, where it makes no VIP: it belongs on a port \
             (of `portDefinitions` or `portMappings`)"
        )
    };
    assert_eq!(problems(&planner), [want("VIP_0"), want("vip_1")]);
    assert_eq!(effects.problems.len(), 2, "told as soon as it is seen");
}

#[test]
fn the_port_says_whether_it_is_meant_for_the_host() {
    let mut fact = task("a", "/web:80");
    fact.ports[0].host_port = Some(31001);
    fact.ports[0].labels.insert("network-scope".into(), "host".into());
    let mut planner = planner();
    put(&mut planner, "a", Some(&fact));
    assert_eq!(addresses(&planner), ["10.0.0.1:31001"]);
}
