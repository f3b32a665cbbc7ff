//! The daemon's loop as a value: effects are carried out one by one, and a crash may
//! come between any two.

use crate::machine::{Machine, Stage};
use mizzen_agent::task::{Ended, Started};
use mizzen_agent::{Agent, Answer, CpuLimit, Effect, Orders, Settings};
use mizzen_api::{resources, v1};
use mizzen_master::registry::{PREFIX, Registry};
use mizzen_master::{LinkId, Master, OperatorReply, SchedulerReply};
use mizzen_membership::log::OwnerLog;
use mizzen_membership::view::View;
use mizzen_services::{Reply, Request, Services};
use mizzen_types::container::Exit;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::ContainerId;
use mizzen_types::random::Dice;
use mizzen_types::resources::Resources;
use mizzen_types::time::{Mono, Now};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const LINK: LinkId = LinkId(0);
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SERVICES: &str = "services/";
/// Key of the agent's id in the store.
pub const AGENT_ID: &str = "agent/id";
const AGENT_ORDERS: &str = "agent/orders";
const SIGKILL: i32 = 9;

/// Something that takes a while and then happens.
#[derive(Debug, Clone)]
enum Pending {
    Fork(ContainerId),
    Probe(ContainerId),
    Watch(ContainerId),
}

/// The daemon died between two effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crashed;

/// One process of the daemon.
#[derive(Debug)]
pub struct Node {
    master: Master,
    agent: Agent,
    services: Services,
    stream: Option<String>,
    log: OwnerLog,
    view: View,
    pending: Vec<(Mono, Pending)>,
    /// Effects until the crash; `None` never crashes.
    fuse: Option<u32>,
    streams: u64,
}

impl Node {
    /// Starts on what a former process left.
    ///
    /// # Errors
    ///
    /// [`Crashed`] if the fuse burnt down during the start.
    pub fn start(
        machine: &mut Machine,
        dice: &mut Dice,
        now: Now,
        fuse: Option<u32>,
    ) -> Result<Self, Crashed> {
        let id = machine.store.get(AGENT_ID).map(|id| String::from_utf8_lossy(id).into_owned());
        let mut agent = Agent::new(agent_settings(), id.map(Into::into), dice.draw(), now);
        if let Some(orders) = machine.store.get(AGENT_ORDERS) {
            agent.adopt_orders(Orders::from_bytes(orders).unwrap_or_else(|_| Orders::serve()));
        }
        agent.recover(machine.read_records(), machine.found(), now);
        let settings = mizzen_master::Settings::new(dice.uuid(), "node", ADDRESS, 5050);
        let registry = machine.store.iter().filter(|(key, _)| key.starts_with(PREFIX));
        let registry = registry.map(|(key, value)| (key.clone(), value.clone()));
        let registry = Registry::from_records(registry).unwrap_or_default();
        let mut master = Master::new(settings, registry, now);
        master.agent_connected(LINK, "node".into(), ADDRESS, now);
        agent.master_connected();
        let saved = machine.store.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix(SERVICES)?.to_owned(), value.clone()))
        });
        let services = mizzen_services::Settings::default();
        let services = match Services::new(services, saved.collect(), dice.draw(), now) {
            Ok(services) => services,
            Err(error) => unreadable(&error),
        };
        let mut node = Self {
            master,
            agent,
            services,
            stream: None,
            log: OwnerLog::new("node".into(), now.mono.0),
            view: View::default(),
            pending: Vec::new(),
            fuse,
            streams: 0,
        };
        let call = node.services.subscribe_call();
        node.call(call, now);
        node.settle(machine, dice, now)?;
        Ok(node)
    }

    /// From now on it lives for so many more effects.
    pub fn set_fuse(&mut self, fuse: Option<u32>) {
        self.fuse = fuse;
    }

    /// A request to the Marathon API.
    ///
    /// # Errors
    ///
    /// [`Crashed`], before or after the request took effect.
    pub fn request(
        &mut self,
        request: &Request<'_>,
        machine: &mut Machine,
        dice: &mut Dice,
        now: Now,
    ) -> Result<Reply, Crashed> {
        let reply = self.services.handle_request(request, now);
        self.settle(machine, dice, now)?;
        Ok(reply)
    }

    /// An operator's call to the master.
    ///
    /// # Errors
    ///
    /// [`Crashed`], before or after the call took effect.
    pub fn operate(
        &mut self,
        call: v1::master::Call,
        machine: &mut Machine,
        dice: &mut Dice,
        now: Now,
    ) -> Result<OperatorReply, Crashed> {
        let reply = self.master.operator_call(call, now);
        self.settle(machine, dice, now)?;
        Ok(reply)
    }

    /// Whether the master shows the agent as drained.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let slaves = self.master.slaves(None);
        slaves["slaves"][0]["drain_info"]["state"] == "DRAINED"
    }

    /// A container's task ended by itself.
    ///
    /// # Errors
    ///
    /// [`Crashed`].
    pub fn task_dies(
        &mut self,
        container: &ContainerId,
        exit: Exit,
        machine: &mut Machine,
        dice: &mut Dice,
        now: Now,
    ) -> Result<(), Crashed> {
        if let Some(found) = machine.containers.get_mut(container) {
            found.stage = Stage::Ended(exit);
        }
        self.agent.ended(container, &Ended { exit, out_of_memory: None }, now);
        self.settle(machine, dice, now)
    }

    /// When something is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let pending = self.pending.iter().map(|(at, _)| *at).min();
        let parts = [
            self.master.poll_deadline(),
            self.agent.poll_deadline(),
            self.services.poll_deadline(),
            pending,
        ];
        parts.into_iter().flatten().min()
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// [`Crashed`].
    pub fn turn(
        &mut self,
        machine: &mut Machine,
        dice: &mut Dice,
        now: Now,
    ) -> Result<(), Crashed> {
        let (due, later) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, _)| *at <= now.mono);
        self.pending = later;
        for (_, pending) in due {
            self.happen(pending, machine, now);
            self.settle(machine, dice, now)?;
        }
        self.master.handle_timeout(now);
        self.agent.handle_timeout(now);
        self.services.handle_timeout(now);
        self.settle(machine, dice, now)
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

    fn happen(&mut self, pending: Pending, machine: &mut Machine, now: Now) {
        match pending {
            Pending::Fork(id) => {
                if let Some(pid) = machine.fork(&id) {
                    self.agent.launched(&id, Started { pid, addresses: Vec::new() }, now);
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

    fn settle(&mut self, machine: &mut Machine, dice: &mut Dice, now: Now) -> Result<(), Crashed> {
        loop {
            if let Some(effect) = self.master.poll_effect() {
                self.burn()?;
                self.master_effect(effect, machine, now);
            } else if let Some(effect) = self.agent.poll_effect() {
                self.burn()?;
                self.agent_effect(effect, machine, dice, now);
            } else if let Some(effect) = self.services.poll_effect() {
                self.burn()?;
                match effect {
                    mizzen_services::Effect::Save { key, value } => {
                        save(machine, format!("{SERVICES}{key}"), value);
                    }
                    mizzen_services::Effect::Call(call) => self.call(*call, now),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn burn(&mut self) -> Result<(), Crashed> {
        match self.fuse.as_mut() {
            Some(0) => Err(Crashed),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn call(&mut self, call: v1::scheduler::Call, now: Now) {
        self.streams += 1;
        let (stream, fresh) = (self.stream.clone(), format!("stream-{}", self.streams));
        match self.master.scheduler_call(call, stream.as_deref(), fresh, now) {
            SchedulerReply::Subscribed { stream_id } => self.stream = Some(stream_id),
            SchedulerReply::Accepted => {}
            SchedulerReply::Refused { status, text } => refused(status, &text),
        }
    }

    fn master_effect(&mut self, effect: mizzen_master::Effect, machine: &mut Machine, now: Now) {
        use mizzen_master::Effect as E;
        match effect {
            E::Event { event, .. } => self.services.handle_event(*event, now),
            E::CloseStream { .. } => {
                self.services.disconnected(now);
                self.stream = None;
                let call = self.services.subscribe_call();
                self.call(call, now);
            }
            E::ToAgent { message, .. } => self.agent.handle_master(*message, now),
            E::Save { key, value } => save(machine, key, value),
            E::Fact { .. } => {}
        }
    }

    fn agent_effect(&mut self, effect: Effect, machine: &mut Machine, dice: &mut Dice, now: Now) {
        let at = now.mono + Duration::from_millis(1 + dice.draw() % 300);
        let mut soon = |what: Pending| self.pending.push((at, what));
        match effect {
            Effect::ToMaster(message) => {
                if let Err(error) = self.master.agent_message(LINK, *message, now) {
                    refused(0, &error.to_string());
                }
            }
            Effect::Checkpoint(record) => {
                if let Ok(bytes) = record.to_bytes() {
                    machine.records.insert(record.container.clone(), bytes);
                }
            }
            Effect::Forget(id) => drop(machine.records.remove(&id)),
            Effect::SaveId(id) => save(machine, AGENT_ID.into(), Some(id.as_str().into())),
            // Addresses are no part of these lives.
            Effect::Overlay(_) => {}
            Effect::SaveOrders(orders) => save(machine, AGENT_ORDERS.into(), orders),
            Effect::Launch(order) => {
                let of = |name: &str| order.spec.environment.get(name).cloned().unwrap_or_default();
                let task = (of("MESOS_FRAMEWORK_ID"), of("MESOS_EXECUTOR_ID"));
                machine.prepare(&order.container, task);
                soon(Pending::Fork(order.container));
            }
            Effect::Watch(id) => soon(Pending::Watch(id)),
            Effect::Signal(id, signal) => {
                let Some(found) = machine.containers.get_mut(&id) else { return };
                found.told = true;
                // Some tasks do not listen to anything but SIGKILL.
                if found.stage == Stage::Running && (signal == SIGKILL || dice.below(3) > 0) {
                    found.stage = Stage::Ended(Exit::Signal(signal));
                    soon(Pending::Watch(id));
                }
            }
            Effect::Destroy(id) => drop(machine.containers.remove(&id)),
            Effect::Probe(probe) => soon(Pending::Probe(probe.container)),
            Effect::Fact(key, fact) => self.say(key, fact.map(|fact| *fact)),
        }
    }

    fn say(&mut self, key: Key, fact: Option<Fact>) {
        if let Some(entry) = self.log.say(key, fact) {
            self.view.apply(entry);
        }
    }
}

fn save(machine: &mut Machine, key: String, value: Option<Vec<u8>>) {
    match value {
        Some(value) => drop(machine.store.insert(key, value)),
        None => drop(machine.store.remove(&key)),
    }
}

fn agent_settings() -> Settings {
    let total = Resources::parse("cpus:4;mem:4096;ports:[31000-31099]").unwrap_or_default();
    Settings {
        info: v1::AgentInfo {
            hostname: "node".into(),
            resources: resources::to_v1(&total),
            ..v1::AgentInfo::default()
        },
        address: ADDRESS,
        port: 5051,
        work_dir: "/w".into(),
        run_root: "/r".into(),
        cpu_limit: CpuLimit::Shares,
        pids: 1024,
    }
}

/// What the state of one part tells of another's mistake ends the simulation.
#[allow(clippy::panic, reason = "this is a test's judgement")]
fn refused(status: u16, text: &str) {
    panic!("a call was refused ({status}): {text}");
}

#[allow(clippy::panic, reason = "this is a test's judgement")]
fn unreadable(error: &mizzen_services::SavedStateError) -> ! {
    panic!("the saved state is unreadable: {error}");
}

/// What is known of the node's tasks, by id.
#[must_use]
pub fn live_by_task(machine: &Machine) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for (_, task) in machine.running() {
        *count.entry(task.clone()).or_default() += 1;
    }
    count
}
