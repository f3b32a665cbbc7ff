//! The conversation with one `mizzen-launch`.

use crate::descriptors;
use crate::process::{exited, open};
use crate::rundir::RunDir;
use mizzen_types::container::{LaunchEvent, LaunchGo, LaunchSpec};
use rustix::process::{Signal, pidfd_send_signal};
use serde::Serialize;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;

/// How long the launcher may take for one answer. It has to survive a loaded machine
/// and a slow user database, and no more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long it may take to go after its pipes were closed.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What may go wrong with a launcher.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// It could not be started.
    #[error("cannot start the launcher {program}")]
    Spawn {
        /// Path of the executable.
        program: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A pipe broke.
    #[error("cannot talk to the launcher")]
    Pipe(#[source] io::Error),
    /// It said which step it could not do.
    #[error("cannot {step}: {error}")]
    Failed {
        /// As a verb with its object.
        step: String,
        /// The system's answer.
        error: String,
    },
    /// It ended without a word.
    #[error("the launcher ended before it said `{expected}`: {log}")]
    Ended {
        /// The word that was waited for.
        expected: &'static str,
        /// The end of what it wrote to stderr.
        log: String,
    },
    /// It said something at the wrong time.
    #[error("the launcher said {event:?} instead of `{expected}`")]
    Unexpected {
        /// The word that was waited for.
        expected: &'static str,
        /// What it said.
        event: LaunchEvent,
    },
    /// It does not answer.
    #[error("the launcher did not say `{expected}` within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent {
        /// The word that was waited for.
        expected: &'static str,
    },
}

/// A launcher that was started and whose task may not run yet.
pub struct Launcher {
    pid: u32,
    process: OwnedFd,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    run_dir: RunDir,
}

impl Launcher {
    /// Starts `program` and tells it what to launch. It leaves our session by itself
    /// and does not notice our end, except on its pipes.
    pub async fn start(
        program: &Path,
        run_dir: &RunDir,
        spec: &LaunchSpec,
    ) -> Result<Self, LauncherError> {
        let failed =
            |source| LauncherError::Spawn { program: program.display().to_string(), source };
        let mut launcher = Self::spawn(program, run_dir).map_err(failed)?;
        if let Err(error) = launcher.say(spec).await {
            launcher.abandon().await;
            return Err(error);
        }
        Ok(launcher)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until everything but the network stands.
    pub async fn ready(&mut self) -> Result<(), LauncherError> {
        match self.hear("ready").await? {
            LaunchEvent::Ready { .. } => Ok(()),
            event => Err(LauncherError::Unexpected { expected: "ready", event }),
        }
    }

    /// Lets the task run; returns the process id of the container's first process.
    pub async fn go(&mut self, go: &LaunchGo) -> Result<u32, LauncherError> {
        self.say(go).await?;
        match self.hear("forked").await? {
            LaunchEvent::Forked { pid } => Ok(pid),
            event => Err(LauncherError::Unexpected { expected: "forked", event }),
        }
    }

    /// Hangs up and waits until it is gone.
    pub async fn abandon(self) {
        let Self { process, input, output, .. } = self;
        drop((input, output));
        let Ok(gone) = process.try_clone() else { return };
        if timeout(LEAVE_TIMEOUT, exited(gone)).await.is_err() {
            // It may be gone just now.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            let _ = exited(process).await;
        }
    }

    fn spawn(program: &Path, run_dir: &RunDir) -> io::Result<Self> {
        let mut child = Command::new(program)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(run_dir.create_log()?)
            .spawn()?;
        Self::adopt(&mut child, run_dir).inspect_err(|_| {
            // It has done nothing yet, and nobody else would reap it.
            let _ = child.kill();
            let _ = child.wait();
        })
    }

    fn adopt(child: &mut Child, run_dir: &RunDir) -> io::Result<Self> {
        descriptors::restore(child.id())?;
        let closed = || io::Error::other("a pipe is missing");
        let input = child.stdin.take().ok_or_else(closed)?;
        let output = child.stdout.take().ok_or_else(closed)?;
        // Not reaped before `exited`, so it is still there.
        let process = open(child.id())?.ok_or_else(|| io::Error::other("it is gone"))?;
        Ok(Self {
            pid: child.id(),
            process,
            input: ChildStdin::from_std(input)?,
            output: BufReader::new(ChildStdout::from_std(output)?),
            run_dir: run_dir.clone(),
        })
    }

    async fn say(&mut self, word: &impl Serialize) -> Result<(), LauncherError> {
        let mut line = serde_json::to_vec(word).map_err(|e| LauncherError::Pipe(e.into()))?;
        line.push(b'\n');
        // A launcher that is gone has said why.
        match self.input.write_all(&line).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(LauncherError::Pipe(error))
            }
            _ => Ok(()),
        }
    }

    async fn hear(&mut self, expected: &'static str) -> Result<LaunchEvent, LauncherError> {
        let mut line = String::new();
        match timeout(ANSWER_TIMEOUT, self.output.read_line(&mut line)).await {
            Err(_) => return Err(LauncherError::Silent { expected }),
            Ok(Err(error)) => return Err(LauncherError::Pipe(error)),
            Ok(Ok(0)) => {
                return Err(LauncherError::Ended { expected, log: self.run_dir.log_tail() });
            }
            Ok(Ok(_)) => {}
        }
        match serde_json::from_str(&line).map_err(|error| LauncherError::Pipe(error.into()))? {
            LaunchEvent::Failed { step, error } => Err(LauncherError::Failed { step, error }),
            event => Ok(event),
        }
    }
}
