//! Work inside another network namespace.
//!
//! Only a thread of our own ever changes its namespace, and it ends there: a
//! borrowed thread (of a runtime, of a pool) would carry the change to whoever
//! uses it next.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::NetlinkError;

/// Runs `work` on a thread of its own inside the network namespace at `namespace`.
///
/// Sockets that it opens, and files under `/proc/sys/net` that it reads, belong
/// to that namespace.
///
/// # Errors
///
/// [`NetlinkError::Namespace`] if there is no such namespace, if we may not enter
/// it, or if the thread died.
pub fn in_namespace<T: Send>(
    namespace: &Path,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetlinkError> {
    let error = |source| NetlinkError::Namespace { path: namespace.to_owned(), source };
    let file = File::open(namespace).map_err(error)?;
    let inside = || -> io::Result<T> {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    };
    let died = || io::Error::other("the thread that entered it died");
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|_| Err(died()))
    })
    .map_err(error)
}

/// Whether `namespace` is the network namespace of the calling thread.
///
/// # Errors
///
/// [`NetlinkError::Namespace`] if there is nothing at `namespace`.
pub fn is_own_namespace(namespace: &Path) -> Result<bool, NetlinkError> {
    let identity = |path: &Path| {
        let metadata = std::fs::metadata(path)
            .map_err(|source| NetlinkError::Namespace { path: path.to_owned(), source })?;
        Ok::<_, NetlinkError>((metadata.dev(), metadata.ino()))
    };
    Ok(identity(namespace)? == identity(Path::new("/proc/thread-self/ns/net"))?)
}
