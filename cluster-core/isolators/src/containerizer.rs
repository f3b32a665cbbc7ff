//! The handle on all containers of one node.

use crate::cgroup::{CgroupError, Cgroups, Layout, Statistics};
use crate::cni::{Networks, PLUGINS_AT_ONCE};
use crate::launch::Launched;
use crate::process::{Stat, open};
use crate::rundir::{LaunchRecord, RunDir};
use crate::wait::Ended;
use mizzen_types::error::chain;
use rustix::process::{Signal, pidfd_send_signal};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{RwLock, Semaphore};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The executable `mizzen-launch`.
    pub launcher: PathBuf,
    /// Below it lie the run directories; best on a file system that a reboot empties.
    pub run_root: PathBuf,
    /// Below it lie the cgroups, in every hierarchy: `mizzen` or `lab/mizzen`.
    pub cgroup_root: String,
    /// Where CNI plugins are looked for, in this order.
    pub plugin_dirs: Vec<PathBuf>,
    /// CNI network configurations by the name of the network, to begin with.
    pub networks: BTreeMap<String, Value>,
    /// How long a plugin may take.
    pub plugin_timeout: Duration,
}

/// All containers of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Containerizer {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) launcher: PathBuf,
    pub(crate) run_root: PathBuf,
    pub(crate) cgroups: Cgroups,
    pub(crate) networks: Networks,
    containers: Mutex<BTreeMap<String, Arc<Container>>>,
}

/// What one process of the daemon remembers of a container.
#[derive(Debug, Default)]
pub(crate) struct Container {
    /// Held while it is made or destroyed: a kill during a launch waits.
    pub(crate) busy: Arc<tokio::sync::Mutex<()>>,
    /// Kept for those who wait while another one destroys the files.
    pub(crate) ended: OnceLock<Ended>,
}

/// A container that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// Its id.
    pub id: String,
    /// Whether its launcher runs. If not, [`Containerizer::wait`] tells at once how it
    /// ended.
    pub running: bool,
    /// What its launch said; `None` if it did not come so far that a task could run, or
    /// if that cannot be read any more. Then all that is left to do is to destroy it.
    pub launched: Option<Launched>,
}

/// A signal that could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// It has ended, or never began.
    #[error("container `{id}` does not run")]
    NotRunning {
        /// Container.
        id: String,
    },
    /// No such signal.
    #[error("{signal} is not the number of a signal")]
    Unknown {
        /// The number.
        signal: i32,
    },
    /// The system refused.
    #[error("cannot send signal {signal} to container `{id}`")]
    System {
        /// Container.
        id: String,
        /// Signal number.
        signal: i32,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Containerizer {
    /// Looks at the host's cgroup hierarchies; makes nothing yet.
    ///
    /// # Errors
    ///
    /// [`CgroupError`] if `/proc` cannot be read or the cgroup root is not a plain path.
    pub fn new(settings: Settings) -> Result<Self, CgroupError> {
        let cgroups = Cgroups::new(Layout::observe()?, &settings.cgroup_root)?;
        let networks = Networks {
            configurations: settings.networks.into(),
            plugin_dirs: settings.plugin_dirs,
            timeout: settings.plugin_timeout,
            turns: Semaphore::new(PLUGINS_AT_ONCE),
            attaching: RwLock::default(),
        };
        let inner = Inner {
            launcher: settings.launcher,
            run_root: settings.run_root,
            cgroups,
            networks,
            containers: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// These are the networks from now on, by name, with their CNI configurations. Containers
    /// that are attached leave theirs as they joined it.
    pub fn set_networks(&self, networks: BTreeMap<String, Value>) {
        let configurations = self.inner.networks.configurations.write();
        *configurations.unwrap_or_else(PoisonError::into_inner) = networks;
    }

    /// The containers that a former process of the daemon left, running or not.
    ///
    /// # Errors
    ///
    /// If the run root cannot be read; one that does not exist holds no containers.
    pub fn recover(&self) -> io::Result<Vec<Recovered>> {
        let entries = match fs::read_dir(&self.inner.run_root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let Ok(id) = entry.file_name().into_string() else { continue };
            // Those who wait for it are to be told how it ended by who destroys it.
            self.inner.remember(&id);
            found.push(self.recover_one(id));
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Sends a signal to everything in a container; `SIGKILL` ends all of it at once.
    /// Only the signals that usually end or wake a program are forwarded: `TERM`, `INT`,
    /// `HUP`, `QUIT`, `USR1` and `USR2`.
    ///
    /// While a [`launch`](Self::launch) or [`destroy`](Self::destroy) of it is under way
    /// this waits for its end: a signal during a launch reaches the task as soon as that
    /// runs, so nobody has to try again.
    ///
    /// # Errors
    ///
    /// [`SignalError::NotRunning`] if it has ended, could not be launched, or nobody
    /// launches it (yet); [`SignalError::System`] if the kernel could not be asked.
    pub async fn signal(&self, id: &str, signal: i32) -> Result<(), SignalError> {
        let named = Signal::from_named_raw(signal).ok_or(SignalError::Unknown { signal })?;
        let failed = |source| SignalError::System { id: id.to_owned(), signal, source };
        let gone = || SignalError::NotRunning { id: id.to_owned() };
        // Before the launch is over there is nobody to signal.
        drop(self.inner.recall(id).busy.lock().await);
        let process = self.inner.open_init(id).map_err(failed)?.ok_or_else(gone)?;
        match pidfd_send_signal(&process, named) {
            Err(rustix::io::Errno::SRCH) => Err(gone()),
            answer => answer.map_err(|errno| failed(errno.into())),
        }
    }

    /// What a container has used so far.
    #[must_use]
    pub fn statistics(&self, id: &str) -> Statistics {
        self.inner.cgroups.statistics(id)
    }

    /// Removes the cgroup root, after all containers have been destroyed.
    ///
    /// # Errors
    ///
    /// If there is a container left.
    pub fn remove_cgroup_root(&self) -> Result<(), CgroupError> {
        self.inner.cgroups.remove_root()
    }

    fn recover_one(&self, id: String) -> Recovered {
        let run_dir = self.inner.run_dir(&id);
        let Some(record) = run_dir.read_record_or_warn() else {
            return Recovered { id, running: false, launched: None };
        };
        let running = record.launcher.is_running().unwrap_or_else(|error| {
            // What cannot be told is left alone: `wait` tells when it is known.
            tracing::warn!(container = %id, error = chain(&error), "cannot look after the launcher");
            true
        });
        // Without a first process it hung between Go and Forked, where nothing is lost.
        let launched = run_dir.read_pid_or_warn().map(|pid| Launched {
            launcher: record.launcher.pid,
            pid,
            networks: record.networks,
        });
        Recovered { id, running, launched }
    }
}

impl Inner {
    pub(crate) fn run_dir(&self, id: &str) -> RunDir {
        RunDir::new(&self.run_root, id)
    }

    /// What is remembered of a container, from now on if not before.
    pub(crate) fn remember(&self, id: &str) -> Arc<Container> {
        Arc::clone(self.containers().entry(id.to_owned()).or_default())
    }

    /// What is remembered of a container, if anything.
    pub(crate) fn recall(&self, id: &str) -> Arc<Container> {
        self.containers().get(id).map(Arc::clone).unwrap_or_default()
    }

    pub(crate) fn forget(&self, id: &str) {
        self.containers().remove(id);
    }

    /// The container's first process, if it still is a child of its launcher.
    pub(crate) fn open_init(&self, id: &str) -> io::Result<Option<OwnedFd>> {
        let run_dir = self.run_dir(id);
        let Some(record) = run_dir.read_record()? else { return Ok(None) };
        self.open_init_of(&run_dir, &record)
    }

    pub(crate) fn open_init_of(
        &self,
        run_dir: &RunDir,
        record: &LaunchRecord,
    ) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = run_dir.read_pid()? else { return Ok(None) };
        let Some(process) = open(pid)? else { return Ok(None) };
        let is_child = Stat::find(pid)?.is_some_and(|stat| stat.parent == record.launcher.pid);
        Ok((is_child && record.launcher.is_running()?).then_some(process))
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Container>>> {
        // Each change is one call, so a panic elsewhere leaves nothing half done.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
