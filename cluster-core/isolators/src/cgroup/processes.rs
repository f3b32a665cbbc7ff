//! The processes of a cgroup, and their end.

use super::file::{CgroupError, File};
use crate::process::exited;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long killed processes may take to die; one in an uninterruptible read takes as
/// long as its disk.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a freezer may take; if it takes longer, killing goes on without it.
const FREEZE_TIMEOUT: Duration = Duration::from_millis(500);

/// Between two looks at a freezer, which has no notification in v1.
const FREEZE_POLL: Duration = Duration::from_millis(2);

/// Kills everything in `directories` and waits for its death.
///
/// The kernel does it in one stroke where it can (`cgroup.kill` of `unified`). Otherwise
/// all are frozen first, so that none can fork while the others are being killed.
pub(super) async fn kill_all(
    directories: &[PathBuf],
    unified: Option<&Path>,
    freezer: Option<&Path>,
) -> Result<(), CgroupError> {
    let kill = unified.map(|directory| File::new(directory, "cgroup.kill"));
    if let Some(kill) = kill.filter(File::exists) {
        kill.write("1")?;
    }
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        let members = members(directories)?;
        if members.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let path = directories.first().cloned().unwrap_or_default();
            return Err(CgroupError::Busy { path, processes: members.into_iter().collect() });
        }
        kill_round(&members, directories, freezer, deadline).await?;
    }
}

/// A cgroup and all below it, the deepest first; empty if it is not there.
pub(super) fn descendants(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            // It is there: who reads its files is told what is wrong.
            Err(_) => None,
        };
        let below = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path());
        open.extend(below);
        found.push(directory);
    }
    found.reverse();
    found
}

/// The number of a process that died meanwhile may be somebody else's when it is opened: who
/// is a member afterwards is the one that was opened, and nobody else is killed.
async fn kill_round(
    seen: &BTreeSet<u32>,
    directories: &[PathBuf],
    freezer: Option<&Path>,
    deadline: Instant,
) -> Result<(), CgroupError> {
    let freezer = freezer.map(|directory| File::new(directory, "freezer.state"));
    if let Some(freezer) = &freezer {
        freeze(freezer).await;
    }
    let opened: Vec<(u32, OwnedFd)> =
        seen.iter().filter_map(|pid| Some((*pid, open(*pid)?))).collect();
    let members = members(directories);
    let is_member = |pid: &u32| members.as_ref().is_ok_and(|members| members.contains(pid));
    let killed = opened.into_iter().filter(|(pid, _)| is_member(pid)).map(|(_, process)| process);
    let killed: Vec<OwnedFd> = killed.filter_map(kill).collect();
    if let Some(freezer) = &freezer {
        // In v1 a frozen process dies only when it is thawed. If that fails they stay
        // members, and the caller reports them.
        let _ = freezer.write("THAWED");
    }
    for process in killed {
        let _ = timeout_at(deadline, exited(process)).await;
    }
    members.map(drop)
}

async fn freeze(state: &File) {
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    while state.write("FROZEN").is_ok() {
        let frozen = state.read().is_ok_and(|text| text.trim() == "FROZEN");
        if frozen || Instant::now() >= deadline {
            return;
        }
        sleep(FREEZE_POLL).await;
    }
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn kill(process: OwnedFd) -> Option<OwnedFd> {
    pidfd_send_signal(&process, Signal::KILL).ok()?;
    Some(process)
}

/// The processes in `directories` and below.
pub(super) fn members(directories: &[PathBuf]) -> Result<BTreeSet<u32>, CgroupError> {
    let mut members = BTreeSet::new();
    for directory in directories.iter().flat_map(|directory| descendants(directory)) {
        let text = match File::new(&directory, "cgroup.procs").read() {
            Ok(text) => text,
            // Removed meanwhile, by the task or by us.
            Err(_) if !directory.exists() => continue,
            Err(error) => return Err(error),
        };
        // Zero is a process that this pid namespace cannot see.
        let pids = text.lines().filter_map(|line| line.parse::<u32>().ok());
        members.extend(pids.filter(|pid| *pid != 0));
    }
    Ok(members)
}
