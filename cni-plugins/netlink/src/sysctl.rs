//! Kernel settings under `/proc/sys`.
//!
//! The network ones are those of the calling thread's namespace; use
//! [`crate::in_namespace`] for those of another.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::Ensured;
use crate::error::NetlinkError;

/// Reads a setting, such as `net/ipv4/ip_forward`, without the line's end.
///
/// # Errors
///
/// [`NetlinkError::Request`] if the kernel has no such setting.
pub fn observe_sysctl(name: &str) -> Result<String, NetlinkError> {
    let text = fs::read_to_string(path(name)).map_err(|source| failed("read", name, source))?;
    Ok(text.trim_end().to_owned())
}

/// Makes sure that a setting has this value.
///
/// # Errors
///
/// [`NetlinkError::Request`] if the kernel has no such setting or refuses the value.
pub fn ensure_sysctl(name: &str, value: &str) -> Result<Ensured<()>, NetlinkError> {
    if observe_sysctl(name)? == value {
        return Ok(Ensured::Unchanged(()));
    }
    fs::write(path(name), value).map_err(|source| failed("write", name, source))?;
    Ok(Ensured::Repaired(()))
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

fn failed(request: &'static str, name: &str, source: io::Error) -> NetlinkError {
    NetlinkError::Request { request, object: format!("setting `{name}`"), detail: None, source }
}
