//! The object in the kernel: load, attach, pin, replace, remove.
//!
//! ```text
//! <pin_dir>/v2/map_VIPS …          the maps
//!             /link_connect4 …     one link for each program
//!             /link_in_7 …         and, for programs on network links, for each of these by its number
//! ```
//!
//! A pinned link keeps its program running while no daemon does. A new daemon puts
//! its own programs behind the links that it finds, so no call falls in between.
//! Programs of another ABI version stay beside the new ones, and before them in the order
//! of the cgroup, until the new maps are filled; what they translate is no VIP any more.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use mizzen_ebpf_abi::{ABI_VERSION, maps};

use crate::bpf::{self, AttachType};
use crate::{LoadError, Options, ingress, probe};

/// The compiled programs, as committed beside their checksum.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!("../../prebuilt/mizzen.bpf.o");

/// Directory of the pins of this ABI version.
pub fn pin_directory(options: &Options) -> PathBuf {
    options.pin_dir.join(version())
}

/// Pin of the map called `name`.
pub fn map_pin(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{MAP_PREFIX}{name}"))
}

/// Creates the maps and pins them, or opens the ones that are pinned already.
pub fn create_maps(directory: &Path) -> Result<Ebpf, LoadError> {
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    let can_set_error = u8::from(probe::programs_can_set_errors());
    let mut loader = EbpfLoader::new();
    // The programs use stable contexts only, so the kernel's own types need not stay in memory.
    loader.btf(None);
    loader.override_global("CAN_SET_ERROR", &can_set_error, true);
    for name in maps::ALL {
        loader.map_pin_path(name, map_pin(directory, name));
    }
    loader.load(OBJECT).map_err(|source| LoadError::Object {
        directory: directory.to_owned(),
        source: Box::new(source),
    })
}

/// Loads the programs and attaches them to the cgroup, in the place of older ones if there are any.
pub fn attach(object: &mut Ebpf, directory: &Path, cgroup: &Path) -> Result<(), LoadError> {
    let target = Target::open(cgroup).map_err(failed("open cgroup", cgroup))?;
    for hook in &HOOKS {
        let program = load(object, hook.program)?;
        let pin = directory.join(format!("{LINK_PREFIX}{}", hook.pin));
        let attached = attach_one(program.as_fd(), hook.attach_type, &target, &pin)
            .map_err(failed("attach to the cgroup and pin as", &pin))?;
        tracing::debug!(program = hook.program, attached, "VIP program in place");
    }
    Ok(())
}

/// Detaches and unpins what programs of other ABI versions left; how many versions there were.
pub fn retire_others(pin_dir: &Path) -> Result<usize, LoadError> {
    let mut others = version_directories(pin_dir)?;
    others.retain(|directory| !directory.ends_with(version()));
    remove_versions(&others)?;
    Ok(others.len())
}

/// Detaches and unpins everything below the pin directory, whatever its version.
pub fn teardown(options: &Options) -> Result<bool, LoadError> {
    let versions = version_directories(&options.pin_dir)?;
    let found = !versions.is_empty();
    remove_versions(&versions)?;
    match fs::remove_dir(&options.pin_dir) {
        Ok(()) => Ok(found),
        // It is a mount point, holds something that is not ours, or was never made.
        Err(error) if matches!(error.kind(), NotFound | ResourceBusy | DirectoryNotEmpty) => {
            Ok(found)
        }
        Err(error) => Err(failed("remove", &options.pin_dir)(error)),
    }
}

use io::ErrorKind::{DirectoryNotEmpty, NotFound, ResourceBusy};

const MAP_PREFIX: &str = "map_";
pub const LINK_PREFIX: &str = "link_";

/// A program and where it belongs.
struct Hook {
    program: &'static str,
    pin: &'static str,
    attach_type: AttachType,
}

/// In this order: what restores an address and what counts is there before what translates, so
/// that no translated socket is ever shown or counted wrongly.
const HOOKS: [Hook; 10] = [
    hook("mizzen_release", "release", AttachType::SockRelease),
    hook("mizzen_sockops", "sockops", AttachType::SockOps),
    hook("mizzen_getpeername4", "getpeername4", AttachType::Getpeername4),
    hook("mizzen_getpeername6", "getpeername6", AttachType::Getpeername6),
    hook("mizzen_recvmsg4", "recvmsg4", AttachType::Recvmsg4),
    hook("mizzen_recvmsg6", "recvmsg6", AttachType::Recvmsg6),
    hook("mizzen_connect4", "connect4", AttachType::Connect4),
    hook("mizzen_connect6", "connect6", AttachType::Connect6),
    hook("mizzen_sendmsg4", "sendmsg4", AttachType::Sendmsg4),
    hook("mizzen_sendmsg6", "sendmsg6", AttachType::Sendmsg6),
];

const fn hook(program: &'static str, pin: &'static str, attach_type: AttachType) -> Hook {
    Hook { program, pin, attach_type }
}

/// The cgroup to attach to.
struct Target {
    directory: File,
    id: u64,
}

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
        let directory = File::open(path)?;
        // The kernel numbers cgroups by the inodes of their directories.
        let id = directory.metadata()?.ino();
        Ok(Self { directory, id })
    }
}

/// Loads one program, of whatever kind.
pub fn load(object: &mut Ebpf, name: &'static str) -> Result<OwnedFd, LoadError> {
    let program = object.program_mut(name).ok_or(LoadError::Missing { program: name })?;
    let loaded = match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => return Err(LoadError::Missing { program: name }),
    };
    let refused = |source| LoadError::Program { program: name, source: Box::new(source) };
    loaded.map_err(refused)?;
    let fd = program.fd().map_err(refused)?.as_fd().try_clone_to_owned();
    fd.map_err(failed("duplicate the descriptor of program", Path::new(name)))
}

/// Returns what it did, for the log.
fn attach_one(
    program: BorrowedFd<'_>,
    attach_type: AttachType,
    target: &Target,
    pin: &Path,
) -> io::Result<&'static str> {
    match bpf::obj_get(pin) {
        Ok(link) if bpf::link_cgroup(link.as_fd())? == target.id => {
            bpf::link_update(link.as_fd(), program)?;
            Ok("replaced")
        }
        // Its cgroup was removed, or another one is configured by now.
        Ok(stale) => {
            let link = bpf::link_create(program, target.directory.as_fd(), attach_type)?;
            fs::remove_file(pin)?;
            bpf::obj_pin(link.as_fd(), pin)?;
            // Already over if its cgroup is gone.
            let _ = bpf::link_detach(stale.as_fd());
            Ok("moved")
        }
        Err(error) if error.kind() == NotFound => {
            let link = bpf::link_create(program, target.directory.as_fd(), attach_type)?;
            bpf::obj_pin(link.as_fd(), pin)?;
            Ok("attached")
        }
        Err(error) => Err(error),
    }
}

fn version_directories(pin_dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let entries = match fs::read_dir(pin_dir) {
        Err(error) if error.kind() == NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", pin_dir))?,
    };
    let mut directories = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("list", pin_dir))?.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix('v'));
        if version.is_some_and(|version| version.parse::<u32>().is_ok()) {
            directories.push(pin_dir.join(name));
        }
    }
    Ok(directories)
}

fn version() -> String {
    format!("v{ABI_VERSION}")
}

fn remove_versions(directories: &[PathBuf]) -> Result<(), LoadError> {
    let mut failures = Vec::new();
    for directory in directories {
        remove_pins(directory, &mut failures);
        if let Err(error) = fs::remove_dir(directory) {
            failures.push((directory.clone(), error));
        }
    }
    let count = failures.len();
    match failures.into_iter().next() {
        Some((path, source)) => Err(LoadError::Teardown { count, path, source }),
        None => Ok(()),
    }
}

fn remove_pins(directory: &Path, failures: &mut Vec<(PathBuf, io::Error)>) {
    ingress::teardown(directory);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return failures.push((directory.to_owned(), error)),
    };
    let mut pins: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // Links sort before maps: what translates ends before what it needs.
    pins.sort_unstable();
    for pin in pins {
        if let Err(error) = remove_pin(&pin) {
            failures.push((pin, error));
        }
    }
}

/// Unlinking a link's pin ends it after a grace period only, so it is detached first.
fn remove_pin(pin: &Path) -> io::Result<()> {
    let name = pin.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.starts_with(LINK_PREFIX) {
        bpf::link_detach(bpf::obj_get(pin)?.as_fd())?;
    }
    fs::remove_file(pin)
}

pub fn failed(request: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LoadError {
    let path = path.to_owned();
    move |source| LoadError::Path { request, path, source }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_embedded_object_is_the_one_that_was_checked_in() {
        let recorded = include_str!("../../prebuilt/mizzen.bpf.o.sha256");
        let mut actual = String::new();
        for byte in Sha256::digest(OBJECT) {
            write!(actual, "{byte:02x}").expect("a string takes everything");
        }
        assert_eq!(recorded.split_whitespace().next(), Some(actual.as_str()));
    }
}
