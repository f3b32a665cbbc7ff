//! Files that commands are given.

use super::error::CliError;
use std::io::Read;
use std::path::Path;

/// The text of a file; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(path).map(|all| text = all),
    };
    read.map(|()| text).map_err(|source| CliError::File { path: path.to_owned(), source })
}
