//! What the machine says about itself, for defaults.

use mizzen_types::mountinfo::{self, Mount};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// Facts about the machine that defaults are derived from.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// Addresses of this machine in order of preference, none of them loopback.
    pub addresses: Vec<IpAddr>,
    /// As the kernel knows it.
    pub hostname: String,
    /// Directory of the own executable.
    pub executable_dir: PathBuf,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the file system that has `/var/lib`, in MiB.
    pub disk_mib: u64,
    /// Text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Whether links can have IPv6 addresses.
    pub ipv6: bool,
    /// Where the v2 cgroup hierarchy is mounted.
    pub cgroup2: Option<PathBuf>,
}

impl HostFacts {
    /// Looks at this machine. What cannot be found out is left empty.
    #[must_use]
    pub fn observe() -> Self {
        let executable = std::env::current_exe().unwrap_or_default();
        let system = rustix::system::sysinfo();
        Self {
            addresses: addresses(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            executable_dir: executable.parent().map(Path::to_owned).unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: u64::from(system.mem_unit.max(1)) * system.totalram / (1 << 20),
            disk_mib: rustix::fs::statvfs("/var/lib")
                .map_or(0, |fs| fs.f_blocks.saturating_mul(fs.f_frsize) / (1 << 20)),
            resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            ipv6: std::fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6")
                .is_ok_and(|text| text.trim() == "0"),
            cgroup2: cgroup2_mount(
                &std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            ),
        }
    }

    /// What the agent offers if nothing else is said: all processors, memory and
    /// disk without a part for the system itself (as Mesos agents keep it), and
    /// Mesos' port range.
    #[must_use]
    pub fn resources(&self) -> String {
        let keep = |total: u64, reserve: u64| {
            if total > 2 * reserve { total - reserve } else { total / 2 }
        };
        format!(
            "cpus:{};mem:{};disk:{};ports:[31000-32000]",
            self.cpus.max(1),
            keep(self.memory_mib, 1024),
            keep(self.disk_mib, 5 * 1024)
        )
    }

    /// The resolvers of `/etc/resolv.conf`, without those in `ours`.
    #[must_use]
    pub fn upstreams(&self, ours: &[IpAddr]) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for line in self.resolv_conf.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("nameserver") {
                continue;
            }
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            let upstream = SocketAddr::new(address, 53);
            if !ours.contains(&address) && !found.contains(&upstream) {
                found.push(upstream);
            }
        }
        found
    }
}

/// Where `mountinfo` (the text of `/proc/self/mountinfo`) has the v2 hierarchy.
#[must_use]
pub fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    let is_unified = |mount: &Mount| mount.file_system == "cgroup2";
    mountinfo::parse(mountinfo).into_iter().find(is_unified).map(|mount| mount.mount_point)
}

/// First the address from which the machine reaches others, then the rest.
fn addresses() -> Vec<IpAddr> {
    let mut found = Vec::new();
    // Connecting a datagram socket asks the routing table and sends nothing;
    // the targets are the documentation networks.
    for (from, to) in [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from([192, 0, 2, 1])),
        (Ipv6Addr::UNSPECIFIED.into(), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
    ] {
        let source = UdpSocket::bind((from, 0))
            .and_then(|socket| socket.connect((to, 9)).and_then(|()| socket.local_addr()));
        found.extend(source.ok().map(|source| source.ip()).filter(|ip| !ip.is_loopback()));
    }
    let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    for address in local_addresses(&trie) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// The machine's own IPv4 addresses in `/proc/net/fib_trie`, loopback and
/// link-local ones left out.
fn local_addresses(trie: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in trie.lines() {
        let line = line.trim();
        if let Some(leaf) = line.strip_prefix("|-- ") {
            last = leaf.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.take()
            && !address.is_loopback()
            && !address.is_link_local()
            && !found.contains(&IpAddr::from(address))
        {
            found.push(address.into());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_without_ourselves() {
        let host = HostFacts {
            resolv_conf: "search example\nnameserver 198.51.100.1\nnameserver 10.0.0.2 # x\n\
                          nameserver fe80::1%eth0\nnameserver 10.0.0.2\noptions ndots:1\n"
                .to_owned(),
            ..HostFacts::default()
        };
        let ours = [IpAddr::from([198, 51, 100, 1])];
        assert_eq!(host.upstreams(&ours), ["10.0.0.2:53".parse().unwrap()]);
    }

    #[test]
    fn the_system_keeps_a_part() {
        let host = HostFacts { cpus: 4, memory_mib: 8192, disk_mib: 6000, ..HostFacts::default() };
        assert_eq!(host.resources(), "cpus:4;mem:7168;disk:3000;ports:[31000-32000]");
    }

    #[test]
    fn own_addresses_from_the_routing_table() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                    \x20    |-- 127.0.0.1\n           /32 host LOCAL\n\
                    \x20    |-- 192.0.2.0\n           /24 link UNICAST\n\
                    \x20    |-- 192.0.2.2\n           /32 host LOCAL\n\
                    \x20    |-- 192.0.2.255\n           /32 link BROADCAST\n";
        assert_eq!(local_addresses(trie), [IpAddr::from([192, 0, 2, 2])]);
    }

    #[test]
    fn finds_the_v2_hierarchy_of_a_hybrid_host() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                    39 25 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_mount(""), None);
    }

    #[test]
    fn this_machine_has_something_to_offer() {
        let host = HostFacts::observe();
        assert!(host.memory_mib > 0 && host.cpus > 0 && !host.hostname.is_empty());
        assert!(host.executable_dir.is_dir());
    }
}
