//! Two nodes with two containers each, and a wire between the nodes:
//!
//! ```text
//!  9.0.1.2, fd01:b:0:1::2 ─┐                                                      ┌─ 9.0.2.2, fd01:b:0:2::2
//!                          m-dcos ─ vtep1024 ─ eth0 192.0.2.1 ── 192.0.2.2 eth0 ─ vtep1024 ─ m-dcos
//!  9.0.1.3, fd01:b:0:1::3 ─┘                                                      └─ 9.0.2.3, fd01:b:0:2::3
//! ```
//!
//! What is here is the ordinary path; each node has a fast path of its own beside it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mizzen_ebpf_loader::{
    ContainerWanted, FastPath, FastPathCounts, FastPathWanted, PeerWanted, teardown_fast_path,
};

use mizzen_tests_support::namespace::{Namespace, wire};
use mizzen_tests_support::room::Room;

/// Largest packet of the overlay.
pub const MTU: u32 = 1420;

/// Both families, without the number of the node and that of the container.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// The address of a container; number 1 is the bridge's own.
pub fn address(family: Family, node: u8, container: u8) -> IpAddr {
    let text = match family {
        Family::V4 => format!("9.0.{node}.{container}"),
        Family::V6 => format!("fd01:b:0:{node}::{container}"),
    };
    text.parse().expect("an address")
}

pub struct Container {
    pub namespace: Namespace,
    pub number: u8,
    /// The host's end of its pair.
    pub link: String,
}

pub struct Node {
    pub host: Namespace,
    pub containers: Vec<Container>,
    pub number: u8,
    pub pin_dir: PathBuf,
}

pub struct Cluster {
    pub nodes: [Node; 2],
}

impl Cluster {
    pub fn new(room: &Room) -> Self {
        let nodes = [1, 2].map(|number| Node {
            host: Namespace::new(),
            containers: Vec::new(),
            number,
            pin_dir: room.pins.join(format!("node{number}")),
        });
        wire(&nodes[0].host, "eth0", &nodes[1].host, "eth0");
        let mut cluster = Self { nodes };
        for node in &mut cluster.nodes {
            node.build();
            for number in [2, 3] {
                node.add(number);
            }
        }
        cluster
    }

    /// The fast path of every node, as it is wanted.
    pub fn open(&self) -> [FastPath; 2] {
        [0, 1].map(|index| {
            let mut path = FastPath::open(&self.nodes[index].pin_dir).expect("loadable");
            self.nodes[index].follow(&mut path, &self.nodes[index].wanted());
            path
        })
    }

    /// Two containers on different nodes.
    pub fn pair(&self) -> [&Container; 2] {
        [0, 1].map(|index| &self.nodes[index].containers[0])
    }
}

impl Node {
    fn other(&self) -> u8 {
        3 - self.number
    }

    fn build(&self) {
        let (me, other) = (self.number, self.other());
        self.host.forward();
        self.ip(&format!(
            "addr add 192.0.2.{me}/24 dev eth0
             link set eth0 up
             link add vtep1024 address 70:b3:d5:80:00:0{me} mtu {MTU} type vxlan id 1024 dstport 64000 local 192.0.2.{me} dev eth0 nolearning
             link set vtep1024 up
             addr add 44.128.0.{me}/20 dev vtep1024
             addr add fd01:a::{me}/64 dev vtep1024 nodad
             link add m-dcos mtu {MTU} address 02:42:00:00:00:0{me} type bridge
             link set m-dcos up
             addr add 9.0.{me}.1/25 dev m-dcos
             addr add fd01:b:0:{me}::1/64 dev m-dcos nodad
             neigh add 44.128.0.{other} lladdr 70:b3:d5:80:00:0{other} dev vtep1024 nud permanent
             neigh add fd01:a::{other} lladdr 70:b3:d5:80:00:0{other} dev vtep1024 nud permanent"
        ));
        let mac = format!("70:b3:d5:80:00:0{other}");
        let entry = ["fdb", "add", &mac, "dev", "vtep1024", "dst", &format!("192.0.2.{other}")];
        self.host.run(|| run(Command::new("bridge").args(entry), ""));
        self.route();
    }

    /// The ordinary path to the other node.
    pub fn route(&self) {
        let other = self.other();
        self.ip(&format!(
            "route add 9.0.{other}.0/24 via 44.128.0.{other} dev vtep1024
             route add fd01:b:0:{other}::/64 via fd01:a::{other} dev vtep1024"
        ));
    }

    /// Ends the ordinary path to the other node.
    pub fn cut(&self) {
        let other = self.other();
        self.ip(&format!("route del 9.0.{other}.0/24\nroute del fd01:b:0:{other}::/64"));
    }

    /// What a plugin makes.
    pub fn add(&mut self, number: u8) {
        let (me, count) = (self.number, self.containers.len());
        let container =
            Container { namespace: Namespace::new(), number, link: format!("mz{number}x{count}") };
        let link = &container.link;
        wire(&self.host, link, &container.namespace, "eth0");
        self.ip(&format!("link set {link} mtu {MTU} master m-dcos up"));
        let inside = format!(
            "link set eth0 address {} mtu {MTU} up
             addr add 9.0.{me}.{number}/25 dev eth0
             addr add fd01:b:0:{me}::{number}/64 dev eth0 nodad
             route add default via 9.0.{me}.1
             route add default via fd01:b:0:{me}::1",
            mac(me, number).map(|byte| format!("{byte:02x}")).join(":")
        );
        container.namespace.run(|| ip(&inside));
        self.containers.push(container);
    }

    /// What the fast path has to know.
    pub fn wanted(&self) -> FastPathWanted {
        let other = self.other();
        let tunnel = self.host.link("vtep1024");
        let index = tunnel.index.0;
        let peer = PeerWanted {
            tunnel: index,
            mtu: MTU,
            is_narrow: false,
            group: 7,
            target: [0x70, 0xb3, 0xd5, 0x80, 0, other],
            source: tunnel.mac.expect("a tunnel of frames").0,
        };
        let nets = [(Family::V4, 24), (Family::V6, 64)];
        let peers = nets.map(|(family, length)| ((address(family, other, 0), length), peer));
        let bridge = self.host.link("m-dcos").mac.expect("a bridge's address").0;
        let mut containers = BTreeMap::new();
        for container in &self.containers {
            let wanted = ContainerWanted {
                link: self.host.link(&container.link).index.0,
                tunnel: index,
                mtu: MTU,
                group: 7,
                target: mac(self.number, container.number),
                source: bridge,
                sends: true,
                receives: true,
                hooked: false,
            };
            for family in FAMILIES {
                containers.insert(address(family, self.number, container.number), wanted);
            }
        }
        FastPathWanted { peers: peers.into(), containers }
    }

    pub fn follow(&self, path: &mut FastPath, wanted: &FastPathWanted) {
        let changed = self.host.run(|| path.follow(wanted)).expect("writable maps");
        assert!(changed.errors.is_empty(), "{:?}", changed.errors);
    }

    /// Removes what is attached by filters.
    pub fn remove_filters(&self) {
        let mut links = vec!["vtep1024"];
        links.extend(self.containers.iter().map(|container| container.link.as_str()));
        for link in links {
            let words = ["qdisc", "del", "dev", link, "clsact"];
            self.host.run(|| run(Command::new("tc").args(words), ""));
        }
    }

    pub fn teardown(&self) {
        self.host.run(|| teardown_fast_path(&self.pin_dir)).expect("removable");
    }

    pub fn ip(&self, lines: &str) {
        self.host.run(|| ip(lines));
    }
}

/// What the programs of both nodes counted.
pub fn counts(paths: &[FastPath; 2]) -> [FastPathCounts; 2] {
    [0, 1].map(|index| paths[index].counts().expect("a readable map"))
}

pub fn at(ip: IpAddr) -> String {
    SocketAddr::new(ip, 0).ip().to_string()
}

fn mac(node: u8, container: u8) -> [u8; 6] {
    [0x02, 0x6d, 9, 0, node, container]
}

fn ip(lines: &str) {
    let lines: Vec<&str> = lines.lines().map(str::trim).collect();
    run(Command::new("ip").args(["-batch", "-"]), &lines.join("\n"));
}

fn run(command: &mut Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("iproute2");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("a reader");
    assert!(child.wait().expect("a child").success(), "{command:?}: {input}");
}
