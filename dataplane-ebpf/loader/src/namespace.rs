//! Network namespaces by the numbers that programs in the kernel know them by.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::thread;

/// The number that tells the network namespace of this file from all others since boot.
///
/// # Errors
///
/// The kernel's, for instance if the file is none of a network namespace.
pub fn namespace_cookie(namespace: &Path) -> io::Result<u64> {
    let namespace = File::open(namespace)?;
    // A socket is of the namespace that its thread is in, so a thread goes there.
    let asked = thread::spawn(move || {
        // SAFETY: the descriptor is open; the thread does nothing else and ends.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => own_cookie(),
            _ => Err(io::Error::last_os_error()),
        }
    });
    asked.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// That number of the calling thread's network namespace.
///
/// # Errors
///
/// The kernel's: Linux before 5.14 does not tell.
pub(crate) fn own_cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the socket is ours from the call that made it on, and the option is as long as said.
    let result = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let value = (&raw mut cookie).cast();
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            value,
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
