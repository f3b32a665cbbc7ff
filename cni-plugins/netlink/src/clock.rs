//! What the kernel knows of its clock. No file tells, so it is asked by its own call.

use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::time::{Duration, SystemTime};

/// How the clock is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSync {
    /// Whether somebody keeps it right.
    pub synchronised: bool,
    /// By how much it may be wrong, as whoever keeps it says.
    pub max_error: Duration,
}

/// Asks the kernel, and sets nothing.
///
/// # Errors
///
/// The kernel's, where a sandbox forbids the call.
pub fn observe_clock() -> io::Result<ClockSync> {
    // SAFETY: all fields are numbers, for which zero is a value; no mode is set, so that
    // nothing is changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in the structure that it is given.
    if unsafe { libc::adjtimex(&raw mut state) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let micros = u64::try_from(state.maxerror).unwrap_or_default();
    Ok(ClockSync {
        synchronised: state.status & libc::STA_UNSYNC == 0,
        max_error: Duration::from_micros(micros),
    })
}

/// When the machine was started, by today's clock.
#[must_use]
pub fn booted() -> SystemTime {
    let since = clock_gettime(ClockId::Boottime);
    let since = Duration::from_secs(u64::try_from(since.tv_sec).unwrap_or_default());
    SystemTime::now().checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        observe_clock().unwrap();
    }
}
