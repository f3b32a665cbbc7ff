//! A command in a running container, for health checks.

use crate::command::{Overtime, run_bounded};
use crate::containerizer::{Containerizer, Inner};
use mizzen_types::container::CommandSpec;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::process::Command;

/// How much of each output is kept, in bytes.
const KEEP: usize = 4096;

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    /// Its exit code, 128 + N if signal N ended it, 125 if it could not be run (why is
    /// in `stderr`); `None` if its time was over and it was killed.
    pub code: Option<i32>,
    /// The beginning of what it wrote to stdout.
    pub stdout: String,
    /// The beginning of what it wrote to stderr.
    pub stderr: String,
}

/// A command that could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// It has ended, or never began.
    #[error("container `{id}` does not run")]
    NotRunning {
        /// Container.
        id: String,
    },
    /// The system refused.
    #[error("cannot run a command in container `{id}`")]
    System {
        /// Container.
        id: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Containerizer {
    /// Runs a command in the namespaces and cgroups of a container, as its user, in its
    /// sandbox, with its environment and what `environment` adds to it. When `limit` is over
    /// it is killed.
    ///
    /// # Errors
    ///
    /// [`EnterError::NotRunning`] if the container has ended.
    pub async fn run_in(
        &self,
        id: &str,
        command: &CommandSpec,
        environment: &BTreeMap<String, String>,
        limit: Duration,
    ) -> Result<CommandOutcome, EnterError> {
        let failed = |source| EnterError::System { id: id.to_owned(), source };
        let gone = || EnterError::NotRunning { id: id.to_owned() };
        let (command, environment) =
            self.inner.enter(id, command, environment).map_err(failed)?.ok_or_else(gone)?;
        let finished = run_bounded(command, &environment, limit, KEEP, Overtime::Terminate)
            .await
            .map_err(failed)?;
        Ok(CommandOutcome {
            code: finished.status.and_then(|status| status.code()),
            stdout: finished.stdout,
            stderr: finished.stderr,
        })
    }
}

impl Inner {
    /// The command, and its environment for stdin: the loader of the launcher itself
    /// must not see it.
    fn enter(
        &self,
        id: &str,
        command: &CommandSpec,
        more: &BTreeMap<String, String>,
    ) -> io::Result<Option<(Command, Vec<u8>)>> {
        let run_dir = self.run_dir(id);
        let Some(record) = run_dir.read_record()? else { return Ok(None) };
        let Some(pid) = run_dir.read_pid()? else { return Ok(None) };
        if self.open_init_of(&run_dir, &record)?.is_none() {
            return Ok(None);
        }
        let mut enter = Command::new(&self.launcher);
        enter.env_clear().current_dir("/");
        enter.arg("enter").arg("--pid").arg(pid.to_string()).arg("--environment-from-stdin");
        // The number may be another process's when `enter` looks: it is not entered then.
        enter.arg("--parent").arg(record.launcher.pid.to_string());
        enter.arg("--cwd").arg(&record.spec.sandbox);
        if let Some(user) = &record.spec.user {
            enter.arg("--user").arg(user);
        }
        enter.arg("--");
        match command {
            CommandSpec::Shell(text) => enter.args(["/bin/sh", "-c", text]),
            CommandSpec::Exec { program, arguments } => {
                enter.arg(program).args(arguments.iter().skip(1))
            }
        };
        let mut environment = record.spec.environment;
        environment.extend(more.clone());
        // Only the network knows these.
        environment.extend(record.environment);
        Ok(Some((enter, serde_json::to_vec(&environment)?)))
    }
}
