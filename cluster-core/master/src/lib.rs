//! The master as a value: frameworks, agents, offers, operations, reconciliation.
//!
//! What frameworks and agents say goes in through [`Master::scheduler_call`] and
//! [`Master::agent_message`], what is to be done comes out of
//! [`Master::poll_effect`], in order. Offers are made when nothing else is left to
//! be done, so that what happens together is looked at together.
//!
//! ```text
//! calls.rs      the gate, and one method per call     subscription.rs  SUBSCRIBE, disconnection
//! framework.rs  what is known of a framework          agent.rs         agents come and come back
//! task.rs       what is known of a task               presence.rs      agents stay away
//! offers.rs     OFFERS, RESCIND, DECLINE, REVIVE      operations.rs    ACCEPT
//! updates.rs    status updates, KILL, ACKNOWLEDGE     reconciliation.rs
//! operator.rs   what operators ask for              drain.rs        agents end their tasks
//! maintenance.rs machines (machine.rs) go and return   inverse.rs      frameworks are asked to leave
//! removal.rs    agents are removed and kept out     ways.rs           agents of other nodes
//! validation.rs what a task or framework must be      registry.rs      what outlives the process
//! overlay.rs    who has which blocks of the overlays   overlays.rs  agents are told of theirs
//! view.rs       what people and resolvers read        metrics.rs
//! ```
//!
//! A master that starts anew knows from its registry which agents there were. The
//! rest it learns from them and from the frameworks that subscribe again.

mod agent;
mod calls;
mod drain;
mod framework;
mod inverse;
mod machine;
mod maintenance;
mod metrics;
mod offers;
mod operations;
mod operator;
pub mod overlay;
mod overlays;
mod presence;
mod reconciliation;
pub mod registry;
mod removal;
mod subscription;
mod task;
mod timers;
mod updates;
mod validation;
pub mod view;
pub mod ways;

use agent::Agent;
use framework::Framework;
use inverse::InverseOffer;
use machine::Machine;
use metrics::Counters;
use mizzen_allocator::Allocator;
use mizzen_api::link::ToAgent;
use mizzen_api::v1;
use mizzen_types::fact::{Fact, Key, LeaderFact};
use mizzen_types::ids::{AgentId, FrameworkId, OfferId, OwnerId};
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now};
use offers::Offer;
use overlay::Overlays;
use registry::{Registry, Saved};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;
use timers::{Alarm, Timers};

pub use agent::AgentError;
pub use operator::OperatorReply;
pub use overlays::ReleaseError;

/// A way to an agent, as the shell numbers them; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What does not change while a master runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its id, new with each start: the ids that it gives begin with it.
    pub master_id: String,
    /// How its machine calls itself.
    pub hostname: String,
    /// Where its API listens.
    pub address: IpAddr,
    /// TCP port of its API.
    pub port: u16,
    /// TCP port of the service scheduler's API, if that runs beside it.
    pub services_port: Option<u16>,
    /// What it says that its version is.
    pub version: String,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// Time between batches of offers.
    pub allocation_interval: Duration,
    /// Time between heartbeats on a framework's stream.
    pub heartbeat: Duration,
    /// How long the agents that a new master knows from its registry may take to come back.
    pub agent_reregister: Duration,
    /// Time between two questions whether an agent is there.
    pub agent_ping_timeout: Duration,
    /// After so many of them without an answer it is unreachable.
    pub max_agent_ping_timeouts: u32,
    /// How many frameworks that are gone are remembered.
    pub max_completed_frameworks: usize,
    /// How many tasks that are gone are remembered of each framework.
    pub max_completed_tasks: usize,
    /// How many tasks on unreachable agents are remembered of each framework.
    pub max_unreachable_tasks: usize,
    /// What `/flags` and `/state` show.
    pub flags: BTreeMap<String, String>,
    /// Decides the order of agents in allocation runs.
    pub seed: u64,
}

impl Settings {
    /// The settings that Mesos has by default.
    pub fn new(
        master_id: impl Into<String>,
        hostname: impl Into<String>,
        address: IpAddr,
        port: u16,
    ) -> Self {
        Self {
            master_id: master_id.into(),
            hostname: hostname.into(),
            address,
            port,
            services_port: None,
            version: mizzen_api::MESOS_VERSION.to_owned(),
            cluster: None,
            allocation_interval: Duration::from_secs(1),
            heartbeat: Duration::from_secs(15),
            agent_reregister: Duration::from_secs(600),
            agent_ping_timeout: Duration::from_secs(15),
            max_agent_ping_timeouts: 5,
            max_completed_frameworks: 50,
            max_completed_tasks: 1000,
            max_unreachable_tasks: 1000,
            flags: BTreeMap::new(),
            seed: 0,
        }
    }
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell a framework.
    Event {
        /// Its stream.
        stream_id: String,
        /// What.
        event: Box<v1::scheduler::Event>,
    },
    /// End a framework's stream, after what was told before.
    CloseStream {
        /// Which one.
        stream_id: String,
    },
    /// Tell an agent.
    ToAgent {
        /// The way to it.
        link: LinkId,
        /// What.
        message: Box<ToAgent>,
    },
    /// Keep a record of the registry, durably before any effect that follows.
    Save {
        /// Its name, below [`registry::PREFIX`].
        key: String,
        /// Its contents; `None` removes it.
        value: Option<Vec<u8>>,
    },
    /// A record stays as it was before because what it should be cannot be written; the text
    /// says which one and why. No such record is known.
    Lost(String),
    /// Say this in the master's owner log.
    Fact {
        /// What it is about.
        key: Key,
        /// What is said; `None` takes it back.
        value: Option<Box<Fact>>,
    },
}

/// What becomes of a framework's call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchedulerReply {
    /// It is done; what came of it are events.
    Accepted,
    /// It is not done.
    Refused {
        /// HTTP status.
        status: u16,
        /// Why, as a sentence.
        text: String,
    },
    /// A stream begins. Its events follow as effects, also if the first and last
    /// one is an error.
    Subscribed {
        /// Id of the stream.
        stream_id: String,
    },
}

/// One master.
#[derive(Debug)]
pub struct Master {
    settings: Settings,
    started: Now,
    now: Now,
    frameworks: BTreeMap<FrameworkId, Framework>,
    completed: VecDeque<Framework>,
    streams: BTreeMap<String, FrameworkId>,
    agents: BTreeMap<AgentId, Agent>,
    links: BTreeMap<LinkId, Link>,
    registry: Registry,
    overlays: Option<Overlays>,
    offers: BTreeMap<OfferId, Offer>,
    inverse_offers: BTreeMap<OfferId, InverseOffer>,
    allocator: Allocator,
    effects: VecDeque<Effect>,
    timers: Timers,
    counters: Counters,
    numbers: Numbers,
    dice: Dice,
}

/// A way to an agent, which may not have introduced itself yet.
#[derive(Debug)]
struct Link {
    /// The node at its end, as its certificate names it.
    node: OwnerId,
    peer: IpAddr,
    agent: Option<AgentId>,
    /// The machine of the agent, if it introduced itself and was not let in.
    kept_out: Option<Machine>,
}

/// Counters of the ids that were given.
#[derive(Debug, Default)]
struct Numbers {
    framework: u64,
    agent: u64,
    offer: u64,
    observation: u64,
}

impl Master {
    /// A master that leads from now on. Agents of the registry have
    /// [`Settings::agent_reregister`] to come back.
    #[must_use]
    pub fn new(settings: Settings, registry: Registry, now: Now) -> Self {
        let allocation = mizzen_allocator::Settings {
            interval: settings.allocation_interval,
            ..mizzen_allocator::Settings::default()
        };
        let mut master = Self {
            allocator: Allocator::new(allocation, now.mono),
            dice: Dice::new(settings.seed),
            started: now,
            now,
            frameworks: BTreeMap::new(),
            completed: VecDeque::new(),
            streams: BTreeMap::new(),
            agents: BTreeMap::new(),
            links: BTreeMap::new(),
            registry,
            overlays: None,
            offers: BTreeMap::new(),
            inverse_offers: BTreeMap::new(),
            effects: VecDeque::new(),
            timers: Timers::default(),
            counters: Counters::default(),
            numbers: Numbers::default(),
            settings,
        };
        master.say_who_leads();
        master.say_who_is_gone();
        master.timers.set(now.mono + master.settings.agent_reregister, Alarm::Recovery);
        master.timers.set(now.mono + registry::GC_INTERVAL, Alarm::RegistryGc);
        master.follow_maintenance();
        master
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() && self.allocator.is_run_due() {
            self.make_offers();
        }
        self.effects.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        [self.timers.next(), self.allocator.poll_deadline()].into_iter().flatten().min()
    }

    /// Deadlines that have passed are acted upon.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        while self.allocator.poll_deadline().is_some_and(|at| at <= now.mono) {
            self.allocator.handle_timeout(now.mono);
            self.make_offers();
        }
        for alarm in self.timers.take_due(now.mono) {
            match alarm {
                Alarm::Heartbeat(stream_id) => self.heartbeat(&stream_id),
                Alarm::Failover(framework, stream) => self.failover_timed_out(&framework, stream),
                Alarm::Silence(framework) => self.stop_expecting(&framework),
                Alarm::Ping(agent, observation) => self.observe(&agent, observation),
                Alarm::Recovery => self.recovery_timed_out(),
                Alarm::RegistryGc => self.collect_registry(),
                Alarm::Maintenance => self.follow_maintenance(),
            }
        }
    }

    /// Whether there is such a framework that has not been removed.
    #[must_use]
    pub fn knows_framework(&self, id: &FrameworkId) -> bool {
        self.frameworks.contains_key(id)
    }

    fn say_who_leads(&mut self) {
        let leader = LeaderFact {
            hostname: self.settings.hostname.clone(),
            address: self.settings.address,
            port: self.settings.port,
            services: self.settings.services_port,
        };
        let value = Some(Box::new(Fact::Leader(leader)));
        self.effects.push_back(Effect::Fact { key: Key::Leader, value });
    }

    /// Tells a framework, if it listens.
    fn send(&mut self, framework: &FrameworkId, event: v1::scheduler::Event) {
        let Some(framework) = self.frameworks.get_mut(framework) else { return };
        let Some(stream_id) = framework.stream_id().map(str::to_owned) else { return };
        framework.counters.event(event.r#type());
        self.effects.push_back(Effect::Event { stream_id, event: Box::new(event) });
    }

    /// Tells an agent, if there is a way to it.
    fn tell_agent(&mut self, agent: &AgentId, message: ToAgent) {
        let Some(link) = self.agents.get(agent).and_then(|agent| agent.link) else { return };
        self.effects.push_back(Effect::ToAgent { link, message: Box::new(message) });
    }

    fn save_agent(&mut self, agent: &AgentId) {
        self.save(self.registry.record(agent));
    }

    fn save(&mut self, Saved { key, value }: Saved) {
        self.effects.push_back(match value {
            Ok(value) => Effect::Save { key, value },
            Err(error) => Effect::Lost(format!("cannot write the registry record {key}: {error}")),
        });
    }
}

#[cfg(test)]
mod tests;
