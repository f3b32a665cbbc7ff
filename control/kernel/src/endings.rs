//! Sockets to backends that left their VIP: ended, so that clients connect again at once.
//!
//! The programs note for each translated socket its cookie and that of its network
//! namespace. A socket is ended from inside its namespace, and only if the kernel's list
//! has its cookie and its backend together: what a program opened by itself, or connected
//! to something else since, is never touched.

use mizzen_ebpf_loader::{Leaver, MapError, Socket, SocketTable, TCP, VipAddress};
use mizzen_netlink::{
    ConnectedSocket, NetlinkError, Protocol, Removed, SocketDiag, in_namespace, netns_cookie,
};
use mizzen_types::mountinfo::{self, Mount};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Ends sockets, and remembers where their network namespaces are.
#[derive(Debug, Default)]
pub struct Endings {
    /// By cookie; a path may lead elsewhere by now, so what it leads to is asked each time.
    namespaces: BTreeMap<u64, PathBuf>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Ended {
    /// How many sockets of each VIP were ended.
    pub sockets: BTreeMap<VipAddress, u64>,
    /// How many flows from elsewhere to each VIP were.
    pub flows: BTreeMap<VipAddress, u64>,
    /// Network namespaces that nobody who is running is in, or which could not be entered.
    pub lost: BTreeSet<u64>,
    /// What the kernel refused.
    pub errors: Vec<EndingError>,
}

/// Sockets could not be looked for, or not be ended.
#[derive(Debug, thiserror::Error)]
pub enum EndingError {
    /// The table of translated sockets cannot be read.
    #[error("cannot read the table of translated sockets")]
    Table(#[source] io::Error),
    /// The table of arriving flows cannot be read or changed.
    #[error(transparent)]
    Flows(MapError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
}

impl Endings {
    /// Ends the sockets of `leavers` as far as their VIPs say so. Takes about a quarter of a second, without work if
    /// they have none.
    pub fn end_sockets(&mut self, table: &SocketTable, leavers: &[Leaver]) -> Ended {
        let mut ended = Ended::default();
        for pause in LOOKS {
            thread::sleep(pause);
            let busy = leavers
                .iter()
                .filter(|leaver| leaver.ends_sockets() && table.may_have_sockets(leaver));
            let busy: Vec<Leaver> = busy.copied().collect();
            if busy.is_empty() {
                continue;
            }
            match table.end_flows_of(&busy) {
                Ok(flows) => {
                    for (vip, count) in flows {
                        *ended.flows.entry(vip).or_default() += count;
                    }
                }
                Err(error) => ended.errors.push(EndingError::Flows(error)),
            }
            match table.sockets_of(&busy) {
                Ok(sockets) => self.end_all(&sockets, &mut ended),
                Err(error) => ended.errors.push(EndingError::Table(error)),
            }
        }
        ended
    }

    fn end_all(&mut self, sockets: &[Socket], ended: &mut Ended) {
        let mut by_namespace = BTreeMap::<u64, Vec<&Socket>>::new();
        for socket in sockets {
            by_namespace.entry(socket.netns).or_default().push(socket);
        }
        self.locate(by_namespace.keys().copied());
        for (netns, sockets) in by_namespace {
            let mut found = self.end_in(netns, &sockets, ended);
            if !found {
                // Whoever was there has gone; perhaps somebody else is in it.
                self.namespaces.remove(&netns);
                self.locate([netns]);
                found = self.end_in(netns, &sockets, ended);
            }
            // An earlier look may have come too soon.
            if found {
                ended.lost.remove(&netns)
            } else {
                ended.lost.insert(netns)
            };
        }
    }

    /// False if the namespace was not found where it was.
    fn end_in(&self, netns: u64, sockets: &[&Socket], ended: &mut Ended) -> bool {
        let Some(path) = self.namespaces.get(&netns) else { return false };
        let work = || match netns_cookie() {
            Ok(cookie) if cookie == netns => Some(end_here(sockets)),
            _ => None,
        };
        let Ok(Some((vips, errors))) = in_namespace(path, work) else { return false };
        for vip in vips {
            *ended.sockets.entry(vip).or_default() += 1;
        }
        ended.errors.extend(errors.into_iter().map(EndingError::from));
        true
    }

    /// Looks for those of the `wanted` namespaces that are not known.
    fn locate(&mut self, wanted: impl IntoIterator<Item = u64>) {
        if self.namespaces.len() > REMEMBERED {
            self.namespaces.clear();
        }
        let mut missing: BTreeSet<u64> =
            wanted.into_iter().filter(|netns| !self.namespaces.contains_key(netns)).collect();
        let mut seen = BTreeSet::new();
        for path in own_namespace().chain(mounted_namespaces()).chain(namespaces_of_processes()) {
            if missing.is_empty() {
                return;
            }
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if !seen.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            if let Ok(Ok(cookie)) = in_namespace(&path, netns_cookie) {
                missing.remove(&cookie);
                self.namespaces.insert(cookie, path);
            }
        }
    }
}

/// The first look finds nearly all; the others find what was connecting while the backend left.
const LOOKS: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(200)];

/// Network namespaces to remember the places of.
const REMEMBERED: usize = 4096;

/// Ends sockets of the calling thread's network namespace; the VIP of each that was ended.
fn end_here(sockets: &[&Socket]) -> (Vec<VipAddress>, Vec<NetlinkError>) {
    let mut ended = Vec::new();
    let mut diag = match SocketDiag::open() {
        Ok(diag) => diag,
        Err(error) => return (ended, vec![error]),
    };
    let mut errors = Vec::new();
    let ours: BTreeMap<u64, &Socket> =
        sockets.iter().map(|socket| (socket.cookie, *socket)).collect();
    let backends: BTreeSet<(Protocol, SocketAddr)> =
        sockets.iter().map(|socket| (transport(socket), socket.backend)).collect();
    for (transport, backend) in backends {
        let found = match diag.observe_connected(transport, backend) {
            Ok(found) => found,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        for found in found {
            let Some(socket) = ours.get(&found.cookie).filter(|ours| is_same(ours, &found)) else {
                continue;
            };
            match diag.end(&found) {
                Ok(Removed::Removed) => ended.push(socket.vip),
                Ok(Removed::Absent) => {}
                Err(error) => errors.push(error),
            }
        }
    }
    (ended, errors)
}

fn is_same(ours: &Socket, found: &ConnectedSocket) -> bool {
    found.remote == ours.backend && found.transport == transport(ours)
}

fn transport(socket: &Socket) -> Protocol {
    if socket.vip.protocol == TCP { Protocol::Tcp } else { Protocol::Udp }
}

fn own_namespace() -> impl Iterator<Item = PathBuf> {
    std::iter::once(PathBuf::from("/proc/thread-self/ns/net"))
}

/// Those that have a name, as `ip netns` gives.
fn mounted_namespaces() -> impl Iterator<Item = PathBuf> {
    named_namespaces(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn named_namespaces(mounts: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let is_network = |mount: &Mount| {
        mount.file_system == "nsfs" && mount.root.to_string_lossy().starts_with("net:[")
    };
    let networks = mountinfo::parse(mounts).into_iter().filter(is_network);
    networks.map(|mount| mount.mount_point)
}

fn namespaces_of_processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.bytes().all(|byte| byte.is_ascii_digit())
    };
    let processes = entries.map(|entry| entry.path()).filter(move |path| is_process(path));
    processes.map(|path| path.join("ns/net"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_network_namespaces_count() {
        #[rustfmt::skip]
        let table = [
            ("590 20 0:4 net:[4026532300] /run/netns/blue rw shared:5 - nsfs nsfs rw", Some("/run/netns/blue")),
            ("590 20 0:4 net:[4026532300] /run/net\\040ns/x rw - nsfs nsfs rw",        Some("/run/net ns/x")),
            ("591 20 0:4 mnt:[4026532301] /run/mnt/blue rw - nsfs nsfs rw",            None),
            ("592 20 0:5 / /proc rw - proc proc rw",                                   None),
            ("garbage",                                                                None),
        ];
        for (line, want) in table {
            let found = named_namespaces(line).next();
            assert_eq!(found, want.map(PathBuf::from), "{line}");
        }
    }
}
