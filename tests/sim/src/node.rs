//! The daemon's loop as a value: effects are carried out one by one, and a crash may
//! come between any two.

use crate::machine::Machine;
use crate::worker::{ADDRESS, Pending, Worker};
use mizzen_api::link::ToMaster;
use mizzen_api::v1;
use mizzen_master::registry::{PREFIX, Registry};
use mizzen_master::ways::{WayError, Ways};
use mizzen_master::{LinkId, Master, OperatorReply, SchedulerReply};
use mizzen_services::{Reply, Request, Services};
use mizzen_types::container::Exit;
use mizzen_types::ids::{ContainerId, OwnerId};
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now};

const LINK: LinkId = LinkId(0);
/// Its name in the owner logs.
pub const NAME: &str = "node";
const SERVICES: &str = "services/";

/// The daemon died between two effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crashed;

/// One process of the daemon.
#[derive(Debug)]
pub struct Node {
    master: Master,
    ways: Ways,
    worker: Worker,
    services: Services,
    stream: Option<String>,
    /// What is to be sent to agents of other nodes.
    outbox: Vec<(OwnerId, Vec<u8>)>,
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
        let mut worker = Worker::start(NAME, machine, dice, now);
        let settings = mizzen_master::Settings::new(dice.uuid(), "node", ADDRESS, 5050);
        let registry = machine.store.iter().filter(|(key, _)| key.starts_with(PREFIX));
        let registry = registry.map(|(key, value)| (key.clone(), value.clone()));
        let registry = Registry::from_records(registry).unwrap_or_default();
        let mut master = Master::new(settings, registry, now);
        master.agent_connected(LINK, NAME.into(), ADDRESS, now);
        worker.agent.master_connected();
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
            ways: Ways::new(LinkId(1)),
            worker,
            services,
            stream: None,
            outbox: Vec::new(),
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
        self.worker.task_dies(container, exit, machine, now);
        self.settle(machine, dice, now)
    }

    /// When something is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let parts =
            [self.master.poll_deadline(), self.worker.deadline(), self.services.poll_deadline()];
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
        for pending in self.worker.take_due(now) {
            self.happen(pending, machine, now);
            self.settle(machine, dice, now)?;
        }
        self.master.handle_timeout(now);
        self.worker.agent.handle_timeout(now);
        self.services.handle_timeout(now);
        self.settle(machine, dice, now)
    }

    /// Task ids that names and VIPs know as running.
    #[must_use]
    pub fn announced(&self) -> Vec<String> {
        self.worker.announced()
    }

    /// A frame of an agent on another node came.
    ///
    /// # Errors
    ///
    /// [`Crashed`].
    pub fn receive(
        &mut self,
        from: &OwnerId,
        bytes: &[u8],
        machine: &mut Machine,
        dice: &mut Dice,
        now: Now,
    ) -> Result<(), Crashed> {
        let taken = self.ways.receive(&mut self.master, (from, ADDRESS), bytes, now);
        if let Some(error @ (WayError::Frame(_) | WayError::Unknown)) = taken.problem {
            refused(0, &error.to_string());
        }
        self.outbox.extend(taken.answer.map(|answer| (from.clone(), answer)));
        self.settle(machine, dice, now)
    }

    /// The connection to another node broke.
    ///
    /// # Errors
    ///
    /// [`Crashed`].
    pub fn broken(
        &mut self,
        to: &OwnerId,
        machine: &mut Machine,
        dice: &mut Dice,
        now: Now,
    ) -> Result<(), Crashed> {
        self.ways.close(&mut self.master, to, now);
        self.settle(machine, dice, now)
    }

    /// What is to be sent to agents of other nodes.
    pub fn take_sent(&mut self) -> Vec<(OwnerId, Vec<u8>)> {
        std::mem::take(&mut self.outbox)
    }

    fn happen(&mut self, pending: Pending, machine: &mut Machine, now: Now) {
        self.worker.happen(pending, machine, now);
    }

    fn settle(&mut self, machine: &mut Machine, dice: &mut Dice, now: Now) -> Result<(), Crashed> {
        loop {
            if let Some(effect) = self.master.poll_effect() {
                self.burn()?;
                self.master_effect(effect, machine, now);
            } else if let Some(effect) = self.worker.agent.poll_effect() {
                self.burn()?;
                if let Some(message) = self.worker.carry_out(effect, machine, dice, now) {
                    self.tell_master(message, now);
                }
            } else if let Some(effect) = self.services.poll_effect() {
                self.burn()?;
                match effect {
                    mizzen_services::Effect::Save { key, value } => {
                        machine.save(format!("{SERVICES}{key}"), value);
                    }
                    mizzen_services::Effect::Lost(text) => unreachable!("{text}"),
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
            E::ToAgent { link: LINK, message } => self.worker.agent.handle_master(*message, now),
            E::ToAgent { link, message } => self.outbox.extend(self.ways.frame(link, *message)),
            E::Save { key, value } => machine.save(key, value),
            E::Lost(text) => unreachable!("{text}"),
            E::Fact { .. } => {}
        }
    }

    fn tell_master(&mut self, message: ToMaster, now: Now) {
        if let Err(error) = self.master.agent_message(LINK, message, now) {
            refused(0, &error.to_string());
        }
    }
}

/// A request to the Marathon API that stops whatever else is going on with its apps.
#[must_use]
pub fn forced<'a>(method: &'a str, path: &'a str, body: &'a str) -> Request<'a> {
    Request { method, path, query: "force=true", accept: "", body: body.as_bytes() }
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
