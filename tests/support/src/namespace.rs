//! Network namespaces that live as long as a value, and what is between them.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::thread;

use ipnet::IpNet;
use mizzen_netlink::{
    DuplicateDetection, LinkChange, LinkState, Netlink, RouteSpec, TABLE_MAIN, VethPeer, VethSpec,
    ensure_sysctl, in_namespace,
};
use nix::sched::{CloneFlags, unshare};

use crate::wait::PATIENCE;

/// A network namespace without any link but its loopback, which is up. It has no name: the
/// kernel removes it when this value, the last reference to it, is dropped.
#[derive(Debug)]
pub struct Namespace {
    /// The reference.
    pub file: File,
}

impl Namespace {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        let namespace = Self { file: create().expect("root can make namespaces") };
        namespace.set("lo", &LinkChange::new().up());
        namespace
    }

    /// Makes one in which IPv6 addresses work at once, because nobody else has them and so
    /// nobody has to be asked for a second.
    #[must_use]
    pub fn without_duplicate_detection() -> Self {
        let namespace = Self { file: create().expect("root can make namespaces") };
        namespace.run(|| {
            for links in ["all", "default"] {
                let setting = format!("net/ipv6/conf/{links}/accept_dad");
                ensure_sysctl(&setting, "0").expect("a setting");
            }
        });
        namespace.set("lo", &LinkChange::new().up());
        namespace
    }

    /// A path by which other processes can open it, too.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` on a thread inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(&self.path(), work).expect("a namespace of ours")
    }

    /// A conversation about its links.
    #[must_use]
    pub fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.path()).expect("a socket")
    }

    /// Changes a link.
    pub fn set(&self, link: &str, change: &LinkChange) {
        self.netlink().set_link(link, change).expect("a link");
    }

    /// A link, as it is.
    #[must_use]
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

    /// Sends what goes to `destination` by way of `via`.
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

    /// Sends whatever has no other way by these.
    pub fn default_routes(&self, v4: &str, v6: &str) {
        self.route("0.0.0.0/0", v4);
        self.route("::/0", v6);
    }

    /// Lets it forward packets of both families.
    pub fn forward(&self) {
        self.run(|| {
            for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                ensure_sysctl(setting, "1").expect("a setting");
            }
        });
    }

    /// Listens on `address`, any port.
    #[must_use]
    pub fn listen(&self, address: IpAddr) -> TcpListener {
        self.run(|| TcpListener::bind((address, 0)).expect("a free port"))
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a network namespace, which is there as long as the file is open.
///
/// # Errors
///
/// The kernel's, for instance where the process may not make one.
pub fn create() -> io::Result<File> {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    };
    let died = |_| Err(io::Error::other("the thread that made a namespace died"));
    thread::spawn(make).join().unwrap_or_else(died)
}

/// Joins two namespaces by a pair of links.
pub fn wire(one: &Namespace, link: &str, other: &Namespace, name: &str) {
    let peer = VethPeer { name, namespace: other.file.as_fd(), mac: None };
    let veth = VethSpec { name: link, mtu: 1500, alias: None, peer };
    one.netlink().create_veth(&veth).expect("a pair of links");
}

/// Opens a connection from `client` to `listener` at `to`, moves a few bytes, and returns whom
/// the listener saw.
pub fn connect(client: &Namespace, listener: &TcpListener, to: IpAddr) -> SocketAddr {
    let target = SocketAddr::new(to, listener.local_addr().expect("it is bound").port());
    let attempt = || TcpStream::connect_timeout(&target, PATIENCE);
    let mut outgoing = client.run(|| {
        // The kernel puts a new IPv6 address to work a moment after it agreed to it.
        let early = |error: io::Error| match error.kind() {
            ErrorKind::HostUnreachable => attempt(),
            _ => Err(error),
        };
        let outcome = attempt().or_else(early);
        outcome.unwrap_or_else(|error| panic!("connect to {target}: {error}"))
    });
    let (mut incoming, seen) = listener.accept().expect("a connection");
    incoming.write_all(b"mizzen").expect("the client reads");
    drop(incoming);
    let mut text = String::new();
    outgoing.read_to_string(&mut text).expect("the listener writes");
    assert_eq!(text, "mizzen");
    seen
}
