//! Records of tasks as files, one per container, readable one by one.
//!
//! A record is written beside its place, synced, renamed over the old one, and the
//! directory is synced: after a crash there is the old record or the new one.

use mizzen_agent::Record;
use mizzen_types::ids::ContainerId;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tracing::warn;

const SUFFIX: &str = "json";
const UNFINISHED: &str = "new";

/// The directory of records.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    directory: PathBuf,
}

impl Checkpoints {
    /// Opens the directory, or makes it.
    pub(crate) fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            // What a crash left half-written is not a record.
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { directory })
    }

    /// Writes a record; when this returns it is on the disk.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let bytes = record.to_bytes().map_err(io::Error::other)?;
        let path = self.path(&record.container);
        let new = path.with_extension(UNFINISHED);
        write_synced(&new, &bytes).inspect_err(|_| {
            // Half a file on a full disk helps nobody.
            let _ = fs::remove_file(&new);
        })?;
        fs::rename(&new, &path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// Removes a record; one that is gone is fine.
    pub(crate) fn remove(&self, container: &ContainerId) -> io::Result<()> {
        match fs::remove_file(self.path(container)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves a record to another directory as it is; one that is gone is fine.
    pub(crate) fn hand_over(&self, container: &ContainerId, to: &Self) -> io::Result<()> {
        match fs::rename(self.path(container), to.path(container)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a record that last changed at some time in the past.
    pub(crate) fn write_as_of(&self, record: &Record, changed: SystemTime) -> io::Result<()> {
        self.write(record)?;
        File::options().append(true).open(self.path(&record.container))?.set_modified(changed)
    }

    /// Reads one record.
    pub(crate) fn read(&self, container: &ContainerId) -> io::Result<Record> {
        let bytes = fs::read(self.path(container))?;
        Record::from_bytes(&bytes).map_err(io::Error::other)
    }

    /// Whose records there are, and when each last changed.
    pub(crate) fn list(&self) -> io::Result<Vec<(ContainerId, SystemTime)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let path = entry.path();
            let is_record = path.extension().is_some_and(|extension| extension == SUFFIX);
            let id = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_record);
            // One that went away meanwhile is not there.
            if let (Some(id), Ok(meta)) = (id, entry.metadata()) {
                found.push((id.into(), meta.modified()?));
            }
        }
        Ok(found)
    }

    /// Every record. One that cannot be read is left where it is and reported: its
    /// container is then nobody's and is removed, but the file can be looked at.
    pub(crate) fn read_all(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != SUFFIX) {
                continue;
            }
            match fs::read(&path).map_err(|e| e.to_string()).and_then(|b| Record::from_bytes(&b)) {
                Ok(record) => records.push(record),
                Err(error) => {
                    warn!(path = %path.display(), %error, "a task's record is unreadable");
                }
            }
        }
        Ok(records)
    }

    fn path(&self, container: &ContainerId) -> PathBuf {
        self.directory.join(format!("{container}.{SUFFIX}"))
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
