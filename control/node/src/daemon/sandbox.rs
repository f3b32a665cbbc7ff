//! A task's sandbox: its directory, and the `latest` link beside it.

use mizzen_types::container::LaunchSpec;
use nix::unistd::{User, chown};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

/// Makes the sandbox of a container, owned by the user who will run in it.
pub(crate) fn prepare(spec: &LaunchSpec) -> io::Result<()> {
    let runs = spec.sandbox.parent().unwrap_or(&spec.sandbox);
    // The directories around a former sandbox of this task may be removed just now.
    make(runs, &spec.sandbox).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => make(runs, &spec.sandbox),
        _ => Err(error),
    })?;
    if let Some(name) = &spec.user {
        let user = User::from_name(name)?
            .ok_or_else(|| io::Error::other(format!("there is no user `{name}`")))?;
        chown(&spec.sandbox, Some(user.uid), Some(user.gid))?;
    }
    link_latest(runs, spec)
}

fn make(runs: &Path, sandbox: &Path) -> io::Result<()> {
    fs::create_dir_all(runs)?;
    match DirBuilder::new().mode(0o755).create(sandbox) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn link_latest(runs: &Path, spec: &LaunchSpec) -> io::Result<()> {
    let latest = runs.join("latest");
    match fs::remove_file(&latest) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(&spec.id, latest)
}
