//! A network namespace that lives as long as a value, and traffic between two of them.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use mizzen_netlink::{LinkChange, Netlink, in_namespace};
use nix::sched::{CloneFlags, unshare};

/// A network namespace without any link but its loopback. It has no name: the
/// kernel removes it when this value, the last reference to it, is dropped.
pub struct Namespace {
    pub file: File,
}

impl Namespace {
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let file = std::thread::spawn(make).join().unwrap();
        let namespace = Self { file };
        namespace.netlink().set_link("lo", &LinkChange::new().up()).unwrap();
        namespace
    }

    /// A path by which other processes can open it, too.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    pub fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.path()).unwrap()
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(&self.path(), work).unwrap()
    }

    /// Listens on `address`, any port.
    pub fn listen(&self, address: IpAddr) -> TcpListener {
        self.run(|| TcpListener::bind((address, 0)).unwrap())
    }
}

/// Opens a connection from `client` to `listener` at `to`, moves a few bytes, and
/// returns whom the listener saw.
pub fn connect(client: &Namespace, listener: &TcpListener, to: IpAddr) -> SocketAddr {
    let target = SocketAddr::new(to, listener.local_addr().unwrap().port());
    let attempt = || TcpStream::connect_timeout(&target, Duration::from_secs(10));
    let mut outgoing = client.run(|| {
        // The kernel puts a new IPv6 address to work a moment after it agreed to it.
        let early = |error: std::io::Error| match error.kind() {
            ErrorKind::HostUnreachable => attempt(),
            _ => Err(error),
        };
        let outcome = attempt().or_else(early);
        outcome.unwrap_or_else(|error| panic!("connect to {target}: {error}"))
    });
    let (mut incoming, seen) = listener.accept().unwrap();
    std::io::Write::write_all(&mut incoming, b"mizzen").unwrap();
    drop(incoming);
    let mut text = String::new();
    outgoing.read_to_string(&mut text).unwrap();
    assert_eq!(text, "mizzen");
    seen
}
