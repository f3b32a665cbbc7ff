//! Network namespaces of a section: made without a name, gone with their owner, and
//! with no way out except to each other.

use crate::sandbox::CONGESTION_CONTROL;
use anyhow::{Context, Result};
use mizzen_netlink::in_namespace;
use mizzen_tests_support::namespace::create;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::OnceLock;

/// Settings of every namespace. Those of the connection tracker are missing where
/// nothing tracks; connections that are gone must not fill its table.
const SETTINGS: [(&str, &str); 9] = [
    ("net/ipv4/tcp_congestion_control", CONGESTION_CONTROL),
    ("net/ipv4/tcp_no_metrics_save", "1"),
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/ip_local_port_range", "1024 65535"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/core/somaxconn", "4096"),
    ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
    ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
];

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    address: OnceLock<IpAddr>,
}

impl Namespace {
    /// Makes one with only loopback in it.
    pub(crate) fn create() -> Result<Self> {
        let file = create().context("cannot make a network namespace")?;
        let namespace = Self { file, address: OnceLock::new() };
        namespace.ip("link set lo up")?;
        namespace.tune()?;
        Ok(namespace)
    }

    /// The machine's own: that of the oldest process above this one that lets itself be
    /// looked into. The very first may have rights that nobody else has.
    pub(crate) fn of_machine() -> Result<Self> {
        let mut oldest = None;
        let mut process = std::process::id();
        while let Ok(file) = File::open(format!("/proc/{process}/ns/net")) {
            oldest = Some(file);
            match parent_of(process) {
                Some(parent) => process = parent,
                None => break,
            }
        }
        let file = oldest.context("cannot find the machine's network")?;
        Ok(Self { file, address: OnceLock::new() })
    }

    /// That of a process, with the same settings as all others.
    pub(crate) fn of_process(process: u32) -> Result<Self> {
        let path = format!("/proc/{process}/ns/net");
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let namespace = Self { file, address: OnceLock::new() };
        namespace.tune()?;
        Ok(namespace)
    }

    /// Writes the settings; again once something tracks connections.
    pub(crate) fn tune(&self) -> Result<()> {
        self.within(|| {
            for (name, value) in SETTINGS {
                let path = Path::new("/proc/sys").join(name);
                if path.exists() {
                    std::fs::write(&path, value)
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
            Ok(())
        })
    }

    /// Runs `work` on a thread inside. Processes that it starts stay inside.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_namespace(Path::new(&self.path()), work)?
    }

    /// Starts a process inside.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.within(|| command.spawn().with_context(|| format!("cannot start {command:?}")))
    }

    /// Runs `ip` with these words inside.
    pub(crate) fn ip(&self, words: &str) -> Result<()> {
        self.run(Command::new("ip").args(words.split(' ')), "").map(drop)
    }

    /// Runs a command inside with `input` to its end, and returns what it said.
    pub(crate) fn run(&self, command: &mut Command, input: &str) -> Result<String> {
        self.within(|| crate::process::run(command, input))
    }

    /// The address at its first cable.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address.get().copied()
    }

    /// What a command of ours calls this namespace while this value lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

/// One end of a cable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    pub namespace: &'a Namespace,
    /// Of the link, at most 15 letters.
    pub link: &'a str,
    /// With the length of the prefix.
    pub address: &'a str,
}

/// Connects two namespaces.
pub(crate) fn cable(left: End<'_>, right: End<'_>) -> Result<()> {
    let (link, peer) = (left.link, right.link);
    let other = right.namespace.path();
    left.namespace.ip(&format!("link add name {link} type veth peer name {peer} netns {other}"))?;
    for End { namespace, link, address } in [left, right] {
        namespace.ip(&format!("address add {address} dev {link}"))?;
        namespace.ip(&format!("link set {link} up"))?;
        if let Some((Ok(address), _)) =
            address.split_once('/').map(|(a, length)| (a.parse(), length))
        {
            // One that it has already stays.
            let _ = namespace.address.set(address);
        }
    }
    Ok(())
}

/// The process that started another one, unless that is the first of all.
fn parent_of(process: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().filter(|parent| *parent != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn two_namespaces_and_a_cable() {
        let (left, right) = (Namespace::create().unwrap(), Namespace::create().unwrap());
        let end = |namespace, link, address| End { namespace, link, address };
        cable(end(&left, "left", "10.10.0.1/30"), end(&right, "right", "10.10.0.2/30")).unwrap();
        right.ip("route add local 10.20.0.0/16 dev lo").unwrap();
        left.ip("route add 10.20.0.0/16 via 10.10.0.2").unwrap();
        assert_eq!(left.address(), Some("10.10.0.1".parse().unwrap()));
        let listener = right.within(|| Ok(TcpListener::bind("0.0.0.0:0")?)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = left.within(|| Ok(TcpStream::connect(("10.20.7.7", port))?)).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(client.local_addr().unwrap(), peer);
    }
}
