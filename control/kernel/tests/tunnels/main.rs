//! Two nodes on a wire, their plans made by the planner, their network by the reconciler:
//! containers reach each other, and what somebody removes comes back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod encryption;
mod others;
mod published;

use std::net::{IpAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use ipnet::IpNet;
use mizzen_kernel::network::{Isolation, NetworkSpec, ensure_network, remove_network};
use mizzen_kernel::path_mtu::probe_path;
use mizzen_kernel::tunnels::{
    PROTOCOL, RemovalMonitor, Removals, SeenEntry, TunnelReport, Tunnels,
};
use mizzen_netlink::{
    DuplicateDetection, IfIndex, LinkChange, RouteSpec, TABLE_MAIN, UntrackedTunnels, VethPeer,
    VethSpec, ensure_sysctl,
};
use mizzen_plan::overlay::{Desired, Naming, OverlaySpec, Own, Peers, specs};
use mizzen_tests_support::namespace::{Namespace, connect};
use mizzen_types::encryption::PlainPackets;
use mizzen_types::overlay::{Habits, Mac, Overlay, OverlayGrant, OverlayShare, Vtep};
use tempfile::TempDir;

const MARK: &str = "mizzen test";

/// A node in a namespace of its own.
struct Node {
    last: u8,
    namespace: Namespace,
    own: Own,
    spec: NetworkSpec,
    peers: Peers,
    tunnels: Tunnels,
    _files: TempDir,
}

/// What is different between clusters.
#[derive(Clone, Copy)]
struct Cluster {
    habits: Habits,
    /// Whether the tunnels run over IPv6.
    v6: bool,
    isolation: Isolation,
    /// Whether the tunnels are encrypted, and if so, what becomes of plain packets.
    encryption: Option<PlainPackets>,
}

const USUAL: Cluster =
    Cluster { habits: Habits::Ours, v6: false, isolation: Isolation::Apart, encryption: None };

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn share(name: &str, vni: u32, networks: &[&str], blocks: &[String]) -> OverlayShare {
    let networks = networks.iter().map(|text| net(text)).collect();
    let overlay = Overlay { name: name.into(), vni, networks, mtu: 1420 };
    OverlayShare { overlay, blocks: blocks.iter().map(|text| net(text)).collect() }
}

/// Node `last` has 9.0.`last`.0/24 and 10.0.`last`.0/24, and the like of IPv6.
fn grant(last: u8, habits: Habits) -> OverlayGrant {
    let six = format!("fd01:b::{last}:0:0:0/80");
    let dcos = [format!("9.0.{last}.0/24"), six];
    let web = [format!("10.0.{last}.0/24")];
    let second = if habits == Habits::Dcos { 1024 } else { 1025 };
    OverlayGrant {
        vtep: Vtep {
            addresses: vec![
                net(&format!("44.128.0.{last}/20")),
                net(&format!("fd01:a::{last}/64")),
            ],
            mac: Mac([0x70, 0xb3, 0xd5, 0x80, 0, last]),
        },
        port: 64_000,
        habits,
        shares: vec![
            share("dcos", 1024, &["9.0.0.0/8", "fd01:b::/64"], &dcos),
            share("web", second, &["10.0.0.0/8"], &web),
        ],
    }
}

impl Node {
    fn new(last: u8, cluster: Cluster) -> Self {
        let files = TempDir::new().unwrap();
        let grant = grant(last, cluster.habits);
        let naming = Naming {
            bridge: &|name| format!("m-{name}"),
            second: &|name| format!("d-{name}"),
            tunnel: &|vni| format!("vtep{vni}"),
            leases: files.path().join("leases"),
            resolver: None,
        };
        let overlays = specs(&grant, &naming);
        let underlay =
            if cluster.v6 { format!("2001:db8::{last}") } else { format!("192.0.2.{last}") };
        let gateways = |spec: &OverlaySpec| (spec.name.clone(), spec.gateways());
        let vnis = grant.shares.iter().map(|share| share.overlay.vni);
        let own = Own {
            underlay: ip(&underlay),
            underlay_mtu: Some(1500),
            links: vnis.map(|vni| (vni, format!("vtep{vni}"))).collect(),
            gateways: overlays.iter().map(gateways).collect(),
            encryption: None,
            grant,
        };
        let spec = NetworkSpec {
            mark: MARK.into(),
            names: None,
            overlays,
            bridge: None,
            isolation: cluster.isolation,
            narrow: Vec::new(),
            plain: None,
            tunnels: Some(UntrackedTunnels { port: own.grant.port }),
            leases: files.path().join("leases"),
            filter_table: "mizzen-test".into(),
            port_table: "mizzen-test-ports".into(),
            cni_directory: files.path().join("cni"),
            socket: files.path().join("mizzen.sock"),
        };
        let namespace = Namespace::new();
        let tunnels = namespace.run(|| Tunnels::open(MARK.into()).unwrap());
        let mut peers = Peers::new(format!("n{last}").as_str().into());
        peers.set_own(Some(own.clone()));
        let mut node = Self { last, namespace, own, spec, peers, tunnels, _files: files };
        if let Some(plain) = cluster.encryption {
            node.encrypt(plain);
        }
        node
    }

    fn hear(&mut self, other: &Node) {
        let mut fact = other.own.grant.fact(vec![other.own.underlay], other.own.underlay_mtu);
        fact.wireguard = other.own.encryption.as_ref().map(|encryption| encryption.end);
        self.peers.apply(&format!("n{}", other.last).as_str().into(), Some(&fact));
    }

    fn reconcile(&mut self) -> TunnelReport {
        let (tunnels, desired) = (&mut self.tunnels, self.peers.desired());
        self.namespace.run(|| tunnels.reconcile(&desired, Removals::Now))
    }

    /// One pass over everything; how much it changed.
    fn pass(&mut self) -> usize {
        let spec = &self.spec;
        let network = self.namespace.run(|| ensure_network(spec));
        assert!(network.errors.is_empty(), "{:?}", network.errors);
        let report = self.reconcile();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        report.changed + network.changed as usize
    }

    fn ip(&self, words: &str) {
        let (namespace, words) = (&self.namespace, words.split(' '));
        let status = namespace.run(|| Command::new("ip").args(words).status().unwrap());
        assert!(status.success());
    }

    fn link(&self, name: &str) -> Option<IfIndex> {
        self.namespace.netlink().observe_link(name).unwrap().map(|link| link.index)
    }

    /// A container on one of its bridges, with the ninth address of each block.
    fn container(&self, overlay: usize) -> Namespace {
        let container = Namespace::new();
        let spec = &self.spec.overlays[overlay];
        let mut netlink = self.namespace.netlink();
        let (bridge, name) = (self.link(&spec.bridge).unwrap(), format!("pod{overlay}"));
        let peer = VethPeer { name: "eth0", namespace: container.file.as_fd(), mac: None };
        netlink.create_veth(&VethSpec { name: &name, mtu: 1420, alias: None, peer }).unwrap();
        netlink.set_link(&name, &LinkChange::new().up().master(bridge)).unwrap();
        let mut inside = container.netlink();
        inside.set_link("eth0", &LinkChange::new().up()).unwrap();
        let index = inside.observe_link("eth0").unwrap().unwrap().index;
        for (block, gateway) in spec.blocks.iter().zip(spec.gateways()) {
            let address = IpNet::new(ninth(block), block.prefix_len()).unwrap();
            inside.ensure_address(index, address, DuplicateDetection::Off).unwrap();
            inside.ensure_route(&default_route(gateway)).unwrap();
        }
        container
    }
}

fn ninth(block: &IpNet) -> IpAddr {
    match block.network() {
        IpAddr::V4(first) => std::net::Ipv4Addr::from(u32::from(first) + 9).into(),
        IpAddr::V6(first) => std::net::Ipv6Addr::from(u128::from(first) + 9).into(),
    }
}

#[test]
fn the_size_of_a_path_is_found_out() {
    let [left, middle, right] = [Namespace::new(), Namespace::new(), Namespace::new()];
    middle.run(|| {
        for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            ensure_sysctl(setting, "1").unwrap();
        }
    });
    for (end, number) in [(&left, 1), (&right, 2)] {
        let name = format!("side{number}");
        let peer = VethPeer { name: "eth0", namespace: end.file.as_fd(), mac: None };
        let mut netlink = middle.netlink();
        netlink.create_veth(&VethSpec { name: &name, mtu: 1500, alias: None, peer }).unwrap();
        netlink.set_link(&name, &LinkChange::new().up()).unwrap();
        let index = netlink.observe_link(&name).unwrap().unwrap().index;
        let mut inside = end.netlink();
        inside.set_link("eth0", &LinkChange::new().up()).unwrap();
        let own = inside.observe_link("eth0").unwrap().unwrap().index;
        for (network, length) in
            [(format!("192.0.{number}."), 24), (format!("2001:db8:{number}::"), 64)]
        {
            let address = |last: u8| IpNet::new(ip(&format!("{network}{last}")), length).unwrap();
            netlink.ensure_address(index, address(1), DuplicateDetection::Off).unwrap();
            inside.ensure_address(own, address(2), DuplicateDetection::Off).unwrap();
            inside.ensure_route(&default_route(address(1).addr())).unwrap();
        }
    }
    let size = |to: &str| left.run(|| probe_path(ip(to), 1500).unwrap());
    let far = ["192.0.2.2", "2001:db8:2::2"];
    // The kernel puts a new IPv6 address to work a moment after it agreed to it.
    let begun = std::time::Instant::now();
    while far.map(size) != [Some(1500); 2] && begun.elapsed() < Duration::from_secs(10) {}
    assert_eq!(far.map(size), [Some(1500); 2]);
    middle.netlink().set_link("side2", &LinkChange::new().mtu(1400)).unwrap();
    for found in far.map(size) {
        assert!((1396..=1400).contains(&found.unwrap()), "{found:?}");
    }
    // Now the router says nothing about what it drops.
    for rules in [
        "table ip quiet { chain out { type filter hook output priority 0; icmp type destination-unreachable drop; }; }",
        "table ip6 quiet { chain out { type filter hook output priority 0; icmpv6 type packet-too-big drop; }; }",
    ] {
        let status = middle.run(|| Command::new("nft").arg(rules).status().unwrap());
        assert!(status.success());
    }
    for found in far.map(size) {
        assert!((1396..=1400).contains(&found.unwrap()), "{found:?}");
    }
    right.netlink().set_link("eth0", &LinkChange::new().down()).unwrap();
    assert_eq!(size("192.0.2.2"), None);
}

fn default_route(gateway: IpAddr) -> RouteSpec {
    let everything = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    RouteSpec {
        destination: net(everything),
        gateway: Some(gateway),
        link: None,
        source: None,
        metric: None,
        table: TABLE_MAIN,
        protocol: 4,
    }
}

/// Two nodes that know each other.
fn two(cluster: Cluster) -> [Node; 2] {
    let mut nodes = [Node::new(1, cluster), Node::new(2, cluster)];
    let [a, b] = &nodes;
    let peer = VethPeer { name: "eth0", namespace: b.namespace.file.as_fd(), mac: None };
    let pair = VethSpec { name: "eth0", mtu: 1500, alias: None, peer };
    a.namespace.netlink().create_veth(&pair).unwrap();
    for node in &nodes {
        let mut netlink = node.namespace.netlink();
        netlink.set_link("eth0", &LinkChange::new().up()).unwrap();
        let index = node.link("eth0").unwrap();
        let length = if cluster.v6 { 64 } else { 24 };
        let address = IpNet::new(node.own.underlay, length).unwrap();
        netlink.ensure_address(index, address, DuplicateDetection::Off).unwrap();
    }
    let [a, b] = &mut nodes;
    a.hear(b);
    b.hear(a);
    for node in &mut nodes {
        assert!(node.pass() > 0);
        assert_eq!(node.pass(), 0, "a second pass finds all well");
    }
    nodes
}

/// The first container reaches the second, at all of its addresses, and is seen as itself.
fn reaches(from: (&Node, &Namespace), to: (&Node, &Namespace), overlay: usize) {
    let own: Vec<IpAddr> = from.0.spec.overlays[overlay].blocks.iter().map(ninth).collect();
    for address in to.0.spec.overlays[overlay].blocks.iter().map(ninth) {
        let listener = to.1.listen(address);
        let seen = connect(from.1, &listener, address).ip().to_canonical();
        assert!(own.contains(&seen), "seen as {seen}");
    }
}

fn refused(from: &Namespace, address: IpAddr) -> std::io::ErrorKind {
    let wait = Duration::from_millis(300);
    from.run(|| TcpStream::connect_timeout(&(address, 9).into(), wait)).unwrap_err().kind()
}

#[test]
fn containers_of_two_nodes_reach_each_other_over_either_family() {
    for cluster in [USUAL, Cluster { v6: true, ..USUAL }] {
        let [a, b] = two(cluster);
        let (first, second) = (a.container(0), b.container(0));
        reaches((&a, &first), (&b, &second), 0);
        reaches((&b, &second), (&a, &first), 0);
        // The node itself reaches them, too, under its bridge's address.
        let listener = second.listen(ip("9.0.2.9"));
        assert_eq!(connect(&a.namespace, &listener, ip("9.0.2.9")).ip(), ip("9.0.1.1"));
        // Five connections and two memberships of groups, and nothing of the tunnels that they
        // went through, each of which has flows of its own there.
        assert!(tracked(&a) <= 7 && tracked(&b) <= 7, "{} {}", tracked(&a), tracked(&b));
    }
}

/// How many flows the kernel keeps track of on a node.
fn tracked(node: &Node) -> u32 {
    let count = "/proc/sys/net/netfilter/nf_conntrack_count";
    let text = node.namespace.run(|| std::fs::read_to_string(count)).unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn overlays_are_apart_unless_they_are_not_meant_to_be() {
    let [a, b] = two(USUAL);
    let (dcos, web) = (a.container(0), b.container(1));
    let own = a.container(1);
    reaches((&a, &own), (&b, &web), 1);
    for (from, address) in [(&dcos, "10.0.2.9"), (&dcos, "10.0.1.9"), (&web, "9.0.1.9")] {
        assert_eq!(refused(from, ip(address)), std::io::ErrorKind::TimedOut, "{address}");
    }
    let [a, b] = two(Cluster { isolation: Isolation::Together, ..USUAL });
    let (dcos, web) = (a.container(0), b.container(1));
    let listener = web.listen(ip("10.0.2.9"));
    assert_eq!(connect(&dcos, &listener, ip("10.0.2.9")).ip(), ip("9.0.1.9"));
}

#[test]
fn what_somebody_removes_comes_back() {
    let [mut a, b] = two(USUAL);
    let (first, second) = (a.container(0), b.container(0));
    for harm in [
        "link del vtep1024",
        "link set vtep1024 down",
        "addr flush dev vtep1024",
        "route flush proto 109",
        "-6 route flush proto 109",
        "neigh flush dev vtep1024 nud permanent",
        "addr del 9.0.1.1/24 dev m-dcos",
        "link set m-dcos down",
        "link set vtep1024 address 02:00:00:00:00:01",
    ] {
        a.ip(harm);
        assert!(a.pass() > 0, "{harm}");
        reaches((&a, &first), (&b, &second), 0);
        assert_eq!(a.pass(), 0, "{harm}");
    }
}

#[test]
fn what_somebody_changes_is_told_of_and_mended_and_our_own_changes_wake_nobody() {
    let [mut a, b] = two(USUAL);
    let (first, second) = (a.container(0), b.container(0));
    let expected = a.tunnels.expected();
    let are_wrong = move |seen: &SeenEntry| expected.contradicts(seen);
    let mut monitor = a.namespace.run(|| RemovalMonitor::open(PROTOCOL, are_wrong).unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || while monitor.wait().is_ok() && tell.send(()).is_ok() {});
    let quiet = Duration::from_millis(200);

    let mut third = grant(3, Habits::Ours).fact(vec![ip("192.0.2.3")], None);
    for underlay in ["192.0.2.3", "192.0.2.4"] {
        third.underlay = vec![ip(underlay)];
        let changes = a.peers.apply(&"n3".into(), Some(&third));
        assert!(a.tunnels.change(&changes).changed > 0);
        assert!(told.recv_timeout(quiet).is_err(), "{underlay}");
    }
    for harm in [
        "bridge fdb replace 70:b3:d5:80:00:02 dev vtep1024 dst 192.0.2.77",
        "ip neigh replace 44.128.0.2 lladdr 02:00:00:00:00:01 dev vtep1024 nud permanent",
        "ip neigh change fd01:a::2 lladdr 02:00:00:00:00:01 dev vtep1024 nud permanent",
        "ip neigh replace 44.128.0.2 lladdr 70:b3:d5:80:00:02 dev vtep1024 nud stale",
        "ip route change 9.0.2.0/24 via 44.128.0.3 dev vtep1024 onlink proto 109",
        "ip route change 9.0.2.0/24 via 44.128.0.2 dev vtep1024 onlink proto 109 mtu 1300",
        "ip -6 route replace fd01:b:0:0:2::/80 via fd01:a::3 dev vtep1024 onlink proto 109",
        "ip link set vtep1024 mtu 1400",
    ] {
        let mut words = harm.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        assert!(a.namespace.run(|| command.status().unwrap()).success(), "{harm}");
        told.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{harm}"));
        while told.recv_timeout(Duration::from_millis(20)).is_ok() {}
        assert!(a.pass() > 0, "{harm}");
        reaches((&a, &first), (&b, &second), 0);
        // Mended links say so.
        let link = harm.starts_with("ip link");
        assert!(link || told.recv_timeout(quiet).is_err(), "{harm}: mending wakes nobody");
        assert_eq!(a.pass(), 0, "{harm}");
    }
    // What is not ours, and not in the way.
    a.ip("route add 203.0.113.0/24 via 44.128.0.2 dev vtep1024 onlink");
    a.ip("neigh replace 192.0.2.9 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
    while told.recv_timeout(quiet).is_ok() {}
    a.ip("route change 203.0.113.0/24 via 44.128.0.3 dev vtep1024 onlink");
    assert!(told.recv_timeout(quiet).is_err());
}

#[test]
fn a_node_that_goes_leaves_nothing_and_its_addresses_are_nowhere() {
    let [mut a, mut b] = two(USUAL);
    let (first, second) = (a.container(0), b.container(0));
    reaches((&a, &first), (&b, &second), 0);
    let mut third = Node::new(3, USUAL);
    third.own.underlay = ip("192.0.2.3");
    let fact = third.own.grant.fact(vec![third.own.underlay], None);
    let come = a.peers.apply(&"n3".into(), Some(&fact));
    let report = a.tunnels.change(&come);
    assert!(report.problems.is_empty() && report.changed > 5, "{report:?}");
    assert_eq!(a.pass(), 0, "a change and a pass make the same");

    let gone = a.peers.apply(&"n2".into(), None);
    let report = a.tunnels.change(&gone);
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!(a.pass(), 0);
    let kind = refused(&first, ip("9.0.2.9"));
    assert_eq!(kind, std::io::ErrorKind::HostUnreachable, "told at once");

    // Its block goes to another node, in one step.
    let mut heir = fact.clone();
    heir.shares[0].blocks.push(net("9.0.2.0/24"));
    let changes = a.peers.apply(&"n3".into(), Some(&heir));
    assert!(a.tunnels.change(&changes).problems.is_empty());
    assert_eq!(a.pass(), 0);

    for node in [&mut a, &mut b] {
        node.peers.set_own(None);
        node.reconcile();
        let spec = &node.spec;
        let removed = node.namespace.run(|| remove_network(spec));
        assert!(removed.errors.is_empty(), "{:?}", removed.errors);
        let names: Vec<String> =
            node.namespace.netlink().observe_links().unwrap().into_iter().map(|l| l.name).collect();
        assert!(
            names.iter().all(|name| !name.contains("vtep") && !name.contains("m-")),
            "{names:?}"
        );
        assert!(node.namespace.netlink().observe_routes(PROTOCOL).unwrap().is_empty());
    }
}

#[test]
fn a_restart_keeps_what_is_not_known_yet() {
    let [mut a, b] = two(USUAL);
    let (first, second) = (a.container(0), b.container(0));
    let mut anew = a.namespace.run(|| Tunnels::open(MARK.into()).unwrap());
    let report = a.namespace.run(|| anew.reconcile(&Desired::default(), Removals::Later));
    assert_eq!((report.changed, report.problems.len()), (0, 0));
    reaches((&a, &first), (&b, &second), 0);
    a.tunnels = anew;
    assert_eq!(a.pass(), 0);
}

#[test]
fn as_in_dcos() {
    let [mut a, b] = two(Cluster { habits: Habits::Dcos, ..USUAL });
    let (first, second) = (a.container(0), b.container(0));
    // The rule for table 42 counts for the way back as well, so a node that is strict with
    // packets' sources takes what another node's own address answers through the tunnel.
    a.namespace.run(|| ensure_sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap());
    reaches((&a, &first), (&b, &second), 0);
    assert!(a.link("d-dcos").is_some() && a.link("vtep1025").is_none());
    // A container reaches the other node itself through the tunnel, and is seen as itself.
    let listener = b.namespace.listen(ip("192.0.2.2"));
    assert_eq!(connect(&first, &listener, ip("192.0.2.2")).ip(), ip("9.0.1.9"));
    a.ip("rule del priority 9999");
    assert!(a.pass() > 0);
    let listener = b.namespace.listen(ip("192.0.2.2"));
    assert_eq!(connect(&first, &listener, ip("192.0.2.2")).ip(), ip("9.0.1.9"));
}
