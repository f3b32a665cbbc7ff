//! Effects of the agent, carried out: this is where a task meets the kernel.
//!
//! Records are written here, in line, because what follows relies on them. Whatever
//! takes longer runs in a task of its own and comes back as an [`Input`].

use super::checkpoints::Checkpoints;
use super::core::{Core, Input};
use super::facts::Speaker;
use super::saves::chain;
use super::{cluster::LOCAL_LINK, sandbox};
use mizzen_agent::health::Target;
use mizzen_agent::task::{Ended, Started};
use mizzen_agent::{Effect, LaunchFailure, Order, Probe, Record};
use mizzen_api::link::ToMaster;
use mizzen_api::v1;
use mizzen_http::probe;
use mizzen_isolators::{
    CommandOutcome, Containerizer, CpuLimit, LaunchError, LaunchRequest, Limits, NetworkRequest,
};
use mizzen_types::container::Exit;
use mizzen_types::ids::ContainerId;
use mizzen_types::time::Now;
use std::io;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

/// The agent's hands.
#[derive(Debug, Clone)]
pub(crate) struct Containers {
    pub(crate) containerizer: Containerizer,
    pub(crate) checkpoints: Checkpoints,
    /// Contents of `/etc/resolv.conf` in containers that have a network of their own.
    pub(crate) resolv_conf: Option<String>,
    pub(crate) inputs: UnboundedSender<Input>,
}

impl Core {
    /// Carries out what the agent wants; says whether it wanted anything.
    pub(crate) fn settle_agent(&mut self, now: Now) -> bool {
        let mut worked = false;
        while let Some(effect) = self.agent.as_mut().and_then(mizzen_agent::Agent::poll_effect) {
            worked = true;
            self.carry_out_agent(effect, now);
        }
        worked
    }

    fn carry_out_agent(&mut self, effect: Effect, now: Now) {
        let Some(containers) = self.containers.clone() else { return };
        match effect {
            Effect::ToMaster(message) => self.tell_master(*message, now),
            Effect::Checkpoint(record) => self.checkpoint(&containers, &record, now),
            Effect::Forget(container) => {
                if let Err(error) = containers.checkpoints.remove(&container) {
                    warn!(%container, %error, "cannot remove the record of a container");
                }
            }
            Effect::SaveId(id) => {
                let record = (super::build::AGENT_ID.to_owned(), Some(id.as_str().into()));
                if let Err(error) = self.store.write(&[record]) {
                    self.problems.report("store", chain(&error));
                }
                self.introduce();
            }
            Effect::Launch(order) => containers.launch(*order),
            Effect::Watch(container) => containers.watch(container),
            Effect::Signal(container, signal) => containers.signal(container, signal),
            Effect::Destroy(container) => containers.destroy(container),
            Effect::Probe(probe) => containers.probe(*probe),
            Effect::Fact(key, fact) => self.say(Speaker::Node, key, fact.map(|fact| *fact)),
        }
    }

    fn tell_master(&mut self, message: ToMaster, now: Now) {
        let Some(master) = self.master.as_mut() else { return };
        match master.agent_message(LOCAL_LINK, message, now) {
            Ok(()) => self.problems.solve("agent"),
            Err(error) => self.problems.report("agent", chain(&error)),
        }
    }

    fn checkpoint(&mut self, containers: &Containers, record: &Record, now: Now) {
        match containers.checkpoints.write(record) {
            Ok(()) => self.problems.solve("checkpoints"),
            Err(error) => {
                self.problems.report("checkpoints", format!("cannot write task records: {error}"));
                if let Some(agent) = self.agent.as_mut() {
                    agent.checkpoint_failed(&record.container, &error.to_string(), now);
                }
            }
        }
    }
}

impl Containers {
    fn launch(self, order: Order) {
        tokio::spawn(async move {
            let container = order.container.clone();
            let result = self.make(order).await;
            let made = result.is_ok();
            if let Err((_, message)) = &result {
                warn!(%container, error = message, "container not launched");
            }
            self.tell(Input::Launched(container.clone(), result));
            if made {
                self.wait_for(container).await;
            }
        });
    }

    async fn make(&self, order: Order) -> Result<Started, (LaunchFailure, String)> {
        let spec = order.spec.clone();
        let prepared = tokio::task::spawn_blocking(move || sandbox::prepare(&spec))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        prepared.map_err(|error| {
            let sandbox = order.spec.sandbox.display();
            (LaunchFailure::Container, format!("cannot make the sandbox {sandbox}: {error}"))
        })?;
        let launched = self.containerizer.launch(self.request(order)).await;
        let launched = launched.map_err(|error| (failure(&error), chain(&error)))?;
        info!(pid = launched.pid, launcher = launched.launcher, "container launched");
        Ok(Started { pid: launched.pid, addresses: launched.addresses() })
    }

    fn request(&self, order: Order) -> LaunchRequest {
        let limits = order.limits;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "resources are positive and far below 2^53"
        )]
        let mem_mb = limits.memory_mb.ceil() as u64;
        let cpu_limit = match limits.cpu_quota {
            Some(cores) => CpuLimit::Cpus(cores),
            None => CpuLimit::Shares,
        };
        LaunchRequest {
            spec: order.spec,
            limits: Limits {
                cpus: limits.cpus,
                cpu_limit,
                mem_mb,
                pids: Some(u64::from(limits.pids)),
            },
            networks: order.networks.iter().map(network).collect(),
            resolv_conf: self.resolv_conf.clone(),
        }
    }

    fn watch(self, container: ContainerId) {
        tokio::spawn(async move { self.wait_for(container).await });
    }

    async fn wait_for(&self, container: ContainerId) {
        let ended = self.containerizer.wait(container.as_str()).await;
        info!(%container, exit = ?ended.exit, oom = ended.oom.is_some(), "container ended");
        // The kernel may have killed a helper of a task that ended well all the same.
        let oom = ended.oom.filter(|_| ended.exit != Exit::Code(0));
        let ended = Ended { exit: ended.exit, out_of_memory: oom.map(|oom| oom.message) };
        self.tell(Input::Ended(container, ended));
    }

    fn signal(self, container: ContainerId, signal: i32) {
        tokio::spawn(async move {
            if let Err(error) = self.containerizer.signal(container.as_str(), signal).await {
                warn!(%container, signal, error = chain(&error), "cannot signal a container");
            }
        });
    }

    fn destroy(self, container: ContainerId) {
        tokio::spawn(async move {
            if let Err(errors) = self.containerizer.destroy(container.as_str()).await {
                for error in errors {
                    warn!(%container, error = chain(&error), "something of a container is left");
                }
            }
        });
    }

    fn probe(self, probe: Probe) {
        tokio::spawn(async move {
            let result = self.ask(&probe).await;
            self.tell(Input::Probed(probe.container, result));
        });
    }

    async fn ask(&self, probe: &Probe) -> Result<(), String> {
        match &probe.target {
            Target::Http { address, path, statuses } => {
                let status = probe::http_status(*address, path, probe.timeout).await;
                let status = u32::from(status.map_err(|error| chain(&error))?);
                let good = match statuses.as_slice() {
                    [] => (200..400).contains(&status),
                    listed => listed.contains(&status),
                };
                good.then_some(()).ok_or_else(|| format!("GET {path} was answered with {status}"))
            }
            Target::Tcp { address } => {
                probe::tcp(*address, probe.timeout).await.map_err(|error| chain(&error))
            }
            Target::Command { command, .. } => {
                let id = probe.container.as_str();
                let outcome = self.containerizer.run_in(id, command, probe.timeout).await;
                judge(&outcome.map_err(|error| chain(&error))?)
            }
        }
    }

    fn tell(&self, input: Input) {
        // The loop has ended if nobody listens; the next process asks the kernel.
        let _ = self.inputs.send(input);
    }
}

fn network(info: &v1::NetworkInfo) -> NetworkRequest {
    NetworkRequest { name: info.name().to_owned(), info: serde_json::to_value(info).ok() }
}

fn failure(error: &LaunchError) -> LaunchFailure {
    match error.failure {
        mizzen_isolators::LaunchFailure::Network(_) => LaunchFailure::Network,
        _ => LaunchFailure::Container,
    }
}

fn judge(outcome: &CommandOutcome) -> Result<(), String> {
    let said = outcome.stderr.lines().next().or_else(|| outcome.stdout.lines().next());
    match outcome.code {
        Some(0) => Ok(()),
        Some(code) => Err(format!("the command exited with {code}: {}", said.unwrap_or("-"))),
        None => Err("the command did not end in time".to_owned()),
    }
}
