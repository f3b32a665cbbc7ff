//! What is in the kernel: cgroups, namespaces, links, tables, pins, processes.

use crate::lab;
use mizzen_netlink::{LinkState, Netlink, Nft, PublishedPort};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The namespace of a kind (`pid`, `net`, `mnt` …) that a process is in.
///
/// # Panics
///
/// If there is no such process.
#[must_use]
pub fn namespace(pid: u32, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    link.unwrap_or_else(|error| panic!("{kind} namespace of process {pid}: {error}"))
        .display()
        .to_string()
}

/// Whether a process is there that has not ended.
#[must_use]
pub fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// A control file of a process's cgroup: the first of `files`, v1 and v2 names of the
/// same thing, that exists.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn limit(pid: u32, files: &[&str]) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    for line in groups.lines() {
        let words: Vec<&str> = line.splitn(3, ':').collect();
        let [_, controllers, path] = words[..] else { continue };
        for mount in cgroup_mounts().into_iter().filter(|mount| mount.has(controllers)) {
            let group = mount.path.join(path.trim_start_matches('/'));
            let found = files.iter().find_map(|file| fs::read_to_string(group.join(file)).ok());
            if let Some(text) = found {
                return text.trim().to_owned();
            }
        }
    }
    panic!("process {pid} has none of {files:?}; its cgroups:\n{groups}");
}

/// Cgroups below `root` (relative to each hierarchy's mount) and `root` itself.
#[must_use]
pub fn cgroups(root: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for mount in cgroup_mounts() {
        walk(&mount.path.join(root), &mut found);
    }
    found
}

/// Processes in this lab, other than the test itself and what holds the resolver's
/// sockets, which goes with the node or some time after it.
#[must_use]
pub fn others() -> BTreeSet<u32> {
    let mut groups = Vec::new();
    for mount in cgroup_mounts() {
        // `…/n1/mizzen` is where containers are; beside them is everything else.
        let root = lab::variable("MIZZEN_CGROUP_ROOT");
        let of_lab = Path::new(&root).parent().unwrap_or(Path::new("none")).to_owned();
        walk(&mount.path.join(of_lab), &mut groups);
    }
    let lists = groups.iter().map(|group| group.join("cgroup.procs"));
    let texts: Vec<String> = lists.filter_map(|list| fs::read_to_string(list).ok()).collect();
    let pids = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse().ok());
    let holds = |pid: u32| command_line(pid).contains("--hold-sockets");
    pids.filter(|pid| *pid != std::process::id() && runs(*pid) && !holds(*pid)).collect()
}

/// Command line of a process, for messages.
#[must_use]
pub fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Names of all links here.
///
/// # Panics
///
/// If the kernel does not tell.
#[must_use]
pub fn links() -> BTreeSet<String> {
    link_states().into_iter().map(|link| link.name).collect()
}

/// All links here.
///
/// # Panics
///
/// If the kernel does not tell.
#[must_use]
pub fn link_states() -> Vec<LinkState> {
    let mut netlink = Netlink::open().expect("a netlink socket");
    netlink.observe_links().expect("a list of links")
}

/// Names of all tables of packet filter rules here.
///
/// # Panics
///
/// If the kernel does not tell.
#[must_use]
pub fn tables() -> Vec<String> {
    Nft::open().expect("a netlink socket").observe_tables().expect("a list of tables")
}

/// Ports of this machine that lead to containers, of which one is `container` (any if empty).
///
/// # Panics
///
/// If the kernel does not tell.
#[must_use]
pub fn published(container: &str) -> Vec<PublishedPort> {
    let mut nft = Nft::open().expect("a netlink socket");
    let mut ports = nft.observe_ports(PORT_TABLE).expect("a list of ports");
    ports.retain(|port| port.mark.contains(container));
    ports
}

/// The table of published ports.
const PORT_TABLE: &str = "mizzen-ports";

/// What is pinned on this lab's BPF file system, besides what the kernel itself puts
/// on each one.
#[must_use]
pub fn pins() -> Vec<PathBuf> {
    let mut pins = entries(Path::new("/sys/fs/bpf"));
    pins.retain(|pin| pin.extension().is_none_or(|extension| extension != "debug"));
    pins
}

/// Pinned versions of the VIP programs; the overlay's are beside them.
#[must_use]
pub fn vip_programs() -> Vec<PathBuf> {
    let mut versions = entries(Path::new("/sys/fs/bpf/mizzen"));
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    versions.retain(|path| name(path).is_some_and(|name| name.starts_with('v')));
    versions
}

/// What is in a directory; nothing if it is not there.
#[must_use]
pub fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A mounted hierarchy.
struct Mount {
    path: PathBuf,
    is_v2: bool,
    options: String,
}

impl Mount {
    /// Whether it is the one of these controllers; of none is the unified one.
    fn has(&self, controllers: &str) -> bool {
        let mut options = self.options.split(',');
        match controllers.split(',').next() {
            None | Some("") => self.is_v2,
            Some(first) => !self.is_v2 && options.any(|option| option == first),
        }
    }
}

fn cgroup_mounts() -> Vec<Mount> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts
        .filter(|words| words.len() > 3 && words[2].starts_with("cgroup"))
        .map(|words| Mount {
            path: words[1].into(),
            is_v2: words[2] == "cgroup2",
            options: words[3].to_owned(),
        })
        .collect()
}

fn walk(group: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(group) else { return };
    found.push(group.to_owned());
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        }
    }
}
