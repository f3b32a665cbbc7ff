//! How many descriptors the programs that we start may have.
//!
//! The daemon raises its own limit. Its children inherit that, but programs that use
//! `select` break with descriptors above 1023, and others close all up to the limit.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::io;
use std::sync::OnceLock;

/// The soft limit of children. One for the process, as the limit itself is.
static SOFT: OnceLock<u64> = OnceLock::new();

/// From now on every launcher, and so every task, and every plugin is started with this
/// soft limit on descriptors. To be called by who changes the limit of this process, and
/// before the first container is made; only the first call counts.
pub fn limit_descriptors_of_children(soft: u64) {
    // The first word is the limit that this process was started with.
    let _ = SOFT.set(soft);
}

/// Gives a child that was just started the limit that is meant for it. Before it has
/// read its standard input it has started nothing itself.
pub(crate) fn restore(child: u32) -> io::Result<()> {
    let Some(soft) = SOFT.get() else { return Ok(()) };
    let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let limit = Rlimit { current: Some(*soft), maximum: getrlimit(Resource::Nofile).maximum };
    match prlimit(Some(pid), Resource::Nofile, limit) {
        // It has ended, which is for others to notice.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        answer => answer.map(drop).map_err(io::Error::from),
    }
}
