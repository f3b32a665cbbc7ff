//! Two nodes whose containers have classes, and what can be tried between them.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use mizzen_ebpf_core::policy::{Action, Class, Match, PolicyWanted, Ruling, Traffic};
use mizzen_ebpf_loader::{FastPath, Policy, PolicyCounts, PolicyHere, Refusal};
use socket2::{Domain, Protocol, Socket, Type};

use crate::cluster::{Cluster, Container, FAMILIES, Node, address};
use mizzen_tests_support::greeting::ask;
use mizzen_tests_support::namespace::Namespace;
use mizzen_tests_support::room::Room;

/// Everybody in the overlay, the containers 2 of both nodes, and container 3 of the first.
pub const ALL: u32 = 16;
pub const CLIENT: u32 = 20;
pub const SERVER: u32 = 30;
pub const BESIDE: u32 = 40;

/// The overlay of all of them.
pub const OVERLAY: u32 = 7;
/// The first rule of these tests.
pub const RULE: u32 = 9;

/// Which way packets take that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Fast,
    Ordinary,
}

pub const PATHS: [Path; 2] = [Path::Fast, Path::Ordinary];

pub struct Stage {
    pub cluster: Cluster,
    pub policies: [Policy; 2],
    pub paths: Option<[FastPath; 2]>,
    pub wanted: PolicyWanted,
}

impl Stage {
    pub fn new(room: &Room, path: Path) -> Self {
        let cluster = Cluster::new(room);
        let paths = (path == Path::Fast).then(|| cluster.open());
        let policies = open(&cluster);
        let mut wanted = PolicyWanted::default();
        let class = |class| Class { class, overlay: OVERLAY, flags: 0 };
        wanted.classes.insert(("9.0.0.0".parse().expect("an address"), 8), class(ALL));
        wanted.classes.insert(("fd01:b::".parse().expect("an address"), 32), class(ALL));
        let mut stage = Self { cluster, policies, paths, wanted };
        for (number, node, container) in [(CLIENT, 1, 2), (SERVER, 2, 2), (BESIDE, 1, 3)] {
            stage.class((node, container), class(number));
        }
        stage
    }

    /// Gives a container a class.
    pub fn class(&mut self, (node, container): (u8, u8), class: Class) {
        for family in FAMILIES {
            let address = address(family, node, container);
            self.wanted.classes.insert(whole(address), class);
        }
    }

    /// Sets the flags of a class.
    pub fn guard(&mut self, number: u32, flags: u32) {
        for class in self.wanted.classes.values_mut().filter(|class| class.class == number) {
            class.flags = flags;
        }
    }

    pub fn rule(&mut self, (from, to): (u32, u32), traffic: Traffic, rule: u32, action: Action) {
        self.wanted.rulings.insert(Match { from, to, traffic }, Ruling { rule, action });
    }

    pub fn allow(&mut self, pair: (u32, u32), traffic: Traffic) {
        self.rule(pair, traffic, RULE, Action::Allow);
    }

    /// Has both nodes follow.
    pub fn apply(&mut self) {
        for (node, policy) in self.cluster.nodes.iter().zip(&mut self.policies) {
            follow(node, policy, &self.wanted);
        }
    }

    pub fn client(&self) -> &Container {
        &self.cluster.nodes[0].containers[0]
    }

    pub fn beside(&self) -> &Container {
        &self.cluster.nodes[0].containers[1]
    }

    pub fn server(&self) -> &Container {
        &self.cluster.nodes[1].containers[0]
    }

    /// What both nodes counted under a rule.
    pub fn counts(&self, rule: u32) -> PolicyCounts {
        let mut sum = PolicyCounts::default();
        for policy in &self.policies {
            let counts = policy.meter().expect("descriptors").counts([rule]).expect("readable");
            sum.allowed += counts[&rule].allowed;
            sum.refused += counts[&rule].refused;
            sum.would_refuse += counts[&rule].would_refuse;
        }
        sum
    }

    /// What was refused on a node and nobody was told of yet.
    pub fn refusals(&self, node: usize) -> Vec<Refusal> {
        let mut ring = self.policies[node].refusals().expect("a ring");
        std::iter::from_fn(|| ring.take()).collect()
    }
}

impl Drop for Stage {
    /// Another stage may follow in the same room.
    fn drop(&mut self) {
        self.cluster.nodes.iter().for_each(Node::teardown);
    }
}

pub fn open(cluster: &Cluster) -> [Policy; 2] {
    [0, 1].map(|index| Policy::open(&cluster.nodes[index].pin_dir, None).expect("loadable"))
}

pub fn follow(node: &Node, policy: &mut Policy, wanted: &PolicyWanted) {
    let changed = node.host.run(|| policy.follow(wanted, &here(node))).expect("writable maps");
    assert!(changed.errors.is_empty(), "{:?}", changed.errors);
}

/// What there is on a node.
pub fn here(node: &Node) -> PolicyHere {
    let mut here = PolicyHere::default();
    here.tunnels.insert(node.host.link("vtep1024").index.0);
    for container in &node.containers {
        let link = node.host.link(&container.link).index.0;
        for family in FAMILIES {
            here.containers.insert(address(family, node.number, container.number), link);
        }
    }
    here
}

fn whole(address: IpAddr) -> (IpAddr, u8) {
    (address, if address.is_ipv4() { 32 } else { 128 })
}

/// Rules for one TCP or UDP port.
pub fn port(protocol: u8, port: u16) -> Traffic {
    Traffic::Ports { protocol, port, bits: 16 }
}

/// How long a test waits for what must not come.
pub const SOON: Duration = Duration::from_millis(300);
/// And for what must.
pub const LONG: Duration = Duration::from_secs(20);

/// Whether a connection is made; what is refused on its way is not answered at all.
pub fn connects(from: &Namespace, to: SocketAddr, wait: Duration) -> bool {
    let connected = from.run(|| TcpStream::connect_timeout(&to, wait));
    if let Err(error) = &connected {
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}: {error}");
    }
    connected.is_ok()
}

/// Whether a datagram of a new socket is answered.
pub fn is_answered(from: &Namespace, to: SocketAddr, wait: Duration) -> bool {
    let socket = from.udp(to);
    socket.set_read_timeout(Some(wait)).expect("a time-out");
    ask(&socket, 100).is_ok()
}

/// Whether an ICMP echo is.
pub fn echoes(from: &Namespace, to: IpAddr, wait: Duration) -> bool {
    let (domain, protocol, kind) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = from.run(|| Socket::new(domain, Type::RAW, Some(protocol)).expect("root"));
    socket.set_read_timeout(Some(wait)).expect("a time-out");
    // Number 0x1234, and a checksum that IPv6 works out itself.
    let sum = !((u16::from(kind) << 8) + 0x1234);
    let [high, low] = sum.to_be_bytes();
    let request = [kind, 0, high, low, 0x12, 0x34, 0, 0];
    socket.send_to(&request, &SocketAddr::new(to, 0).into()).expect("a route");
    let mut answer = [0; 256];
    loop {
        let Ok(length) = (&socket).read(&mut answer) else { return false };
        let header = if to.is_ipv4() { 20 } else { 0 };
        let reply = if to.is_ipv4() { 0 } else { 129 };
        if length >= header + 8
            && answer[header] == reply
            && answer[header + 4..][..2] == [0x12, 0x34]
        {
            return true;
        }
    }
}
