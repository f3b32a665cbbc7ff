//! The first process inside: pid 1 of the container.
//!
//! It stays root while the task may be somebody else: so the task can neither trace
//! it nor make it outlive the launcher (a change of user clears the death signal).

use crate::failure::{Failure, Step};
use crate::{filesystem, process, task};
use mizzen_types::container::{Exit, LaunchGo, LaunchSpec};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, sethostname};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

/// Its ties to the launcher.
pub struct Pipes {
    /// For the failure of a step; the task's exec closes it.
    pub error: OwnedFd,
    /// For how the task ended.
    pub exit: OwnedFd,
    /// The launcher.
    pub parent: OwnedFd,
}

/// Sets the container up, runs the task, and ends when it ends. Everything else in
/// the pid namespace ends with it.
pub fn run(spec: &LaunchSpec, go: &LaunchGo, pipes: Pipes) -> ! {
    let Pipes { error, exit, parent } = pipes;
    let code = match set_up(spec, go, &parent).and_then(|()| start_task(spec, go, &error)) {
        Ok(task) => {
            drop(error);
            report(exit, &supervise(task));
            0
        }
        Err(failure) => {
            report(error, &failure);
            1
        }
    };
    // SAFETY: ends this process at once. The destructors of the launcher, of which this
    // is a copy, must not run here: they would undo its work.
    unsafe { libc::_exit(code) }
}

fn set_up(spec: &LaunchSpec, go: &LaunchGo, parent: &OwnedFd) -> Result<(), Failure> {
    die_with(parent)?;
    process::detach_standard_descriptors()?;
    // Only a name for `ps`.
    let _ = prctl::set_name(c"mizzen-init");
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)
        .step(|| "make mount, uts and ipc namespaces".to_owned())?;
    sethostname(&spec.hostname).step(|| format!("set the host name to `{}`", spec.hostname))?;
    filesystem::set_up(spec, go)
}

/// The container ends with its launcher, also if that one is gone already.
fn die_with(parent: &OwnedFd) -> Result<(), Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .step(|| "tie the container to its launcher".to_owned())?;
    let mut fds = [PollFd::new(parent, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&now)).step(|| "look after the launcher".to_owned())? {
        0 => Ok(()),
        _ => Err(Failure::new("tie the container to its launcher", &"it is gone")),
    }
}

fn start_task(spec: &LaunchSpec, go: &LaunchGo, error: &OwnedFd) -> Result<Pid, Failure> {
    // SAFETY: this process has one thread, so the child may do whatever it could do here.
    match unsafe { fork() }.step(|| "fork the task".to_owned())? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let failure = task::exec(spec, go);
            if let Ok(error) = error.try_clone() {
                report(error, &failure);
            }
            // SAFETY: as in `run`.
            unsafe { libc::_exit(127) }
        }
    }
}

/// Reaps whatever dies and forwards signals to all, until the task is among the dead.
fn supervise(task: Pid) -> Exit {
    process::release_code();
    loop {
        match process::next_signal() {
            Signal::SIGCHLD => {
                if let Some(exit) = reap(task) {
                    return exit;
                }
            }
            // Minus one is everybody in this namespace but its first process. There may
            // be nobody: then the task's end is about to be heard of.
            signal => drop(kill(Pid::from_raw(-1), signal)),
        }
    }
}

/// Signals of one kind are merged, so one may stand for many dead.
fn reap(task: Pid) -> Option<Exit> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(status) if status.pid() == Some(task) => {
                if let Some(exit) = process::exit_of(status) {
                    return Some(exit);
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Best effort: without a reader there is nobody to tell.
fn report(pipe: OwnedFd, word: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_vec(word) {
        let _ = File::from(pipe).write_all(&text);
    }
}
