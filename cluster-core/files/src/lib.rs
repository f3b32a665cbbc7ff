//! Files that others find whole: the former one or the new one, whenever they look.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What outlives a crash of the machine once [`replace`] has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The new file: it and its name are on the disk.
    Disk,
    /// One of the two, or an empty one; for what is made again at each start.
    Memory,
}

/// A file that cannot be replaced; the former one is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", .path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

impl From<FileError> for io::Error {
    /// Of the same kind, with the path.
    fn from(error: FileError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Writes a file beside its place, named as [`is_draft`] knows it, and gives it its name.
///
/// * `mode` — its permissions, whatever the process masks.
///
/// # Errors
///
/// [`FileError`]; nothing is left of the new file then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<(), FileError> {
    let draft = draft(path);
    write(&draft, bytes, mode, sync)
        .and_then(|()| fs::rename(&draft, path))
        .inspect_err(|_| {
            // Half a file on a full disk helps nobody.
            let _ = fs::remove_file(&draft);
        })
        .and_then(|()| match (sync, path.parent()) {
            (Sync::Disk, Some(directory)) => File::open(directory)?.sync_all(),
            (Sync::Disk, None) | (Sync::Memory, _) => Ok(()),
        })
        .map_err(|source| FileError { path: path.to_owned(), source })
}

/// Whether that is what a crash left of a file that was to replace another.
#[must_use]
pub fn is_draft(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(SUFFIX.as_bytes())
}

const SUFFIX: &str = ".new";

fn draft(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(SUFFIX);
    path.with_file_name(name)
}

fn write(draft: &Path, bytes: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    // One that a crash left may have other permissions, or be a link.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(draft)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    match sync {
        Sync::Disk => file.sync_all(),
        Sync::Memory => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_the_place_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list.json");
        // What a crash left is in nobody's way.
        fs::write(draft(&path), "half").unwrap();
        assert!(is_draft(&draft(&path)) && !is_draft(&path));
        for (bytes, mode, sync) in
            [(&b"first"[..], 0o600, Sync::Disk), (b"second", 0o666, Sync::Memory)]
        {
            replace(&path, bytes, mode, sync).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "and nothing beside it");
    }

    #[test]
    fn what_cannot_be_replaced_is_named_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir_all(path.join("by a directory")).unwrap();
        let error = replace(&path, b"text", 0o644, Sync::Disk).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");
        let missing = directory.path().join("nowhere/file");
        let error = io::Error::from(replace(&missing, b"", 0o644, Sync::Memory).unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
