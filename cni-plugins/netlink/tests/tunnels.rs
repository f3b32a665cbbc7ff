//! Ends of tunnels and what leads through them, against the real kernel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::net::{IpAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use mizzen_netlink::{
    DuplicateDetection, Ensured, FlowFamily, ForwardRule, IfIndex, LinkChange, Mac, MtuMonitor,
    Netlink, NetlinkError, Nft, OverlayTableSpec, RemovalMonitor, RouteSpec, RuleSpec, Selector,
    TABLE_MAIN, TunnelChange, TunnelEntry, VethPeer, VethSpec, VxlanSpec, ensure_sysctl,
};
use mizzen_tests_support::namespace::{Namespace, connect};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::TcpMaxSeg;

const OURS: u8 = 109;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([0x70, 0xb3, 0xd5, 0x80, 0, last])
}

fn vxlan(last: u8) -> VxlanSpec {
    VxlanSpec {
        name: "vtep1024".into(),
        vni: 1024,
        port: 64_000,
        mac: mac(last),
        mtu: 1420,
        local6: None,
        alias: "mizzen test".into(),
        addresses: vec![net(&format!("44.128.0.{last}/20")), net(&format!("fd01:a::{last}/64"))],
    }
}

/// What leads to machine `last`, whose block is 9.0.`last`.0/24.
fn entries(link: IfIndex, last: u8, remote: &str) -> Vec<TunnelEntry> {
    let route = |destination: &str, via: &str| TunnelEntry::Route {
        link,
        destination: net(destination),
        via: Some(ip(via)),
        table: TABLE_MAIN,
        source: None,
        mtu: None,
    };
    let neighbour =
        |address: &str| TunnelEntry::Neighbour { link, address: ip(address), mac: mac(last) };
    let (v4, v6) = (format!("44.128.0.{last}"), format!("fd01:a::{last}"));
    vec![
        TunnelEntry::Forwarding { link, mac: mac(last), remote: ip(remote) },
        neighbour(&v4),
        neighbour(&v6),
        route(&format!("9.0.{last}.0/24"), &v4),
        route(&format!("fd01:b::{last}:0:0:0/80"), &v6),
    ]
}

fn add_all(netlink: &mut Netlink, entries: &[TunnelEntry]) {
    let changes: Vec<_> = entries.iter().copied().map(TunnelChange::Add).collect();
    let refused = netlink.change_tunnels(&changes, OURS).unwrap();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Two machines on a wire, with an end of the tunnels each.
fn machines(underlay: [&str; 2], length: u8, v6: bool) -> [Namespace; 2] {
    let machines = [Namespace::new(), Namespace::new()];
    let peer = VethPeer { name: "eth0", namespace: machines[1].file.as_fd(), mac: None };
    let pair = VethSpec { name: "eth0", mtu: 1500, alias: None, peer };
    machines[0].netlink().create_veth(&pair).unwrap();
    for (at, machine) in machines.iter().enumerate() {
        let last = at as u8 + 1;
        let mut netlink = machine.netlink();
        netlink.set_link("eth0", &LinkChange::new().up()).unwrap();
        let index = netlink.observe_link("eth0").unwrap().unwrap().index;
        let address = IpNet::new(ip(underlay[at]), length).unwrap();
        netlink.ensure_address(index, address, DuplicateDetection::Off).unwrap();
        let local6 = match ip(underlay[at]) {
            IpAddr::V6(address) if v6 => Some(address),
            _ => None,
        };
        let made = netlink.ensure_vxlan(&VxlanSpec { local6, ..vxlan(last) }).unwrap();
        let link = made.into_inner().index;
        let other = 2 - at as u8;
        add_all(&mut netlink, &entries(link, other, underlay[1 - at]));
        // A container's address, without the container.
        let lo = netlink.observe_link("lo").unwrap().unwrap().index;
        for address in [format!("9.0.{last}.9/32"), format!("fd01:b::{last}:0:0:9/128")] {
            netlink.ensure_address(lo, net(&address), DuplicateDetection::Off).unwrap();
        }
    }
    machines
}

fn reaches_both_ways(machines: &[Namespace; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        for address in [format!("9.0.{}.9", to + 1), format!("fd01:b::{}:0:0:9", to + 1)] {
            let listener = machines[to].listen(ip(&address));
            connect(&machines[from], &listener, ip(&address));
        }
    }
}

#[test]
fn both_families_travel_over_ipv4() {
    reaches_both_ways(&machines(["192.0.2.1", "192.0.2.2"], 24, false));
}

#[test]
fn both_families_travel_over_ipv6() {
    reaches_both_ways(&machines(["2001:db8::1", "2001:db8::2"], 64, true));
}

#[test]
fn an_end_of_tunnels_is_made_repaired_made_anew_and_never_stolen() {
    let namespace = Namespace::new();
    let mut netlink = namespace.netlink();
    let Ensured::Created(made) = netlink.ensure_vxlan(&vxlan(1)).unwrap() else { panic!() };
    assert_eq!((made.mtu, made.mac, made.up), (1420, Some(mac(1)), true));
    assert!(matches!(netlink.ensure_vxlan(&vxlan(1)).unwrap(), Ensured::Unchanged(_)));

    netlink.set_link("vtep1024", &LinkChange::new().down().mtu(1300)).unwrap();
    netlink.remove_address(made.index, net("44.128.0.1/20")).unwrap();
    let Ensured::Repaired(repaired) = netlink.ensure_vxlan(&vxlan(1)).unwrap() else { panic!() };
    assert_eq!((repaired.mtu, repaired.up, repaired.index), (1420, true, made.index));
    let addresses = netlink.observe_addresses(made.index).unwrap();
    assert!(addresses.iter().any(|found| found.net == net("44.128.0.1/20")), "{addresses:?}");

    let other_port = VxlanSpec { port: 4789, ..vxlan(1) };
    let Ensured::Repaired(anew) = netlink.ensure_vxlan(&other_port).unwrap() else { panic!() };
    assert_ne!(anew.index, made.index);
    let stranger = VxlanSpec { alias: "somebody".into(), ..vxlan(1) };
    let refused = netlink.ensure_vxlan(&stranger).unwrap_err();
    assert!(matches!(refused, NetlinkError::Foreign { .. }), "{refused}");
    let same_number = VxlanSpec { name: "vtep2".into(), port: 4789, ..vxlan(1) };
    assert!(netlink.ensure_vxlan(&same_number).unwrap_err().is_taken());
}

fn nowhere(destination: &str, table: u32) -> TunnelEntry {
    TunnelEntry::Unreachable { destination: net(destination), table }
}

#[test]
fn entries_come_change_and_go_and_those_of_others_stay() {
    let namespace = Namespace::new();
    let mut netlink = namespace.netlink();
    let link = netlink.ensure_vxlan(&vxlan(1)).unwrap().into_inner().index;
    let mut wanted = entries(link, 2, "192.0.2.2");
    wanted.push(nowhere("9.0.0.0/8", TABLE_MAIN));
    wanted.push(nowhere("fd01:b::/64", TABLE_MAIN));
    wanted.push(nowhere("0.0.0.0/0", 109));
    wanted.push(nowhere("::/0", 109));
    add_all(&mut netlink, &wanted);
    wanted.sort_unstable();
    assert_eq!(netlink.observe_tunnels(&[link], None, OURS).unwrap(), wanted);
    assert_eq!(
        netlink.observe_tunnels(&[link], None, OURS + 1).unwrap().len(),
        1,
        "forwarding only"
    );

    // A route of somebody else is in the way, and stays.
    let foreign = RouteSpec {
        destination: net("9.0.3.0/24"),
        gateway: None,
        link: Some(link),
        source: None,
        metric: None,
        table: TABLE_MAIN,
        protocol: 4,
    };
    netlink.ensure_route(&foreign).unwrap();
    let blocked = entries(link, 3, "192.0.2.3")[3];
    let absent = entries(link, 7, "192.0.2.7");
    let mut changes = vec![TunnelChange::Add(blocked)];
    changes.extend(absent.iter().copied().map(TunnelChange::Remove));
    let refused = netlink.change_tunnels(&changes, OURS).unwrap();
    assert!(matches!(refused[..], [(0, NetlinkError::Foreign { .. })]), "{refused:?}");

    // The machine moves, and its route gets narrower.
    let usual = entries(link, 2, "192.0.2.2")[3];
    let TunnelEntry::Route { destination, via, table, .. } = usual else { panic!() };
    let source = Some(ip("44.128.0.1"));
    let narrow = TunnelEntry::Route { link, destination, via, table, source, mtu: Some(1300) };
    let moved = TunnelEntry::Forwarding { link, mac: mac(2), remote: ip("192.0.2.9") };
    let changes = [TunnelChange::Replace(narrow), TunnelChange::Replace(moved)];
    assert!(netlink.change_tunnels(&changes, OURS).unwrap().is_empty());
    let found = netlink.observe_tunnels(&[link], None, OURS).unwrap();
    assert!(found.contains(&narrow) && found.contains(&moved), "{found:?}");
    assert_eq!(found.len(), wanted.len());

    let changes: Vec<_> = found.into_iter().map(TunnelChange::Remove).collect();
    assert!(netlink.change_tunnels(&changes, OURS).unwrap().is_empty());
    assert!(netlink.observe_tunnels(&[link], None, OURS).unwrap().is_empty());
    assert_eq!(netlink.observe_routes(4).unwrap().len(), 1, "the other one's");
}

#[test]
fn refusals_are_told_by_their_place_also_among_very_many() {
    let namespace = Namespace::new();
    let mut netlink = namespace.netlink();
    let link = netlink.ensure_vxlan(&vxlan(1)).unwrap().into_inner().index;
    let gone = IfIndex(link.0 + 1000);
    let changes: Vec<TunnelChange> = (0..1000_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let address = IpAddr::from([44, 129, high, low]);
            let link = if number % 7 == 3 { gone } else { link };
            TunnelChange::Add(TunnelEntry::Neighbour { link, address, mac: mac(low) })
        })
        .collect();
    let refused = netlink.change_tunnels(&changes, OURS).unwrap();
    let places: Vec<usize> = refused.iter().map(|(at, _)| *at).collect();
    assert_eq!(places, (0..1000).filter(|number| number % 7 == 3).collect::<Vec<_>>());
    assert_eq!(netlink.observe_tunnels(&[link], None, OURS).unwrap().len(), 1000 - places.len());
}

#[test]
fn rules_come_and_go() {
    let namespace = Namespace::new();
    let mut netlink = namespace.netlink();
    let rule = |selector| RuleSpec { selector, table: 42, priority: 9999 };
    let from = |source: &str| rule(Selector::Source(net(source)));
    let to = |example: &str| {
        rule(Selector::UdpPort { family: FlowFamily::of(ip(example)), port: 64_000 })
    };
    let all = [from("9.0.0.0/8"), from("fd01:b::/64"), to("0.0.0.0"), to("::")];
    for rule in &all {
        assert_eq!(netlink.ensure_rule(rule, OURS).unwrap(), Ensured::Created(()));
        assert_eq!(netlink.ensure_rule(rule, OURS).unwrap(), Ensured::Unchanged(()));
    }
    assert_eq!(netlink.observe_rules(OURS).unwrap(), all);
    assert!(netlink.observe_rules(OURS + 1).unwrap().is_empty());
    for rule in [&all[0], &all[2]] {
        netlink.remove_rule(rule, OURS).unwrap();
    }
    assert_eq!(netlink.observe_rules(OURS).unwrap(), [all[1], all[3]]);
}

/// A host with a container in each of two networks.
fn two_networks() -> (Namespace, Namespace, Namespace) {
    let (host, a, b) = (Namespace::new(), Namespace::new(), Namespace::new());
    host.run(|| ensure_sysctl("net/ipv4/ip_forward", "1").unwrap());
    let mut netlink = host.netlink();
    for (container, name, gateway, inside) in
        [(&a, "m-a", "9.0.1.1/24", "9.0.1.2/24"), (&b, "m-b", "10.0.1.1/24", "10.0.1.2/24")]
    {
        let peer = VethPeer { name: "eth0", namespace: container.file.as_fd(), mac: None };
        netlink.create_veth(&VethSpec { name, mtu: 1500, alias: None, peer }).unwrap();
        netlink.set_link(name, &LinkChange::new().up()).unwrap();
        let index = netlink.observe_link(name).unwrap().unwrap().index;
        netlink.ensure_address(index, net(gateway), DuplicateDetection::Off).unwrap();
        let mut within = container.netlink();
        within.set_link("eth0", &LinkChange::new().up()).unwrap();
        let index = within.observe_link("eth0").unwrap().unwrap().index;
        within.ensure_address(index, net(inside), DuplicateDetection::Off).unwrap();
        let route = RouteSpec {
            destination: net("0.0.0.0/0"),
            gateway: Some(net(gateway).addr()),
            link: None,
            source: None,
            metric: None,
            table: TABLE_MAIN,
            protocol: 4,
        };
        within.ensure_route(&route).unwrap();
    }
    (host, a, b)
}

fn table(forward: Vec<ForwardRule>) -> OverlayTableSpec {
    OverlayTableSpec {
        table: "mizzen-test".into(),
        masquerade: vec![],
        forward,
        plain: None,
        untracked: None,
    }
}

#[test]
fn networks_are_kept_apart_by_who_sends_and_by_who_receives() {
    let (host, a, b) = two_networks();
    let mut nft = Nft::open_in(&host.path()).unwrap();
    let listener = b.listen(ip("10.0.1.2"));
    connect(&a, &listener, ip("10.0.1.2"));
    for rule in [
        ForwardRule::DropTo { link: "m-a".into(), network: net("10.0.0.0/8") },
        ForwardRule::DropFrom { link: "m-b".into(), network: net("9.0.0.0/8") },
    ] {
        let port = listener.local_addr().unwrap();
        nft.ensure_overlay_table(&table(vec![rule.clone()])).unwrap();
        let wait = Duration::from_millis(300);
        let refused = a.run(|| TcpStream::connect_timeout(&port, wait)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut, "{rule:?}");
        let gateway = host.listen(ip("9.0.1.1"));
        connect(&a, &gateway, ip("9.0.1.1"));
        let other = ForwardRule::DropTo { link: "m-a".into(), network: net("11.0.0.0/8") };
        let repaired = nft.ensure_overlay_table(&table(vec![other])).unwrap();
        assert_eq!(repaired, Ensured::Repaired(()));
        connect(&a, &listener, ip("10.0.1.2"));
    }
}

#[test]
fn what_is_marked_passes_whatever_later_rules_say() {
    let (host, a, b) = two_networks();
    let mut nft = Nft::open_in(&host.path()).unwrap();
    let listener = b.listen(ip("10.0.1.2"));
    let rules = [
        ForwardRule::PassMarked { bits: 1 << 27 },
        ForwardRule::DropTo { link: "m-a".into(), network: net("10.0.0.0/8") },
    ];
    nft.ensure_overlay_table(&table(rules.to_vec())).unwrap();
    let wait = Duration::from_millis(300);
    let to = listener.local_addr().unwrap();
    assert!(a.run(|| TcpStream::connect_timeout(&to, wait)).is_err());
    let marks = |mark: &str| {
        let rule = format!(
            "table inet marks {{ chain in {{ type filter hook prerouting priority 0; meta mark set {mark}; }}; }}"
        );
        let status = host.run(|| Command::new("nft").arg(rule).status().unwrap());
        assert!(status.success());
    };
    marks("0x1");
    assert!(a.run(|| TcpStream::connect_timeout(&to, wait)).is_err(), "another bit");
    marks("0x8000002");
    connect(&a, &listener, ip("10.0.1.2"));
}

#[test]
fn segments_fit_the_route() {
    let (host, a, b) = two_networks();
    let mut nft = Nft::open_in(&host.path()).unwrap();
    let mut netlink = host.netlink();
    let link = netlink.observe_link("m-b").unwrap().unwrap().index;
    let narrow = TunnelEntry::Route {
        link,
        destination: net("10.0.1.2/32"),
        via: Some(ip("10.0.1.2")),
        table: TABLE_MAIN,
        source: None,
        mtu: Some(1300),
    };
    add_all(&mut netlink, &[narrow]);
    let listener = b.listen(ip("10.0.1.2"));
    let to = listener.local_addr().unwrap();
    let segment = || {
        let client = a.run(|| TcpStream::connect(to).unwrap());
        let (accepted, _) = listener.accept().unwrap();
        let size = getsockopt(&accepted, TcpMaxSeg).unwrap();
        drop(client);
        size
    };
    assert!(segment() > 1400);
    nft.ensure_overlay_table(&table(vec![ForwardRule::FitSegments { link: "m-b".into() }]))
        .unwrap();
    assert!(segment() <= 1260, "{}", segment());
}

/// What must be noticed, and what must not wake anybody.
#[test]
fn removals_are_told_of() {
    let namespace = Namespace::new();
    let mut netlink = namespace.netlink();
    let link = netlink.ensure_vxlan(&vxlan(1)).unwrap().into_inner().index;
    add_all(&mut netlink, &entries(link, 2, "192.0.2.2"));
    let (tell, told) = std::sync::mpsc::channel();
    let mut monitor = namespace.run(|| RemovalMonitor::open(OURS, |_| false).unwrap());
    std::thread::spawn(move || while monitor.wait().is_ok() && tell.send(()).is_ok() {});
    let quiet = Duration::from_millis(200);

    add_all(&mut netlink, &entries(link, 3, "192.0.2.3"));
    let name = "pod0";
    let other = Namespace::new();
    let peer = VethPeer { name: "eth0", namespace: other.file.as_fd(), mac: None };
    netlink.create_veth(&VethSpec { name, mtu: 1500, alias: None, peer }).unwrap();
    netlink.set_link(name, &LinkChange::new().up()).unwrap();
    netlink.remove_link(name).unwrap();
    assert!(told.recv_timeout(quiet).is_err(), "nothing of ours was removed");

    let long = Duration::from_secs(20);
    for entry in entries(link, 2, "192.0.2.2") {
        netlink.change_tunnels(&[TunnelChange::Remove(entry)], OURS).unwrap();
        told.recv_timeout(long).unwrap_or_else(|_| panic!("{entry:?}"));
        while told.recv_timeout(Duration::from_millis(20)).is_ok() {}
    }
    netlink.set_link("vtep1024", &LinkChange::new().down()).unwrap();
    told.recv_timeout(long).unwrap();
    while told.recv_timeout(Duration::from_millis(20)).is_ok() {}
    netlink.remove_link("vtep1024").unwrap();
    told.recv_timeout(long).unwrap();
}

#[test]
fn other_sizes_of_links_are_told_of_and_nothing_else() {
    let namespace = Namespace::new();
    let mut netlink = namespace.netlink();
    let other = Namespace::new();
    let inside = other.file.try_clone().unwrap();
    let mut veth = |name: &str, far: &str| {
        let peer = VethPeer { name: far, namespace: inside.as_fd(), mac: None };
        netlink.create_veth(&VethSpec { name, mtu: 1500, alias: None, peer }).unwrap();
        netlink.set_link(name, &LinkChange::new().up()).unwrap();
    };
    veth("wire", "far0");
    let (tell, told) = std::sync::mpsc::channel();
    let mut monitor = namespace.run(|| MtuMonitor::open().unwrap());
    std::thread::spawn(move || while monitor.wait().is_ok() && tell.send(()).is_ok() {});

    veth("pod0", "far1");
    netlink.set_link("pod0", &LinkChange::new().down()).unwrap();
    netlink.set_link("wire", &LinkChange::new().mtu(1500)).unwrap();
    netlink.remove_link("pod0").unwrap();
    let quiet = Duration::from_millis(200);
    assert!(told.recv_timeout(quiet).is_err(), "no link takes packets of another size");
    for mtu in [1400, 1500] {
        netlink.set_link("wire", &LinkChange::new().mtu(mtu)).unwrap();
        told.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{mtu}"));
        while told.recv_timeout(Duration::from_millis(20)).is_ok() {}
    }
}

#[test]
fn removals_of_a_table_are_told_of() {
    let namespace = Namespace::new();
    let nft = |words: &str| {
        let run = || Command::new("nft").arg(words).status().unwrap();
        assert!(namespace.run(run).success(), "{words}");
    };
    let table = |name: &str| format!("table inet {name} {{ chain c {{ counter; }}; }}");
    for name in ["ours", "theirs"] {
        nft(&table(name));
    }
    let (tell, told) = std::sync::mpsc::channel();
    let mut monitor = namespace.run(|| RemovalMonitor::open_table("ours").unwrap());
    std::thread::spawn(move || while monitor.wait().is_ok() && tell.send(()).is_ok() {});

    nft("add rule inet ours c counter accept");
    nft("delete table inet theirs");
    let quiet = Duration::from_millis(200);
    assert!(told.recv_timeout(quiet).is_err(), "nothing of ours was removed");
    for harm in ["flush table inet ours", "delete chain inet ours c", "flush ruleset"] {
        nft(harm);
        told.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{harm}"));
        while told.recv_timeout(Duration::from_millis(20)).is_ok() {}
    }
}
