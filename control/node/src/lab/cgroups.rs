//! A lab's cgroups, in each hierarchy that mizzen uses.
//!
//! ```text
//! <hierarchy>/mizzen-lab-<pid>/n1/host      the daemon and what the user runs
//!                             /n1/mizzen    containers (MIZZEN_CGROUP_ROOT)
//!                             /n2/…
//! ```
//!
//! The split is for v2, where a cgroup with controllers for its children has no
//! processes itself.

use super::error::LabError;
use mizzen_types::mountinfo;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// v1 controllers that containers use.
const USED: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "freezer"];

/// v2 controllers that containers use.
const USED_V2: [&str; 3] = ["cpu", "memory", "pids"];

/// How long killed processes may take to be gone. One that is stuck in the kernel
/// (a dead disk, say) does not go at all.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A mounted cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// Of some v1 controllers.
    V1(PathBuf),
    /// The unified one, with or without controllers.
    V2(PathBuf),
}

impl Hierarchy {
    /// Where it is mounted.
    pub fn mount(&self) -> &Path {
        match self {
            Self::V1(mount) | Self::V2(mount) => mount,
        }
    }
}

/// The hierarchies of this machine that mizzen uses.
pub(super) fn observe_hierarchies() -> Result<Vec<Hierarchy>, LabError> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(LabError::file("read", path))?;
    Ok(hierarchies(&text))
}

/// Makes `group` in `hierarchy`, and lets the cgroups above it have controllers.
pub(super) fn create(hierarchy: &Hierarchy, group: &str) -> Result<PathBuf, LabError> {
    let mut path = hierarchy.mount().to_owned();
    for part in group.split('/') {
        if matches!(hierarchy, Hierarchy::V2(_)) {
            enable_controllers(&path);
        }
        path.push(part);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(LabError::file("make cgroup", path)(error));
            }
            _ => {}
        }
    }
    Ok(path)
}

/// Moves this process into the cgroup at `path`.
pub(super) fn join(path: &Path) -> Result<(), LabError> {
    fs::write(path.join("cgroup.procs"), "0").map_err(LabError::file("join cgroup", path))
}

/// Kills every process in and below `roots` and waits until they are gone.
pub(super) fn kill(roots: &[PathBuf]) -> Result<(), LabError> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        let mut pids = BTreeSet::new();
        for root in roots {
            walk(root, &mut |group| {
                thaw(group);
                pids.extend(processes(group));
            });
        }
        if pids.is_empty() {
            return Ok(());
        }
        if started.elapsed() > KILL_LIMIT {
            return Err(LabError::Immortal { pids: pids.into_iter().collect() });
        }
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            // Gone already is what we want.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Removes `root` and everything below it; nothing may run there any more.
pub(super) fn remove(root: &Path) -> Result<(), LabError> {
    let mut failed = Ok(());
    walk(root, &mut |group| match rustix::fs::rmdir(group) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => failed = Err(LabError::file("remove cgroup", group)(errno)),
    });
    failed
}

/// Visits every cgroup below `group` and `group` itself, children first.
fn walk(group: &Path, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(group);
}

fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    // Processes of a foreign pid namespace are shown as 0, and 0 would be us.
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

/// A frozen process does not die. Either file is missing in most cgroups.
fn thaw(group: &Path) {
    for (file, text) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let path = group.join(file);
        if path.exists() {
            let _ = fs::write(path, text);
        }
    }
}

/// Lets the children of `group` have the controllers that it has. On a hybrid
/// host it has none; where one cannot be passed on, the isolators will say so.
fn enable_controllers(group: &Path) {
    let text = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in text.split_whitespace().filter(|name| USED_V2.contains(name)) {
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mountinfo::parse(mountinfo) {
        if mount.root != Path::new("/") {
            continue;
        }
        let is_used = |option: &String| USED.contains(&option.as_str());
        let hierarchy = match mount.file_system.as_str() {
            "cgroup2" => Hierarchy::V2(mount.mount_point),
            "cgroup" if mount.super_options.iter().any(is_used) => Hierarchy::V1(mount.mount_point),
            _ => continue,
        };
        if !found.iter().any(|known| known.mount() == hierarchy.mount()) {
            found.push(hierarchy);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_unified_hosts() {
        let hybrid = "\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
32 25 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 25 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 25 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
35 25 0:28 /docker/x /mnt/cgroup rw,relatime - cgroup cgroup rw,memory
";
        let want = [
            Hierarchy::V1(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")),
            Hierarchy::V1(PathBuf::from("/sys/fs/cgroup/memory")),
            Hierarchy::V2(PathBuf::from("/sys/fs/cgroup/unified")),
        ];
        assert_eq!(hierarchies(hybrid), want);

        let unified = "30 25 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(hierarchies(unified), [Hierarchy::V2(PathBuf::from("/sys/fs/cgroup"))]);
    }
}
