//! Work inside another network namespace.
//!
//! Only a thread of our own ever changes its namespace, and it ends there: a
//! borrowed thread (of a runtime, of a pool) would carry the change to whoever
//! uses it next. The plugins, whose only thread is their own, visit and come back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
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

/// Runs `work` on the calling thread inside the network namespace `namespace`, and comes
/// back. Only for processes with a single thread: it costs a fifth of [`in_namespace`], but
/// a thread that cannot come back is of no use for anything else.
///
/// # Errors
///
/// [`NetlinkError::Namespace`] with `path`, if we may not enter it, or may not come back.
pub fn visit_namespace<T>(
    namespace: BorrowedFd<'_>,
    path: &Path,
    work: impl FnOnce() -> T,
) -> Result<T, NetlinkError> {
    let error = |source: io::Error| NetlinkError::Namespace { path: path.to_owned(), source };
    let home = File::open("/proc/thread-self/ns/net").map_err(error)?;
    let enter = |namespace: BorrowedFd<'_>| {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
            .map_err(|errno| error(errno.into()))
    };
    enter(namespace)?;
    let outcome = work();
    enter(home.as_fd())?;
    Ok(outcome)
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
