//! What others see of tasks: facts, `/state`, the rows of lists.

use super::*;
use std::path::PathBuf;

#[test]
fn ports_are_announced_where_somebody_listens() {
    let port = |number, scope: &str| {
        let label = v1::Label { key: "network-scope".to_owned(), value: Some(scope.to_owned()) };
        let labels = if scope.is_empty() { vec![] } else { vec![label] };
        v1::Port { number, labels: Some(v1::Labels { labels }), ..v1::Port::default() }
    };
    let network = |name: &str| v1::NetworkInfo {
        name: (!name.is_empty()).then(|| name.to_owned()),
        port_mappings: vec![v1::network_info::PortMapping {
            host_port: 31_005,
            container_port: 80,
            protocol: None,
        }],
        ..v1::NetworkInfo::default()
    };
    let range = v1::value::Ranges { range: vec![v1::value::Range { begin: 31_005, end: 31_005 }] };
    let ports = v1::Resource { name: "ports".into(), ranges: Some(range), ..Default::default() };
    // On which network, what is announced, and what becomes of it.
    #[rustfmt::skip]
    let table = [
        ("",     "",          31_005, false, 31_005, Some(31_005)),
        ("dcos", "",          31_005, true,  80,     Some(31_005)),
        ("dcos", "host",      31_005, true,  80,     Some(31_005)),
        ("dcos", "container", 80,     true,  80,     Some(31_005)),
        ("dcos", "",          53,     true,  53,     None),
        // An older agent, or plugins that know nothing of ports.
        ("dcos", "",          31_005, false, 80,     None),
        ("dcos", "container", 80,     false, 80,     None),
    ];
    for (name, scope, announced, published, number, host) in table {
        let infos = vec![network(name)];
        let mesos = v1::container_info::Type::Mesos.into();
        let container =
            v1::ContainerInfo { r#type: mesos, network_infos: infos, ..Default::default() };
        let mut bench = Bench::new();
        let container = bench.run(v1::TaskInfo {
            resources: vec![ports.clone()],
            container: Some(container),
            discovery: Some(v1::DiscoveryInfo {
                ports: Some(v1::Ports { ports: vec![port(announced, scope)] }),
                ..v1::DiscoveryInfo::default()
            }),
            ..task_info()
        });
        if !name.is_empty() {
            bench.start_publishing(&container, if published { &["dcos"] } else { &[] });
        }
        let Some(Fact::Task(fact)) = &bench.fact else { panic!("no fact") };
        let found = (fact.ports[0].number, fact.ports[0].host_port);
        assert_eq!(found, (number, host), "{announced} of `{scope}` on `{name}`");
        let listened: &[u16] = if published || name.is_empty() { &[31_005] } else { &[] };
        assert_eq!(fact.host_ports, listened, "{announced} of `{scope}` on `{name}`");
    }
}

#[test]
fn addresses_of_the_node_alone_are_said_to_be_that() {
    let networks = |names: &[&str]| {
        let info = |name: &&str| v1::NetworkInfo {
            name: Some((*name).to_owned()),
            ..v1::NetworkInfo::default()
        };
        let network_infos = names.iter().map(info).collect();
        let r#type = v1::container_info::Type::Mesos.into();
        Some(v1::ContainerInfo { r#type, network_infos, ..Default::default() })
    };
    for (names, want) in [
        (&["mesos-bridge"][..], Reach::Node),
        (&["dcos"], Reach::Cluster),
        (&["mesos-bridge", "dcos"], Reach::Cluster),
        (&[], Reach::Cluster),
    ] {
        let mut bench = Bench::new();
        bench.run(v1::TaskInfo { container: networks(names), ..task_info() });
        let Some(Fact::Task(fact)) = &bench.fact else { panic!("no fact") };
        assert_eq!(fact.container_reach, want, "{names:?}");
    }
}

#[test]
fn what_ended_is_shown_until_its_sandbox_is_gone() {
    let mut bench = Bench::new();
    let container = bench.run(task_info());
    bench.start(&container);
    let record = bench.records[&container].clone();
    bench.end(&container, Exit::Code(0));
    bench.acknowledge_all();
    assert_eq!(bench.agent.rows().as_array().map(Vec::len), Some(0));
    let row = bench.agent.ended_rows()[0].clone();
    assert_eq!((&row["id"], &row["state"]), (&"t".into(), &"TASK_FINISHED".into()));
    assert!(row["ended"].is_number(), "{row}");
    assert_eq!(bench.agent.sandbox_of("t"), Some(record_path(&record)));
    let state = bench.agent.state();
    assert_eq!(state["frameworks"].as_array().map(Vec::len), Some(0));
    let executor = &state["completed_frameworks"][0]["completed_executors"][0];
    assert_eq!(executor["directory"], record_path(&record).display().to_string());
    assert_eq!(executor["completed_tasks"][0]["state"], "TASK_FINISHED");

    // A task of the same framework runs again: the ended one is listed beside it.
    bench.run(task_info());
    let framework = bench.agent.state()["frameworks"][0].clone();
    assert_eq!(framework["executors"].as_array().map(Vec::len), Some(1));
    assert_eq!(framework["completed_executors"].as_array().map(Vec::len), Some(1));
    assert!(bench.agent.is_live("t"));

    bench.agent.sandboxes_removed(std::slice::from_ref(&container));
    assert_eq!(bench.agent.ended_rows().as_array().map(Vec::len), Some(0));
}

#[test]
fn ended_tasks_of_a_former_process_are_the_older_ones() {
    let mut bench = Bench::new();
    let container = bench.run(task_info());
    let former = bench.records[&container].clone();
    bench.start(&container);
    bench.end(&container, Exit::Code(1));
    bench.acknowledge_all();
    let named = |id: &str| Record { container: id.into(), ..former.clone() };
    bench.agent.adopt_ended(vec![named("a"), named("b")]);
    let rows = bench.agent.ended_rows();
    let ids: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["container"].clone()).collect();
    assert_eq!(ids, ["a".into(), "b".into(), serde_json::json!(container)]);
    bench.agent.adopt_ended((0..2 * MAX_SHOWN).map(|n| named(&n.to_string())).collect());
    let rows = bench.agent.ended_rows();
    assert_eq!(rows.as_array().map(Vec::len), Some(MAX_SHOWN));
    let newest_former = (2 * MAX_SHOWN - 1).to_string();
    assert_eq!(rows[MAX_SHOWN - 4]["container"], newest_former);
}

#[test]
fn an_offer_that_became_too_small_is_a_problem() {
    let cpus = |value| v1::Resource {
        name: "cpus".into(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        ..v1::Resource::default()
    };
    for (offered, want) in [
        (2.0, None),
        (0.5, Some("tasks hold more than agent.resources offers: 1 cpus of 0.5".to_owned())),
    ] {
        let mut settings = settings();
        settings.info.resources = vec![cpus(offered)];
        let now = Now { mono: Mono(1), wall: Wall(1) };
        let mut bench = Bench::around(Agent::new(settings, Some("s0".into()), 1, now), now);
        bench.run(v1::TaskInfo { resources: vec![cpus(1.0)], ..task_info() });
        assert_eq!(bench.agent.overcommitted(), want);
    }
}

fn record_path(record: &Record) -> PathBuf {
    settings().work_dir.join(record.sandbox())
}
