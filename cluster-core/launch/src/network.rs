//! A network namespace that has a name before anybody lives in it.

use crate::failure::{Failure, Step};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The bind mount of a namespace; dropped, it is removed again.
pub struct NetworkNamespace {
    path: Option<PathBuf>,
}

impl NetworkNamespace {
    /// Moves this process into a new namespace, brings its loopback up and binds it to
    /// `run_dir/netns`, so that it outlives the container for the CNI plugins' DEL.
    pub fn make(run_dir: &Path) -> Result<Self, Failure> {
        unshare(CloneFlags::CLONE_NEWNET).step(|| "make a network namespace".to_owned())?;
        loopback_up().step(|| "set the loopback interface up".to_owned())?;
        let path = run_dir.join("netns");
        File::create(&path).step(|| format!("create {}", path.display()))?;
        let namespace = Self { path: Some(path.clone()) };
        mount_bind("/proc/self/ns/net", &path)
            .step(|| format!("bind the network namespace to {}", path.display()))?;
        Ok(namespace)
    }

    /// Leaves the mount to the daemon.
    pub fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nobody is left to be told; the daemon repeats both when it destroys the
            // container.
            let _ = unmount(path, UnmountFlags::DETACH);
            let _ = fs::remove_file(path);
        }
    }
}

fn loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all fields of `ifreq` are integers or arrays of them, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which `request` is, and the socket is open.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
