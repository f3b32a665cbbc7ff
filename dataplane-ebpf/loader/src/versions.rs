//! Directories of pins, one for each version of what the maps hold.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::{LoadError, object};

/// Those whose names are `prefix` and a number.
pub fn directories(pin_dir: &Path, prefix: &str) -> Result<Vec<PathBuf>, LoadError> {
    let entries = match fs::read_dir(pin_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(object::failed("list", pin_dir))?,
    };
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(prefix).is_some_and(|version| version.parse::<u32>().is_ok())
    };
    Ok(entries.flatten().map(|entry| entry.path()).filter(is_ours).collect())
}

/// Removes a directory and what is pinned there.
pub fn remove(directory: &Path) -> Result<(), LoadError> {
    let entries = fs::read_dir(directory).map_err(object::failed("list", directory))?;
    for pin in entries.flatten().map(|entry| entry.path()) {
        fs::remove_file(&pin).map_err(object::failed("remove", &pin))?;
    }
    fs::remove_dir(directory).map_err(object::failed("remove", directory))
}
