//! Files: room for the node's state, who may read it, and what `/proc` counts.

use mizzen_plan::doctor::{Directory, Disk, Look, Usage, Wanted};
use rustix::fs::{StatVfsMountFlags, statfs, statvfs};
use rustix::process::{Resource, geteuid, getrlimit};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `f_type` of file systems in memory.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Bits that files of the node must not have: others write, or anybody else reads secrets.
const OTHERS_WRITE: u32 = 0o022;
const OTHERS_READ: u32 = 0o077;

/// A file's text.
pub(super) fn read(path: impl AsRef<Path>) -> Look<String> {
    fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Tables of the old packet filter that somebody uses.
pub(super) fn observe_legacy_tables() -> BTreeSet<String> {
    let files = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
    let texts = files.into_iter().filter_map(|file| read(file).ok());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What is in use of what is limited.
pub(super) fn observe_usage(daemon: Option<u32>) -> Usage {
    Usage {
        files: read("/proc/sys/fs/file-nr").ok().and_then(|text| open_files(&text)),
        descriptors: match daemon {
            Some(pid) => {
                read(format!("/proc/{pid}/limits")).ok().and_then(|text| hard_limit(&text))
            }
            None => getrlimit(Resource::Nofile).maximum,
        },
        threads: read("/proc/loadavg").ok().and_then(|text| all_threads(&text)),
    }
}

/// The file systems of the node's directories.
pub(super) fn observe_disks(wanted: &Wanted) -> Vec<Disk> {
    [&wanted.state_dir, &wanted.run_dir].into_iter().filter_map(|path| observe_disk(path)).collect()
}

fn observe_disk(path: &str) -> Option<Disk> {
    // What does not exist yet will be where the nearest directory above it is.
    let there = Path::new(path).ancestors().find(|ancestor| ancestor.exists())?;
    let (room, kind) = (statvfs(there).ok()?, statfs(there).ok()?);
    let kind = kind.f_type as u64 & 0xffff_ffff;
    Some(Disk {
        path: path.to_owned(),
        free: room.f_bavail.saturating_mul(room.f_frsize),
        size: room.f_blocks.saturating_mul(room.f_frsize),
        inodes: Some((room.f_favail, room.f_files)).filter(|(_, all)| *all > 0),
        read_only: room.f_flag.contains(StatVfsMountFlags::RDONLY),
        volatile: kind == TMPFS || kind == RAMFS,
    })
}

/// The node's directories and files that are there and can be seen.
pub(super) fn observe_directories(wanted: &Wanted) -> Vec<Directory> {
    let store = format!("{}/store.redb", wanted.state_dir);
    let paths = [
        (wanted.state_dir.clone(), OTHERS_WRITE),
        (store, OTHERS_READ),
        (wanted.run_dir.clone(), OTHERS_READ),
    ];
    let own = geteuid().as_raw();
    let seen = paths.into_iter().filter_map(|(path, forbidden)| {
        let metadata = fs::metadata(&path).ok()?;
        let mode = metadata.mode() & 0o7777;
        // Whoever runs a node of their own may own its files.
        let owner = if metadata.uid() == own { 0 } else { metadata.uid() };
        Some(Directory { path, mode, forbidden, owner })
    });
    seen.collect()
}

/// `1234  0  9223372036854775807`: open, unused, most.
fn open_files(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_whitespace().map(str::parse::<u64>);
    let (open, _, most) = (words.next()?.ok()?, words.next()?, words.next()?.ok()?);
    Some((open, most))
}

/// `Max open files  1024  1048576  files`: the last number is what the daemon may have.
fn hard_limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// `0.10 0.20 0.30 1/234 5678`: 234 threads.
fn all_threads(text: &str) -> Option<u64> {
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_proc_says() {
        assert_eq!(open_files("1234\t0\t9223372036854775807\n"), Some((1234, i64::MAX as u64)));
        assert_eq!(open_files("1234"), None);
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   1048576   files\n";
        assert_eq!(hard_limit(limits), Some(1_048_576));
        assert_eq!(hard_limit("Max open files unlimited unlimited files"), None);
        assert_eq!(all_threads("0.10 0.20 0.30 1/234 5678\n"), Some(234));
    }

    #[test]
    fn directories_that_are_and_are_not_there() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name).display().to_string();
        let (state_dir, run_dir) = (path("state"), path("not/there"));
        fs::create_dir(&state_dir).unwrap();
        fs::set_permissions(&state_dir, PermissionsExt::from_mode(0o777)).unwrap();
        let wanted = Wanted { state_dir: state_dir.clone(), run_dir, ..Wanted::default() };
        let directories = observe_directories(&wanted);
        assert_eq!(directories.len(), 1);
        assert_eq!((directories[0].mode, directories[0].owner), (0o777, 0));
        let disks = observe_disks(&wanted);
        assert_eq!(disks.len(), 2, "what is not there yet will be beside it: {disks:?}");
        assert!(disks[0].size >= disks[0].free && disks[0].free > 0);
    }
}
