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

/// Makes sure that a setting which is a number is at least this large. Some settings are the
/// whole machine's and are not there in a network namespace; then nothing is done.
///
/// # Errors
///
/// [`NetlinkError::Request`] if the setting is no number, or the kernel refuses the value.
pub fn ensure_sysctl_at_least(name: &str, least: u64) -> Result<Ensured<()>, NetlinkError> {
    if !path(name).exists() {
        return Ok(Ensured::Unchanged(()));
    }
    let found = observe_sysctl(name)?;
    let no_number = |_| failed("read", name, io::ErrorKind::InvalidData.into());
    if found.parse::<u64>().map_err(no_number)? >= least {
        return Ok(Ensured::Unchanged(()));
    }
    ensure_sysctl(name, &least.to_string())
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

fn failed(request: &'static str, name: &str, source: io::Error) -> NetlinkError {
    NetlinkError::Request { request, object: format!("setting `{name}`"), detail: None, source }
}
