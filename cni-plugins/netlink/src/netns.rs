//! Work inside another network namespace.
//!
//! Only a thread of our own ever changes its namespace, and it ends there: a
//! borrowed thread (of a runtime, of a pool) would carry the change to whoever
//! uses it next. The plugins, whose only thread is their own, visit and come back.

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
    let error = |source| refused(namespace, source);
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

/// The network namespace of a process with a single thread, which visits others and comes back.
/// That costs a fifth of [`in_namespace`], but a thread that cannot come back is of no use for
/// anything else.
#[derive(Debug)]
pub struct HomeNamespace {
    file: File,
}

impl HomeNamespace {
    /// The namespace of this process.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Namespace`] without proc.
    pub fn open() -> Result<Self, NetlinkError> {
        // Found with fewer steps than that of the thread, which is the same.
        let path = Path::new("/proc/self/ns/net");
        Ok(Self { file: File::open(path).map_err(|source| refused(path, source))? })
    }

    /// Whether `namespace` is this one.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Namespace`] with `path`, if it cannot be looked at.
    pub fn is(&self, namespace: &File, path: &Path) -> Result<bool, NetlinkError> {
        let identity = |file: &File| {
            let metadata = file.metadata().map_err(|source| refused(path, source))?;
            Ok::<_, NetlinkError>((metadata.dev(), metadata.ino()))
        };
        Ok(identity(&self.file)? == identity(namespace)?)
    }

    /// Runs `work` on the calling thread inside the network namespace `namespace`.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Namespace`] with `path`, if we may not enter it, or may not come back.
    pub fn visit<T>(
        &self,
        namespace: &File,
        path: &Path,
        work: impl FnOnce() -> T,
    ) -> Result<T, NetlinkError> {
        let enter = |namespace: &File| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| refused(path, errno.into()))
        };
        enter(namespace)?;
        let outcome = work();
        enter(&self.file)?;
        Ok(outcome)
    }
}

/// A name of the network namespace of the calling thread, by which files about it can be told
/// from those about others: no namespace that is there at the same time has it, nor any of
/// before the machine was started.
///
/// # Errors
///
/// [`NetlinkError::Namespace`] if the kernel does not tell.
pub fn namespace_name() -> Result<String, NetlinkError> {
    let (boot, own) = (Path::new(BOOT), Path::new(OWN));
    let boot = std::fs::read_to_string(boot).map_err(|source| refused(boot, source))?;
    let own = std::fs::metadata(own).map_err(|source| refused(own, source))?;
    Ok(format!("{}-{}", boot.trim_end(), own.ino()))
}

/// Another one each time that the machine is started.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const OWN: &str = "/proc/thread-self/ns/net";

fn refused(path: &Path, source: io::Error) -> NetlinkError {
    NetlinkError::Namespace { path: path.to_owned(), source }
}
