//! The node under demonstration: its process, and what its command line says.

use anyhow::{Context, Result, bail};
use mizzen_tests_support::wait;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often is looked while something is awaited.
const LOOK: Duration = Duration::from_millis(5);

/// A running `mizzen node`; killed when dropped.
pub(crate) struct Node {
    number: usize,
    child: Child,
}

impl Node {
    /// Starts the node; it logs into the sandbox's state directory.
    pub(crate) fn start() -> Result<Self> {
        Self::start_on(1, &[])
    }

    /// Starts node `number` of the sandbox with more flags.
    pub(crate) fn start_on(number: usize, flags: &[&str]) -> Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path(number))?;
        let child = mizzen_on(number, &[&["node"], flags].concat())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start `mizzen node`")?;
        Ok(Self { number, child })
    }

    /// Waits until it answers.
    pub(crate) fn wait_ready(&mut self) -> Result<Duration> {
        let started = Instant::now();
        await_that("the node answers", Duration::from_secs(20), || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the node ended ({status}); its log:\n{}", log_tail(self.number));
            }
            Ok(json_on(self.number, &["status"]).is_ok().then_some(()))
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

/// `mizzen ARGUMENTS` beside node `number` of the sandbox.
pub(crate) fn mizzen_on(number: usize, arguments: &[&str]) -> Command {
    program_on(number, "mizzen", arguments)
}

/// A program beside node `number`.
pub(crate) fn program_on(number: usize, program: &str, arguments: &[&str]) -> Command {
    if number == 1 {
        let mut command = Command::new(program);
        command.args(arguments);
        return command;
    }
    let mut command = Command::new("mizzen");
    command.args(["lab", "--on", &number.to_string(), "--", program]).args(arguments);
    command
}

/// Runs `mizzen ARGUMENTS` with its output on the terminal, as a user would.
pub(crate) fn show(arguments: &[&str]) -> Result<()> {
    show_on(1, arguments)
}

/// The same beside node `number`.
pub(crate) fn show_on(number: usize, arguments: &[&str]) -> Result<()> {
    let host = if number == 1 { String::new() } else { format!("node {number} ") };
    println!("\n{host}$ mizzen {}", arguments.join(" "));
    let status = mizzen_on(number, arguments).status()?;
    if !status.success() {
        bail!("`mizzen {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// What `mizzen ARGUMENTS --json` says.
pub(crate) fn json(arguments: &[&str]) -> Result<Value> {
    json_on(1, arguments)
}

/// The same beside node `number`.
pub(crate) fn json_on(number: usize, arguments: &[&str]) -> Result<Value> {
    let output = mizzen_on(number, &[arguments, &["--json"]].concat()).output()?;
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
    look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let in_vain =
        || format!("waited {limit:?} in vain until {what}; the node's log:\n{}", log_tail(1));
    wait::until(limit, LOOK, look)?.with_context(in_vain)
}

fn log_path(number: usize) -> PathBuf {
    let name = if number == 1 { "node.log".to_owned() } else { format!("node-{number}.log") };
    PathBuf::from(std::env::var_os("MIZZEN_STATE_DIR").unwrap_or_default()).join(name)
}

fn log_tail(number: usize) -> String {
    let log = std::fs::read_to_string(log_path(number)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
