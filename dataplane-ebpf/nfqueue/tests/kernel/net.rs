//! Three namespaces in a row, without a way out:
//!
//! ```text
//!  client 10.1.0.2 ── 10.1.0.1 node 10.2.0.1 ── 10.2.0.2 backends
//!       fd00:1::2  ── fd00:1::1     fd00:2::1 ── fd00:2::2
//! ```
//!
//! The kernel takes them back when the test ends, however it ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mizzen_netlink::{
    DuplicateDetection, LinkChange, Netlink, RouteSpec, TABLE_MAIN, VethPeer, VethSpec,
    ensure_sysctl, in_namespace,
};
use mizzen_nfqueue::{
    BackendWanted, Counts, Engine, OpenError, Options, Policy, Tuning, VipAddress, VipWanted,
    teardown,
};
use nix::sched::{CloneFlags, unshare};

/// For what happens at once unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const NODE: &str = "10.2.0.1";
pub const CLIENT: &str = "10.1.0.2";
pub const BACKEND: &str = "10.2.0.2";
pub const CLIENT6: &str = "fd00:1::2";
pub const BACKEND6: &str = "fd00:2::2";

/// A network namespace that lives as long as this value.
pub struct Namespace {
    file: File,
}

impl Namespace {
    fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root can make namespaces");
            File::open("/proc/thread-self/ns/net").expect("procfs")
        };
        let file = thread::spawn(make).join().expect("the thread did not panic");
        let namespace = Self { file };
        // Nobody else has our addresses, so that nobody has to be asked for a second.
        namespace.run(|| {
            for links in ["all", "default"] {
                let setting = format!("net/ipv6/conf/{links}/accept_dad");
                ensure_sysctl(&setting, "0").expect("a setting");
            }
        });
        namespace.netlink().set_link("lo", &LinkChange::new().up()).expect("a loopback");
        namespace
    }

    pub fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.path()).expect("a socket")
    }

    /// Runs `work` inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(&self.path(), work).expect("a namespace of ours")
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Gives a link that is up an address.
    pub fn address(&self, link: &str, address: &str) {
        let mut netlink = self.netlink();
        netlink.set_link(link, &LinkChange::new().up()).expect("a link");
        let index = netlink.observe_link(link).expect("readable").expect("a link").index;
        netlink.ensure_address(index, net(address), DuplicateDetection::Off).expect("an address");
    }

    pub fn default_route(&self, via: &str) {
        self.route_to(if ip(via).is_ipv6() { "::/0" } else { "0.0.0.0/0" }, via);
    }

    pub fn route_to(&self, destination: &str, via: &str) {
        let route = RouteSpec {
            destination: net(destination),
            gateway: Some(ip(via)),
            link: None,
            source: None,
            metric: None,
            table: TABLE_MAIN,
            protocol: 4,
        };
        self.netlink().ensure_route(&route).expect("a route");
    }

    /// Starts a TCP server on a free port that says its port and then echoes.
    pub fn server(&self, address: &str) -> SocketAddr {
        let listener = self.run(|| TcpListener::bind((ip(address), 0)).expect("a free port"));
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream, address.port()));
            }
        });
        address
    }

    /// Starts a UDP server on a free port that answers each datagram with its port, the
    /// sender that it saw, and the datagram.
    pub fn udp_server(&self, address: &str) -> SocketAddr {
        let socket = self.run(|| UdpSocket::bind((ip(address), 0)).expect("a free port"));
        let address = socket.local_addr().expect("it is bound");
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let said = format!("{} {} ", address.port(), peer.ip());
                let answer = [said.as_bytes(), &buffer[..length]].concat();
                let _ = socket.send_to(&answer, peer);
            }
        });
        address
    }

    /// Connects and reads the port of the backend that answers.
    pub fn connect(&self, vip: SocketAddr) -> io::Result<Connection> {
        self.run(|| connect(vip))
    }

    /// Connects as often and returns how often each backend answered.
    pub fn spread(&self, vip: SocketAddr, times: u32) -> std::collections::BTreeMap<u16, u32> {
        let mut hits = std::collections::BTreeMap::new();
        self.run(|| {
            for n in 0..times {
                let connection = connect(vip).unwrap_or_else(|error| panic!("{n}: {error}"));
                *hits.entry(connection.backend).or_default() += 1;
            }
        });
        hits
    }

    /// A UDP socket on a free port.
    pub fn udp(&self, address: &str) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind((ip(address), 0)).expect("a free port"));
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket
    }
}

/// A connection, with what the server said about itself and its client.
pub struct Connection {
    pub stream: TcpStream,
    /// Port of the backend.
    pub backend: u16,
    /// Whom it saw.
    pub seen: IpAddr,
}

impl Connection {
    /// Whether the server answers.
    pub fn echoes(&mut self) -> bool {
        let mut answer = [0; 5];
        self.stream.write_all(b"still").is_ok()
            && self.stream.read_exact(&mut answer).is_ok()
            && answer == *b"still"
    }
}

fn connect(vip: SocketAddr) -> io::Result<Connection> {
    greeted(TcpStream::connect_timeout(&vip, PATIENCE)?)
}

/// Reads what the server says first.
pub fn greeted(mut stream: TcpStream) -> io::Result<Connection> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut hello = [0; 18];
    stream.read_exact(&mut hello)?;
    let backend = u16::from_be_bytes([hello[0], hello[1]]);
    let mut octets = [0; 16];
    octets.copy_from_slice(&hello[2..]);
    Ok(Connection { stream, backend, seen: IpAddr::from(octets).to_canonical() })
}

fn serve(mut stream: TcpStream, name: u16) {
    let Ok(peer) = stream.peer_addr() else { return };
    let octets = match peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let _ = stream.write_all(&[&name.to_be_bytes()[..], &octets].concat());
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let _ = stream.write_all(&buffer[..length]);
    }
}

/// Where a test plays.
pub struct Net {
    pub client: Namespace,
    pub node: Namespace,
    pub backend: Namespace,
}

impl Net {
    pub fn new() -> Self {
        let net =
            Self { client: Namespace::new(), node: Namespace::new(), backend: Namespace::new() };
        wire(&net.node, "eth0", &net.client);
        wire(&net.node, "eth1", &net.backend);
        for (namespace, link, addresses) in [
            (&net.client, "up", [CLIENT, CLIENT6]),
            (&net.backend, "up", [BACKEND, BACKEND6]),
            (&net.node, "eth0", ["10.1.0.1", "fd00:1::1"]),
            (&net.node, "eth1", [NODE, "fd00:2::1"]),
        ] {
            let [v4, v6] = addresses;
            namespace.address(link, &format!("{v4}/24"));
            namespace.address(link, &format!("{v6}/64"));
        }
        for (namespace, via) in
            [(&net.client, ["10.1.0.1", "fd00:1::1"]), (&net.backend, [NODE, "fd00:2::1"])]
        {
            via.iter().for_each(|via| namespace.default_route(via));
        }
        net.node.run(|| {
            for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                ensure_sysctl(setting, "1").expect("a setting");
            }
        });
        // The neighbours of new IPv6 links need a moment to find each other.
        let server = net.backend.server(BACKEND6);
        for namespace in [&net.client, &net.node] {
            eventually("a connection without a VIP", || namespace.connect(server).is_ok());
        }
        net
    }

    /// The engine in the node, serving `vips`.
    pub fn engine(&self, vips: &[VipWanted]) -> Engine {
        self.engine_with(&options(), vips).expect("an engine")
    }

    pub fn engine_with(&self, options: &Options, vips: &[VipWanted]) -> Result<Engine, OpenError> {
        self.node.run(|| {
            let mut engine = Engine::open(options)?;
            engine.set_vips(vips).expect("VIPs");
            engine.serve()?;
            Ok(engine)
        })
    }

    /// Makes packets of at most so many bytes all that gets from the node to the backends and back.
    pub fn narrow_backend_link(&self, mtu: u32) {
        for (namespace, link) in [(&self.node, "eth1"), (&self.backend, "up")] {
            namespace.netlink().set_link(link, &LinkChange::new().mtu(mtu)).expect("a link");
        }
    }

    pub fn teardown(&self) -> Result<(), OpenError> {
        self.node.run(|| teardown(&options()))
    }
}

fn wire(node: &Namespace, link: &str, other: &Namespace) {
    let peer = VethPeer { name: "up", namespace: other.file.as_fd(), mac: None };
    let veth = VethSpec { name: link, mtu: 1500, alias: None, peer };
    node.netlink().create_veth(&veth).expect("a pair of links");
}

pub fn options() -> Options {
    Options {
        table: "mizzen-test".to_owned(),
        queues: 50..=58,
        group: 50,
        networks: vec![net("11.0.0.0/8"), net("fd01:c::/64")],
        addresses: vec![ip(NODE), ip("fd00:2::1")],
        masquerade: Vec::new(),
        tuning: Tuning::default(),
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// Parses an address with a port.
pub fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

/// A VIP at `text` with admitted backends of weight 1.
pub fn tcp(text: &str, backends: &[SocketAddr]) -> VipWanted {
    wanted(VipAddress::tcp(at(text)), backends)
}

pub fn udp(text: &str, backends: &[SocketAddr]) -> VipWanted {
    wanted(VipAddress::udp(at(text)), backends)
}

fn wanted(address: VipAddress, backends: &[SocketAddr]) -> VipWanted {
    let backends = backends.iter().copied().map(BackendWanted::new).collect();
    VipWanted { address, backends, policy: Policy::default() }
}

/// Counts of a backend, once they fulfil a condition.
pub fn counts_when(
    engine: &Engine,
    vip: &VipWanted,
    backend: SocketAddr,
    condition: impl Fn(&Counts) -> bool,
) -> Counts {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counts = engine.counters()[&(vip.address, backend)];
        if condition(&counts) {
            return counts;
        }
        assert!(Instant::now() < deadline, "{backend} has {counts:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
