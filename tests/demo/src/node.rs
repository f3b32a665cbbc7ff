//! The node under demonstration: its process, and what its command line says.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often is looked while something is awaited.
const LOOK: Duration = Duration::from_millis(5);

/// A running `mizzen node`; killed when dropped.
pub(crate) struct Node {
    child: Child,
}

impl Node {
    /// Starts the node; it logs into the sandbox's state directory.
    pub(crate) fn start() -> Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path())?;
        let child = Command::new("mizzen")
            .arg("node")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start `mizzen node`")?;
        Ok(Self { child })
    }

    /// Waits until it answers.
    pub(crate) fn wait_ready(&mut self) -> Result<Duration> {
        let started = Instant::now();
        await_that("the node answers", Duration::from_secs(20), || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the node ended ({status}); its log:\n{}", log_tail());
            }
            Ok(json(&["status"]).is_ok().then_some(()))
        })?;
        Ok(started.elapsed())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without warning, as `kill -9` does.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `mizzen ARGUMENTS` with its output on the terminal, as a user would.
pub(crate) fn show(arguments: &[&str]) -> Result<()> {
    println!("\n$ mizzen {}", arguments.join(" "));
    let status = Command::new("mizzen").args(arguments).status()?;
    if !status.success() {
        bail!("`mizzen {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// What `mizzen ARGUMENTS --json` says.
pub(crate) fn json(arguments: &[&str]) -> Result<Value> {
    let output = Command::new("mizzen").args(arguments).arg("--json").output()?;
    if !output.status.success() {
        bail!(
            "`mizzen {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`mizzen {} --json` is not JSON", arguments.join(" ")))
}

/// Looks until something is there, for at most `limit`.
pub(crate) fn await_that<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if started.elapsed() > limit {
            bail!("waited {limit:?} in vain until {what}; the node's log:\n{}", log_tail());
        }
        std::thread::sleep(LOOK);
    }
}

fn log_path() -> PathBuf {
    PathBuf::from(std::env::var_os("MIZZEN_STATE_DIR").unwrap_or_default()).join("node.log")
}

fn log_tail() -> String {
    let log = std::fs::read_to_string(log_path()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
