//! The executables that a node starts: without one of them every task would fail, so a
//! node that lacks one does not start.

use crate::config::{Config, Role};
use rustix::fs::{Access, access};
use std::path::PathBuf;

/// Where plugins are that other programs brought.
const COMMON_PLUGINS: &str = "/opt/cni/bin";

/// An executable that is not there, or cannot be executed.
#[derive(Debug, thiserror::Error)]
#[error("{} is not there to be executed, which the role `{role}` needs; see libexec_dir", path.display())]
pub(crate) struct MissingExecutable {
    path: PathBuf,
    role: Role,
    #[source]
    source: rustix::io::Errno,
}

/// The parent of each container.
pub(crate) fn launcher(config: &Config) -> PathBuf {
    config.libexec_dir.join("mizzen-launch")
}

/// Where CNI plugins are looked for, in this order.
pub(crate) fn plugin_dirs(config: &Config) -> Vec<PathBuf> {
    vec![config.libexec_dir.clone(), PathBuf::from(COMMON_PLUGINS)]
}

/// Looks for everything that the roles of this node will start.
pub(crate) fn check(config: &Config) -> Result<(), MissingExecutable> {
    if !config.has(Role::Agent) {
        return Ok(());
    }
    find(Role::Agent, &[launcher(config)])?;
    if config.has(Role::Overlay) {
        for plugin in ["mizzen-overlay", "mizzen-ipam", "mizzen-portmap"] {
            let places: Vec<PathBuf> =
                plugin_dirs(config).iter().map(|directory| directory.join(plugin)).collect();
            find(Role::Overlay, &places)?;
        }
    }
    Ok(())
}

/// One of `places` must have it; the first one is where it belongs.
fn find(role: Role, places: &[PathBuf]) -> Result<(), MissingExecutable> {
    let mut missing = None;
    for path in places {
        match access(path, Access::EXEC_OK) {
            Ok(()) if path.is_file() => return Ok(()),
            Ok(()) => missing = missing.or(Some((path, rustix::io::Errno::ISDIR))),
            Err(source) => missing = missing.or(Some((path, source))),
        }
    }
    match missing {
        Some((path, source)) => Err(MissingExecutable { path: path.clone(), role, source }),
        None => Ok(()),
    }
}
