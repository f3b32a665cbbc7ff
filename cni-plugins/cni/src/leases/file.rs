//! The files that leases and locks are, with errors that name them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::error::Code;
use mizzen_cni_core::ipam::{LeaseRecord, PoolError};
use rustix::fs::{FlockOperation, flock};

/// While it lives, no other plugin process works on the same container, or on the same records.
pub(crate) struct ContainerLock {
    _file: File,
}

/// A lease that could not be read or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("cannot {request} `{}`", path.display())]
    File {
        request: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{key} has a lease on {address} already; DEL comes before another ADD")]
    Held { key: AttachmentKey, address: IpAddr },
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl LeaseError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::File { .. } => Code::Io,
            Self::Held { .. } => Code::Conflict,
            Self::Pool(error) => error.code(),
        }
    }
}

pub(crate) fn lock(path: &Path) -> Result<ContainerLock, LeaseError> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let file = opened.map_err(|source| failed("open", path, source))?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(ContainerLock { _file: file }),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed("lock", path, errno.into())),
        }
    }
}

pub(super) fn read_record(path: &Path) -> Option<LeaseRecord> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Where the next search starts. Two processes may overtake each other here.
pub(super) fn last(hint: &Path) -> Option<IpAddr> {
    let mut text = String::new();
    File::open(hint).ok()?.take(64).read_to_string(&mut text).ok()?;
    text.strip_prefix("1 ")?.lines().next()?.trim_end().parse().ok()
}

/// Notes the address as the last one, in place: half a hint is no hint.
pub(super) fn remember(hint: &Path, address: IpAddr) -> Result<(), LeaseError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(hint);
    // As long as the longest, so that nothing of a former one shows behind it.
    let line = format!("1 {address:<45}\n");
    let written = opened.and_then(|file| file.write_all_at(line.as_bytes(), 0));
    written.map_err(|source| failed("write", hint, source))
}

/// Writes over what is there, which is an earlier and shorter list or nothing. The file may
/// have names of leases by now, so at no moment it is empty.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), LeaseError> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        let length = text.len() as u64;
        if file.metadata()?.len() == length { Ok(()) } else { file.set_len(length) }
    });
    written.map_err(|source| failed("write", path, source))
}

pub(crate) fn remove(path: &Path) -> Result<(), LeaseError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

pub(crate) fn failed(request: &'static str, path: &Path, source: io::Error) -> LeaseError {
    LeaseError::File { request, path: path.to_owned(), source }
}
