//! Small things about processes: descriptors, signals, cgroups.

use crate::failure::{Failure, Step};
use mizzen_types::container::Exit;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::WaitStatus;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::{self, File};
use std::path::Path;

/// What is passed on to everything in a container.
const FORWARDED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Closes every descriptor but the standard ones, so that nothing of the daemon
/// reaches the task, even if somebody forgot `O_CLOEXEC`.
pub fn close_other_descriptors() -> Result<(), Failure> {
    // SAFETY: called first in `main`'s only thread, before this process has opened any
    // descriptor of its own, so none that an owner here still holds is closed.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if closed == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).step(|| "close inherited descriptors".to_owned())
}

/// Puts `/dev/null` in the place of the standard descriptors.
pub fn detach_standard_descriptors() -> Result<(), Failure> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .step(|| "open /dev/null".into())?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null))
        .step(|| "detach from stdin, stdout and stderr".to_owned())
}

/// Gives all signals their default meaning and lets them through: an ignored signal
/// would stay ignored in the task, across its exec.
pub fn reset_signals() {
    // All zero: the default, no flags, an empty mask.
    let default = [0_u64; 4];
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: the kernel reads a `sigaction` of its own layout, which is no longer than
        // the array on any 64-bit machine; no handler is installed. The C library would
        // refuse its two own signals, which may have been inherited as ignored, too.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    // Unblocking cannot fail with a valid set.
    let _ = SigSet::empty().thread_set_mask();
}

/// Blocks the signals that [`next_signal`] waits for. They are queued from now on,
/// even for the first process of a pid namespace, which otherwise drops them.
pub fn block_signals() -> Result<(), Failure> {
    watched().thread_block().step(|| "block signals".to_owned())
}

/// Waits for `SIGCHLD` or a signal to forward.
pub fn next_signal() -> Signal {
    loop {
        if let Ok(signal) = watched().wait() {
            return signal;
        }
    }
}

/// Enters a cgroup. The file is the same in v1 and v2.
pub fn join_cgroup(directory: &Path) -> Result<(), Failure> {
    fs::write(directory.join("cgroup.procs"), "0")
        .step(|| format!("join cgroup {}", directory.display()))
}

/// Makes it the less likely victim when memory runs out, where the kernel allows.
pub fn set_oom_score(adjustment: i32) {
    // Lowering needs CAP_SYS_RESOURCE; without it the container is only less lucky.
    let _ = fs::write("/proc/self/oom_score_adj", adjustment.to_string());
}

/// Gives back the code that was only needed to start: a container costs its two waiting
/// processes for as long as it runs. What is needed again comes from the page cache.
pub fn release_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some("r-xp"), Some(path)) = (fields.next(), fields.next(), fields.nth(3))
        else {
            continue;
        };
        let bounds = range.split_once('-').and_then(|(start, end)| {
            Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
        });
        let Some((start, end)) = bounds.filter(|_| path.starts_with('/')) else { continue };
        // SAFETY: a mapping of a file that is executable and was never writable holds what
        // the file holds, so the pages that are dropped come back the same.
        unsafe {
            let start = std::ptr::with_exposed_provenance_mut::<libc::c_void>(start);
            libc::madvise(start, end - start.addr(), libc::MADV_DONTNEED)
        };
    }
}

/// How a process ended; `None` while it has not.
pub fn exit_of(status: WaitStatus) -> Option<Exit> {
    match status {
        WaitStatus::Exited(_, code) => Some(Exit::Code(code)),
        WaitStatus::Signaled(_, signal, _) => Some(Exit::Signal(signal as i32)),
        _ => None,
    }
}

fn watched() -> SigSet {
    let mut set: SigSet = FORWARDED.into_iter().collect();
    set.add(Signal::SIGCHLD);
    set
}
