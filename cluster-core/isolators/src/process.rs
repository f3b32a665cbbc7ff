//! Processes that may not be our children: identity, end, signals.

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, for all time: its number is used again, but not with the same start in
/// the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: u32,
    /// When it was started, in the kernel's ticks since boot.
    pub starttime: u64,
    /// Which boot.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// Of a process that runs or has not been reaped.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::read(pid)?;
        Ok(Self { pid, starttime: stat.starttime, boot_id: boot_id()? })
    }

    /// Opens it; `None` if it is gone.
    ///
    /// # Errors
    ///
    /// If the kernel refuses for another reason.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        if boot_id()? != self.boot_id {
            return Ok(None);
        }
        let Some(process) = open(self.pid)? else { return Ok(None) };
        // Only now: from here on the number cannot change its owner unnoticed.
        let stat = Stat::find(self.pid)?;
        Ok(stat.is_some_and(|stat| stat.starttime == self.starttime).then_some(process))
    }

    /// Whether it runs; one that ended but was not reaped does not.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked, for example for want of a descriptor.
    pub fn is_running(&self) -> io::Result<bool> {
        if boot_id()? != self.boot_id {
            return Ok(false);
        }
        let stat = Stat::find(self.pid)?;
        Ok(stat.is_some_and(|stat| stat.starttime == self.starttime && !stat.is_dead()))
    }
}

/// What is used of `/proc/<pid>/stat`.
pub(crate) struct Stat {
    state: char,
    /// The parent's process id.
    pub(crate) parent: u32,
    starttime: u64,
}

impl Stat {
    /// Reads it.
    pub(crate) fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::other("not a line of process statistics"))
    }

    /// Reads it; `None` if there is no such process.
    pub(crate) fn find(pid: u32) -> io::Result<Option<Self>> {
        match Self::read(pid) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// The name of the program may hold blanks and brackets, so count from its end.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            starttime: fields.nth(17)?.parse().ok()?,
        })
    }
}

/// Opens a process by number; `None` if it is gone.
pub(crate) fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Ok(Some(process)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until the process has ended, and reaps it if it is a child of this one.
pub(crate) async fn exited(process: OwnedFd) -> io::Result<()> {
    // SAFETY: an `OwnedFd` is open and the same descriptor for as long as it lives, and the
    // `AsyncFd` owns it until both are dropped.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?;
    // Readiness stays: a process does not come back.
    let _ready = process.readable().await?;
    // Of a former daemon process, or not a launcher: then it is somebody else's to reap.
    let _ = waitid(
        WaitId::PidFd(process.get_ref().as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
    Ok(())
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.starttime), ('S', 3, 4711));
        assert!(Stat::parse("7 (a").is_none());
    }

    #[test]
    fn a_number_that_was_used_again_is_not_the_same_process() {
        let own = ProcessIdentity::of(std::process::id()).unwrap();
        assert!(own.is_running().unwrap());
        assert!(own.open().unwrap().is_some());
        let earlier = ProcessIdentity { starttime: own.starttime + 1, ..own.clone() };
        assert!(!earlier.is_running().unwrap());
        assert!(earlier.open().unwrap().is_none());
        let rebooted = ProcessIdentity { boot_id: "another".to_owned(), ..own };
        assert!(rebooted.open().unwrap().is_none());
    }
}
