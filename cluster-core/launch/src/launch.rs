//! The parent: prepares the container from outside, then waits for its end.

use crate::channel::Channel;
use crate::failure::{Failure, Step};
use crate::init::{self, Pipes};
use crate::network::NetworkNamespace;
use crate::process;
use crate::status::StatusFile;
use mizzen_types::container::{Exit, FORMAT, LaunchEvent, LaunchGo, LaunchSpec, NetworkMode};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setsid};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// Out-of-memory score of the launcher and the container's first process: the task is
/// to be the victim, or nobody can tell what happened.
const OOM_SCORE: i32 = -900;

/// Launches one container and stays until it ends.
pub fn run() -> ExitCode {
    let mut channel = Channel::new();
    let outcome = start(&mut channel).map(|container| container.map(Container::supervise));
    match outcome {
        Ok(None | Some(Ok(()))) => ExitCode::SUCCESS,
        // Beyond `Forked` nobody reads the pipe, but the line does no harm then.
        Ok(Some(Err(failure))) | Err(failure) => {
            eprintln!("mizzen-launch: {failure}");
            // The daemon may be gone: the message is in the log of the run directory.
            let _ = channel.say(&failure.into());
            ExitCode::FAILURE
        }
    }
}

/// A running container.
struct Container {
    init: Pid,
    /// Where the first process says how the task ended.
    exit: File,
    status: StatusFile,
}

/// Goes through all steps; `None` if the daemon hung up before `Go`.
fn start(channel: &mut Channel) -> Result<Option<Container>, Failure> {
    leave_the_daemon()?;
    let Some(spec) = channel.read::<LaunchSpec>("the launch specification")? else {
        return Ok(None);
    };
    if spec.format != FORMAT {
        let error = format!("format {} is not {FORMAT}", spec.format);
        return Err(Failure::new("understand the launch specification", &error));
    }
    spec.cgroups.iter().try_for_each(|directory| process::join_cgroup(directory))?;
    let status = StatusFile::reserve(&spec.run_dir)?;
    let network = match spec.network {
        NetworkMode::Host => None,
        NetworkMode::Container => Some(NetworkNamespace::make(&spec.run_dir)?),
    };

    let ready = LaunchEvent::Ready { launcher: std::process::id() };
    channel.say(&ready).step(|| "say that the container is ready".to_owned())?;
    let Some(go) = channel.read::<LaunchGo>("the go line")? else {
        return Ok(None);
    };
    // From here on plugins may have attached to it: taking it down is the daemon's.
    if let Some(network) = network {
        network.keep();
    }

    let container = clone_init(&spec, &go, status)?;
    let forked = LaunchEvent::Forked { pid: container.init.as_raw().unsigned_abs() };
    // If the daemon died after `Go`, the container runs on without it.
    let _ = channel.say(&forked);
    Ok(Some(container))
}

/// Cuts what ties a child to its parent: descriptors, session, working directory,
/// signal dispositions.
fn leave_the_daemon() -> Result<(), Failure> {
    process::close_other_descriptors()?;
    process::reset_signals();
    // Fails for the leader of a process group: then it was started by hand from a shell,
    // to whose terminal it may stay tied.
    let _ = setsid();
    umask(Mode::from_bits_truncate(0o022));
    process::set_oom_score(OOM_SCORE);
    std::env::set_current_dir("/").step(|| "change to /".to_owned())
}

/// Makes the container's first process and waits until the task has been executed.
fn clone_init(spec: &LaunchSpec, go: &LaunchGo, status: StatusFile) -> Result<Container, Failure> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).step(|| "make a pipe".to_owned());
    let (error_read, error) = pipe()?;
    let (exit_read, exit) = pipe()?;
    let parent = pidfd_open(getpid(), PidfdFlags::empty())
        .step(|| "open the launcher's pidfd".to_owned())?;
    process::block_signals()?;
    // Only the children enter it: the launcher stays where the host sees it.
    unshare(CloneFlags::CLONE_NEWPID).step(|| "make a pid namespace".to_owned())?;

    // SAFETY: this process has one thread, so the child may do whatever it could do here.
    let init = match unsafe { fork() }.step(|| "fork the container".to_owned())? {
        ForkResult::Child => {
            drop((error_read, exit_read));
            init::run(spec, go, Pipes { error, exit, parent })
        }
        ForkResult::Parent { child } => child,
    };
    drop((error, exit));
    match write_pid(spec, init).and_then(|()| await_exec(error_read)) {
        Ok(()) => Ok(Container { init, exit: exit_read.into(), status }),
        Err(failure) => {
            // It may be gone by itself, then there is nothing to kill.
            let _ = kill(init, Signal::SIGKILL);
            let _ = waitpid(init, None);
            Err(failure)
        }
    }
}

/// For a daemon that was not there to hear `Forked`.
fn write_pid(spec: &LaunchSpec, init: Pid) -> Result<(), Failure> {
    let path = spec.run_dir.join("pid");
    fs::write(&path, init.to_string()).step(|| format!("write {}", path.display()))
}

/// The pipe closes by the task's exec; until then it may bring a failure.
fn await_exec(error: OwnedFd) -> Result<(), Failure> {
    let mut text = Vec::new();
    File::from(error)
        .read_to_end(&mut text)
        .step(|| "hear from inside the container".to_owned())?;
    if text.is_empty() {
        return Ok(());
    }
    Err(serde_json::from_slice(&text)
        .unwrap_or_else(|error| Failure::new("hear from inside the container", &error)))
}

impl Container {
    /// Forwards signals until the container ends, then writes how.
    fn supervise(mut self) -> Result<(), Failure> {
        process::detach_standard_descriptors()?;
        process::release_code();
        let of_init = loop {
            match process::next_signal() {
                Signal::SIGCHLD => {
                    let status = waitpid(self.init, Some(WaitPidFlag::WNOHANG))
                        .step(|| "wait for the container".to_owned())?;
                    if let Some(exit) = process::exit_of(status) {
                        break exit;
                    }
                }
                // It may have ended just now, which SIGCHLD is about to say.
                signal => drop(kill(self.init, signal)),
            }
        };
        let exit = self.exit_of_task().unwrap_or(of_init);
        self.status.commit(exit)
    }

    /// What the first process said; nothing if it was killed itself.
    fn exit_of_task(&mut self) -> Option<Exit> {
        let mut text = Vec::new();
        self.exit.read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}
