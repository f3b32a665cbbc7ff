//! The wrapper against the real kernel, in namespaces of the tests' own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use mizzen_tests_support::load::{Load, while_loaded};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use ipnet::IpNet;
use mizzen_netlink::{
    AddressDeviceSpec, BridgeSpec, DuplicateDetection, Ensured, HomeNamespace, IfIndex, LinkChange,
    Mac, MasqueradeRule, Netlink, NetlinkError, Nft, OverlayTableSpec, Plug, Removed, RouteSpec,
    TABLE_MAIN, VethPeer, VethSpec, ensure_sysctl, ensure_sysctl_at_least, observe_sysctl,
};
use mizzen_tests_support::namespace::{Namespace, connect};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bridge(name: &str, addresses: &[&str]) -> BridgeSpec {
    BridgeSpec {
        name: name.into(),
        mtu: Some(1420),
        mac: Some(Mac([2, 0x6d, 9, 0, 0, 1])),
        alias: Some("mizzen test".into()),
        addresses: addresses.iter().map(|text| net(text)).collect(),
    }
}

/// A pair between two namespaces, both ends up, with an address each.
fn wire(a: &Namespace, name: &str, address: &str, b: &Namespace, peer: &str, other: &str) {
    let mut left = a.netlink();
    let mut right = b.netlink();
    let peer_end = VethPeer { name: peer, namespace: b.file.as_fd(), mac: None };
    left.create_veth(&VethSpec { name, mtu: 1500, alias: None, peer: peer_end }).unwrap();
    for (side, link, address) in [(&mut left, name, address), (&mut right, peer, other)] {
        side.set_link(link, &LinkChange::new().up()).unwrap();
        let index = side.observe_link(link).unwrap().unwrap().index;
        side.ensure_address(index, net(address), DuplicateDetection::Off).unwrap();
    }
}

fn default_route(via: &str) -> RouteSpec {
    let gateway = ip(via);
    RouteSpec {
        destination: if gateway.is_ipv6() { net("::/0") } else { net("0.0.0.0/0") },
        gateway: Some(gateway),
        link: None,
        source: None,
        metric: None,
        table: TABLE_MAIN,
        protocol: 77,
    }
}

#[test]
fn a_bridge_is_made_once_repaired_and_never_stolen() {
    let namespace = Namespace::new();
    let mut netlink = namespace.netlink();
    let spec = bridge("m-dcos", &["9.0.5.1/25", "fd01:b::1/80"]);

    let Ensured::Created(made) = netlink.ensure_bridge(&spec).unwrap() else {
        panic!("the namespace was empty");
    };
    assert_eq!((made.up, made.mtu, made.mac), (true, 1420, spec.mac));
    let again = netlink.ensure_bridge(&spec).unwrap();
    let Ensured::Unchanged(again) = again else { panic!("{again:?}") };
    assert_eq!(again.alias.as_deref(), Some("mizzen test"));

    let longest = "x".repeat(255);
    for mark in [longest.as_str(), "mizzen test"] {
        netlink.set_link("m-dcos", &LinkChange::new().alias(mark)).unwrap();
        let marked = netlink.observe_link("m-dcos").unwrap().unwrap();
        assert_eq!(marked.alias.as_deref(), Some(mark));
    }

    netlink.set_link("m-dcos", &LinkChange::new().down().mtu(1300)).unwrap();
    netlink.remove_address(made.index, net("9.0.5.1/25")).unwrap();
    let repaired = netlink.ensure_bridge(&spec).unwrap();
    let Ensured::Repaired(repaired) = repaired else { panic!("{repaired:?}") };
    assert_eq!((repaired.up, repaired.mtu, repaired.index), (true, 1420, made.index));
    let addresses = netlink.observe_addresses(made.index).unwrap();
    for wanted in &spec.addresses {
        assert!(addresses.iter().any(|found| found.net == *wanted), "{addresses:?}");
    }

    let taken = netlink.ensure_bridge(&bridge("lo", &[])).unwrap_err();
    assert!(matches!(taken, NetlinkError::Foreign { .. }), "{taken}");
    assert_eq!(netlink.remove_link("m-dcos").unwrap(), Removed::Removed);
    assert_eq!(netlink.remove_link("m-dcos").unwrap(), Removed::Absent);
    assert_eq!(netlink.observe_link("m-dcos").unwrap(), None);
}

#[test]
fn many_may_ensure_the_same_bridge_at_once() {
    let namespace = Namespace::new();
    let spec = bridge("m-dcos", &["9.0.5.1/25"]);
    let indices: Vec<IfIndex> = std::thread::scope(|scope| {
        let ensure = || namespace.netlink().ensure_bridge(&spec).unwrap().into_inner().index;
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(ensure)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(indices.iter().all(|index| *index == indices[0]), "{indices:?}");
    let addresses = namespace.netlink().observe_addresses(indices[0]).unwrap();
    assert_eq!(addresses.iter().filter(|found| found.net == net("9.0.5.1/25")).count(), 1);
}

#[test]
fn a_pair_is_born_in_place_and_leaves_nothing_when_refused() {
    let (host, container) = (Namespace::new(), Namespace::new());
    let mut netlink = host.netlink();
    let mac = Mac([2, 0x6d, 9, 0, 5, 7]);
    let made = |name: &'static str, peer: &'static str| VethSpec {
        name,
        mtu: 1420,
        alias: Some("mizzen-cni dcos c1 eth0"),
        peer: VethPeer { name: peer, namespace: container.file.as_fd(), mac: Some(mac) },
    };
    let link = netlink.create_veth(&made("mz1", "eth0")).unwrap();
    assert_eq!((link.mtu, link.kind.as_deref()), (1420, Some("veth")));
    assert_eq!(link.alias.as_deref(), Some("mizzen-cni dcos c1 eth0"));
    assert_eq!(Some(link), netlink.observe_link("mz1").unwrap());
    let inside = container.netlink().observe_link("eth0").unwrap().unwrap();
    assert_eq!((inside.mac, inside.mtu), (Some(mac), 1420));

    let bridge = netlink.ensure_bridge(&bridge("m-dcos", &[])).unwrap().into_inner();
    netlink.set_link("mz1", &LinkChange::new().up().master(bridge.index)).unwrap();
    netlink.ensure_port_hairpin("mz1").unwrap();
    let port = netlink.observe_link("mz1").unwrap().unwrap();
    assert_eq!((port.master, port.hairpin), (Some(bridge.index), Some(true)));
    netlink.set_link("mz1", &LinkChange::new().no_master()).unwrap();
    assert_eq!(netlink.observe_link("mz1").unwrap().unwrap().master, None);

    let plug = Plug { bridge: bridge.index, hairpin: true };
    let plugged = netlink.create_plugged_veth(&made("mz3", "eth1"), plug).unwrap();
    assert_eq!(Some(plugged), netlink.observe_link("mz3").unwrap());

    let refused = netlink.create_veth(&made("mz2", "eth0")).unwrap_err();
    assert!(refused.is_taken(), "{refused}");
    assert_eq!(netlink.observe_link("mz2").unwrap(), None);

    netlink.remove_link("mz1").unwrap();
    assert_eq!(container.netlink().observe_link("eth0").unwrap(), None);
}

#[test]
fn a_device_for_addresses_exists_on_every_kernel() {
    let namespace = Namespace::new();
    let mut netlink = namespace.netlink();
    let spec = AddressDeviceSpec {
        name: "spartan".into(),
        alias: Some("mizzen".into()),
        addresses: vec![net("198.51.100.1/32"), net("fd01:d::c633:6401/128")],
    };
    assert!(matches!(netlink.ensure_address_device(&spec).unwrap(), Ensured::Created(_)));
    assert!(matches!(netlink.ensure_address_device(&spec).unwrap(), Ensured::Unchanged(_)));
    for address in ["198.51.100.1", "fd01:d::c633:6401"] {
        let listener = namespace.listen(ip(address));
        connect(&namespace, &listener, ip(address));
    }
}

#[test]
fn routes_are_ours_by_protocol_number() {
    let (host, other) = (Namespace::new(), Namespace::new());
    wire(&host, "a", "10.1.0.1/24", &other, "b", "10.1.0.2/24");
    let mut netlink = host.netlink();
    let ours = RouteSpec { destination: net("9.0.6.0/24"), ..default_route("10.1.0.2") };

    assert_eq!(netlink.ensure_route(&ours).unwrap(), Ensured::Created(()));
    assert_eq!(netlink.ensure_route(&ours).unwrap(), Ensured::Unchanged(()));
    let moved = RouteSpec { gateway: Some(ip("10.1.0.3")), ..ours };
    assert_eq!(netlink.ensure_route(&moved).unwrap(), Ensured::Repaired(()));
    let listed = netlink.observe_routes(77).unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].destination, listed[0].gateway), (ours.destination, moved.gateway));

    let foreign = RouteSpec { protocol: 78, ..ours };
    let refused = netlink.ensure_route(&foreign).unwrap_err();
    assert!(matches!(refused, NetlinkError::Foreign { .. }), "{refused}");
    assert_eq!(netlink.remove_route(&foreign).unwrap(), Removed::Absent);

    let link = netlink.observe_link("a").unwrap().unwrap().index;
    let tables = RouteSpec {
        destination: net("10.9.0.0/16"),
        gateway: None,
        link: Some(link),
        table: 4242,
        metric: Some(5),
        ..ours
    };
    netlink.ensure_route(&tables).unwrap();
    assert_eq!(netlink.ensure_route(&tables).unwrap(), Ensured::Unchanged(()));
    assert_eq!(netlink.observe_routes(77).unwrap().len(), 2);
    for route in [moved, tables] {
        assert_eq!(netlink.remove_route(&route).unwrap(), Removed::Removed);
        assert_eq!(netlink.remove_route(&route).unwrap(), Removed::Absent);
    }
}

#[test]
fn ipv6_routes_and_addresses() {
    let (host, other) = (Namespace::new(), Namespace::new());
    wire(&host, "a", "fd01:b::1/80", &other, "b", "fd01:b::2/80");
    let mut netlink = host.netlink();
    let route = default_route("fd01:b::2");
    assert_eq!(netlink.ensure_route(&route).unwrap(), Ensured::Created(()));
    assert_eq!(netlink.ensure_route(&route).unwrap(), Ensured::Unchanged(()));
    let listener = other.listen(ip("fd01:b::2"));
    assert_eq!(connect(&host, &listener, ip("fd01:b::2")).ip(), ip("fd01:b::1"));
    assert_eq!(netlink.remove_route(&route).unwrap(), Removed::Removed);
    assert!(netlink.observe_routes(77).unwrap().is_empty());
}

/// container ── host ── outside; the outside knows no way back to the containers, so
/// only a masqueraded connection can be answered.
#[test]
fn packets_are_masqueraded_outwards_and_nowhere_else() {
    let (host, first, second, outside) =
        (Namespace::new(), Namespace::new(), Namespace::new(), Namespace::new());
    host.run(|| ensure_sysctl("net/ipv4/ip_forward", "1").unwrap());
    wire(&host, "out", "192.0.2.1/24", &outside, "eth0", "192.0.2.2/24");
    let mut netlink = host.netlink();
    let bridge = netlink.ensure_bridge(&bridge("m-dcos", &["9.0.5.1/25"])).unwrap().into_inner();
    for (container, name, address) in
        [(&first, "mz1", "9.0.5.2/25"), (&second, "mz2", "9.0.5.3/25")]
    {
        let mut inside = container.netlink();
        let peer = VethPeer { name: "eth0", namespace: container.file.as_fd(), mac: None };
        netlink.create_veth(&VethSpec { name, mtu: 1420, alias: None, peer }).unwrap();
        netlink.set_link(name, &LinkChange::new().up().master(bridge.index)).unwrap();
        inside.set_link("eth0", &LinkChange::new().up()).unwrap();
        let index = inside.observe_link("eth0").unwrap().unwrap().index;
        inside.ensure_address(index, net(address), DuplicateDetection::Off).unwrap();
        inside.ensure_route(&default_route("9.0.5.1")).unwrap();
    }

    let mut nft = Nft::open_in(&host.path()).unwrap();
    let spec = OverlayTableSpec {
        table: "mizzen-test".into(),
        forward: vec![],
        plain: None,
        untracked: None,
        masquerade: vec![MasqueradeRule {
            source: net("9.0.5.0/25"),
            except: vec![net("9.0.0.0/8")],
            inside: vec!["m-dcos".into()],
        }],
    };
    assert_eq!(nft.ensure_overlay_table(&spec).unwrap(), Ensured::Created(()));
    assert_eq!(nft.ensure_overlay_table(&spec).unwrap(), Ensured::Unchanged(()));

    let listener = outside.listen(ip("192.0.2.2"));
    assert_eq!(connect(&first, &listener, ip("192.0.2.2")).ip(), ip("192.0.2.1"));
    let listener = second.listen(ip("9.0.5.3"));
    assert_eq!(connect(&first, &listener, ip("9.0.5.3")).ip(), ip("9.0.5.2"));

    // An overlay subnet beyond the outside link keeps the sender's address.
    let mut beyond = outside.netlink();
    let index = beyond.observe_link("lo").unwrap().unwrap().index;
    beyond.ensure_address(index, net("9.0.9.9/32"), DuplicateDetection::Off).unwrap();
    let back = RouteSpec { destination: net("9.0.5.0/25"), ..default_route("192.0.2.1") };
    beyond.ensure_route(&back).unwrap();
    let there = RouteSpec { destination: net("9.0.9.0/24"), ..default_route("192.0.2.2") };
    netlink.ensure_route(&there).unwrap();
    let listener = outside.listen(ip("9.0.9.9"));
    assert_eq!(connect(&first, &listener, ip("9.0.9.9")).ip(), ip("9.0.5.2"));

    let mut wider = spec.clone();
    wider.masquerade[0].except.push(net("192.0.2.0/24"));
    assert_eq!(nft.ensure_overlay_table(&wider).unwrap(), Ensured::Repaired(()));
    let listener = outside.listen(ip("192.0.2.2"));
    assert_eq!(connect(&first, &listener, ip("192.0.2.2")).ip(), ip("9.0.5.2"));

    assert_eq!(nft.observe_tables().unwrap(), ["mizzen-test"]);
    assert_eq!(nft.remove_table("mizzen-test").unwrap(), Removed::Removed);
    assert_eq!(nft.remove_table("mizzen-test").unwrap(), Removed::Absent);
}

#[test]
fn ipv6_is_masqueraded_too() {
    let (host, container, outside) = (Namespace::new(), Namespace::new(), Namespace::new());
    host.run(|| ensure_sysctl("net/ipv6/conf/all/forwarding", "1").unwrap());
    wire(&host, "out", "2001:db8::1/64", &outside, "eth0", "2001:db8::2/64");
    wire(&host, "in", "fd01:b::1/80", &container, "eth0", "fd01:b::2/80");
    container.netlink().ensure_route(&default_route("fd01:b::1")).unwrap();
    let rule = MasqueradeRule {
        source: net("fd01:b::/80"),
        except: vec![net("fd01:b::/64")],
        inside: vec!["m-dcos6".into()],
    };
    let spec = OverlayTableSpec {
        table: "mizzen-test".into(),
        masquerade: vec![rule],
        forward: vec![],
        plain: None,
        untracked: None,
    };
    Nft::open_in(&host.path()).unwrap().ensure_overlay_table(&spec).unwrap();
    let listener = outside.listen(ip("2001:db8::2"));
    assert_eq!(connect(&container, &listener, ip("2001:db8::2")).ip(), ip("2001:db8::1"));
}

/// A refused batch leaves nothing, and the next conversation on the socket is sound.
#[test]
fn a_refused_batch_leaves_no_table() {
    let namespace = Namespace::new();
    let mut nft = Nft::open_in(&namespace.path()).unwrap();
    let rule = |bridge: &str| MasqueradeRule {
        source: net("9.0.5.0/25"),
        except: vec![],
        inside: vec![bridge.into()],
    };
    let mut spec = OverlayTableSpec {
        table: "t".repeat(300),
        masquerade: vec![rule("a"), rule("b")],
        forward: vec![],
        plain: None,
        untracked: None,
    };
    assert!(nft.ensure_overlay_table(&spec).is_err());
    assert!(nft.observe_tables().unwrap().is_empty());
    spec.table = "mizzen-test".into();
    assert_eq!(nft.ensure_overlay_table(&spec).unwrap(), Ensured::Created(()));
    let mut endless = spec.clone();
    endless.masquerade[0].except = vec![net("9.0.0.0/8"); 1000];
    assert!(nft.ensure_overlay_table(&endless).is_err(), "more than an attribute can hold");
    assert_eq!(nft.ensure_overlay_table(&spec).unwrap(), Ensured::Unchanged(()));
}

/// Dumps stay complete while links come and go under them.
#[test]
fn a_dump_survives_changes_under_it() {
    let namespace = Namespace::new();
    let churn = |load: &Load| {
        let mut netlink = namespace.netlink();
        while load.goes_on() {
            for at in 0..20 {
                netlink.ensure_bridge(&bridge(&format!("churn{at}"), &[])).unwrap();
            }
            for at in 0..20 {
                netlink.remove_link(&format!("churn{at}")).unwrap();
            }
        }
    };
    let mut netlink = namespace.netlink();
    netlink.ensure_bridge(&bridge("steady", &["9.0.5.1/25"])).unwrap();
    while_loaded([churn], |_| {
        for _ in 0..200 {
            let links = netlink.observe_links().unwrap();
            assert!(links.iter().any(|link| link.name == "steady"), "{links:?}");
        }
    });
}

#[test]
fn namespaces_are_told_apart() {
    let namespace = Namespace::new();
    let home = HomeNamespace::open().unwrap();
    let is_home = |path: &Path| home.is(&File::open(path).unwrap(), path).unwrap();
    assert!(is_home(Path::new("/proc/thread-self/ns/net")));
    assert!(!is_home(&namespace.path()));
    let missing = Netlink::open_in(Path::new("/proc/0/ns/net")).map(|_| ()).unwrap_err();
    assert!(missing.is_absent(), "{missing}");

    let other = Namespace::new();
    namespace.run(|| ensure_sysctl("net/ipv4/ip_forward", "1").unwrap());
    other.run(|| ensure_sysctl("net/ipv4/ip_forward", "0").unwrap());
    assert_eq!(namespace.run(|| observe_sysctl("net/ipv4/ip_forward").unwrap()), "1");
}

#[test]
fn settings_that_are_numbers_grow_and_do_not_shrink() {
    let retries = "net/ipv4/tcp_syn_retries";
    let after = |least: u64| {
        ensure_sysctl_at_least(retries, least).unwrap();
        observe_sysctl(retries).unwrap()
    };
    let found = Namespace::new().run(|| {
        ensure_sysctl(retries, "5").unwrap();
        [after(3), after(9), after(9)]
    });
    assert_eq!(found, ["5", "9", "9"]);
    let of_machine = "net/ipv4/neigh/default/gc_thresh3";
    let made = Namespace::new().run(|| ensure_sysctl_at_least(of_machine, 1 << 30).unwrap());
    assert_eq!(made, Ensured::Unchanged(()), "it is not there");
    let wrong = ensure_sysctl_at_least("kernel/hostname", 1);
    assert!(wrong.is_err(), "a name is no number");
}

#[test]
fn the_path_to_an_address_is_told() {
    let (here, there) = (Namespace::new(), Namespace::new());
    wire(&here, "eth0", "10.0.0.1/24", &there, "eth0", "10.0.0.2/24");
    let mut netlink = here.netlink();
    let link = netlink.observe_link("eth0").unwrap().unwrap().index;
    let path = netlink.look_up_path(ip("10.0.0.2")).unwrap().unwrap();
    assert_eq!((path.link, path.source, path.is_local), (link, Some(ip("10.0.0.1")), false));
    assert!(netlink.look_up_path(ip("10.0.0.1")).unwrap().unwrap().is_local);
    assert_eq!(netlink.look_up_path(ip("11.0.0.1")).unwrap(), None);
    assert_eq!(netlink.look_up_path(ip("fd01:c::1")).unwrap(), None);
}
