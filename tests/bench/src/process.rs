//! Processes that a section starts beside the node.

use crate::sandbox;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Runs a command with `input` to its end and returns what it said.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String> {
    let words = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {words}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says itself why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {words}"))?;
    if !output.status.success() {
        bail!("{words} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Is a program in a cgroup: joins it, and becomes the program.
pub(crate) fn become_program(cgroup: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    sandbox::join(cgroup)?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {program}"))
}

/// `program` in `cgroup`, with a log and no input.
pub(crate) fn in_cgroup(cgroup: &Path, program: &str, log: &Path) -> Result<Command> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(sandbox::ourselves()?);
    command.arg("join").arg(cgroup).arg("--").arg(program);
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    Ok(command)
}

/// A process with its children in a cgroup of their own; all end when it is dropped.
#[derive(Debug)]
pub(crate) struct Crew {
    child: Child,
    cgroup: PathBuf,
}

impl Crew {
    /// Of a process that was started by [`in_cgroup`].
    pub(crate) fn new(child: Child, cgroup: &Path) -> Self {
        Self { child, cgroup: cgroup.to_owned() }
    }

    /// Whether its first process still runs.
    pub(crate) fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for process in processes(&self.cgroup) {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

/// Which cores a process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    All,
    /// That of the generators.
    Ours,
}

/// Holds every thread of every process in `cgroup` on `cores`.
pub(crate) fn hold(cgroup: &Path, cores: Cores) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    match cores {
        Cores::All => (0..=sandbox::core()).for_each(|core| set.set(core)),
        Cores::Ours => set.set(sandbox::core()),
    }
    for thread in pids(&cgroup.join("cgroup.threads")) {
        // Threads come and go.
        let _ = rustix::thread::sched_setaffinity(Some(thread), &set);
    }
    Ok(())
}

fn processes(cgroup: &Path) -> Vec<Pid> {
    pids(&cgroup.join("cgroup.procs"))
}

fn pids(file: &Path) -> Vec<Pid> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

/// Starts `command` and waits for its first line on stdout.
pub(crate) fn first_line(mut child: Child) -> Result<(Child, String)> {
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    ensure!(!line.is_empty(), "a process ended before it was ready");
    Ok((child, line))
}
