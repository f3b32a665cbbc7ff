//! The end of a container.

use crate::cgroup::Oom;
use crate::containerizer::{Containerizer, Inner};
use crate::process::exited;
use crate::rundir::RunDir;
use mizzen_types::container::Exit;
use std::io;

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
    /// does not exist has ended in an unknown way.
    pub async fn wait(&self, id: &str) -> Ended {
        let container = self.inner.recall(id);
        // One that is being made has not ended yet, though nothing of it is to be seen.
        drop(container.busy.lock().await);
        let run_dir = self.inner.run_dir(id);
        if container.ended.get().is_none()
            && let Err(error) = await_launcher(&run_dir).await
        {
            tracing::warn!(container = %id, %error, "cannot watch the launcher");
        }
        // Whoever comes first looks: a `destroy` does so before it removes the files.
        container.ended.get_or_init(|| self.inner.observe_end(id, &run_dir)).clone()
    }
}

impl Inner {
    /// Reads how a container ended, after its launcher did.
    pub(crate) fn observe_end(&self, id: &str, run_dir: &RunDir) -> Ended {
        let exit = match run_dir.read_status() {
            Ok(Some(record)) => record.exit,
            Ok(None) => Exit::Unknown,
            Err(error) => {
                tracing::warn!(container = %id, %error, "cannot read how it ended");
                Exit::Unknown
            }
        };
        Ended { exit, oom: self.cgroups.observe_oom(id) }
    }
}

async fn await_launcher(run_dir: &RunDir) -> io::Result<()> {
    let Some(record) = run_dir.read_record()? else { return Ok(()) };
    match record.launcher.open()? {
        Some(launcher) => exited(launcher).await,
        None => Ok(()),
    }
}
