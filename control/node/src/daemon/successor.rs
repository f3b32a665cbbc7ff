//! What the next daemon takes over of this one: the resolver's sockets, so that questions
//! wait in them instead of being lost.
//!
//! Under systemd its store of descriptors keeps them; elsewhere a process of our own
//! does, which ends when no daemon has been there for a while.

use super::clock;
use crate::config::Config;
use crate::instance::SOCKET_NAME;
use mizzen_dns_server::handover::{self, FD_NAME, Holder};
use mizzen_types::error::chain;
use sd_notify::NotifyState;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tracing::warn;

/// The holder's socket, in the run directory.
const HOLDER: &str = "dns.sock";
/// How long sockets are held without a daemon: a start after an upgrade takes no longer,
/// and clients that get no answer do not wait longer.
const GRACE: Duration = Duration::from_secs(15);
/// Between two looks for the daemon.
const LOOK: Duration = Duration::from_secs(1);
/// What has systemd close all that it keeps for us.
const FORGET: [NotifyState<'static>; 2] =
    [NotifyState::FdStoreRemove, NotifyState::FdName(FD_NAME)];
/// How long a holder may take to start.
const START: Duration = Duration::from_secs(5);

/// The sockets that a predecessor left.
pub(crate) fn inherited(config: &Config) -> Vec<OwnedFd> {
    match handover::passed(|name| std::env::var(name).ok()) {
        Ok(passed) if !passed.is_empty() => return passed,
        Ok(_) => {}
        Err(error) => {
            warn!(error = chain(&error), "what systemd kept of the resolver's sockets is unusable");
        }
    }
    // No holder is the usual case.
    handover::take(&config.run_dir.join(HOLDER)).unwrap_or_default()
}

/// Leaves sockets to a successor, whatever ends this process.
pub(crate) fn leave(config: &Config, sockets: &[OwnedFd]) {
    let left = match is_main_of_systemd() {
        true => store(sockets),
        false => hold(&config.run_dir, sockets),
    };
    if let Err(error) = left {
        warn!(error = chain(&error), "a restart will lose questions that come meanwhile");
    }
}

/// Nobody is to come: what is kept for a successor is closed.
pub(crate) fn end(config: &Config) {
    // Most likely nothing is kept.
    if is_main_of_systemd() {
        let _ = sd_notify::notify(&FORGET);
    }
    let _ = handover::end(&config.run_dir.join(HOLDER));
}

/// What is kept is closed, so that something else can be bound in its place.
pub(crate) fn make_way(config: &Config) {
    end(config);
    if is_main_of_systemd()
        && let Err(error) = await_systemd()
    {
        warn!(error = chain(&error), "systemd may still keep sockets that are not wanted");
    }
}

/// Holds sockets for the daemon of a run directory until it has been away for too long.
///
/// # Errors
///
/// That of the kernel; `AddrInUse` if another process does so.
pub fn hold_sockets(run_dir: &Path) -> io::Result<()> {
    let (path, daemon) = (run_dir.join(HOLDER), run_dir.join(SOCKET_NAME));
    let holder = Holder::listen(&path)?;
    std::thread::spawn(move || watch(&path, &daemon));
    holder.run()
}

/// Ends the holder when nobody has answered on the daemon's socket for a while.
fn watch(path: &Path, daemon: &Path) {
    let mut away = Duration::ZERO;
    loop {
        std::thread::sleep(LOOK);
        away = if UnixStream::connect(daemon).is_ok() { Duration::ZERO } else { away + LOOK };
        if away >= GRACE && handover::end(path).is_ok() {
            return;
        }
    }
}

/// Whether systemd started this very process and reads what it says.
fn is_main_of_systemd() -> bool {
    let pid = std::env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse().ok());
    pid == Some(std::process::id()) && std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn store(sockets: &[OwnedFd]) -> io::Result<()> {
    sd_notify::notify(&FORGET)?;
    for socket in sockets {
        let state = [NotifyState::FdStore, NotifyState::FdName(FD_NAME)];
        sd_notify::notify_with_fds(&state, &[socket.as_fd()])?;
    }
    Ok(())
}

/// Waits until systemd has done what it was told so far (sd_notify_barrier(3)).
fn await_systemd() -> io::Result<()> {
    let (mut ours, theirs) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    drop(theirs);
    // It ends when systemd closes the other end; how long a start may take is systemd's to say.
    ours.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Leaves them with the holder, and starts one if there is none; that one is waited for
/// on a thread of its own.
fn hold(run_dir: &Path, sockets: &[OwnedFd]) -> io::Result<()> {
    let path = run_dir.join(HOLDER);
    if handover::keep(&path, sockets).is_ok() {
        return Ok(());
    }
    let sockets: Vec<OwnedFd> =
        sockets.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
    let mut holder = Command::new(std::env::current_exe()?)
        .args(["node", "--hold-sockets"])
        .arg(run_dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // What ends us by the terminal is not meant for it.
        .process_group(0)
        .spawn()?;
    std::thread::Builder::new().name("mizzen-holder".to_owned()).spawn(move || {
        fill(&path, &sockets);
        drop(sockets);
        // It is our child as long as we live.
        let _ = holder.wait();
    })?;
    Ok(())
}

fn fill(path: &Path, sockets: &[OwnedFd]) {
    let begun = clock::now().mono;
    loop {
        match handover::keep(path, sockets) {
            Ok(()) => return,
            Err(error) if clock::now().mono.since(begun) > START => {
                warn!(error = chain(&error), "a restart will lose questions that come meanwhile");
                return;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
