//! The nodes in a lab: started, waited for, stopped and torn down.

use super::error::LabError;
use super::sandbox::NodePlace;
use super::signals::{Event, Signals};
use rustix::process::{Pid, Signal};
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// How long a daemon may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How long a node may take to end its tasks and clear away what it made.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(20);

/// How many lines of a node's log are shown when it did not start.
const LOG_LINES: usize = 30;

/// A node's part in the lab's cluster.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    /// It begins it.
    Begin,
    /// It joins the first one with this token.
    Join(&'a str),
}

/// A node that was started.
pub(super) struct Node {
    number: usize,
    child: Child,
    notices: UnixDatagram,
    ready: bool,
    log: PathBuf,
}

impl Node {
    /// Starts the daemon of node `number` (from 1) in its place.
    pub fn start(number: usize, place: &NodePlace, part: Part<'_>) -> Result<Self, LabError> {
        let socket = place.dir.join("notify");
        let notices = UnixDatagram::bind(&socket).map_err(LabError::file("bind", &socket))?;
        notices.set_nonblocking(true).map_err(LabError::file("set up", &socket))?;
        let log = place.dir.join("node.log");
        let first = super::links::address(1).to_string();
        let mut command = match part {
            Part::Begin => daemon(number, &["node"], &log)?,
            Part::Join(token) => {
                let mut command = daemon(number, &["node", "--join", &first], &log)?;
                command.env("MIZZEN_JOIN_TOKEN", token);
                command
            }
        };
        let child = command.env("NOTIFY_SOCKET", &socket).spawn().map_err(start_failed)?;
        Ok(Self { number, child, notices, ready: false, log })
    }

    /// Waits until every one of `nodes` says that it is ready.
    pub fn wait_ready(nodes: &mut [Self], signals: &Signals) -> Result<(), LabError> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            for node in nodes.iter_mut() {
                node.ready = node.ready || node.said_ready();
                if !node.ready
                    && let Some(status) = node.ended()?
                {
                    return Err(LabError::NodeEnded { node: node.number, status });
                }
            }
            let Some(late) = nodes.iter().position(|node| !node.ready) else { return Ok(()) };
            let sockets: Vec<_> = nodes.iter().map(|node| node.notices.as_fd()).collect();
            match signals.wait(&sockets, Some(deadline))? {
                Event::Stop { signal, .. } => return Err(LabError::Interrupted { signal }),
                Event::Timeout => {
                    let seconds = READY_LIMIT.as_secs();
                    return Err(LabError::NodeLate { node: nodes[late].number, seconds });
                }
                Event::Child | Event::Readable => {}
            }
        }
    }

    /// Stops the daemon, and has its node removed.
    pub fn tear_down(mut self, signals: &Signals) -> Result<(), LabError> {
        terminate(&self.child);
        wait(&mut self.child, signals, STOP_LIMIT)?;
        let mut child = daemon(self.number, &["node", "--teardown"], &self.log)?
            .spawn()
            .map_err(start_failed)?;
        wait(&mut child, signals, TEARDOWN_LIMIT).map(drop)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        tail.iter().map(|line| format!("{line}\n")).collect()
    }

    fn said_ready(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut ready = false;
        loop {
            match self.notices.recv(&mut buffer) {
                Ok(length) => {
                    let mut lines = buffer[..length].split(|byte| *byte == b'\n');
                    ready |= lines.any(|line| line == b"READY=1");
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return ready,
            }
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, LabError> {
        self.child.try_wait().map_err(LabError::process("wait for a node"))
    }
}

/// A command that enters this lab beside node `number`.
pub(super) fn entering(number: usize, command: &[OsString]) -> Result<Command, LabError> {
    let executable = std::env::current_exe().map_err(LabError::process("find the executable"))?;
    let mut entering = Command::new(executable);
    entering.args(["lab", "--enter", &std::process::id().to_string()]);
    entering.args(["--node", &number.to_string(), "--"]).args(command);
    entering.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
    Ok(entering)
}

/// What a command says on stdout, once it has ended.
pub(super) fn output(command: &mut Command, signals: &Signals) -> Result<Vec<u8>, LabError> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(start_failed)?;
    wait(&mut child, signals, READY_LIMIT)?;
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut said).map_err(LabError::process("read what a node says"))?;
    }
    Ok(said)
}

/// Asks a child to end.
pub(super) fn terminate(child: &Child) {
    // It is our child and not waited for, so the number is still its own.
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
}

/// Waits for a child, and kills it at the limit.
pub(super) fn wait(
    child: &mut Child,
    signals: &Signals,
    limit: Duration,
) -> Result<ExitStatus, LabError> {
    let deadline = Instant::now() + limit;
    loop {
        let ended = child.try_wait().map_err(LabError::process("wait for a process of the lab"))?;
        if let Some(status) = ended {
            return Ok(status);
        }
        if signals.wait(&[], Some(deadline))? == Event::Timeout {
            child.kill().map_err(LabError::process("kill a process of the lab"))?;
            return child.wait().map_err(LabError::process("wait for a process of the lab"));
        }
    }
}

/// `mizzen` inside, away from the terminal, with its log in a file.
fn daemon(number: usize, words: &[&str], log: &PathBuf) -> Result<Command, LabError> {
    let file = File::options().create(true).append(true).open(log);
    let file = file.map_err(LabError::file("open", log))?;
    let second = file.try_clone().map_err(LabError::file("open", log))?;
    let executable = std::env::current_exe().map_err(LabError::process("find the executable"))?;
    let command: Vec<OsString> =
        [executable.into()].into_iter().chain(words.iter().map(OsString::from)).collect();
    let mut entering = entering(number, &command)?;
    entering.stdin(Stdio::null()).stdout(file).stderr(second);
    // What is typed at the command is not for the daemon.
    entering.process_group(0);
    Ok(entering)
}

fn start_failed(source: std::io::Error) -> LabError {
    LabError::Start { program: "mizzen".to_owned(), source }
}
