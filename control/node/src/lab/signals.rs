//! Signals as something to wait for. All of them are blocked before the first
//! thread is made, so that none can end the lab before it has cleared away.

use super::error::LabError;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A child ended.
    Child,
    /// Somebody wants the lab to end.
    Stop {
        /// The signal.
        signal: i32,
        /// Whether it was typed, so that the foreground command got it as well.
        typed: bool,
    },
    /// One of the other descriptors can be read.
    Readable,
    /// Nothing, in the time given.
    Timeout,
}

/// Blocked signals, to be waited for.
pub(super) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals in this thread and those that it makes from now on.
    pub fn block() -> Result<Self, LabError> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block().map_err(LabError::process("block signals"))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(LabError::process("receive signals"))?;
        Ok(Self { fd })
    }

    /// Unblocks all signals in this thread; for a process that becomes another one.
    pub fn unblock_all() -> Result<(), LabError> {
        SigSet::empty().thread_set_mask().map_err(LabError::process("unblock signals"))
    }

    /// Waits for a signal, for one of `others` to become readable, or for the
    /// deadline.
    pub fn wait(
        &self,
        others: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
    ) -> Result<Event, LabError> {
        loop {
            if let Some(event) = self.next()? {
                return Ok(event);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Event::Timeout);
            }
            let mut fds = vec![PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN)];
            fds.extend(others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(LabError::process("wait")(errno)),
            }
            if fds.iter().skip(1).any(|fd| !fd.revents().is_empty()) {
                return Ok(Event::Readable);
            }
        }
    }

    fn next(&self) -> Result<Option<Event>, LabError> {
        let Some(info) = self.fd.read_signal().map_err(LabError::process("read a signal"))? else {
            return Ok(None);
        };
        let signal = info.ssi_signo.cast_signed();
        if signal == Signal::SIGCHLD as i32 {
            return Ok(Some(Event::Child));
        }
        // SI_KERNEL: the terminal sent it, to the whole foreground group.
        let typed = info.ssi_code == 0x80 && signal == Signal::SIGINT as i32;
        Ok(Some(Event::Stop { signal, typed }))
    }
}
