//! The run directory of a container: what has to be known after a restart.
//!
//! ```text
//! <run root>/<id>/launcher.json   LaunchRecord, written before the task may run
//!                 pid             first process inside, written by the launcher
//!                 status          how it ended, written by the launcher
//!                 netns           bind mount of its network namespace
//!                 launcher.log    stderr of the launcher
//!                 cni/<eth0>/     configuration and answer of its plugin
//!                 hostname, hosts, resolv.conf
//! ```

use crate::cni::Attachment;
use crate::process::ProcessIdentity;
use mizzen_files::{Sync, replace};
use mizzen_types::container::{ExitRecord, FORMAT, LaunchSpec};
use mizzen_types::error::chain;
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The longest end of a launcher's log that goes into an error, in bytes.
const LOG_TAIL: usize = 2048;

/// What a later process of the daemon has to know of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// See [`FORMAT`].
    pub format: u16,
    /// The launcher.
    pub launcher: ProcessIdentity,
    /// What it was told.
    pub spec: LaunchSpec,
    /// Variables that the network added.
    pub environment: BTreeMap<String, String>,
    /// Networks that it is attached to.
    pub networks: Vec<Attachment>,
}

/// One container's directory. The path need not exist.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Below `root`.
    pub fn new(root: &Path, id: &str) -> Self {
        Self { path: root.join(id) }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bind mount of the network namespace.
    pub fn netns(&self) -> PathBuf {
        self.path.join("netns")
    }

    /// Where checkpoints of the networks lie.
    pub fn networks(&self) -> PathBuf {
        self.path.join("cni")
    }

    /// Makes it; only root may look, because the environment of a task may hold secrets.
    pub fn create(&self) -> io::Result<()> {
        if let Some(root) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(root)?;
        }
        DirBuilder::new().mode(0o700).create(&self.path)
    }

    /// The launcher's stderr.
    pub fn create_log(&self) -> io::Result<File> {
        File::create(self.path.join("launcher.log"))
    }

    /// The end of the launcher's stderr.
    pub fn log_tail(&self) -> String {
        let text = fs::read(self.path.join("launcher.log")).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(LOG_TAIL)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }

    /// Writes the record so that it survives a crash.
    pub fn write_record(&self, record: &LaunchRecord) -> io::Result<()> {
        let bytes = serde_json::to_vec(record)?;
        Ok(replace(&self.path.join("launcher.json"), &bytes, 0o644, Sync::Disk)?)
    }

    /// Reads the record; `None` if the launch did not come so far.
    pub fn read_record(&self) -> io::Result<Option<LaunchRecord>> {
        let Some(text) = read_optional(&self.path.join("launcher.json"))? else { return Ok(None) };
        let record: LaunchRecord = serde_json::from_slice(&text)?;
        if record.format > FORMAT {
            return Err(io::Error::other(format!("format {} is too new", record.format)));
        }
        Ok(Some(record))
    }

    /// Reads the record; one that cannot be read is as good as none for those who clean
    /// up, because the cgroups know the container's processes as well.
    pub fn read_record_or_warn(&self) -> Option<LaunchRecord> {
        self.read_record().unwrap_or_else(|error| {
            tracing::warn!(directory = %self.path.display(), error = chain(&error), "cannot read launcher.json");
            None
        })
    }

    /// Process id of the container's first process; `None` if there never was one.
    pub fn read_pid(&self) -> io::Result<Option<u32>> {
        let text = read_optional(&self.path.join("pid"))?.unwrap_or_default();
        Ok(str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()))
    }

    /// As [`Self::read_pid`], for those who cannot try again.
    pub fn read_pid_or_warn(&self) -> Option<u32> {
        self.read_pid().unwrap_or_else(|error| {
            tracing::warn!(directory = %self.path.display(), error = chain(&error), "cannot read pid");
            None
        })
    }

    /// How the container ended; `None` if nobody could write it.
    pub fn read_status(&self) -> io::Result<Option<ExitRecord>> {
        let Some(text) = read_optional(&self.path.join("status"))? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Lets go of the network namespace; one that is not mounted is fine.
    pub fn unmount_netns(&self) -> io::Result<()> {
        let path = self.netns();
        loop {
            match unmount(&path, UnmountFlags::DETACH) {
                Ok(()) => {}
                // Not a mount (any more), or not even a file.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes all of it; if it is gone already that is fine.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a file was there but is not what it should be, which no later attempt changes.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    // The system's own answers have a number.
    error.raw_os_error().is_none()
}

fn read_optional(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
