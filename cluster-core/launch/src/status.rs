//! The file `status`: how the container ended.

use crate::failure::{Failure, Step};
use mizzen_types::container::{Exit, ExitRecord, FORMAT};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// More than a record needs.
const RESERVED: usize = 128;

/// The place for the record, taken before the task runs: a disk that fills up in the
/// meantime must not swallow how it ended.
pub struct StatusFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl StatusFile {
    /// Reserves it in `run_dir`.
    pub fn reserve(run_dir: &Path) -> Result<Self, Failure> {
        let temporary = run_dir.join("status.tmp");
        let path = run_dir.join("status");
        let reserve = || -> io::Result<File> {
            let mut file = File::create(&temporary)?;
            file.write_all(&[b' '; RESERVED])?;
            file.sync_all()?;
            Ok(file)
        };
        let file = reserve().step(|| format!("reserve {}", temporary.display()))?;
        Ok(Self { file, temporary, path })
    }

    /// Writes the record over the reserved blanks and gives it its name.
    pub fn commit(&self, exit: Exit) -> Result<(), Failure> {
        let commit = || -> io::Result<()> {
            let record = serde_json::to_vec(&ExitRecord { format: FORMAT, exit })?;
            self.file.write_all_at(&record, 0)?;
            self.file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            match self.path.parent() {
                Some(directory) => File::open(directory)?.sync_all(),
                None => Ok(()),
            }
        };
        commit().step(|| format!("write {}", self.path.display()))
    }
}
