//! A child process with bounded output and bounded time.

use crate::descriptors;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::fd::AsFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a command may take to clean up when its time is over.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a bounded command ended.
#[derive(Debug)]
pub struct Finished {
    /// How; `None` if its time was over and it was killed.
    pub status: Option<ExitStatus>,
    /// What it wrote to stdout, from its beginning.
    pub stdout: String,
    /// What it wrote to stderr, from its beginning.
    pub stderr: String,
}

/// What happens to a command whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overtime {
    /// Its process group is killed.
    KillGroup,
    /// It is asked to end, because it has to clean up behind itself.
    Terminate,
}

/// Runs a command in a process group of its own. Each output is read to its end, but
/// only its first `keep` bytes are kept.
pub async fn run_bounded(
    mut command: Command,
    input: &[u8],
    limit: Duration,
    keep: usize,
    overtime: Overtime,
) -> io::Result<Finished> {
    command
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(pid) = child.id() {
        descriptors::restore(pid)?;
    }
    let (mut stdout, mut stderr) = (Kept::new(keep), Kept::new(keep));
    let ended = timeout(limit, converse(&mut child, input, &mut stdout, &mut stderr)).await;
    let status = match ended {
        Ok(status) => Some(status?),
        Err(_) => {
            end(&mut child, overtime).await?;
            None
        }
    };
    Ok(Finished { status, stdout: stdout.into_text(), stderr: stderr.into_text() })
}

/// Feeds and drains it until it has ended. A grandchild may keep the pipes open, so
/// their end is not waited for.
async fn converse(
    child: &mut Child,
    input: &[u8],
    stdout: &mut Kept,
    stderr: &mut Kept,
) -> io::Result<ExitStatus> {
    let mut stdin = child.stdin.take();
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin.take() {
            // A command need not read its input.
            let _ = stdin.write_all(input).await;
        }
    };
    let status = tokio::select! {
        _ = async { tokio::join!(feed, stdout.drain(&mut out), stderr.drain(&mut err)) } => {
            child.wait().await?
        }
        status = child.wait() => status?,
    };
    // What it wrote last may lie in the pipes still.
    stdout.take_rest(out.as_ref());
    stderr.take_rest(err.as_ref());
    Ok(status)
}

async fn end(child: &mut Child, overtime: Overtime) -> io::Result<()> {
    // Not reaped yet, so the number is still its own.
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let Some(group) = group else { return Ok(()) };
    if overtime == Overtime::Terminate {
        let _ = kill_process_group(group, Signal::TERM);
        if timeout(TERMINATE_TIMEOUT, child.wait()).await.is_ok() {
            return Ok(());
        }
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().await.map(drop)
}

/// The beginning of an output.
struct Kept {
    limit: usize,
    bytes: Vec<u8>,
}

impl Kept {
    fn new(limit: usize) -> Self {
        Self { limit, bytes: Vec::new() }
    }

    async fn drain(&mut self, pipe: &mut Option<impl AsyncRead + Unpin>) {
        let Some(pipe) = pipe else { return };
        let mut buffer = [0; 4096];
        // A broken pipe is an end like any other.
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            self.keep(&buffer[..count]);
        }
    }

    /// Without waiting: the descriptor is a non-blocking one.
    fn take_rest(&mut self, pipe: Option<&impl AsFd>) {
        let Some(pipe) = pipe else { return };
        let mut buffer = [0; 4096];
        while self.bytes.len() < self.limit {
            let Ok(count @ 1..) = rustix::io::read(pipe, &mut buffer[..]) else { return };
            self.keep(&buffer[..count]);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn into_text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{exited, open};

    async fn shell(text: &str, input: &[u8], limit: Duration) -> Finished {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", text]);
        run_bounded(command, input, limit, 8, Overtime::KillGroup).await.unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn both_outputs_are_kept_apart_and_bounded() {
        let finished = shell("cat; echo 0123456789 >&2; exit 3", b"in", LONG).await;
        assert_eq!(finished.status.and_then(|status| status.code()), Some(3));
        assert_eq!(finished.stdout, "in");
        assert_eq!(finished.stderr, "01234567");
    }

    #[tokio::test]
    async fn a_grandchild_that_keeps_the_pipe_is_not_waited_for() {
        let finished = shell("sleep 1000 & echo $!", b"", LONG).await;
        let grandchild: i32 = finished.stdout.trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(grandchild).unwrap(), Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_command_whose_time_is_over_dies_with_its_children() {
        let finished = shell("sleep 1000 & echo $!; wait", b"", Duration::from_secs(5)).await;
        assert!(finished.status.is_none());
        let grandchild: u32 = finished.stdout.trim().parse().unwrap();
        if let Some(process) = open(grandchild).unwrap() {
            exited(process).await.unwrap();
        }
    }
}
