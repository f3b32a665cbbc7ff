//! The cgroups of a container: one directory per hierarchy, its limits, its figures.
//!
//! A host may have v1 hierarchies, the one v2 hierarchy, or both at once ("hybrid"),
//! so every controller is looked for by itself (`hierarchy`). One file per controller
//! knows both versions of it. The v2 directory is made even where it has no controller:
//! eBPF programs attach to it, and it can kill and freeze.

mod cpu;
mod file;
mod hierarchy;
mod memory;
mod pids;
mod processes;

use file::File;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub use cpu::CpuLimit;
pub use file::CgroupError;
pub use hierarchy::{Absence, Controller, Hierarchy, Layout, Version};
pub use memory::Oom;

/// How long the kernel may take to let go of a cgroup whose last process was killed.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two attempts to remove a cgroup: v1 has no notification for "empty".
const REMOVE_POLL: Duration = Duration::from_millis(2);

/// What a container may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// CPUs that it asked for, in cores.
    pub cpus: f64,
    /// Whether it may use more of them while nobody else wants to.
    pub cpu_limit: CpuLimit,
    /// Memory in MiB, hard; never less than 32.
    pub mem_mb: u64,
    /// Largest number of processes and threads, the container's own two not counted.
    pub pids: Option<u64>,
}

/// What a container has used; a figure that the host cannot tell is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Time in user mode, in microseconds.
    pub cpu_user_usec: Option<u64>,
    /// Time in the kernel, in microseconds.
    pub cpu_system_usec: Option<u64>,
    /// Periods in which the quota was in force.
    pub cpu_periods: Option<u64>,
    /// Periods in which it was used up.
    pub cpu_throttled_periods: Option<u64>,
    /// Time spent waiting for a new period, in microseconds.
    pub cpu_throttled_usec: Option<u64>,
    /// Memory in use, page cache included, in bytes.
    pub mem_bytes: Option<u64>,
    /// Anonymous memory, in bytes.
    pub mem_anon_bytes: Option<u64>,
    /// Page cache, in bytes.
    pub mem_file_bytes: Option<u64>,
    /// Largest use so far, in bytes.
    pub mem_max_bytes: Option<u64>,
    /// Hard limit, in bytes.
    pub mem_limit_bytes: Option<u64>,
    /// How often the limit was hit, whether or not something could be reclaimed then.
    pub mem_limit_hits: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// All containers' cgroups below one root.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
    root: PathBuf,
}

impl Cgroups {
    /// Below `root`, a relative path, in every hierarchy of `layout`.
    ///
    /// # Errors
    ///
    /// [`CgroupError::BadName`] if `root` is not a plain relative path.
    pub fn new(layout: Layout, root: &str) -> Result<Self, CgroupError> {
        let plain = root.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain {
            return Err(CgroupError::BadName { name: root.to_owned() });
        }
        Ok(Self { layout, root: root.into() })
    }

    /// Makes a container's cgroups and sets their limits; returns the directories that
    /// its first process has to join. May be repeated.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Absent`] if a limit cannot be enforced on this host; otherwise
    /// the kernel's answer, with the file.
    pub fn ensure(&self, id: &str, limits: &Limits) -> Result<Vec<PathBuf>, CgroupError> {
        if let Some(mount) = self.layout.unified() {
            self.delegate(mount)?;
        }
        let directories = self.directories(id);
        for directory in &directories {
            fs::create_dir_all(directory).map_err(|e| CgroupError::file("make", directory, e))?;
        }
        cpu::limit(&self.place(id, Controller::Cpu)?, limits)?;
        memory::limit(&self.place(id, Controller::Memory)?, limits)?;
        if let Some(limit) = limits.pids {
            pids::limit(&self.place(id, Controller::Pids)?, limit)?;
        }
        Ok(directories)
    }

    /// What the container has used so far.
    #[must_use]
    pub fn statistics(&self, id: &str) -> Statistics {
        let mut statistics = Statistics::default();
        if let Ok(place) = self.place(id, Controller::Cpu) {
            cpu::throttling(&place, &mut statistics);
        }
        match (self.place(id, Controller::Cpuacct), self.layout.unified()) {
            (Ok(place), _) => cpu::usage(&place, &mut statistics),
            // The v2 hierarchy counts CPU time also without the controller.
            (Err(_), Some(mount)) => cpu::usage(
                &Place { version: Version::V2, directory: self.directory(mount, id) },
                &mut statistics,
            ),
            (Err(_), None) => {}
        }
        if let Ok(place) = self.place(id, Controller::Memory) {
            memory::usage(&place, &mut statistics);
        }
        if let Ok(place) = self.place(id, Controller::Pids) {
            pids::usage(&place, &mut statistics);
        }
        statistics
    }

    /// Whether the kernel killed something of the container for want of memory.
    #[must_use]
    pub fn observe_oom(&self, id: &str) -> Option<Oom> {
        memory::observe_oom(&self.place(id, Controller::Memory).ok()?)
    }

    /// Whether the container has processes.
    ///
    /// # Errors
    ///
    /// The kernel's answer if it cannot be asked.
    pub fn is_populated(&self, id: &str) -> Result<bool, CgroupError> {
        processes::members(&self.directories(id)).map(|members| !members.is_empty())
    }

    /// Kills every process of the container and waits until all are dead.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Busy`] if some do not die in time; otherwise the kernel's answer.
    pub async fn kill(&self, id: &str) -> Result<(), CgroupError> {
        let unified = self.layout.unified().map(|mount| self.directory(mount, id));
        let freezer = self.place(id, Controller::Freezer).ok().map(|place| place.directory);
        let directories = self.directories(id);
        processes::kill_all(&directories, unified.as_deref(), freezer.as_deref()).await
    }

    /// Removes the container's cgroups; those that are gone already are fine. Goes on
    /// after a failure and returns them all.
    ///
    /// # Errors
    ///
    /// One per hierarchy in which the cgroup stays.
    pub async fn remove(&self, id: &str) -> Result<(), Vec<CgroupError>> {
        let mut errors = Vec::new();
        for directory in self.directories(id) {
            if let Err(error) = remove_tree(&directory).await {
                errors.push(error);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Removes the root itself, where it is empty.
    ///
    /// # Errors
    ///
    /// The kernel's answer if one stays, for example because a container runs.
    pub fn remove_root(&self) -> Result<(), CgroupError> {
        for mount in self.mounts() {
            for part in self.root.ancestors().filter(|part| *part != Path::new("")) {
                let directory = mount.join(part);
                match fs::remove_dir(&directory) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    // A parent may be shared with other instances.
                    Err(error) if part != self.root => {
                        tracing::debug!(directory = %directory.display(), %error, "kept");
                        break;
                    }
                    Err(error) => return Err(CgroupError::file("remove", &directory, error)),
                }
            }
        }
        Ok(())
    }

    /// The directories of a container, one per hierarchy.
    #[must_use]
    pub fn directories(&self, id: &str) -> Vec<PathBuf> {
        self.mounts().into_iter().map(|mount| self.directory(mount, id)).collect()
    }

    fn directory(&self, mount: &Path, id: &str) -> PathBuf {
        mount.join(&self.root).join(id)
    }

    /// Controllers that are mounted together share a directory.
    fn mounts(&self) -> BTreeSet<&Path> {
        self.layout.hierarchies().chain(self.layout.unified()).collect()
    }

    fn place(&self, id: &str, controller: Controller) -> Result<Place, CgroupError> {
        let hierarchy = self.layout.find(controller)?;
        let directory = self.directory(&hierarchy.mount_point, id);
        Ok(Place { version: hierarchy.version, directory })
    }

    /// A v2 cgroup has the controllers that all its ancestors pass on.
    fn delegate(&self, mount: &Path) -> Result<(), CgroupError> {
        let wanted: Vec<String> = self.layout.of_unified().map(|c| c.to_string()).collect();
        let mut directory = mount.to_path_buf();
        let mut parts = self.root.iter();
        loop {
            let file = File::new(&directory, "cgroup.subtree_control");
            let passed = file.read().unwrap_or_default();
            let missing: Vec<String> = wanted
                .iter()
                .filter(|name| !passed.split_whitespace().any(|word| word == *name))
                .map(|name| format!("+{name}"))
                .collect();
            if !missing.is_empty() {
                file.write(&missing.join(" "))?;
            }
            let Some(part) = parts.next() else { return Ok(()) };
            directory.push(part);
            fs::create_dir_all(&directory).map_err(|e| CgroupError::file("make", &directory, e))?;
        }
    }
}

/// Where a controller's files of one container are, and in which spelling.
struct Place {
    version: Version,
    directory: PathBuf,
}

impl Place {
    fn file(&self, name: &'static str) -> File {
        File::new(&self.directory, name)
    }
}

/// A task that runs as root may have made cgroups below its own.
async fn remove_tree(directory: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + REMOVE_TIMEOUT;
    for directory in processes::descendants(directory) {
        loop {
            match fs::remove_dir(&directory) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error)
                    if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
                {
                    sleep(REMOVE_POLL).await;
                }
                Err(error) => return Err(CgroupError::file("remove", &directory, error)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
