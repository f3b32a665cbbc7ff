//! The file to which changes are added, of which no line is ever half there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A file that is added to.
#[derive(Debug)]
pub(super) struct Added {
    file: File,
    /// Where its last whole line ends.
    end: u64,
}

impl Added {
    /// Adds to the file at `path` from now on, behind its last whole line.
    pub(super) fn open(path: &Path, end: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        if file.metadata()?.len() > end {
            file.set_len(end)?;
        }
        Ok(Self { file, end })
    }

    /// Adds to the file at `path` as it is.
    pub(super) fn reopen(path: &Path) -> io::Result<Self> {
        Self::to(OpenOptions::new().append(true).open(path)?)
    }

    /// Adds to a file that has whole lines.
    pub(super) fn to(file: File) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self { file, end })
    }

    /// Adds whole lines, or nothing.
    pub(super) fn add(&mut self, lines: &[u8]) -> io::Result<()> {
        let added = self.file.write_all(lines);
        match added {
            Ok(()) => self.end += lines.len() as u64,
            // What is left of them is behind the last whole line also where this fails.
            Err(_) => drop(self.file.set_len(self.end)),
        }
        added
    }
}
