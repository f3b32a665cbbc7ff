//! Services that were registered by hand, and previews.

use super::*;
use mizzen_types::vip::PolicyWish;
use mizzen_types::vip_service::VipServiceBackend;
use std::net::SocketAddr;

fn service(backends: &[&str]) -> VipServiceFact {
    let backend = |text: &&str| text.parse::<VipServiceBackend>().unwrap();
    VipServiceFact { backends: backends.iter().map(backend).collect(), ..Default::default() }
}

fn register(planner: &mut Planner, id: &str, fact: Option<VipServiceFact>) -> Effects {
    let key = Key::VipService(id.parse().unwrap());
    planner.apply(&"n1".into(), &key, fact.map(Fact::VipService).as_ref())
}

#[test]
fn a_registered_service_has_a_name_and_an_address() {
    let mut planner = planner();
    let effects = register(&mut planner, "demo:80/tcp", Some(service(&["192.0.2.7:8080@3"])));
    assert_eq!(effects.claims[0].name, "demo.static");
    let vip = *effects.changed.first().unwrap();
    let spec = planner.spec(&vip).unwrap();
    assert_eq!(spec.name.as_deref(), Some("demo.static"));
    assert_eq!((spec.backends[0].weight, spec.backends[0].is_admitted()), (3, true));
    assert_eq!(spec.backends[0].task, None);
    assert_eq!(planner.vips_of(&"demo:80/tcp".parse().unwrap()), [vip]);

    let gone = register(&mut planner, "demo:80/tcp", None);
    assert_eq!(gone.changed.len(), 1);
    assert_eq!(planner.spec(&vip), None);
    assert_eq!(planner.addresses_of("demo.static"), [] as [IpAddr; 0]);
    assert_eq!(planner.vips_of(&"demo:80/tcp".parse().unwrap()), []);
    let again = register(&mut planner, "demo:80/tcp", Some(service(&[])));
    assert_eq!(again.changed.first(), Some(&vip), "the claim is sticky");
    assert_eq!(planner.spec(&vip).unwrap().backends, [], "nobody is there: refused at once");
    assert_eq!(planner.addresses_of("demo.static").len(), 1);
}

#[test]
fn registered_and_task_born_backends_share_a_vip() {
    let mut planner = planner();
    put(&mut planner, "a", Some(&task("a", "/web:80")));
    let by_hand = VipServiceFact {
        policy: PolicyWish { rule: Some(Rule::Source), ..PolicyWish::default() },
        ..service(&["192.0.2.7:80", "9.0.0.2:8080@5", "[fd00::1]:80"])
    };
    register(&mut planner, "web.marathon:80/tcp", Some(by_hand));
    assert_eq!(
        lines(&planner),
        [
            "11.169.34.66:80/tcp web.marathon: 9.0.0.2:8080 192.0.2.7:80",
            "[fd01:c::ba9:2242]:80/tcp web.marathon: [fd00::1]:80",
        ]
    );
    let both = |planner: &Planner| -> BackendSpec {
        planner.specs().values().next().unwrap().backends[0].clone()
    };
    assert_eq!(both(&planner).weight, 5, "what was registered by hand is heard first");
    assert_eq!(both(&planner).task.map(|task| task.1.to_string()).as_deref(), Some("a"));
    assert_eq!(planner.specs().values().next().unwrap().policy.rule, Rule::Source);

    let mut other = task("a", "/web:80");
    other.ports[0].labels.insert("l4lb-rule".into(), "random".into());
    other.health = Health::Unhealthy;
    put(&mut planner, "a", Some(&other));
    assert!(!both(&planner).is_admitted(), "its health counts all the same");
    let want = "task a: `l4lb-rule` is `random`, but `source` of registered service web.marathon:80/tcp holds";
    assert_eq!(problems(&planner), [want]);

    put(&mut planner, "a", Some(&task("a", "/web:80")));
    assert!(both(&planner).is_admitted());
    register(&mut planner, "web.marathon:80/tcp", Some(service(&["9.0.0.2:8080@0"])));
    assert!(!both(&planner).is_admitted(), "drained by hand");
    put(&mut planner, "a", None);
    register(&mut planner, "web.marathon:80/tcp", None);
    assert_eq!(planner.specs().len(), 0);
}

#[test]
fn a_literal_service_by_hand_and_by_label() {
    let mut planner = planner();
    put(&mut planner, "a", Some(&task("a", "10.9.8.7:80")));
    register(&mut planner, "10.9.8.7:80/tcp", Some(service(&["192.0.2.7:80"])));
    register(&mut planner, "10.9.8.7:80/udp", Some(service(&["192.0.2.7:80"])));
    assert_eq!(
        lines(&planner),
        ["10.9.8.7:80/tcp -: 9.0.0.2:8080 192.0.2.7:80", "10.9.8.7:80/udp -: 192.0.2.7:80"]
    );
}

#[test]
fn registered_backends_have_the_distance_of_the_node_with_their_address() {
    let mut planner = planner();
    let node = |last: u8| {
        Fact::Node(NodeFact {
            hostname: "h".into(),
            address: [10, 0, 0, last].into(),
            agent_id: None,
            zone: Some("east".into()),
            authority: false,
            overlay: None,
        })
    };
    planner.apply(&"n1".into(), &Key::Node, Some(&node(1)));
    planner.apply(&"n2".into(), &Key::Node, Some(&node(2)));
    let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "127.0.0.1:80"];
    register(&mut planner, "demo:80/tcp", Some(service(&all)));
    let specs = planner.specs();
    let found: Vec<_> =
        specs.values().next().unwrap().backends.iter().map(|b| b.distance).collect();
    assert_eq!(found, [Distance::Node, Distance::Zone, Distance::Far, Distance::Node]);

    // Registered elsewhere, loopback is that node's.
    let key = Key::VipService("other:80/tcp".parse().unwrap());
    planner.apply(&"n2".into(), &key, Some(&Fact::VipService(service(&all))));
    let specs = planner.specs();
    let other = specs.values().find(|spec| spec.name.as_deref() == Some("other.static")).unwrap();
    assert_eq!(other.backends.len(), 3);
}

#[test]
fn a_preview_tells_what_would_change_and_changes_nothing() {
    let mut planner = planner();
    put(&mut planner, "a", Some(&task("a", "/web:80")));
    let before = lines(&planner);
    let said = |id: &str, fact: Option<VipServiceFact>| {
        ("n1".into(), Key::VipService(id.parse().unwrap()), fact.map(Fact::VipService))
    };
    let task_key = Key::Task("f".into(), "a".into());
    let preview = planner.preview(&[
        said("web.marathon:80/tcp", Some(service(&["192.0.2.7:80"]))),
        said("demo:80/tcp", Some(service(&["192.0.2.8:80"]))),
        said("gone:80/tcp", None),
        ("n1".into(), task_key, None),
    ]);
    assert_eq!(lines(&planner), before);
    assert_eq!(planner.addresses_of("demo.static"), [] as [IpAddr; 0], "nothing is claimed");
    let row = |change: &VipChange| {
        let count = |spec: &Option<VipSpec>| spec.as_ref().map(|spec| spec.backends.len());
        let name = change.after.as_ref().and_then(|spec| spec.name.clone());
        (name.unwrap_or_default(), count(&change.before), count(&change.after))
    };
    let mut rows: Vec<_> = preview.changes.iter().map(row).collect();
    rows.sort();
    assert_eq!(
        rows,
        [("demo.static".to_owned(), None, Some(1)), ("web.marathon".to_owned(), Some(1), Some(1))]
    );
    let names: Vec<_> = preview.names.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(names, ["demo.static"], "the other one keeps its address");
    assert_eq!((preview.names[0].before.len(), preview.names[0].after.len()), (0, 1));
    let changed = preview.changes.iter().find(|change| change.before.is_some()).unwrap();
    assert_eq!(changed.after.as_ref().unwrap().backends[0].address.to_string(), "192.0.2.7:80");
}

#[test]
fn no_vip_is_where_the_node_itself_listens() {
    let mut planner = planner();
    register(&mut planner, "198.51.100.1:53/udp", Some(service(&["192.0.2.7:53"])));
    register(&mut planner, "198.51.100.1:53/tcp", Some(service(&["192.0.2.7:53"])));
    register(&mut planner, "127.0.0.1:62080/tcp", Some(service(&["192.0.2.7:80"])));
    let resolver = VipKey {
        address: "198.51.100.1".parse().unwrap(),
        port: 53,
        protocol: mizzen_types::vip::Protocol::Udp,
    };
    assert_eq!(planner.set_listeners([resolver].into()), [resolver].into());
    assert_eq!(lines(&planner), ["198.51.100.1:53/tcp -: 192.0.2.7:53"]);
    assert_eq!(
        problems(&planner),
        [
            "registered service 127.0.0.1:62080/tcp: 127.0.0.1:62080/tcp cannot be a VIP: \
             loopback addresses are each machine's own",
            "registered service 198.51.100.1:53/udp: 198.51.100.1:53/udp cannot be a VIP: \
             this node itself listens there",
        ]
    );
    assert_eq!(planner.set_listeners(BTreeSet::new()), [resolver].into(), "it moved away");
    assert!(planner.spec(&resolver).is_some());
}

#[test]
fn a_vip_is_no_backend() {
    let mut planner = planner();
    register(&mut planner, "demo:80/tcp", Some(service(&["192.0.2.7:80"])));
    let id: VipServiceId = "demo:80/tcp".parse().unwrap();
    let [v4, v6] = planner.vips_meant(&id)[..] else { panic!("one of each family") };
    assert!(planner.has_vip(&v4) && !planner.has_vip(&v6), "it has IPv4 backends only");
    let vip = SocketAddr::new(v4.address, v4.port).to_string();
    register(&mut planner, "outer:80/udp", Some(service(&[&vip])));
    assert_eq!(problems(&planner), [] as [&str; 0], "another transport");
    register(&mut planner, "outer:80/tcp", Some(service(&["192.0.2.7:80", &vip])));
    let want = format!(
        "registered service outer:80/tcp: backend {v4} is itself a VIP, and connections to it fail"
    );
    assert_eq!(problems(&planner), [want]);
    register(&mut planner, "demo:80/tcp", None);
    assert_eq!(problems(&planner), [] as [&str; 0]);
    assert_eq!(planner.vips_meant(&id), [v4, v6], "the claim is sticky");
}

#[test]
fn a_backend_at_any_address_of_the_machine_is_near() {
    let mut planner = planner();
    register(&mut planner, "demo:80/tcp", Some(service(&["192.0.2.7:80"])));
    let distance =
        |planner: &Planner| planner.specs().values().next().unwrap().backends[0].distance;
    assert_eq!(distance(&planner), Distance::Far);
    planner.set_own_addresses(["192.0.2.7".parse().unwrap()].into());
    assert_eq!(distance(&planner), Distance::Node);
    planner.set_own_addresses(BTreeSet::new());
    assert_eq!(distance(&planner), Distance::Far, "it moved away");
}
