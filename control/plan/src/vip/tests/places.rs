//! Addresses of VIPs and of their backends: families, frameworks, nodes.

use super::*;
use std::net::Ipv4Addr;

#[test]
fn without_a_port_of_the_host_a_scope_leads_to_the_container_all_the_same() {
    let mut fact = task("a", "/web:80");
    let mut planner = planner();
    for scope in ["host", "container"] {
        fact.ports[0].labels.insert("network-scope".into(), scope.into());
        put(&mut planner, "a", Some(&fact));
        assert_eq!(addresses(&planner), ["9.0.0.2:8080"], "{scope}");
        assert_eq!(problems(&planner), [] as [&str; 0]);
    }
    fact.ports[0].labels.insert("network-scope".into(), "moon".into());
    put(&mut planner, "a", Some(&fact));
    assert_eq!(addresses(&planner), ["9.0.0.2:8080"], "as if it said nothing");
    let want =
        "task a: label `network-scope`: `moon` is not a scope (container, host); it is not heeded";
    assert_eq!(problems(&planner), [want]);
}

#[test]
fn a_port_of_the_host_leads_to_the_container_from_everywhere() {
    use Reach::{Cluster, Node};
    // The scope, who reaches the container, where clients of other nodes are led, where
    // those of its own are, and where they are if nothing translates twice.
    const HOST: &str = "10.0.0.1:31005";
    const CONTAINER: &str = "9.0.0.2:8080";
    #[rustfmt::skip]
    let table = [
        (None,              Cluster, HOST,      HOST,      CONTAINER),
        (Some("host"),      Cluster, HOST,      HOST,      CONTAINER),
        (Some("container"), Cluster, CONTAINER, CONTAINER, CONTAINER),
        (None,              Node,    HOST,      CONTAINER, CONTAINER),
        (Some("host"),      Node,    HOST,      CONTAINER, CONTAINER),
        (Some("container"), Node,    HOST,      CONTAINER, CONTAINER),
    ];
    for (scope, reach, elsewhere, here, once) in table {
        let mut fact = task("a", "/web:80");
        (fact.ports[0].host_port, fact.container_reach) = (Some(31_005), reach);
        let label = scope.map(|scope: &str| ("network-scope".to_owned(), scope.to_owned()));
        fact.ports[0].labels.extend(label);
        let led = |mut planner: Planner, owner: &str| {
            put_on(&mut planner, owner, "a", Some(&fact));
            addresses(&planner)
        };
        let mut single = planner();
        single.avoid_own_ports();
        assert_eq!(led(planner(), "n2"), [elsewhere], "{scope:?} {reach:?}");
        assert_eq!(led(planner(), "n1"), [here], "{scope:?} {reach:?}");
        assert_eq!(led(single, "n1"), [once], "{scope:?} {reach:?}");
    }
    let mut alone = task("a", "/web:80");
    alone.container_reach = Node;
    let mut planner = planner();
    put_on(&mut planner, "n2", "a", Some(&alone));
    assert_eq!((addresses(&planner).len(), planner.problems().len()), (0, 1), "nobody gets there");
}

#[test]
fn before_a_container_has_an_address_it_is_no_backend_and_no_problem() {
    let mut fact = TaskFact { phase: TaskPhase::Staging, ..task("a", "/web:80") };
    fact.container_addresses.clear();
    let mut planner = planner();
    put(&mut planner, "a", Some(&fact));
    assert_eq!((addresses(&planner).len(), planner.problems().len()), (0, 0));
    fact.phase = TaskPhase::Running;
    put(&mut planner, "a", Some(&fact));
    let want = "task a: label `VIP_0`: the task has no address of that family";
    assert_eq!(problems(&planner), [want]);
}

#[test]
fn two_frameworks_share_an_address_and_not_a_name() {
    let mut planner = planner();
    let with = |id: &str, framework: &str| {
        let mut fact = TaskFact { framework_name: framework.into(), ..task(id, "10.1.1.1:80") };
        fact.ports[0].labels.insert("VIP_1".into(), "/web:80".into());
        fact
    };
    put(&mut planner, "a", Some(&with("a", "marathon")));
    put(&mut planner, "bb", Some(&with("bb", "Other.Framework")));
    assert_eq!(
        lines(&planner),
        [
            "10.1.1.1:80/tcp -: 9.0.0.2:8080 9.0.0.3:8080",
            "11.89.69.176:80/tcp web.other.framework: 9.0.0.3:8080",
            "11.169.34.66:80/tcp web.marathon: 9.0.0.2:8080",
        ]
    );
}

#[test]
fn a_name_has_an_address_of_each_family_that_its_backends_have() {
    let mut fact = task("a", "/web:80");
    let mut planner = planner();
    put(&mut planner, "a", Some(&fact));
    assert_eq!(shown(&planner.addresses_of("web.marathon")), "11.169.34.66");

    fact.container_addresses.push("fd01:b::2".parse().unwrap());
    let effects = put(&mut planner, "a", Some(&fact));
    assert!(effects.claims.is_empty(), "one claim is for both");
    assert_eq!(
        lines(&planner),
        [
            "11.169.34.66:80/tcp web.marathon: 9.0.0.2:8080",
            "[fd01:c::ba9:2242]:80/tcp web.marathon: [fd01:b::2]:8080",
        ]
    );
    assert_eq!(shown(&planner.addresses_of("web.marathon")), "11.169.34.66 fd01:c::ba9:2242");

    // A port without a backend of a family that the name has refuses there at once.
    let other = put(&mut planner, "bb", Some(&task("bb", "/web:81")));
    assert_eq!(other.changed.len(), 2);
    assert_eq!(lines(&planner)[1], "11.169.34.66:81/tcp web.marathon: 9.0.0.3:8080");
    assert_eq!(lines(&planner)[3], "[fd01:c::ba9:2242]:81/tcp web.marathon: ");

    fact.container_addresses.remove(0);
    put(&mut planner, "a", Some(&fact));
    let gone = put(&mut planner, "bb", None);
    let none: Vec<_> = gone.changed.iter().filter(|vip| planner.spec(vip).is_none()).collect();
    assert_eq!(none.len(), 3, "IPv4 goes from both ports: {gone:?}");
    assert_eq!(lines(&planner), ["[fd01:c::ba9:2242]:80/tcp web.marathon: [fd01:b::2]:8080"]);
    assert_eq!(shown(&planner.addresses_of("web.marathon")), "fd01:c::ba9:2242");
    put(&mut planner, "a", None);
    assert_eq!(planner.addresses_of("web.marathon"), [] as [IpAddr; 0]);
}

fn shown(addresses: &[IpAddr]) -> String {
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    all.join(" ")
}

#[test]
fn a_literal_address_takes_backends_of_its_family() {
    let mut fact = task("a", "[fd00::7]:80");
    fact.container_addresses.push("fd01:b::2".parse().unwrap());
    let mut planner = planner();
    put(&mut planner, "a", Some(&fact));
    assert_eq!(lines(&planner), ["[fd00::7]:80/tcp -: [fd01:b::2]:8080"]);
}

#[test]
fn when_all_addresses_are_claimed_the_rest_is_told() {
    let mut planner = planner_in("11.0.0.0/30");
    for (id, name) in [("a", "/one:80"), ("bb", "/two:80"), ("ccc", "/three:80")] {
        put(&mut planner, id, Some(&task(id, name)));
    }
    assert_eq!(planner.specs().len(), 2);
    assert_eq!(problems(&planner), ["task ccc: no address is left for three.marathon"]);
}

#[test]
fn near_and_far_backends() {
    let node = |zone: Option<&str>, last: u8| {
        Fact::Node(NodeFact {
            hostname: "h".into(),
            address: [10, 0, 0, last].into(),
            agent_id: None,
            zone: zone.map(str::to_owned),
            authority: false,
            overlay: None,
        })
    };
    let distances = |planner: &Planner| -> Vec<Distance> {
        let specs = planner.specs();
        specs.values().flat_map(|spec| spec.backends.iter().map(|b| b.distance)).collect()
    };
    let mut planner = planner();
    for (n, id) in ["a", "bb", "ccc"].into_iter().enumerate() {
        put_on(&mut planner, &format!("n{}", n + 1), id, Some(&task(id, "/web:80")));
    }
    use Distance::{Far, Node, Zone};
    assert_eq!(distances(&planner), [Node, Far, Far]);
    planner.apply(&"n1".into(), &Key::Node, Some(&node(Some("east"), 1)));
    planner.apply(&"n2".into(), &Key::Node, Some(&node(Some("east"), 2)));
    let effects = planner.apply(&"n3".into(), &Key::Node, Some(&node(Some("west"), 3)));
    assert_eq!(effects.changed.len(), 1);
    assert_eq!(distances(&planner), [Node, Zone, Far]);
    let same = planner.apply(&"n3".into(), &Key::Node, Some(&node(Some("west"), 3)));
    assert_eq!(same, Effects::default());
    planner.apply(&"n1".into(), &Key::Node, Some(&node(None, 1)));
    assert_eq!(distances(&planner), [Node, Far, Far], "without a zone nothing is near");
    planner.apply(&"n1".into(), &Key::Node, Some(&node(Some("west"), 1)));
    planner.apply(&"n2".into(), &Key::Node, None);
    assert_eq!(distances(&planner), [Node, Far, Zone]);
}

#[test]
fn a_node_that_does_not_answer_gets_no_new_connections() {
    let mut planner = planner();
    put_on(&mut planner, "n2", "a", Some(&task("a", "/web:80")));
    put_on(&mut planner, "n3", "bb", Some(&task("bb", "/web:80")));
    put_on(&mut planner, "n3", "ccc", Some(&task("ccc", "/other:80")));
    let admitted = |planner: &Planner| -> Vec<(String, bool)> {
        let specs = planner.specs();
        let backends = specs.values().flat_map(|spec| spec.backends.clone());
        backends.map(|backend| (backend.address.to_string(), backend.is_admitted())).collect()
    };
    let shown = |first: bool| {
        [("9.0.0.4:8080", true), ("9.0.0.2:8080", first), ("9.0.0.3:8080", true)]
            .map(|(address, admitted)| (address.to_owned(), admitted))
    };
    assert_eq!(planner.set_doubt(&"n2".into(), true).len(), 1, "the VIPs of that node alone");
    assert_eq!(admitted(&planner), shown(false));
    let silent = planner.specs().into_values().flat_map(|spec| spec.backends);
    let silent = silent.filter_map(|backend| backend.withheld).collect::<Vec<_>>();
    assert_eq!(silent, [Withheld::NoAnswer]);
    assert!(planner.set_doubt(&"n2".into(), true).is_empty(), "that was known");
    assert_eq!(planner.set_doubt(&"n2".into(), false).len(), 1);
    assert_eq!(admitted(&planner), shown(true));
}

#[test]
fn a_task_that_moved_is_not_removed_with_its_former_node() {
    let mut planner = planner();
    put_on(&mut planner, "n2", "a", Some(&task("a", "/web:80")));
    put_on(&mut planner, "n3", "a", Some(&task("a", "/web:80")));
    put_on(&mut planner, "n2", "a", None);
    assert_eq!(addresses(&planner), ["9.0.0.2:8080"]);
}

#[test]
fn where_two_tasks_have_one_address_it_is_enough_that_one_takes_clients() {
    let mut planner = planner();
    let ending = TaskFact { phase: TaskPhase::Killing, ..task("a", "/web:80") };
    put(&mut planner, "a", Some(&ending));
    let specs = planner.specs();
    assert!(!specs.values().next().unwrap().backends[0].is_admitted());
    put(&mut planner, "b", Some(&task("b", "/web:80")));
    let specs = planner.specs();
    let backends = &specs.values().next().unwrap().backends;
    assert_eq!(backends.len(), 1);
    assert!(backends[0].is_admitted(), "the address was given to another task");
}

#[test]
fn sixty_five_thousand_backends_and_one_change() {
    let mut planner = planner();
    let many: u32 = 65_536;
    for n in 0..many {
        let mut fact = task("x", "/web:80");
        fact.container_addresses = vec![Ipv4Addr::from(0x0900_0000 + n).into()];
        put(&mut planner, &format!("task-{n}"), Some(&fact));
    }
    for n in 0..10_000_u32 {
        put(&mut planner, &format!("other-{n}"), Some(&task("x", &format!("/app{n}:80"))));
    }
    let effects = put(&mut planner, "task-77", None);
    assert_eq!(effects.changed.len(), 1, "one VIP of 10,001");
    let spec = planner.spec(effects.changed.first().unwrap()).unwrap();
    assert_eq!(spec.backends.len(), 65_535);
    assert!(spec.backends.is_sorted());
    assert_eq!(planner.problems(), []);
}
