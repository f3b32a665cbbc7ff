//! Making a container.

use crate::cgroup::{CgroupError, Limits};
use crate::cni::{Attached, Attachment, CniError, NetworkRequest};
use crate::containerizer::{Container, Containerizer, Inner};
use crate::destroy::DestroyError;
use crate::launcher::{Launcher, LauncherError};
use crate::process::ProcessIdentity;
use crate::rundir::{LaunchRecord, RunDir};
use mizzen_types::container::{FORMAT, LaunchGo, LaunchSpec, NetworkMode};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchRequest {
    /// The container. `run_dir` and `cgroups` are filled in.
    pub spec: LaunchSpec,
    /// What it may use.
    pub limits: Limits,
    /// Networks to attach to, `eth0` first; none for a container on the host's network.
    pub networks: Vec<NetworkRequest>,
    /// Contents of its `/etc/resolv.conf`, unless a network's plugin names servers.
    pub resolv_conf: Option<String>,
}

/// A container whose task runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// Process id of the launcher.
    pub launcher: u32,
    /// Process id of the container's first process, seen from the host.
    pub pid: u32,
    /// The networks it is attached to, in the order of the request.
    pub networks: Vec<Attachment>,
}

impl Launched {
    /// All addresses, network by network.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.networks.iter().flat_map(|network| network.addresses.iter().copied()).collect()
    }

    /// The networks whose plugins publish the ports that were asked for.
    #[must_use]
    pub fn publishing(&self) -> Vec<String> {
        let publishing = self.networks.iter().filter(|network| network.publishes);
        publishing.map(|network| network.network.clone()).collect()
    }
}

/// A container that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot launch container `{id}`{}", describe(.leftovers))]
pub struct LaunchError {
    /// Container.
    pub id: String,
    /// Which step failed, and why.
    #[source]
    pub failure: LaunchFailure,
    /// What could not be undone; empty if nothing is left of it.
    pub leftovers: Vec<DestroyError>,
}

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchFailure {
    /// The request contradicts itself.
    #[error("{reason}")]
    BadRequest {
        /// In words.
        reason: String,
    },
    /// There is one of that id.
    #[error("a container of that id exists")]
    Exists,
    /// A file of the run directory could not be written.
    #[error("cannot {request}")]
    RunDir {
        /// What was asked, as a verb with its object.
        request: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A cgroup could not be made, or a limit not be set.
    #[error("cannot limit its resources")]
    Cgroup(#[source] CgroupError),
    /// The launcher could not do a step.
    #[error("the launcher failed")]
    Launcher(#[source] LauncherError),
    /// A CNI plugin failed.
    #[error("cannot attach it to its networks")]
    Network(#[source] CniError),
    /// The task that launches it was cancelled: the daemon shuts down.
    #[error("the launch was cancelled")]
    Cancelled,
}

impl Containerizer {
    /// Makes a container and runs its task. If the caller loses its patience, the
    /// launch goes on by itself; a `destroy`, `signal` or `wait` meanwhile waits for it.
    ///
    /// # Errors
    ///
    /// [`LaunchError`] with the step that failed; all steps before it were undone.
    pub async fn launch(&self, request: LaunchRequest) -> Result<Launched, LaunchError> {
        let id = request.spec.id.clone();
        let fail = |failure| LaunchError { id: id.clone(), failure, leftovers: Vec::new() };
        check(&request).map_err(fail)?;
        let this = self.clone();
        // From here on, and not only when the task below has its turn, others wait.
        let container = self.inner.remember(&id);
        let busy = Arc::clone(&container.busy).lock_owned().await;
        let launch = async move {
            let outcome = this.launch_uncancelled(request, &container).await;
            drop(busy);
            outcome
        };
        match tokio::spawn(launch).await {
            Ok(outcome) => outcome,
            Err(_) => Err(fail(LaunchFailure::Cancelled)),
        }
    }

    /// The container must be `busy`.
    async fn launch_uncancelled(
        &self,
        request: LaunchRequest,
        container: &Container,
    ) -> Result<Launched, LaunchError> {
        let id = request.spec.id.clone();
        let run_dir = self.inner.run_dir(&id);
        if let Err(error) = run_dir.create() {
            let failure = match error.kind() {
                io::ErrorKind::AlreadyExists => LaunchFailure::Exists,
                _ => {
                    self.inner.forget(&id);
                    LaunchFailure::RunDir { request: "make the run directory", source: error }
                }
            };
            return Err(LaunchError { id, failure, leftovers: Vec::new() });
        }
        match self.inner.launch(request, &run_dir).await {
            Ok(launched) => {
                tracing::info!(container = %id, pid = launched.pid, "launched");
                Ok(launched)
            }
            Err(failure) => {
                let leftovers = self.inner.undo(&id, container).await.err().unwrap_or_default();
                Err(LaunchError { id, failure, leftovers })
            }
        }
    }
}

impl Inner {
    async fn launch(
        &self,
        mut request: LaunchRequest,
        run_dir: &RunDir,
    ) -> Result<Launched, LaunchFailure> {
        let spec = &mut request.spec;
        spec.format = FORMAT;
        spec.run_dir = run_dir.path().to_path_buf();
        spec.cgroups =
            self.cgroups.ensure(&spec.id, &request.limits).map_err(LaunchFailure::Cgroup)?;
        let mut launcher = Launcher::start(&self.launcher, run_dir, spec)
            .await
            .map_err(LaunchFailure::Launcher)?;
        match self.launch_with(&mut launcher, request, run_dir).await {
            Ok(launched) => Ok(launched),
            Err(failure) => {
                launcher.abandon().await;
                Err(failure)
            }
        }
    }

    async fn launch_with(
        &self,
        launcher: &mut Launcher,
        request: LaunchRequest,
        run_dir: &RunDir,
    ) -> Result<Launched, LaunchFailure> {
        launcher.ready().await.map_err(LaunchFailure::Launcher)?;
        let mut attached = Vec::new();
        for (index, network) in request.networks.iter().enumerate() {
            let network = self.networks.add(run_dir, &request.spec.id, index, network).await;
            attached.push(network.map_err(LaunchFailure::Network)?);
        }
        let go = go(&attached, request.resolv_conf);
        let networks: Vec<Attachment> =
            attached.into_iter().map(|network| network.attachment).collect();
        let record = |source| LaunchFailure::RunDir { request: "checkpoint the launcher", source };
        run_dir
            .write_record(&LaunchRecord {
                format: FORMAT,
                launcher: ProcessIdentity::of(launcher.pid()).map_err(record)?,
                spec: request.spec,
                environment: go.environment.clone(),
                networks: networks.clone(),
            })
            .map_err(record)?;
        let pid = launcher.go(&go).await.map_err(LaunchFailure::Launcher)?;
        Ok(Launched { launcher: launcher.pid(), pid, networks })
    }
}

/// What only the networks could tell.
fn go(attached: &[Attached], resolv_conf: Option<String>) -> LaunchGo {
    let addresses: Vec<IpAddr> =
        attached.iter().flat_map(|network| network.attachment.addresses.iter().copied()).collect();
    let environment = match addresses.first() {
        Some(first) => BTreeMap::from([("MESOS_CONTAINER_IP".to_owned(), first.to_string())]),
        None => BTreeMap::new(),
    };
    let resolv_conf =
        attached.iter().find_map(|network| network.resolv_conf.clone()).or(resolv_conf);
    LaunchGo { environment, addresses, resolv_conf }
}

fn check(request: &LaunchRequest) -> Result<(), LaunchFailure> {
    let LaunchSpec { id, network, .. } = &request.spec;
    let plain = !matches!(id.as_str(), "" | "." | "..") && !id.contains(['/', '\0']);
    let reason = if !plain {
        format!("`{id}` cannot be the name of a directory")
    } else if *network == NetworkMode::Host && !request.networks.is_empty() {
        "a container on the host's network cannot be attached to another one".to_owned()
    } else if !(request.limits.cpus.is_finite() && request.limits.cpus >= 0.0) {
        format!("{} is not a number of CPUs", request.limits.cpus)
    } else {
        return Ok(());
    };
    Err(LaunchFailure::BadRequest { reason })
}

fn describe(leftovers: &[DestroyError]) -> String {
    match leftovers.len() {
        0 => String::new(),
        count => format!(" ({count} steps could not be undone)"),
    }
}
