//! Links that others make, and that come and go.

use super::*;
use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::plan::{alias, host_link};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;

#[test]
fn a_bridge_keeps_its_link_layer_address_whatever_is_plugged_in() {
    let node = Node::new(1, USUAL);
    let spec = &node.spec;
    assert!(node.namespace.run(|| ensure_network(spec)).errors.is_empty());
    let mac = || node.namespace.link("m-dcos").mac.map(|mac| mac.to_string());
    let made = mac();
    assert_eq!(made.as_deref(), Some("02:6d:09:00:01:01"), "that of its address");
    // Lower than any that the kernel makes up.
    node.ip("link add low address 00:00:00:00:00:02 type veth peer name end");
    node.ip("link set low master m-dcos");
    assert_eq!(mac(), made, "containers know it");
    node.ip("link del low");
    assert_eq!(mac(), made);
}

#[test]
fn links_and_routes_of_others_stay() {
    let mut node = Node::new(1, USUAL);
    let spec = &node.spec;
    assert!(node.namespace.run(|| ensure_network(spec)).errors.is_empty());
    node.hear(&Node::new(2, USUAL));
    node.ip("link add vtep1024 type bridge");
    node.ip("link set vtep1024 up");
    node.ip("route add 9.0.2.0/24 dev vtep1024");
    let report = node.reconcile();
    assert!(report.problems.iter().any(|text| text.contains("vtep1024")), "{report:?}");
    // Older kernels, such as 6.1, rename only what is down.
    node.ip("link set vtep1024 down");
    node.ip("link set vtep1024 name mine");
    node.ip("link set mine up");
    node.ip("route add 9.0.2.0/24 dev mine");
    let report = node.reconcile();
    let in_the_way: Vec<&String> =
        report.problems.iter().filter(|text| text.contains("9.0.2.0/24")).collect();
    assert_eq!(in_the_way.len(), 1, "{report:?}");
    node.ip("link del mine");
    let report = node.reconcile();
    assert!(report.problems.is_empty(), "{report:?}");
}

#[test]
fn containers_links_that_lost_their_bridge_are_plugged_in_again() {
    let node = Node::new(1, USUAL);
    let pass = || {
        let report = node.namespace.run(|| ensure_network(&node.spec));
        assert!(report.errors.is_empty(), "{report:?}");
        report.changed
    };
    pass();
    let make = |id: &str| {
        let key = AttachmentKey { container_id: id.into(), ifname: "eth0".into() };
        let (name, alias) = (host_link("dcos", &key), alias("dcos", &key));
        node.ip(&format!("link add {name} mtu 1420 type veth peer name {id}"));
        node.namespace.netlink().set_link(&name, &LinkChange::new().alias(alias)).unwrap();
        name
    };
    let [lost, taken, foreign, plain] = ["c1", "c2", "c3", "c4"].map(make);
    let leases = node.spec.leases.join("dcos");
    fs::create_dir_all(&leases).unwrap();
    let hairpin =
        [("9.0.1.2", "c1", None), ("9.0.1.3", "c2", Some(true)), ("9.0.1.4", "c4", Some(false))];
    for (address, id, hairpin) in hairpin {
        let record =
            json!({ "version": 1, "containerId": id, "ifname": "eth0", "hairpin": hairpin });
        fs::write(leases.join(address), record.to_string()).unwrap();
    }
    node.ip("link add theirs type bridge");
    node.ip(&format!("link set {taken} master theirs"));
    // The bridge and its ports, and the former one.
    for (harm, changed) in [
        ("link set m-dcos up", 2),
        ("link del m-dcos", 3),
        ("link set m-dcos down name m-former", 4),
    ] {
        node.ip(harm);
        assert_eq!((pass(), pass()), (changed, 0), "{harm}");
        assert!(node.namespace.netlink().observe_link("m-former").unwrap().is_none());
        let link = node.namespace.link(&lost);
        assert_eq!(
            (link.master, link.hairpin, link.up),
            (node.link("m-dcos"), Some(true), true),
            "as ADD left it"
        );
        let link = node.namespace.link(&plain);
        assert_eq!(
            (link.master, link.hairpin),
            (node.link("m-dcos"), Some(false)),
            "as it was told"
        );
        assert_eq!(node.namespace.link(&taken).master, node.link("theirs"), "it has another one");
        assert_eq!(node.namespace.link(&foreign).master, None, "of another node of this machine");
    }
}

#[test]
fn containers_of_a_network_that_is_no_more_keep_its_bridge_and_are_counted() {
    let node = Node::new(1, USUAL);
    let mut without = node.spec.clone();
    without.overlays.retain(|overlay| overlay.name != "web");
    let pass = |spec: &NetworkSpec| {
        let report = node.namespace.run(|| ensure_network(spec));
        assert!(report.errors.is_empty(), "{report:?}");
        report.stranded
    };
    assert_eq!(pass(&node.spec), BTreeMap::new());
    let key = AttachmentKey { container_id: "c1".into(), ifname: "eth0".into() };
    let name = host_link("web", &key);
    node.ip(&format!("link add {name} mtu 1420 type veth peer name c1"));
    let port = LinkChange::new().alias(alias("web", &key)).master(node.link("m-web").unwrap());
    node.namespace.netlink().set_link(&name, &port).unwrap();
    let leases = node.spec.leases.join("web");
    fs::create_dir_all(&leases).unwrap();
    let record = json!({ "version": 1, "containerId": "c1", "ifname": "eth0" }).to_string();
    // An address of each family is one container.
    for address in ["10.0.1.2", "fd01:c::2"] {
        fs::write(leases.join(address), &record).unwrap();
    }
    let one = BTreeMap::from([("web".to_owned(), 1)]);
    for (spec, want) in
        [(&node.spec, BTreeMap::new()), (&without, one), (&node.spec, BTreeMap::new())]
    {
        assert_eq!(pass(spec), want);
        assert_eq!(node.namespace.link(&name).master, node.link("m-web"));
    }
    node.ip(&format!("link del {name}"));
    assert_eq!(pass(&without), BTreeMap::new(), "the container has ended");
    assert_eq!(node.link("m-web"), None);
}
