//! Effects of the agent, carried out: this is where a task meets the kernel.
//!
//! Records are written here, in line, because what follows relies on them. Whatever
//! takes longer runs in a task of its own and comes back as an [`Input`].

use super::checkpoints::Checkpoints;
use super::core::{Core, Input};
use super::facts::Speaker;
use super::kept::Kept;
use super::{cluster::LOCAL_LINK, sandbox};
use mizzen_agent::health::Target;
use mizzen_agent::task::{Ended, Started};
use mizzen_agent::{Answer, Effect, LaunchFailure, Order, Probe, Record};
use mizzen_api::link::ToMaster;
use mizzen_api::v1;
use mizzen_http::probe::{self, ProbeError};
use mizzen_isolators::{
    CommandOutcome, Containerizer, CpuLimit, LaunchError, LaunchRequest, Limits, NetworkRequest,
};
use mizzen_types::container::Exit;
use mizzen_types::error::chain;
use mizzen_types::ids::ContainerId;
use mizzen_types::time::Now;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

/// What could not be removed of a container is tried again after this, then after
/// twice as long.
const DESTROY_RETRY: Duration = Duration::from_secs(1);
const LONGEST_DESTROY_RETRY: Duration = Duration::from_secs(60);

/// The agent's hands.
#[derive(Debug, Clone)]
pub(crate) struct Containers {
    pub(crate) containerizer: Containerizer,
    pub(crate) checkpoints: Checkpoints,
    /// What is left of ended tasks.
    pub(crate) kept: Kept,
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
        self.flush_node(now);
        self.flush_registered(now);
        self.flush_dns_records(now);
        worked
    }

    fn carry_out_agent(&mut self, effect: Effect, now: Now) {
        let Some(containers) = self.containers.clone() else { return };
        match effect {
            Effect::ToMaster(message) => self.tell_master(*message, now),
            Effect::Checkpoint(record) => self.checkpoint(&containers, &record, now),
            Effect::Forget(container) => {
                if let Err(error) = containers.kept.retire(&containers.checkpoints, &container) {
                    warn!(%container, error = chain(&error), "cannot put away the record of a container");
                }
            }
            Effect::SaveId(id) => {
                self.node_saves.push(super::build::AGENT_ID, Some(id.as_str().into()));
                self.introduce();
            }
            Effect::SaveOrders(orders) => {
                self.node_saves.push(super::build::AGENT_ORDERS, orders);
            }
            Effect::Overlay(grant) => self.take_grant(*grant),
            Effect::Launch(order) => containers.launch(*order),
            Effect::Watch(container) => containers.watch(container),
            Effect::Signal(container, signal) => {
                // Clients must go elsewhere before the task hears of it.
                self.flush_vips();
                containers.signal(container, signal);
            }
            Effect::Destroy(container) => containers.destroy(container),
            Effect::Probe(probe) => containers.probe(*probe),
            Effect::Fact(key, fact) => self.say(Speaker::Node, key, fact.map(|fact| *fact)),
        }
    }

    fn tell_master(&mut self, message: ToMaster, now: Now) {
        let Some(master) = self.master.as_mut() else {
            return self.tell_other_master(message, now);
        };
        match master.agent_message(LOCAL_LINK, message, now) {
            Ok(()) => self.problems.solve("agent"),
            Err(error) => self.problems.report("agent", chain(&error)),
        }
    }

    fn checkpoint(&mut self, containers: &Containers, record: &Record, now: Now) {
        match containers.checkpoints.write(record) {
            Ok(()) => self.problems.solve("checkpoints"),
            Err(error) => {
                let words = chain(&error);
                if let Some(agent) = self.agent.as_mut() {
                    agent.checkpoint_failed(&record.container, &words, now);
                }
                self.problems.report("checkpoints", words);
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
        let request = self.request(order)?;
        let launched = self.containerizer.launch(request).await;
        let launched = launched.map_err(|error| (failure(&error), chain(&error)))?;
        info!(pid = launched.pid, launcher = launched.launcher, "container launched");
        let (addresses, publishing) = (launched.addresses(), launched.publishing());
        Ok(Started { pid: launched.pid, addresses, publishing })
    }

    fn request(&self, order: Order) -> Result<LaunchRequest, (LaunchFailure, String)> {
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
        let networks: Result<_, _> = order.networks.iter().map(network).collect();
        let networks = networks.map_err(|error| (LaunchFailure::Network, chain(&error)))?;
        Ok(LaunchRequest {
            spec: order.spec,
            limits: Limits {
                cpus: limits.cpus,
                cpu_limit,
                mem_mb,
                pids: Some(u64::from(limits.pids)),
            },
            networks,
            resolv_conf: self.resolv_conf.clone(),
        })
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
            let mut pause = DESTROY_RETRY;
            while let Err(errors) = self.containerizer.destroy(container.as_str()).await {
                let texts: Vec<String> = errors.iter().map(|error| chain(error)).collect();
                self.tell(Input::Left(container.clone(), Some(texts.join("; "))));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_DESTROY_RETRY);
            }
            self.tell(Input::Left(container, None));
        });
    }

    fn probe(self, probe: Probe) {
        tokio::spawn(async move {
            let answer = self.ask(&probe).await;
            self.tell(Input::Probed(probe.container, answer));
        });
    }

    async fn ask(&self, probe: &Probe) -> Answer {
        match &probe.target {
            Target::Http { address, path, statuses } => {
                let status = match probe::http_status(*address, path, probe.timeout).await {
                    Ok(status) => u32::from(status),
                    Err(error) => return unanswered(&error),
                };
                let good = match statuses.as_slice() {
                    [] => (200..400).contains(&status),
                    listed => listed.contains(&status),
                };
                match good {
                    true => Answer::Well,
                    false => Answer::Unwell(format!("GET {path} was answered with {status}")),
                }
            }
            Target::Tcp { address } => match probe::tcp(*address, probe.timeout).await {
                Ok(()) => Answer::Well,
                Err(error) => unanswered(&error),
            },
            Target::Command { command, environment } => {
                let id = probe.container.as_str();
                let outcome =
                    self.containerizer.run_in(id, command, environment, probe.timeout).await;
                match outcome {
                    Ok(outcome) => judge(&outcome),
                    // It ended meanwhile, or the node lacks something: neither is its fault.
                    Err(_) => Answer::NotAsked,
                }
            }
        }
    }

    pub(crate) fn tell(&self, input: Input) {
        // The loop has ended if nobody listens; the next process asks the kernel.
        let _ = self.inputs.send(input);
    }
}

fn network(info: &v1::NetworkInfo) -> Result<NetworkRequest, serde_json::Error> {
    let name = info.name().to_owned();
    Ok(NetworkRequest { name, info: Some(serde_json::to_value(info)?) })
}

fn failure(error: &LaunchError) -> LaunchFailure {
    match error.failure {
        mizzen_isolators::LaunchFailure::Network(_) => LaunchFailure::Network,
        _ => LaunchFailure::Container,
    }
}

/// Who lacks descriptors or memory has not asked, and must not judge.
fn unanswered(error: &ProbeError) -> Answer {
    match error {
        ProbeError::Connect { source, .. } if is_own_want(source) => Answer::NotAsked,
        error => Answer::Unwell(chain(error)),
    }
}

fn is_own_want(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    error.raw_os_error().is_some_and(|code| wants.iter().any(|want| want.raw_os_error() == code))
}

fn judge(outcome: &CommandOutcome) -> Answer {
    let said = outcome.stderr.lines().next().or_else(|| outcome.stdout.lines().next());
    match outcome.code {
        Some(0) => Answer::Well,
        Some(code) => Answer::Unwell(match said {
            Some(line) => format!("the command exited with {code}: {line}"),
            None => format!("the command exited with {code}"),
        }),
        None => Answer::Unwell("the command did not end in time".to_owned()),
    }
}
