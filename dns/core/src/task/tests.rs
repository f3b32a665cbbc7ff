//! What a task is called, and a task to ask it of.

use super::*;
use crate::records::{MAX_CROWDED_OUT, MAX_SERVICES};
use mizzen_types::fact::Reach;
use mizzen_types::time::Wall;
use std::collections::BTreeMap;

/// A running task on the host's network with one host port.
pub(crate) fn task(id: &str, name: &str) -> TaskFact {
    TaskFact {
        task_id: id.into(),
        framework_id: "m-0001".into(),
        framework_name: "marathon".into(),
        agent_id: "m-S3".into(),
        container_id: "c1".into(),
        name: name.into(),
        discovery_name: None,
        phase: TaskPhase::Running,
        health: Health::Unchecked,
        host_address: "10.0.0.2".parse().unwrap(),
        container_addresses: Vec::new(),
        container_reach: Reach::Cluster,
        host_ports: vec![31042],
        ports: Vec::new(),
        labels: BTreeMap::new(),
        launched: Wall(0),
    }
}

pub(crate) fn port(number: u16, host_port: Option<u16>, name: &str, protocol: &str) -> PortFact {
    let name = (!name.is_empty()).then(|| name.to_owned());
    PortFact { number, host_port, name, protocol: protocol.into(), labels: BTreeMap::new() }
}

fn lines(task: &TaskFact, options: &Options, filter: &str) -> Vec<String> {
    let records = task_records(task, options, Distance::Far);
    let mut lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    lines.retain(|line| line.contains(filter));
    lines.sort();
    lines
}

#[test]
fn a_task_on_the_host_has_all_its_old_names() {
    #[rustfmt::skip]
    assert_eq!(lines(&task("web.1", "web"), &Options::default(), ""), [
        "_web._tcp.marathon.mesos. 5 IN SRV 0 1 31042 web-e844k-s3.marathon.slave.mesos.",
        "_web._tcp.marathon.slave.mesos. 5 IN SRV 0 1 31042 web-e844k-s3.marathon.slave.mesos.",
        "_web._udp.marathon.mesos. 5 IN SRV 0 1 31042 web-e844k-s3.marathon.slave.mesos.",
        "_web._udp.marathon.slave.mesos. 5 IN SRV 0 1 31042 web-e844k-s3.marathon.slave.mesos.",
        "web-e844k-s3.marathon.mesos. 5 IN A 10.0.0.2",
        "web-e844k-s3.marathon.slave.mesos. 5 IN A 10.0.0.2",
        "web.marathon.agentip.dcos.thisdcos.directory. 5 IN A 10.0.0.2",
        "web.marathon.autoip.dcos.thisdcos.directory. 5 IN A 10.0.0.2",
        "web.marathon.containerip.dcos.thisdcos.directory. 5 IN A 10.0.0.2",
        "web.marathon.mesos. 5 IN A 10.0.0.2",
        "web.marathon.slave.mesos. 5 IN A 10.0.0.2",
    ]);
}

fn discovered() -> TaskFact {
    let mut task = task("web.1", "ignored");
    task.discovery_name = Some("Web.Group".into());
    task.container_addresses = vec!["9.0.1.5".parse().unwrap(), "fd01:b::5".parse().unwrap()];
    task.ports = vec![port(80, Some(31042), "http", "tcp"), port(53, None, "", "tcp,udp")];
    task
}

#[test]
fn discovery_info_decides_names_and_ports() {
    let hash = crate::mangle::task_hash("web.1");
    let (dash, dot) = (format!("web-group-{hash}-s3"), format!("web.group-{hash}-s3"));
    let options = Options::default();
    #[rustfmt::skip]
    assert_eq!(lines(&discovered(), &options, "marathon.mesos. 5 IN SRV"), [
        format!("_http._web-group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dash}.marathon.mesos."),
        format!("_http._web.group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dot}.marathon.mesos."),
        format!("_web-group._tcp.marathon.mesos. 5 IN SRV 0 1 53 {dash}.marathon.mesos."),
        format!("_web-group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dash}.marathon.mesos."),
        format!("_web-group._udp.marathon.mesos. 5 IN SRV 0 1 53 {dash}.marathon.mesos."),
        format!("_web.group._tcp.marathon.mesos. 5 IN SRV 0 1 53 {dot}.marathon.mesos."),
        format!("_web.group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dot}.marathon.mesos."),
        format!("_web.group._udp.marathon.mesos. 5 IN SRV 0 1 53 {dot}.marathon.mesos."),
    ]);
    #[rustfmt::skip]
    assert_eq!(lines(&discovered(), &options, " A"), [
        format!("{dash}.marathon.mesos. 5 IN A 9.0.1.5"),
        format!("{dash}.marathon.mesos. 5 IN AAAA fd01:b::5"),
        format!("{dash}.marathon.slave.mesos. 5 IN A 10.0.0.2"),
        "web-group.marathon.agentip.dcos.thisdcos.directory. 5 IN A 10.0.0.2".into(),
        "web-group.marathon.autoip.dcos.thisdcos.directory. 5 IN A 10.0.0.2".into(),
        "web-group.marathon.containerip.dcos.thisdcos.directory. 5 IN A 9.0.1.5".into(),
        "web-group.marathon.containerip.dcos.thisdcos.directory. 5 IN AAAA fd01:b::5".into(),
        "web-group.marathon.mesos. 5 IN A 9.0.1.5".into(),
        "web-group.marathon.mesos. 5 IN AAAA fd01:b::5".into(),
        "web-group.marathon.slave.mesos. 5 IN A 10.0.0.2".into(),
        format!("{dot}.marathon.mesos. 5 IN A 9.0.1.5"),
        format!("{dot}.marathon.mesos. 5 IN AAAA fd01:b::5"),
        format!("{dot}.marathon.slave.mesos. 5 IN A 10.0.0.2"),
        "web.group.marathon.mesos. 5 IN A 9.0.1.5".into(),
        "web.group.marathon.mesos. 5 IN AAAA fd01:b::5".into(),
        "web.group.marathon.slave.mesos. 5 IN A 10.0.0.2".into(),
    ]);
}

#[test]
fn the_order_of_sources_picks_the_address_and_its_port() {
    use IpSource::{Container, Host};
    let on_host = task("web.1", "web-group");
    let bridged = TaskFact { container_reach: Reach::Node, ..discovered() };
    type Row = (&'static [IpSource], TaskFact, &'static [&'static str], &'static [u16]);
    #[rustfmt::skip]
    let table: &[Row] = &[
        (&[Container, Host], discovered(), &["9.0.1.5", "fd01:b::5"], &[53, 80]),
        (&[Host, Container], discovered(), &["10.0.0.2"],             &[53, 31042]),
        (&[Container, Host], on_host.clone(), &["10.0.0.2"],          &[31042]),
        (&[Container],       on_host.clone(), &["10.0.0.2"],          &[31042]),
        (&[Container, Host], bridged,         &["10.0.0.2"],          &[53, 31042]),
        (&[],                on_host,         &["10.0.0.2"],          &[31042]),
    ];
    for (order, task, addresses, ports) in table {
        let options = Options { ip_sources: order.to_vec(), ..Options::default() };
        let a = lines(task, &options, "web-group.marathon.mesos. 5 IN A");
        let got: Vec<&str> = a.iter().filter_map(|line| line.split(' ').next_back()).collect();
        assert_eq!(got, *addresses, "{order:?}");
        let srv = lines(task, &options, "_web-group._tcp.marathon.mesos. 5 IN SRV");
        let mut got: Vec<u16> = srv
            .iter()
            .filter(|line| line.starts_with("_web-group"))
            .filter_map(|line| line.split(' ').nth(6)?.parse().ok())
            .collect();
        got.sort_unstable();
        assert_eq!(got, *ports, "{order:?}");
    }
}

#[test]
fn what_takes_no_clients_is_marked() {
    use Health as H;
    use TaskPhase as P;
    let (default, all) = (
        Options::default(),
        Options { serve_unhealthy: true, serve_killing: true, ..Options::default() },
    );
    #[rustfmt::skip]
    let table = [
        (P::Staging,  H::Unchecked, &default, Some(Withheld::Starting)),
        (P::Starting, H::Unchecked, &all,     Some(Withheld::Starting)),
        (P::Running,  H::Unchecked, &default, None),
        (P::Running,  H::Unknown,   &default, None),
        (P::Running,  H::Healthy,   &default, None),
        (P::Running,  H::Unhealthy, &default, Some(Withheld::Unhealthy)),
        (P::Running,  H::Unhealthy, &all,     None),
        (P::Killing,  H::Healthy,   &default, Some(Withheld::Killing)),
        (P::Killing,  H::Unhealthy, &all,     None),
        (P::Draining, H::Healthy,   &default, Some(Withheld::Draining)),
        (P::Draining, H::Healthy,   &all,     None),
    ];
    for (phase, health, options, want) in table {
        let mut task = task("web.1", "web");
        (task.phase, task.health) = (phase, health);
        let records = task_records(&task, options, Distance::Far);
        assert!(!records.is_empty());
        assert!(records.iter().all(|r| r.withheld == want), "{phase:?} {health:?}");
    }
}

fn pointer(task: &TaskFact, options: &Options, distance: Distance) -> Vec<String> {
    let records = task_records(task, options, distance);
    let mut lines: Vec<String> = records
        .iter()
        .filter(|r| r.name.as_str().ends_with(".arpa"))
        .map(ToString::to_string)
        .collect();
    lines.sort();
    lines
}

#[test]
fn addresses_lead_back_to_what_leads_to_them() {
    let one = format!("web-group-{}-s3.marathon.mesos.", crate::mangle::task_hash("web.1"));
    let v6 = crate::reverse_name("fd01:b::5".parse().unwrap());
    let options = Options::default();
    assert_eq!(
        pointer(&discovered(), &options, Distance::Far),
        [format!("{v6} 5 IN PTR {one}"), format!("5.1.0.9.in-addr.arpa. 5 IN PTR {one}"),]
    );
    let by_host = Options { ip_sources: vec![IpSource::Host], ..Options::default() };
    assert_eq!(
        pointer(&discovered(), &by_host, Distance::Far)[1],
        "5.1.0.9.in-addr.arpa. 5 IN PTR web-group.marathon.containerip.dcos.thisdcos.directory.",
    );
    assert!(pointer(&task("web.1", "web"), &options, Distance::Node).is_empty(), "its node's");
    let mut bridged = task("web.1", "web");
    bridged.container_addresses = vec!["172.17.0.2".parse().unwrap()];
    assert!(pointer(&bridged, &options, Distance::Far).is_empty(), "many have that address");
    let hash = crate::mangle::task_hash("web.1");
    assert_eq!(
        pointer(&bridged, &options, Distance::Node),
        [
            format!("2.0.17.172.in-addr.arpa. 5 IN PTR web-{hash}-s3.marathon.mesos."),
            "2.0.17.172.in-addr.arpa. 5 IN SOA ns.spartan. hostmaster.spartan.".to_owned(),
        ]
    );
}

#[test]
fn an_address_keeps_its_name_while_its_task_is_unwell() {
    use Health as H;
    use TaskPhase as P;
    let table = [
        (P::Running, H::Unhealthy, None),
        (P::Killing, H::Healthy, None),
        (P::Starting, H::Unchecked, Some(Withheld::Starting)),
    ];
    for (phase, health, want) in table {
        let mut task = discovered();
        (task.phase, task.health) = (phase, health);
        let records = task_records(&task, &Options::default(), Distance::Far);
        let found = records.iter().find(|r| matches!(r.data, Data::Ptr(_))).unwrap();
        assert_eq!(found.withheld, want, "{phase:?} {health:?}");
    }
}

#[test]
fn vips_of_https_ports_say_so() {
    let vip_port = |number: u16, name: &str, vip: &str| {
        let labels = BTreeMap::from([("VIP_0".to_owned(), vip.to_owned())]);
        PortFact { labels, ..port(number, None, name, "tcp") }
    };
    #[rustfmt::skip]
    let table: &[(&[PortFact], &[&str])] = &[
        (&[vip_port(80, "http", "/web:80")], &[]),
        (&[vip_port(443, "https", "/web:443"), vip_port(8443, "HTTPS", "/web:8443")], &[
            "_8443._https.web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 web.marathon.l4lb.thisdcos.directory. port=8443",
            "web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 .",
        ]),
        (&[vip_port(9, "https", "/web:8443")], &[
            "_8443._https.web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 web.marathon.l4lb.thisdcos.directory. port=8443",
            "web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 . port=8443",
        ]),
        (&[vip_port(1, "https", "/web:1"), vip_port(2, "https", "/web:2")], &[
            "_1._https.web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 web.marathon.l4lb.thisdcos.directory. port=1",
            "_2._https.web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 web.marathon.l4lb.thisdcos.directory. port=2",
        ]),
        (&[vip_port(443, "https", "11.1.2.3:443"), vip_port(443, "https", "web")], &[]),
    ];
    for (ports, want) in table {
        let mut task = task("web.1", "web");
        task.ports = ports.to_vec();
        assert_eq!(lines(&task, &Options::default(), "IN HTTPS"), *want);
    }
}

#[test]
fn a_framework_does_not_speak_for_agents() {
    for (framework, want) in [
        ("slave", Some(Withheld::Reserved)),
        ("Web.Slave", Some(Withheld::Reserved)),
        ("slave.web", None),
        ("leader", None),
    ] {
        let mut task = discovered();
        task.framework_name = framework.into();
        let records = task_records(&task, &Options::default(), Distance::Far);
        let of = |suffix: &str| {
            let found: Vec<_> =
                records.iter().filter(|r| r.name.as_str().ends_with(suffix)).collect();
            assert!(!found.is_empty());
            assert!(found.iter().all(|r| r.withheld == found[0].withheld));
            found[0].withheld
        };
        assert_eq!((of(".mesos"), of(".dcos.thisdcos.directory")), (want, None), "{framework}");
        let back = pointer(&task, &Options::default(), Distance::Far);
        assert_eq!(back[0].contains("containerip"), want.is_some(), "{back:?}");
    }
}

#[test]
fn ten_thousand_ports_are_a_thousand_records() {
    let mut many = task("web.1", "web");
    let counts = |task: &TaskFact| {
        let records = task_records(task, &Options::default(), Distance::Far);
        let services = || records.iter().filter(|record| matches!(record.data, Data::Srv { .. }));
        let crowded: BTreeSet<String> = services()
            .filter(|record| record.withheld == Some(Withheld::CrowdedOut))
            .map(|record| record.name.to_string())
            .collect();
        let served = services().filter(|record| record.withheld.is_none()).count();
        (served, services().count() - served, crowded)
    };
    let names = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    many.host_ports = (1..=10_000).collect();
    let of_agent = ["_web._tcp.marathon.slave.mesos.", "_web._udp.marathon.slave.mesos."];
    let own = ["_web._tcp.marathon.mesos.", "_web._udp.marathon.mesos."];
    let all = names(&[of_agent, own].concat());
    assert_eq!(counts(&many), (MAX_SERVICES, MAX_CROWDED_OUT, all), "each name says so");
    many.host_ports.clear();
    many.discovery_name = Some("web".into());
    many.ports = (1..=10_000).map(|number| port(number, None, "x", "tcp")).collect();
    let all = names(&[own[0], "_x._web._tcp.marathon.mesos."]);
    assert_eq!(counts(&many), (MAX_SERVICES, MAX_CROWDED_OUT, all));
}

#[test]
fn in_legacy_mode_the_announced_number_stands_with_the_agent_too() {
    let options = |mode| Options { mode, ip_sources: vec![IpSource::Host], ..Options::default() };
    let strict = lines(&discovered(), &options(Mode::Strict), "_http._web-group._tcp");
    assert!(strict[0].contains("SRV 0 1 31042 "), "{strict:?}");
    let legacy = lines(&discovered(), &options(Mode::Legacy), "_http._web-group._tcp");
    assert!(legacy[0].contains(" 60 IN SRV 0 1 80 "), "{legacy:?}");
}

#[test]
fn rfc_952_is_for_mesos_names_only() {
    let options = Options { labels: LabelRules::Rfc952, ..Options::default() };
    let long = task("web.1", &format!("4{}", "w".repeat(40)));
    let names = lines(&long, &options, " A ");
    let label = "w".repeat(24);
    assert!(names.contains(&format!("{label}.marathon.mesos. 5 IN A 10.0.0.2")), "{names:?}");
    let label = format!("4{}", "w".repeat(40));
    let name = format!("{label}.marathon.agentip.dcos.thisdcos.directory. 5 IN A 10.0.0.2");
    assert!(names.contains(&name), "{names:?}");
}

#[test]
fn names_that_are_none_make_no_records() {
    let huge = "x".repeat(10_000);
    #[rustfmt::skip]
    let table = [
        ("..",              "marathon", 0),
        ("\0\0",            "marathon", 0),
        ("web",             "///",      0),
        // A label of 63 has no room for the underscore of SRV names.
        (huge.as_str(),     "marathon", 7),
        ("web.other.mesos", "marathon", 11),
    ];
    for (name, framework, want) in table {
        let mut task = task("web.1", name);
        task.framework_name = framework.into();
        assert_eq!(
            task_records(&task, &Options::default(), Distance::Far).len(),
            want,
            "{framework}"
        );
    }
    let mut long = task("web.1", "web");
    long.framework_name =
        ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)].join(".");
    assert!(
        task_records(&long, &Options::default(), Distance::Far).is_empty(),
        "no name can hold it"
    );
}

#[test]
fn a_discovery_name_that_is_no_name_is_only_mangled() {
    for written in ["a b", "a..b", "a/b", "ä", "a\\046b"] {
        let mut task = task("web.1", "web");
        task.discovery_name = Some(written.into());
        let names: Vec<String> = task_records(&task, &Options::default(), Distance::Far)
            .iter()
            .map(|r| r.name.to_string())
            .collect();
        assert!(
            names.iter().all(|name| name.starts_with('a') || name.starts_with("_a")),
            "{names:?}"
        );
        assert!(!names.iter().any(|name| name.contains(written)), "{names:?}");
    }
}
