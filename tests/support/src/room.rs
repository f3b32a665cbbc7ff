//! A closed room for one test: own cgroup, own network without a way out, own bpffs.
//!
//! A test that asks for a room starts its own executable again, for itself alone,
//! and that process goes in. Whatever happens to it, the kernel takes the
//! namespaces back, and the parent removes the cgroup.

use std::any::type_name;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use mizzen_netlink::{LinkChange, Netlink, in_namespace};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::wait::PATIENCE;
pub use crate::wait::eventually;

const CGROUP: &str = "MIZZEN_TEST_CGROUP";
const PINS: &str = "MIZZEN_TEST_PINS";
/// Not by its path, where a newer build may lie by now.
const OURSELVES: &str = "/proc/self/exe";
/// What a second process in the room is there for.
const ROLE: &str = "MIZZEN_TEST_ROLE";

/// Where a test finds itself.
pub struct Room {
    /// The room's own cgroup, in which this process is.
    pub cgroup: PathBuf,
    /// A BPF file system of its own.
    pub pins: PathBuf,
    /// None in the process that has the test's name; what [`Room::start`] was told in others.
    pub role: Option<String>,
    test: &'static str,
}

/// A process that ends with this value.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `body`, a closure of the calling test, in a room of its own.
pub fn in_room<Body: FnOnce(&Room)>(body: Body) {
    if let (Some(cgroup), Some(pins)) = (std::env::var_os(CGROUP), std::env::var_os(PINS)) {
        let test = test_of::<Body>();
        let role = std::env::var(ROLE).ok();
        let room = Room { cgroup: cgroup.into(), pins: pins.into(), test, role };
        if room.role.is_none() {
            room.enter().expect("root, cgroup v2 and bpffs");
        }
        return body(&room);
    }
    let test = test_of::<Body>();
    let shell = Shell::build(&test.replace("::", "-"));
    let output = Command::new(OURSELVES)
        .args(arguments(test))
        .env(CGROUP, &shell.cgroup)
        .env(PINS, &shell.pins)
        .output()
        .expect("the test can start itself");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in its room");
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(ran, "{test} was not run in its room");
}

impl Room {
    /// A cgroup below the room's own.
    pub fn child_cgroup(&self, name: &str) -> PathBuf {
        let path = self.cgroup.join(name);
        fs::create_dir(&path).expect("a child cgroup");
        path
    }

    /// Runs the test's body in another process, which finds `role` in its room.
    pub fn start(&self, role: &str) -> Running {
        let child = Command::new(OURSELVES)
            .args(arguments(self.test))
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Running(child.expect("the test can start itself"))
    }

    fn enter(&self) -> io::Result<()> {
        fs::write(self.cgroup.join("cgroup.procs"), std::process::id().to_string())?;
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
        let none: Option<&Path> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("bpf"), &self.pins, Some("bpf"), MsFlags::empty(), none)?;
        loopback_up();
        Ok(())
    }
}

/// `kernel::traffic::some_test::{{closure}}`: the path without its ends is the test's name.
fn test_of<Body>() -> &'static str {
    let path = type_name::<Body>().trim_end_matches("::{{closure}}");
    path.split_once("::").expect("a path below the crate").1
}

fn arguments(test: &str) -> [&str; 4] {
    ["--exact", test, "--nocapture", "--test-threads=1"]
}

/// What the parent made for the room and removes again.
struct Shell {
    cgroup: PathBuf,
    pins: PathBuf,
}

impl Shell {
    fn build(test: &str) -> Self {
        let (cgroups, temporary) = (cgroup2_mount(), std::env::temp_dir());
        let stem = format!("mizzen-{test}-");
        sweep(&cgroups, &temporary, &stem);
        let name = format!("{stem}{}", std::process::id());
        let cgroup = cgroups.join(&name);
        let pins = temporary.join(&name);
        fs::create_dir(&cgroup).expect("root can make a cgroup");
        let shell = Self { cgroup, pins };
        fs::create_dir(&shell.pins).expect("a temporary directory");
        shell
    }
}

/// Removes what former runs of the test left that were killed, and nobody else's.
fn sweep(cgroups: &Path, temporary: &Path, stem: &str) {
    for entry in fs::read_dir(cgroups).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(stem).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(Shell { cgroup: entry.path(), pins: temporary.join(&name) });
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.cgroup).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let _ = fs::remove_dir(entry.path());
            }
        }
        for path in [&self.cgroup, &self.pins] {
            if let Err(error) = fs::remove_dir(path) {
                eprintln!("cannot remove {}: {error}", path.display());
            }
        }
    }
}

fn cgroup2_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    mounts
        .lines()
        .find_map(|line| {
            let (head, tail) = line.split_once(" - ")?;
            tail.starts_with("cgroup2 ").then(|| head.split(' ').nth(4).map(PathBuf::from))?
        })
        .expect("a cgroup v2 hierarchy is mounted")
}

/// Switches the loopback device of the calling thread's network namespace on.
pub fn loopback_up() {
    let mut netlink = Netlink::open().expect("a netlink socket");
    netlink.set_link("lo", &LinkChange::new().up()).expect("root");
}

/// Somebody in a network namespace of his own, and its place.
pub fn namespace() -> (Running, PathBuf) {
    let mut command = Command::new("unshare");
    let child = command.args(["--net", "cat"]).stdin(Stdio::piped()).spawn();
    let child = Running(child.expect("unshare of util-linux"));
    let path = PathBuf::from(format!("/proc/{}/ns/net", child.0.id()));
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    eventually("the child is in its namespace", || fs::read_link(&path).ok() != own);
    in_namespace(&path, loopback_up).expect("alive");
    (child, path)
}

/// Parses an address with a port.
pub fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

/// Starts a TCP server on a free port of `ip` that says its port and then echoes.
pub fn server(ip: &str) -> SocketAddr {
    let ip: IpAddr = ip.parse().expect("an address");
    let listener = TcpListener::bind((ip, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, address.port()));
        }
    });
    address
}

fn serve(mut stream: TcpStream, name: u16) {
    let _ = stream.write_all(&name.to_be_bytes());
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let _ = stream.write_all(&buffer[..length]);
    }
}

/// Starts a TCP server on a free port of `ip` that takes its time to say its port.
pub fn slow_server(ip: &str, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                thread::sleep(delay);
                serve(stream, address.port());
            });
        }
    });
    address
}

/// Starts a TCP server on a free port of `ip` that closes what it accepts.
pub fn sink(ip: &str) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || listener.incoming().for_each(drop));
    address
}

/// Starts a UDP server on a free port of `ip` that answers each datagram with its port.
pub fn udp_server(ip: &str) -> SocketAddr {
    let ip: IpAddr = ip.parse().expect("an address");
    let socket = UdpSocket::bind((ip, 0)).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&address.port().to_be_bytes(), peer);
        }
    });
    address
}

/// Connects and returns the connection with the port of the backend that answers.
pub fn connect(vip: SocketAddr) -> io::Result<(TcpStream, u16)> {
    let mut stream = TcpStream::connect(vip)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut name = [0; 2];
    stream.read_exact(&mut name)?;
    Ok((stream, u16::from_be_bytes(name)))
}

/// Closes a connection with a reset, so that it has ended when this returns.
pub fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("TCP sockets can linger");
}
