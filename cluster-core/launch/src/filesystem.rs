//! What the container sees of the host's files.
//!
//! A task without an image has the host's file system, in a mount namespace of its
//! own: a private `/proc` and `/dev/shm`, its own files in `/etc`, and its volumes.

use crate::failure::{Failure, Step};
use mizzen_types::container::{LaunchGo, LaunchSpec, MountSpec, NetworkMode};
use mizzen_types::mountinfo;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, unmount,
};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path};

/// Prepares the mount namespace that the caller has just entered.
pub fn set_up(spec: &LaunchSpec, go: &LaunchGo) -> Result<(), Failure> {
    // What the host mounts later is seen; what is mounted here stays here.
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
        .step(|| "make the mounts private".to_owned())?;
    forget_namespaces()?;
    let strict = MountFlags::NOSUID | MountFlags::NODEV;
    mount("proc", "/proc", "proc", strict | MountFlags::NOEXEC, None)
        .step(|| "mount /proc".to_owned())?;
    // A host without it has nothing to hide.
    if Path::new("/dev/shm").is_dir() {
        mount("shm", "/dev/shm", "tmpfs", strict, c"mode=1777")
            .step(|| "mount /dev/shm".to_owned())?;
    }
    bind_etc(spec, go)?;
    spec.mounts.iter().try_for_each(|volume| bind_volume(volume, &spec.sandbox))
}

/// The copied mounts of other containers' network namespaces would keep those alive
/// for as long as this container runs.
fn forget_namespaces() -> Result<(), Failure> {
    let text = fs::read_to_string("/proc/self/mountinfo").step(|| "read the mounts".to_owned())?;
    for found in mountinfo::parse(&text) {
        if found.file_system == "nsfs" {
            // It may be hidden below another mount; then it cannot be named either.
            let _ = unmount(&found.mount_point, UnmountFlags::DETACH);
        }
    }
    Ok(())
}

/// Writes the container's own files to its run directory and binds them over the host's.
fn bind_etc(spec: &LaunchSpec, go: &LaunchGo) -> Result<(), Failure> {
    let own_network = spec.network == NetworkMode::Container;
    let hosts = (own_network || !go.addresses.is_empty()).then(|| hosts_file(spec, go));
    // The kernel's own answer is right in any case, so a host without the file is fine.
    let hostname = Path::new("/etc/hostname").exists().then(|| format!("{}\n", spec.hostname));
    let files = [("hostname", hostname), ("hosts", hosts), ("resolv.conf", go.resolv_conf.clone())];
    for (name, content) in files {
        let Some(content) = content else { continue };
        let source = spec.run_dir.join(name);
        fs::write(&source, content).step(|| format!("write {}", source.display()))?;
        let target = Path::new("/etc").join(name);
        mount_bind(&source, &target)
            .step(|| format!("bind {} to {}", source.display(), target.display()))?;
    }
    Ok(())
}

fn hosts_file(spec: &LaunchSpec, go: &LaunchGo) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost\n");
    for address in &go.addresses {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{}", spec.hostname);
    }
    text
}

/// An absolute target has to exist, because nothing is created on the host; a relative
/// one lies in the sandbox and is made.
fn bind_volume(volume: &MountSpec, sandbox: &Path) -> Result<(), Failure> {
    let step = || format!("bind {} to {}", volume.source.display(), volume.target.display());
    let target = if volume.target.is_absolute() {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat(CWD, &volume.target, flags, Mode::empty()).step(step)?
    } else {
        make_in_sandbox(volume, sandbox).step(step)?
    };
    let target = format!("/proc/self/fd/{}", target.as_raw_fd());
    mount_bind_recursive(&volume.source, &target).step(step)?;
    if volume.read_only {
        // By its path: the descriptor is of what lies below.
        let path = sandbox.join(&volume.target);
        forbid_writing(&path).step(|| format!("make {} read-only", volume.target.display()))?;
    }
    Ok(())
}

/// Makes the target component by component and follows no link: the sandbox may hold
/// whatever was fetched into it.
fn make_in_sandbox(volume: &MountSpec, sandbox: &Path) -> io::Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut at = openat(CWD, sandbox, directory, Mode::empty())?;
    let is_directory = fs::metadata(&volume.source)?.is_dir();
    let mut names = Vec::new();
    for component in volume.target.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(io::Error::other("the target leaves the sandbox")),
        }
    }
    let Some((last, parents)) = names.split_last() else {
        return Err(io::Error::other("the target is the sandbox itself"));
    };
    for name in parents {
        at = make_directory(&at, name)?;
    }
    if is_directory {
        return make_directory(&at, last);
    }
    let file = OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::RDONLY;
    Ok(openat(&at, *last, file, Mode::from_raw_mode(0o644))?)
}

fn make_directory(at: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<OwnedFd> {
    match mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Everything below `path`, mounts in it included.
fn forbid_writing(path: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string and the attributes are a `mount_attr` of the size
    // given; the kernel only reads both.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
