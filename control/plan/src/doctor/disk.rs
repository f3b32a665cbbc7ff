//! Room for the node's state, and who may read it.

use super::{Observed, Verdict};

/// A file system with one of the node's directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The directory, or the nearest one above that exists.
    pub path: String,
    /// Bytes that can still be written.
    pub free: u64,
    /// Bytes that there are.
    pub size: u64,
    /// Files that can still be made, and how many there may be; `None` if there is no limit.
    pub inodes: Option<(u64, u64)>,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// Whether it is gone after a reboot.
    pub volatile: bool,
}

/// A directory or a file of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Bits that it must not have.
    pub forbidden: u32,
    /// User id of its owner.
    pub owner: u32,
}

const MIB: u64 = 1 << 20;
/// With less than this, nothing that the node has to write down may fit.
const TOO_LITTLE: u64 = 64 * MIB;
const LITTLE: u64 = 1024 * MIB;

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    let state = &observed.wanted.state_dir;
    let mut verdicts: Vec<Verdict> = Vec::new();
    for disk in &observed.machine.disks {
        verdicts.extend(room(disk));
        verdicts.extend(files(disk));
        verdicts.extend(lasting(disk, state));
    }
    verdicts.extend(observed.machine.directories.iter().filter_map(mode));
    if verdicts.is_empty() {
        let free: Vec<String> = observed
            .machine
            .disks
            .iter()
            .map(|disk| format!("{} MiB free for {}", disk.free / MIB, disk.path))
            .collect();
        verdicts.push(Verdict::ok(format!("{}; others cannot write there", free.join(", "))));
    }
    verdicts
}

fn room(disk: &Disk) -> Option<Verdict> {
    let Disk { path, free, size, .. } = disk;
    let text = format!("{} MiB are free for {path}", free / MIB);
    let small = *size < 4 * LITTLE;
    let verdict = match *free {
        _ if disk.read_only => Verdict::error(format!("{path} is read-only")),
        free if free < TOO_LITTLE && free * 10 < *size => Verdict::error(text),
        free if free < LITTLE && (!small || free * 10 < *size) => Verdict::warning(text),
        _ => return None,
    };
    Some(verdict.because("changes wait until they can be written down, and new tasks fail").remedy(
        format!(
            "df -h {path}; du -xsh {path}/*; a smaller agent.gc_delay removes sandboxes sooner"
        ),
    ))
}

fn files(disk: &Disk) -> Option<Verdict> {
    let (free, all) = disk.inodes.filter(|(free, all)| *all > 0 && free * 50 < *all)?;
    let verdict =
        Verdict::warning(format!("{free} of {all} files can still be made for {}", disk.path))
            .because("records of tasks, leases and sandboxes are files")
            .remedy(format!("df -i {}", disk.path));
    Some(verdict)
}

fn lasting(disk: &Disk, state_dir: &str) -> Option<Verdict> {
    (disk.volatile && disk.path == *state_dir).then(|| {
        Verdict::warning(format!("{} is in memory", disk.path))
            .because("after a reboot the node is another one: ids, claims and addresses are gone")
            .remedy("set `state_dir` to a directory on a disk")
    })
}

fn mode(directory: &Directory) -> Option<Verdict> {
    let Directory { path, mode, forbidden, owner } = directory;
    let wrong = mode & forbidden;
    if *owner != 0 {
        let verdict = Verdict::error(format!("{path} belongs to user {owner}"))
            .because("who has it can change what the node does as root")
            .remedy(format!("chown root:root {path}"));
        return Some(verdict);
    }
    (wrong != 0).then(|| {
        Verdict::error(format!("{path} is open to others (mode {mode:o})"))
            .because("secrets of the cluster could be read, or what the node does be changed")
            .remedy(format!("chmod {:o} {path}", mode & !forbidden))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::super::testing::well;
    use super::*;

    #[test]
    fn how_full_and_of_what_kind() {
        let disk = |free: u64, size: u64| Disk {
            path: "/var/lib/mizzen".into(),
            free: free * MIB,
            size: size * MIB,
            inodes: Some((90, 100)),
            read_only: false,
            volatile: false,
        };
        let table = [
            ("roomy", disk(5_000, 100_000), Grade::Ok),
            ("a small one with room", disk(400, 1_000), Grade::Ok),
            ("nearly full", disk(500, 100_000), Grade::Warning),
            ("full", disk(10, 100_000), Grade::Error),
            ("read-only", Disk { read_only: true, ..disk(5_000, 100_000) }, Grade::Error),
            (
                "no files left",
                Disk { inodes: Some((1, 100)), ..disk(5_000, 100_000) },
                Grade::Warning,
            ),
            ("in memory", Disk { volatile: true, ..disk(5_000, 100_000) }, Grade::Warning),
        ];
        for (name, disk, want) in table {
            let mut observed = well();
            observed.machine.disks = vec![disk];
            assert_eq!(judge(&observed)[0].grade, want, "{name}");
        }
    }

    #[test]
    fn what_others_may_do() {
        for (mode, owner, want) in
            [(0o711, 0, Grade::Ok), (0o777, 0, Grade::Error), (0o711, 1000, Grade::Error)]
        {
            let mut observed = well();
            let path = "/var/lib/mizzen".to_owned();
            observed.machine.directories = vec![Directory { path, mode, forbidden: 0o022, owner }];
            let verdicts = judge(&observed);
            assert_eq!(verdicts[0].grade, want, "{mode:o} of {owner}");
        }
    }
}
