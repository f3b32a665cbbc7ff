//! An agent with its hands on a simulated machine.

use crate::machine::{Machine, Stage};
use mizzen_agent::task::{Ended, Started};
use mizzen_agent::{Agent, Answer, CpuLimit, Effect, Orders, Settings};
use mizzen_api::link::ToMaster;
use mizzen_api::{resources, v1};
use mizzen_membership::log::OwnerLog;
use mizzen_membership::view::View;
use mizzen_types::container::Exit;
use mizzen_types::fact::Fact;
use mizzen_types::ids::ContainerId;
use mizzen_types::random::Dice;
use mizzen_types::resources::Resources;
use mizzen_types::time::{Mono, Now};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Key of the agent's id in the store.
pub const AGENT_ID: &str = "agent/id";
const AGENT_ORDERS: &str = "agent/orders";
const SIGKILL: i32 = 9;

/// The address of every machine.
pub(crate) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Something that takes a while and then happens.
#[derive(Debug, Clone)]
pub(crate) enum Pending {
    Fork(ContainerId),
    Probe(ContainerId),
    Watch(ContainerId),
}

/// One process of an agent.
#[derive(Debug)]
pub struct Worker {
    /// The value that decides.
    pub agent: Agent,
    log: OwnerLog,
    view: View,
    pending: Vec<(Mono, Pending)>,
}

impl Worker {
    /// Starts on what a former process left.
    #[must_use]
    pub fn start(name: &str, machine: &Machine, dice: &mut Dice, now: Now) -> Self {
        let id = machine.store.get(AGENT_ID).map(|id| String::from_utf8_lossy(id).into_owned());
        let mut agent = Agent::new(settings(name), id.map(Into::into), dice.draw(), now);
        if let Some(orders) = machine.store.get(AGENT_ORDERS) {
            agent.adopt_orders(Orders::from_bytes(orders).unwrap_or_else(|_| Orders::serve()));
        }
        agent.recover(machine.read_records(), machine.found(), now);
        let log = OwnerLog::new(name.into(), now.mono.0);
        Self { agent, log, view: View::default(), pending: Vec::new() }
    }

    /// When something is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let pending = self.pending.iter().map(|(at, _)| *at).min();
        [self.agent.poll_deadline(), pending].into_iter().flatten().min()
    }

    /// What is due, for [`Self::happen`].
    pub(crate) fn take_due(&mut self, now: Now) -> Vec<Pending> {
        let (due, later) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, _)| *at <= now.mono);
        self.pending = later;
        due.into_iter().map(|(_, pending)| pending).collect()
    }

    pub(crate) fn happen(&mut self, pending: Pending, machine: &mut Machine, now: Now) {
        match pending {
            Pending::Fork(id) => {
                if let Some(pid) = machine.fork(&id) {
                    let started = Started { pid, addresses: Vec::new(), publishing: Vec::new() };
                    self.agent.launched(&id, started, now);
                }
            }
            Pending::Probe(id) => {
                let runs = machine.containers.get(&id).is_some_and(|c| c.stage == Stage::Running);
                let answer = if runs { Answer::Well } else { Answer::Unwell("refused".to_owned()) };
                self.agent.probed(&id, answer, now);
            }
            Pending::Watch(id) => {
                let stage = machine.containers.get(&id).map(|container| container.stage);
                let exit = match stage {
                    Some(Stage::Ended(exit)) => exit,
                    Some(_) => return,
                    None => Exit::Unknown,
                };
                self.agent.ended(&id, &Ended { exit, out_of_memory: None }, now);
            }
        }
    }

    /// A container's task ended by itself.
    pub fn task_dies(&mut self, id: &ContainerId, exit: Exit, machine: &mut Machine, now: Now) {
        if let Some(found) = machine.containers.get_mut(id) {
            found.stage = Stage::Ended(exit);
        }
        self.agent.ended(id, &Ended { exit, out_of_memory: None }, now);
    }

    /// Task ids that names and VIPs know as running.
    #[must_use]
    pub fn announced(&self) -> Vec<String> {
        let task = |(_, _, fact): (_, _, &Fact)| match fact {
            Fact::Task(task) if task.takes_clients() => Some(task.task_id.to_string()),
            _ => None,
        };
        self.view.facts().filter_map(task).collect()
    }

    /// Carries an effect out; what the master is to be told is returned.
    pub(crate) fn carry_out(
        &mut self,
        effect: Effect,
        machine: &mut Machine,
        dice: &mut Dice,
        now: Now,
    ) -> Option<ToMaster> {
        let at = now.mono + Duration::from_millis(1 + dice.draw() % 300);
        let mut soon = |what: Pending| self.pending.push((at, what));
        match effect {
            Effect::ToMaster(message) => return Some(*message),
            Effect::Checkpoint(record) => {
                if let Ok(bytes) = record.to_bytes() {
                    machine.records.insert(record.container.clone(), bytes);
                }
            }
            Effect::Forget(id) => drop(machine.records.remove(&id)),
            Effect::SaveId(id) => machine.save(AGENT_ID.into(), Some(id.as_str().into())),
            Effect::SaveOrders(orders) => machine.save(AGENT_ORDERS.into(), orders),
            Effect::Launch(order) => {
                let of = |name: &str| order.spec.environment.get(name).cloned().unwrap_or_default();
                let task = (of("MESOS_FRAMEWORK_ID"), of("MESOS_EXECUTOR_ID"));
                machine.prepare(&order.container, task);
                soon(Pending::Fork(order.container));
            }
            Effect::Watch(id) => soon(Pending::Watch(id)),
            Effect::Signal(id, signal) => {
                let found = machine.containers.get_mut(&id)?;
                found.told = true;
                // Some tasks do not listen to anything but SIGKILL.
                if found.stage == Stage::Running && (signal == SIGKILL || dice.below(3) > 0) {
                    found.stage = Stage::Ended(Exit::Signal(signal));
                    soon(Pending::Watch(id));
                }
            }
            Effect::Destroy(id) => drop(machine.containers.remove(&id)),
            Effect::Probe(probe) => soon(Pending::Probe(probe.container)),
            Effect::Fact(key, fact) => {
                if let Some(entry) = self.log.say(key, fact.map(|fact| *fact)) {
                    self.view.apply(entry);
                }
            }
            // Addresses are no part of these lives.
            Effect::Overlay(_) => {}
        }
        None
    }
}

fn settings(name: &str) -> Settings {
    let total = Resources::parse("cpus:4;mem:4096;ports:[31000-31099]").unwrap_or_default();
    Settings {
        info: v1::AgentInfo {
            hostname: name.into(),
            resources: resources::to_v1(&total),
            ..v1::AgentInfo::default()
        },
        address: ADDRESS,
        port: 5051,
        local_networks: BTreeSet::new(),
        work_dir: "/w".into(),
        run_root: "/r".into(),
        cpu_limit: CpuLimit::Shares,
        pids: 1024,
    }
}
