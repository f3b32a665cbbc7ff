//! Names of labs, and how one is cleared away: the living one by itself, dead ones
//! by the next.
//!
//! A lab is dead when nobody holds the lock in its directory. Without one it goes
//! by the process id in the name.

use super::cgroups::{self, Hierarchy};
use super::error::LabError;
use super::sandbox::LOCK;
use rustix::fs::FlockOperation;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the names of all labs' directories and cgroups begin with.
const PREFIX: &str = "mizzen-lab-";

/// Longest temporary directory whose labs still have room for a socket's path.
const MAX_TEMP_BYTES: usize = 60;

/// Name of the lab of process `pid`.
pub(super) fn name(pid: u32) -> String {
    format!("{PREFIX}{pid}")
}

/// Directory of the lab of that name.
pub(super) fn directory(name: &str) -> PathBuf {
    temp_dir().join(name)
}

/// Clears away what dead labs left behind.
pub(super) fn sweep() -> Vec<LabError> {
    let hierarchies = match cgroups::observe_hierarchies() {
        Ok(hierarchies) => hierarchies,
        Err(error) => return vec![error],
    };
    let mut pids = BTreeSet::new();
    for dir in hierarchies.iter().map(Hierarchy::mount).chain([temp_dir().as_path()]) {
        pids.extend(labs_in(dir));
    }
    pids.into_iter()
        .filter(|pid| is_dead(*pid))
        .flat_map(|pid| clear(&name(pid), &directory(&name(pid)), &hierarchies))
        .collect()
}

/// Ends what runs in the lab `name` and removes its cgroups and its directory.
/// Goes on after an error.
pub(super) fn clear(name: &str, dir: &Path, hierarchies: &[Hierarchy]) -> Vec<LabError> {
    let mut errors = Vec::new();
    let roots: Vec<PathBuf> = hierarchies.iter().map(|h| h.mount().join(name)).collect();
    errors.extend(cgroups::kill(&roots).err());
    errors.extend(roots.iter().filter_map(|root| cgroups::remove(root).err()));
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            errors.push(LabError::file("remove", dir)(error));
        }
        _ => {}
    }
    errors
}

/// Process ids in the names of labs in `dir`. Entries of other users are not labs:
/// the temporary directory is everybody's.
fn labs_in(dir: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == 0))
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok())
        .collect()
}

fn is_dead(pid: u32) -> bool {
    match File::open(directory(&name(pid)).join(LOCK)) {
        Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
        // Ours is not made yet, so it can only be an older one of the same number.
        Err(_) => pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists(),
    }
}

fn temp_dir() -> PathBuf {
    let dir = std::env::temp_dir();
    if dir.as_os_str().len() <= MAX_TEMP_BYTES { dir } else { PathBuf::from("/tmp") }
}
