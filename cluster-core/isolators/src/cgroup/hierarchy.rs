//! Which controller lives where on this host.

use super::file::CgroupError;
use mizzen_types::mountinfo;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The controllers that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// CPU time: shares and quota.
    Cpu,
    /// CPU time: accounting (v1 only; v2 always counts).
    Cpuacct,
    /// Freezing all processes at once (v1 only; v2 always can).
    Freezer,
    /// Memory.
    Memory,
    /// Number of processes.
    Pids,
}

impl Controller {
    const ALL: [Self; 5] = [Self::Cpu, Self::Cpuacct, Self::Freezer, Self::Memory, Self::Pids];
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Freezer => "freezer",
            Self::Memory => "memory",
            Self::Pids => "pids",
        })
    }
}

/// The two spellings of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its spelling.
    pub version: Version,
    /// Where it is mounted.
    pub mount_point: PathBuf,
}

/// Why a controller cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The kernel was built without it.
    NotBuilt,
    /// It was switched off on the kernel's command line.
    Disabled,
    /// It is bound to a v1 hierarchy that is not mounted here.
    NotMounted,
    /// The v2 hierarchy that is mounted here was not given it.
    NotDelegated,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBuilt => "the kernel was built without it",
            Self::Disabled => "it is disabled on the kernel's command line",
            Self::NotMounted => "its hierarchy is not mounted here",
            Self::NotDelegated => "the v2 hierarchy that is mounted here was not given it",
        })
    }
}

/// The host's hierarchies, controller by controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    controllers: BTreeMap<Controller, Result<Hierarchy, Absence>>,
    unified: Option<PathBuf>,
}

impl Layout {
    /// Looks at the mounts and controllers of this host.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn observe() -> Result<Self, CgroupError> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|e| CgroupError::file("read", Path::new(path), e))
        };
        Ok(Self::from_text(&read("/proc/self/mountinfo")?, &read("/proc/cgroups")?))
    }

    /// From the text of `/proc/self/mountinfo` and `/proc/cgroups`; the controllers of
    /// a v2 hierarchy are read from its mount point.
    #[must_use]
    pub fn from_text(mountinfo: &str, cgroups: &str) -> Self {
        let mounts = mountinfo::parse(mountinfo);
        let unified = mounts
            .iter()
            .find(|mount| mount.file_system == "cgroup2")
            .map(|mount| mount.mount_point.clone());
        let delegated = unified
            .as_ref()
            .and_then(|mount| fs::read_to_string(mount.join("cgroup.controllers")).ok())
            .unwrap_or_default();

        let find = |controller: Controller| {
            let name = controller.to_string();
            let v1 = mounts
                .iter()
                .find(|mount| mount.file_system == "cgroup" && mount.super_options.contains(&name));
            if let Some(mount) = v1 {
                let mount_point = mount.mount_point.clone();
                return Ok(Hierarchy { version: Version::V1, mount_point });
            }
            match &unified {
                Some(mount) if delegated.split_whitespace().any(|word| word == name) => {
                    Ok(Hierarchy { version: Version::V2, mount_point: mount.clone() })
                }
                _ => Err(absence(&name, cgroups, unified.is_some())),
            }
        };
        let controllers = Controller::ALL.into_iter().map(|c| (c, find(c))).collect();
        Self { controllers, unified }
    }

    /// Where a controller lives.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Absent`] with the reason.
    pub fn find(&self, controller: Controller) -> Result<&Hierarchy, CgroupError> {
        match self.controllers.get(&controller) {
            Some(Ok(hierarchy)) => Ok(hierarchy),
            Some(Err(reason)) => Err(CgroupError::Absent { controller, reason: *reason }),
            None => Err(CgroupError::Absent { controller, reason: Absence::NotBuilt }),
        }
    }

    /// Mount point of the v2 hierarchy, whatever controllers it has.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// Mount points of all controllers.
    pub(super) fn hierarchies(&self) -> impl Iterator<Item = &Path> {
        self.controllers.values().flatten().map(|hierarchy| hierarchy.mount_point.as_path())
    }

    /// The controllers that live in the v2 hierarchy.
    pub(super) fn of_unified(&self) -> impl Iterator<Item = Controller> {
        self.controllers.iter().filter_map(|(controller, found)| match found {
            Ok(Hierarchy { version: Version::V2, .. }) => Some(*controller),
            _ => None,
        })
    }
}

/// Lines of `/proc/cgroups` are name, hierarchy, number of cgroups, enabled; hierarchy
/// 0 is the unified one, or none.
fn absence(name: &str, cgroups: &str, unified: bool) -> Absence {
    let fields = cgroups
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name));
    match fields.as_deref() {
        None => Absence::NotBuilt,
        Some([_, _, _, "0"]) => Absence::Disabled,
        Some([_, "0", ..]) if unified => Absence::NotDelegated,
        Some(_) => Absence::NotMounted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CGROUPS: &str = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n\
                           cpu\t3\t1\t1\ncpuacct\t3\t1\t1\nmemory\t0\t18\t1\npids\t0\t1\t0\n";

    #[test]
    fn a_hybrid_host_is_decided_controller_by_controller() {
        let unified = tempfile::tempdir().unwrap();
        fs::write(unified.path().join("cgroup.controllers"), "memory hugetlb\n").unwrap();
        let mounts = format!(
            "1 1 0:1 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             2 1 0:2 / {} rw - cgroup2 cgroup2 rw\n",
            unified.path().display()
        );
        let layout = Layout::from_text(&mounts, CGROUPS);

        let v1 = Hierarchy { version: Version::V1, mount_point: "/cg/cpu,cpuacct".into() };
        assert_eq!(layout.find(Controller::Cpu).unwrap(), &v1);
        assert_eq!(layout.find(Controller::Cpuacct).unwrap(), &v1);
        assert_eq!(layout.find(Controller::Memory).unwrap().version, Version::V2);
        assert_eq!(layout.of_unified().collect::<Vec<_>>(), [Controller::Memory]);
        let why = |controller| layout.find(controller).unwrap_err().to_string();
        assert!(why(Controller::Pids).contains("command line"));
        assert!(why(Controller::Freezer).contains("built without"));
    }

    #[test]
    fn a_host_without_mounts_says_why() {
        let layout = Layout::from_text("", CGROUPS);
        assert_eq!(layout.unified(), None);
        let why = |controller| layout.find(controller).unwrap_err().to_string();
        assert!(why(Controller::Cpu).contains("not mounted"));
        assert!(why(Controller::Memory).contains("not mounted"));
    }
}
