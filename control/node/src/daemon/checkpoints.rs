//! Records of tasks as files, one per container, readable one by one.
//!
//! A record is written beside its place, synced, renamed over the old one, and the
//! directory is synced: after a crash there is the old record or the new one.

use mizzen_agent::Record;
use mizzen_files::{Sync, is_draft, replace};
use mizzen_types::error::chain;
use mizzen_types::ids::ContainerId;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const SUFFIX: &str = "json";

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
            if is_draft(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { directory })
    }

    /// Writes a record; when this returns it is on the disk.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let bytes = record.to_bytes().map_err(io::Error::other)?;
        Ok(replace(&self.path(&record.container), &bytes, 0o600, Sync::Disk)?)
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
        read(&self.path(container))
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

    /// Every record, and what is wrong with each that cannot be read. Such a one is left where
    /// it is: its container is then nobody's and is removed, but the file can be looked at.
    pub(crate) fn read_all(&self) -> io::Result<(Vec<Record>, Vec<String>)> {
        let (mut records, mut lost) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != SUFFIX) {
                continue;
            }
            match read(&path) {
                Ok(record) => records.push(record),
                Err(error) => lost.push(format!("{}: {}", path.display(), chain(&error))),
            }
        }
        Ok((records, lost))
    }

    fn path(&self, container: &ContainerId) -> PathBuf {
        self.directory.join(format!("{container}.{SUFFIX}"))
    }
}

fn read(path: &Path) -> io::Result<Record> {
    Record::from_bytes(&fs::read(path)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_is_named_and_left_where_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.json");
        fs::write(&path, r#"{"format":9}"#).unwrap();
        fs::write(place.path().join(".b.json.new"), "half").unwrap();
        let (records, lost) =
            Checkpoints::open(place.path().to_owned()).unwrap().read_all().unwrap();
        assert!(records.is_empty());
        let why = "the record is of format 9, this version reads 1";
        assert_eq!(lost, [format!("{}: {why}", path.display())]);
        assert!(path.exists());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "the half one is gone");
    }
}
