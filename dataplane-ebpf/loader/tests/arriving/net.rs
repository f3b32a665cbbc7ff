//! A client, a node and what is behind it, without a way out:
//!
//! ```text
//!                              ┌────────────── node ──────────────┐    ┌─ p1 ── inside 10.2.0.2, fd00:2::2
//!  client 10.1.0.2, fd00:1::2 ─┤ eth0 10.1.0.1      m-br 10.2.0.1 ├────┤
//!                              └──────────────────────────────────┘    └─ p2 ── beside 10.2.0.3, fd00:2::3
//! ```
//!
//! None of them is below the hooked cgroup. The kernel takes all back when the test ends, however it ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use mizzen_ebpf_loader::{Counts, Dataplane, LinkWanted, Options, VipAddress};
use mizzen_netlink::{
    BridgeSpec, DuplicateDetection, LinkChange, LinkState, Netlink, RouteSpec, TABLE_MAIN,
    VethPeer, VethSpec, ensure_sysctl, in_namespace,
};
use nix::sched::{CloneFlags, unshare};

use crate::room::{Room, eventually};

/// For what happens at once unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A network namespace that lives as long as this value.
pub struct Namespace {
    file: File,
}

impl Namespace {
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root can make namespaces");
            File::open("/proc/thread-self/ns/net").expect("procfs")
        };
        let file = thread::spawn(make).join().expect("the thread did not panic");
        let namespace = Self { file };
        namespace.set("lo", &LinkChange::new().up());
        namespace
    }

    /// Runs `work` inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(&self.path(), work).expect("a namespace of ours")
    }

    pub fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.path()).expect("a socket")
    }

    pub fn set(&self, link: &str, change: &LinkChange) {
        self.netlink().set_link(link, change).expect("a link");
    }

    pub fn link(&self, name: &str) -> LinkState {
        self.netlink().observe_link(name).expect("readable").expect("a link")
    }

    /// Brings a link up with these addresses.
    pub fn address(&self, link: &str, addresses: &[&str]) {
        self.set(link, &LinkChange::new().up());
        let index = self.link(link).index;
        for address in addresses {
            let address: IpNet = address.parse().expect("an address");
            let mut netlink = self.netlink();
            netlink.ensure_address(index, address, DuplicateDetection::Off).expect("an address");
        }
    }

    pub fn route(&self, destination: &str, via: &str) {
        let route = RouteSpec {
            destination: destination.parse().expect("a network"),
            gateway: Some(via.parse().expect("an address")),
            link: None,
            source: None,
            metric: None,
            table: TABLE_MAIN,
            protocol: 4,
        };
        self.netlink().ensure_route(&route).expect("a route");
    }

    /// What the programs have to know of a link.
    pub fn wanted(&self, name: &str) -> LinkWanted {
        let link = self.link(name);
        let addresses = self.netlink().observe_addresses(link.master.unwrap_or(link.index));
        let networks = addresses.expect("readable").into_iter().map(|address| address.net);
        LinkWanted {
            index: link.index.0,
            name: link.name,
            bridge: link.master.map(|bridge| bridge.0),
            is_tunnel: link.kind.as_deref() == Some("vxlan"),
            mtu: link.mtu,
            networks: networks.map(|net| (net.addr(), net.prefix_len())).collect(),
        }
    }

    pub fn default_routes(&self, v4: &str, v6: &str) {
        self.route("0.0.0.0/0", v4);
        self.route("::/0", v6);
    }

    pub fn forward(&self) {
        self.run(|| {
            for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                ensure_sysctl(setting, "1").expect("a setting");
            }
        });
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Starts a TCP server that says its port and whom it sees, and then echoes.
    pub fn server(&self, ip: &str) -> SocketAddr {
        let ip: IpAddr = ip.parse().expect("an address");
        let listener = self.run(|| TcpListener::bind((ip, 0)).expect("a free port"));
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream, address.port()));
            }
        });
        address
    }

    /// Starts a UDP server that answers each datagram with one as long, which says its port and whom it saw.
    pub fn udp_server(&self, ip: &str) -> SocketAddr {
        let ip: IpAddr = ip.parse().expect("an address");
        let socket = self.run(|| UdpSocket::bind((ip, 0)).expect("a free port"));
        let address = socket.local_addr().expect("it is bound");
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let rest = &buffer[GREETING.min(length)..length];
                let answer = [&greeting(address.port(), peer)[..], rest].concat();
                let _ = socket.send_to(&answer, peer);
            }
        });
        address
    }

    /// Connects and hears what the server says about itself and its client.
    pub fn connect(&self, vip: SocketAddr) -> io::Result<Connection> {
        self.run(|| Connection::open(vip))
    }

    /// A UDP socket connected to `vip`.
    pub fn udp(&self, vip: SocketAddr) -> UdpSocket {
        let any = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.run(|| UdpSocket::bind(any).expect("a socket"));
        socket.connect(vip).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket
    }
}

/// Joins two namespaces by a pair of links.
pub fn wire(one: &Namespace, link: &str, other: &Namespace, name: &str) {
    let peer = VethPeer { name, namespace: other.file.as_fd(), mac: None };
    let veth = VethSpec { name: link, mtu: 1500, alias: None, peer };
    one.netlink().create_veth(&veth).expect("a pair of links");
}

/// A connection, with what the server said about itself and its client.
pub struct Connection {
    pub stream: TcpStream,
    /// Port of the backend.
    pub backend: u16,
    /// Whom it saw.
    pub seen: SocketAddr,
}

impl Connection {
    fn open(vip: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&vip, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut hello = [0; GREETING];
        stream.read_exact(&mut hello)?;
        let (backend, seen) = understood(&hello);
        Ok(Self { stream, backend, seen })
    }

    /// Whether the server answers.
    pub fn echoes(&mut self, what: &[u8]) -> bool {
        let mut answer = vec![0; what.len()];
        let mut writer = self.stream.try_clone().expect("a descriptor");
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(what));
            self.stream.read_exact(&mut answer).is_ok() && answer == what
        })
    }
}

/// What a datagram of so many bytes got for an answer: the backend's port, whom it saw, and the length.
pub fn ask(socket: &UdpSocket, length: usize) -> io::Result<(u16, SocketAddr, usize)> {
    let mut answer = [0; 65_536];
    socket.send(&vec![7; length])?;
    let length = socket.recv(&mut answer)?;
    let (backend, seen) = understood(&answer[..GREETING]);
    Ok((backend, seen, length))
}

const GREETING: usize = 20;

fn greeting(name: u16, peer: SocketAddr) -> [u8; GREETING] {
    let mut bytes = [0; GREETING];
    let octets = match peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    bytes[..2].copy_from_slice(&name.to_be_bytes());
    bytes[2..18].copy_from_slice(&octets);
    bytes[18..].copy_from_slice(&peer.port().to_be_bytes());
    bytes
}

fn understood(bytes: &[u8]) -> (u16, SocketAddr) {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[2..18]);
    let ip = IpAddr::from(octets).to_canonical();
    let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    (number(0), SocketAddr::new(ip, number(18)))
}

fn serve(mut stream: TcpStream, name: u16) {
    let Ok(peer) = stream.peer_addr() else { return };
    let _ = stream.write_all(&greeting(name, peer));
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Switches checksum and segmentation offload of a link on or off.
pub fn set_offload(namespace: &Namespace, link: &str, offload: Offload) {
    const SET: [u32; 4] = [0x17, 0x1f, 0x24, 0x2c];
    let on = u32::from(offload == Offload::On);
    // The checksums first when on, last when off: segments need them.
    let mut commands = SET;
    if offload == Offload::Off {
        commands.reverse();
    }
    namespace.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for command in commands {
            let mut value = [command, on];
            // SAFETY: all zeroes is a valid `ifreq`.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
            // SAFETY: the request reads an `ifreq` with the address of two numbers.
            let result =
                unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw const request) };
            assert_eq!(result, 0, "{command:x} of {link}: {}", io::Error::last_os_error());
        }
    });
}

/// Who works out checksums and cuts segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// The link.
    On,
    /// The sender's kernel.
    Off,
}

pub const CLIENT: &str = "10.1.0.2";
pub const CLIENT6: &str = "fd00:1::2";
pub const INSIDE: &str = "10.2.0.2";
pub const INSIDE6: &str = "fd00:2::2";
pub const BESIDE: &str = "10.2.0.3";
pub const NODE: &str = "10.9.9.9";
pub const NODE6: &str = "fd00:9::9";

/// Where a test plays.
pub struct Net {
    pub client: Namespace,
    pub node: Namespace,
    pub inside: Namespace,
    pub beside: Namespace,
    pub options: Options,
}

impl Net {
    pub fn new(room: &Room) -> Self {
        let options = Options { cgroup: room.child_cgroup("nobody"), ..room.options() };
        let [client, node, inside, beside] = std::array::from_fn(|_| Namespace::new());
        wire(&node, "eth0", &client, "up");
        wire(&node, "p1", &inside, "up");
        wire(&node, "p2", &beside, "up");
        node.address("eth0", &["10.1.0.1/24", "fd00:1::1/64"]);
        node.address("lo", &["10.9.9.9/32", "fd00:9::9/128"]);
        let bridge = BridgeSpec {
            name: "m-br".to_owned(),
            mtu: None,
            mac: None,
            alias: None,
            addresses: Vec::new(),
        };
        let bridge = node.netlink().ensure_bridge(&bridge).expect("a bridge").into_inner();
        for port in ["p1", "p2"] {
            node.set(port, &LinkChange::new().up().master(bridge.index));
        }
        client.address("up", &["10.1.0.2/24", "fd00:1::2/64"]);
        inside.address("up", &["10.2.0.2/24", "fd00:2::2/64"]);
        beside.address("up", &["10.2.0.3/24", "fd00:2::3/64"]);
        node.address("m-br", &["10.2.0.1/24", "fd00:2::1/64"]);
        node.forward();
        client.default_routes("10.1.0.1", "fd00:1::1");
        inside.default_routes("10.2.0.1", "fd00:2::1");
        beside.default_routes("10.2.0.1", "fd00:2::1");
        let net = Self { client, node, inside, beside, options };
        // The neighbours of new IPv6 links need a moment to find each other.
        let server = net.inside.server(INSIDE6);
        for namespace in [&net.client, &net.node, &net.beside] {
            eventually("a connection without a VIP", || namespace.connect(server).is_ok());
        }
        net
    }

    /// Switches offload at the node's ends.
    pub fn set_offload_of_node(&self, offload: Offload) {
        for link in ["eth0", "p1", "p2", "m-br"] {
            set_offload(&self.node, link, offload);
        }
    }

    /// Switches offload at all other ends.
    pub fn set_offload(&self, offload: Offload) {
        for namespace in [&self.client, &self.inside, &self.beside] {
            set_offload(namespace, "up", offload);
        }
    }

    /// The programs on all links of the node.
    pub fn open(&self) -> Dataplane {
        let mut dataplane = Dataplane::open(&self.options).expect("loadable");
        self.follow(&mut dataplane, &["eth0", "m-br", "p1", "p2"]);
        dataplane
    }

    /// The programs on these links of the node and no others; returns on how many they were not before.
    pub fn follow(&self, dataplane: &mut Dataplane, names: &[&str]) -> usize {
        let wanted: Vec<LinkWanted> = names.iter().map(|name| self.wanted(name)).collect();
        let followed = self.node.run(|| dataplane.follow_links(&wanted)).expect("loadable");
        assert!(followed.errors.is_empty(), "{:?}", followed.errors);
        followed.attached.len()
    }

    fn wanted(&self, name: &str) -> LinkWanted {
        self.node.wanted(name)
    }
}

/// Counts of the one backend, once they fulfil a condition.
pub fn counts_when(
    dataplane: &Dataplane,
    vip: VipAddress,
    backend: SocketAddr,
    what: &str,
    condition: impl Fn(&Counts) -> bool,
) -> Counts {
    let mut counts = Counts::default();
    eventually(what, || {
        counts = dataplane.counters().expect("readable maps")[&(vip, backend)];
        condition(&counts)
    });
    counts
}
