//! A lab's namespaces. They have no name anywhere: descriptors of the lab process
//! keep them, so that they go with it however it ends.
//!
//! A thread of its own leaves the machine's namespaces and hands the new ones
//! back; the process itself stays outside.

use super::error::LabError;
use mizzen_netlink::Netlink;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;

/// A network namespace and a conversation with it.
pub(super) struct Network {
    /// The namespace.
    pub fd: File,
    /// The conversation.
    pub netlink: Netlink,
}

/// What a node of a lab lives in.
pub(super) struct NodeNamespaces {
    /// The mount namespace.
    pub mounts: File,
    /// The network.
    pub network: Network,
}

/// Makes a network namespace with nothing but a loopback link in it.
pub(super) fn create_network() -> Result<Network, LabError> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(LabError::process("leave the network"))?;
        open_network()
    })
}

/// Makes the namespaces of a node: a network, and mounts with a BPF file system of
/// their own and `resolv_conf` in the place of `/etc/resolv.conf`.
pub(super) fn create_node(resolv_conf: &Path) -> Result<NodeNamespaces, LabError> {
    let resolv_conf = resolv_conf.to_owned();
    on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .map_err(LabError::process("leave the mounts and the network"))?;
        set_up_mounts(&resolv_conf)?;
        Ok(NodeNamespaces { mounts: open("/proc/thread-self/ns/mnt")?, network: open_network()? })
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T, LabError> + Send) -> Result<T, LabError> {
    thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|_| {
            let source = std::io::Error::other("its thread panicked");
            Err(LabError::process("make a namespace")(source))
        })
    })
}

fn open_network() -> Result<Network, LabError> {
    let netlink = Netlink::open().map_err(LabError::Network)?;
    Ok(Network { fd: open("/proc/thread-self/ns/net")?, netlink })
}

fn open(path: &str) -> Result<File, LabError> {
    File::open(path).map_err(LabError::file("open namespace", path))
}

fn set_up_mounts(resolv_conf: &Path) -> Result<(), LabError> {
    let none: Option<&str> = None;
    // First of all: nothing that follows may show up outside.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(LabError::file("make private the mounts below", "/"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), flags, Some("mode=700"))
        .map_err(LabError::file("mount a BPF file system on", "/sys/fs/bpf"))?;
    // A node of the machine itself must not be reachable by its socket.
    let run = Path::new("/run/mizzen");
    if run.is_dir() {
        mount(Some("tmpfs"), run, Some("tmpfs"), flags, Some("mode=700"))
            .map_err(LabError::file("mount a tmpfs on", run))?;
    }
    if let Some(target) = resolv_conf_target()? {
        mount(Some(resolv_conf), &target, none, MsFlags::MS_BIND, none)
            .map_err(LabError::file("mount the lab's resolv.conf on", &target))?;
    }
    Ok(())
}

/// `/etc/resolv.conf` may lead elsewhere, and a mount covers what it leads to.
/// Where there is none, programs ask 127.0.0.1, and we make none.
fn resolv_conf_target() -> Result<Option<PathBuf>, LabError> {
    let path = "/etc/resolv.conf";
    match std::fs::canonicalize(path) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LabError::file("look up", path)(error)),
    }
}
