//! Links that others make, and that come and go.

use super::*;

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
