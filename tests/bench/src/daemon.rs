//! The process of the node under test: started, measured, stopped.

use crate::api;
use crate::network::Namespace;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// In `/proc`, whatever the kernel's own tick is.
const TICKS_PER_SECOND: u64 = 100;
/// How many lines of its log are shown when it fails.
const LOG_LINES: usize = 15;

/// A `mizzen node` that is ready; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    ready_after: Duration,
}

/// Memory of a process, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Memory {
    /// Every page that it has.
    pub resident: f64,
    /// The same, a page that is shared by n processes counting 1/n.
    pub proportional: f64,
}

impl Daemon {
    /// Starts the node and waits until it is ready: it has told its service manager
    /// so, and its command line gets answers.
    pub(crate) fn start(sandbox: &Sandbox) -> Result<Self> {
        Self::start_as(sandbox, Command::new("mizzen").arg("node"), None)
    }

    /// The same, by a command of another making, and in another network.
    pub(crate) fn start_as(
        sandbox: &Sandbox,
        command: &mut Command,
        network: Option<&Namespace>,
    ) -> Result<Self> {
        let path = sandbox.state_dir.with_file_name("bench-notify");
        let _ = std::fs::remove_file(&path);
        let notices = UnixDatagram::bind(&path).context("cannot listen as a service manager")?;
        notices.set_read_timeout(Some(Duration::from_millis(200)))?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(sandbox.log())?;
        command.env("NOTIFY_SOCKET", &path);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = match network {
            Some(network) => network.spawn(command),
            None => command.spawn().context("cannot start `mizzen node`"),
        }?;
        let mut daemon = Self { child, ready_after: Duration::ZERO };
        while !said_ready(&notices) {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("the node ended ({status})");
            }
            if started.elapsed() > START_LIMIT {
                bail!("the node is not ready after {START_LIMIT:?}");
            }
        }
        api::get(&sandbox.socket(), "/v1/status")?;
        daemon.ready_after = started.elapsed();
        Ok(daemon)
    }

    /// From its start until it was ready.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Stops it as a service manager does; tasks run on.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(pid(self.child.id())?, Signal::TERM).context("cannot stop the node")?;
        crate::wait::until("the node ends", STOP_LIMIT, || Ok(self.child.try_wait()?)).map(drop)
    }

    /// What it has in memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        memory_of(self.child.id())
    }

    /// What it has computed since its start, its threads and itself; to 10 ms.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        cpu_time_of(self.child.id())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has in memory.
pub(crate) fn memory_of(process: u32) -> Result<Memory> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    memory(&text).with_context(|| format!("cannot understand {path}"))
}

/// What a process has computed since its start, with all of its threads; to 10 ms.
pub(crate) fn cpu_time_of(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = cpu_ticks(&text).with_context(|| format!("cannot understand {path}"))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Kills a process without warning.
pub(crate) fn kill(process: u32) -> Result<()> {
    kill_process(pid(process)?, Signal::KILL).with_context(|| format!("cannot kill {process}"))
}

/// The end of the node's log.
pub(crate) fn log_tail(sandbox: &Sandbox) -> String {
    let log = std::fs::read_to_string(sandbox.log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

fn pid(process: u32) -> Result<Pid> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    pid.with_context(|| format!("{process} is no process"))
}

/// Waits a little for a word of the node; also false if it said something else.
fn said_ready(notices: &UnixDatagram) -> bool {
    let mut buffer = [0; 4096];
    notices.recv(&mut buffer).is_ok_and(|length| {
        buffer[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
    })
}

fn memory(smaps_rollup: &str) -> Option<Memory> {
    let mib = |field: &str| {
        let line = smaps_rollup.lines().find_map(|line| line.strip_prefix(field))?;
        let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib / 1024.0)
    };
    Some(Memory { resident: mib("Rss:")?, proportional: mib("Pss:")? })
}

/// User and system time; both stand after the program's name, which may hold
/// anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_process() {
        let text = "55d0-7ffd ---p 00000000 00:00 0  [rollup]\nRss:  20480 kB\nPss:  10240 kB\n\
                    Pss_Dirty:  1 kB\n";
        let want = Memory { resident: 20.0, proportional: 10.0 };
        assert_eq!(memory(text), Some(want));
        assert_eq!(memory("Rss: many"), None);
    }

    #[test]
    fn cpu_time_of_a_process() {
        let text = "42 (a) b) S 1 42 42 0 -1 4194560 1 0 0 0 31 11 0 0 20 0 3 0 1 2 3\n";
        assert_eq!(cpu_ticks(text), Some(42));
        assert_eq!(cpu_ticks("42 (a"), None);
    }
}
