//! One file of a cgroup, read and written with errors that name it.

use super::hierarchy::{Absence, Controller};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What may go wrong with cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel refused.
    #[error("cannot {request} {}", path.display())]
    File {
        /// What was asked, as a verb.
        request: &'static str,
        /// File or directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A limit was asked for that this host cannot enforce.
    #[error("no {controller} controller: {reason}")]
    Absent {
        /// The controller.
        controller: Controller,
        /// Why not.
        reason: Absence,
    },
    /// A file says something else than this program knows.
    #[error("{} says `{text}`", path.display())]
    Unreadable {
        /// File.
        path: PathBuf,
        /// What it says, shortened.
        text: String,
    },
    /// Processes that were killed do not die.
    #[error("processes {processes:?} of {} do not die", path.display())]
    Busy {
        /// Cgroup.
        path: PathBuf,
        /// Process ids.
        processes: Vec<u32>,
    },
    /// Not a name for a cgroup.
    #[error("`{name}` cannot be the name of a cgroup")]
    BadName {
        /// The name.
        name: String,
    },
}

impl CgroupError {
    /// A refused request.
    pub(crate) fn file(request: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { request, path: path.to_path_buf(), source }
    }
}

/// A file of a cgroup.
pub(crate) struct File {
    path: PathBuf,
}

impl File {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(name) }
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    pub(crate) fn write(&self, text: &str) -> Result<(), CgroupError> {
        fs::write(&self.path, text).map_err(|error| CgroupError::file("write", &self.path, error))
    }

    pub(crate) fn read(&self) -> Result<String, CgroupError> {
        fs::read_to_string(&self.path).map_err(|error| CgroupError::file("read", &self.path, error))
    }

    /// A file of one number.
    pub(crate) fn number(&self) -> Result<u64, CgroupError> {
        let text = self.read()?;
        text.trim().parse().map_err(|_| CgroupError::Unreadable {
            path: self.path.clone(),
            text: text.trim().chars().take(64).collect(),
        })
    }

    /// The number behind `key` in a file of `key number` lines.
    pub(crate) fn field(&self, key: &str) -> Option<u64> {
        let text = self.read().ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }
}
