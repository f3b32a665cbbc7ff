//! The end of a container.
//!
//! That a launcher is gone is for the kernel to say. What stands in the way of asking it
//! is no end: one who believed that for want of a descriptor would have a container
//! destroyed that runs.

use crate::cgroup::Oom;
use crate::containerizer::{Container, Containerizer, Inner};
use crate::process::exited;
use crate::rundir::{RunDir, is_unreadable};
use mizzen_types::container::Exit;
use mizzen_types::error::chain;
use std::io;
use std::time::Duration;
use tokio::time::sleep;

/// Between two attempts to ask the kernel, at first and at most. The cause is usually a
/// burst of open connections.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How the task's process ended; unknown if its launcher was killed.
    pub exit: Exit,
    /// Whether the kernel killed something of it for want of memory. This may be so
    /// though the task itself ended well.
    pub oom: Option<Oom>,
}

impl Containerizer {
    /// Waits until a container has ended, also one of a former daemon process. One that
    /// does not exist has ended in an unknown way. If the kernel cannot be asked, this
    /// tries again until it can, or until somebody destroys the container.
    pub async fn wait(&self, id: &str) -> Ended {
        let container = self.inner.recall(id);
        // One that is being made has not ended yet, though nothing of it is to be seen.
        drop(container.busy.lock().await);
        let run_dir = self.inner.run_dir(id);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.inner.await_end(id, &run_dir, &container).await {
                Ok(ended) => return ended,
                Err(error) if pause == FIRST_PAUSE => {
                    tracing::warn!(container = %id, error = chain(&error), "cannot watch the launcher, trying again");
                }
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Inner {
    /// Waits for the end of the launcher, then reads how the container ended.
    async fn await_end(
        &self,
        id: &str,
        run_dir: &RunDir,
        container: &Container,
    ) -> io::Result<Ended> {
        if container.ended.get().is_none() {
            self.await_launcher(id, run_dir).await?;
        }
        // Whoever comes first looks: a `destroy` does so before it removes the files.
        if let Some(ended) = container.ended.get() {
            return Ok(ended.clone());
        }
        let ended = self.try_observe_end(id, run_dir)?;
        Ok(container.ended.get_or_init(|| ended).clone())
    }

    async fn await_launcher(&self, id: &str, run_dir: &RunDir) -> io::Result<()> {
        let record = match run_dir.read_record() {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(()),
            // Nobody will ever read who the launcher is, but its cgroup knows it.
            Err(error) if is_unreadable(&error) => {
                return match self.cgroups.is_populated(id) {
                    Ok(false) => Ok(()),
                    Ok(true) => Err(error),
                    Err(error) => Err(io::Error::other(error)),
                };
            }
            Err(error) => return Err(error),
        };
        match record.launcher.open()? {
            Some(launcher) => exited(launcher).await,
            None => Ok(()),
        }
    }

    /// Reads how a container ended, after its launcher did.
    pub(crate) fn observe_end(&self, id: &str, run_dir: &RunDir) -> Ended {
        self.try_observe_end(id, run_dir).unwrap_or_else(|error| {
            tracing::warn!(container = %id, error = chain(&error), "cannot read how it ended");
            Ended { exit: Exit::Unknown, oom: self.cgroups.observe_oom(id) }
        })
    }

    /// As [`Self::observe_end`]; an error may be gone at the next attempt.
    fn try_observe_end(&self, id: &str, run_dir: &RunDir) -> io::Result<Ended> {
        let exit = match run_dir.read_status() {
            Ok(Some(record)) => record.exit,
            Ok(None) => Exit::Unknown,
            Err(error) if is_unreadable(&error) => {
                tracing::warn!(container = %id, error = chain(&error), "cannot understand how it ended");
                Exit::Unknown
            }
            Err(error) => return Err(error),
        };
        Ok(Ended { exit, oom: self.cgroups.observe_oom(id) })
    }
}
