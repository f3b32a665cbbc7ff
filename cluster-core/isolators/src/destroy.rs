//! The removal of all that a container was.

use crate::cgroup::CgroupError;
use crate::cni::CniError;
use crate::containerizer::{Container, Containerizer, Inner};
use crate::process::exited;
use crate::rundir::{LaunchRecord, RunDir};
use rustix::process::{Signal, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::time::timeout;

/// How long a launcher may take to write how its container ended.
const EPILOGUE_TIMEOUT: Duration = Duration::from_secs(5);

/// What could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// The launcher or the first process could not be killed.
    #[error("cannot kill container `{id}`")]
    Kill {
        /// Container.
        id: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A cgroup stays.
    #[error("cannot remove a cgroup of container `{id}`")]
    Cgroup {
        /// Container.
        id: String,
        /// Which, and why.
        #[source]
        source: CgroupError,
    },
    /// A plugin did not let go.
    #[error("cannot detach container `{id}` from a network")]
    Network {
        /// Container.
        id: String,
        /// Which, and why.
        #[source]
        source: CniError,
    },
    /// The network namespace stays mounted.
    #[error("cannot unmount the network namespace of container `{id}`")]
    Namespace {
        /// Container.
        id: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Its files stay.
    #[error("cannot remove the run directory of container `{id}`")]
    RunDir {
        /// Container.
        id: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Containerizer {
    /// Kills everything in a container and removes all that is left of it. May be
    /// repeated, and concerns containers of former daemon processes as well. Those who
    /// [wait](Self::wait) for it are told how it ended.
    ///
    /// # Errors
    ///
    /// Everything that could not be removed; the rest was. The run directory stays as
    /// long as something else does, so that a later attempt knows about it.
    pub async fn destroy(&self, id: &str) -> Result<(), Vec<DestroyError>> {
        let this = self.clone();
        let id = id.to_owned();
        // By itself, so that a caller who loses patience does not leave half of it.
        let outcome = tokio::spawn(async move {
            let container = this.inner.remember(&id);
            let _busy = container.busy.lock().await;
            this.inner.undo(&id, &container).await
        });
        // The runtime ends: the next process of the daemon finds the rest.
        outcome.await.unwrap_or(Ok(()))
    }
}

impl Inner {
    /// Undoes a launch, whole or partial, in reverse. The container must be `busy`.
    pub(crate) async fn undo(
        &self,
        id: &str,
        container: &Container,
    ) -> Result<(), Vec<DestroyError>> {
        let run_dir = self.run_dir(id);
        let mut errors = Vec::new();
        if let Err(source) = self.kill(&run_dir).await {
            errors.push(DestroyError::Kill { id: id.to_owned(), source });
        }
        let cgroup = |source| DestroyError::Cgroup { id: id.to_owned(), source };
        errors.extend(self.cgroups.kill(id).await.map_err(cgroup).err());
        container.ended.get_or_init(|| self.observe_end(id, &run_dir));

        let network = |source| DestroyError::Network { id: id.to_owned(), source };
        let detached = self.networks.remove_all(&run_dir, id).await;
        errors.extend(detached.err().into_iter().flatten().map(network));
        if let Err(source) = run_dir.unmount_netns() {
            errors.push(DestroyError::Namespace { id: id.to_owned(), source });
        }
        errors.extend(self.cgroups.remove(id).await.err().into_iter().flatten().map(cgroup));
        if errors.is_empty() {
            match run_dir.remove() {
                Ok(()) => self.forget(id),
                Err(source) => errors.push(DestroyError::RunDir { id: id.to_owned(), source }),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Kills the first process, which takes all others along, and lets the launcher
    /// write how it ended. What a launcher does not see to, the cgroups do.
    async fn kill(&self, run_dir: &RunDir) -> io::Result<()> {
        let Some(record) = run_dir.read_record_or_warn() else { return Ok(()) };
        let Some(launcher) = record.launcher.open()? else { return Ok(()) };
        self.kill_init(run_dir, &record)?;
        let gone = launcher.try_clone()?;
        if timeout(EPILOGUE_TIMEOUT, exited(gone)).await.is_ok() {
            return Ok(());
        }
        kill(&launcher)?;
        exited(launcher).await
    }

    /// Without one, the launcher waits for a go that nobody will give: it notices that
    /// nobody holds the pipe.
    fn kill_init(&self, run_dir: &RunDir, record: &LaunchRecord) -> io::Result<()> {
        match self.open_init_of(run_dir, record)? {
            Some(init) => kill(&init),
            None => Ok(()),
        }
    }
}

fn kill(process: &OwnedFd) -> io::Result<()> {
    match pidfd_send_signal(process, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
