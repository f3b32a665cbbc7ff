//! Nodes on the network.

use crate::keys::QuickKeys;
use crate::network::{Event, Nanos, Network, SECOND};
use mizzen_membership::identity::Identity;
use mizzen_membership::membership::{Effect, Membership, Report, Settings};
use mizzen_membership::swim::{self, State};
use mizzen_membership::view::View;
use mizzen_types::fact::{Fact, Key, Version};
use mizzen_types::ids::OwnerId;
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now, Wall};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// One node.
pub struct Node {
    /// Its part in the cluster; `None` while it is dead.
    pub membership: Option<Membership>,
    /// What it knows.
    pub view: View,
    /// Its name.
    pub id: OwnerId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Of its present life.
    pub generation: u64,
    /// What it reported.
    pub reports: Vec<Report>,
    /// How far its clocks are from the network's time.
    pub mono_ahead: Nanos,
    /// The same of the wall clock, which may jump.
    pub wall_ahead: i64,
    /// Nothing happens in it until then.
    pub paused_until: Nanos,
    held: Vec<Event>,
    wake_at: Nanos,
}

/// Something that a node came to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// Of a node's state: who, about whom, what.
    State(usize, usize, State),
    /// Of an owner's log: who, whose, up to where.
    Log(usize, usize, Version),
}

/// The whole cluster.
pub struct Cluster {
    /// What lies between the nodes.
    pub network: Network,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// What was seen since somebody last took it, with the time.
    pub seen: Vec<(Nanos, Seen)>,
    /// Nodes that are started from now on keep what the dead said so long.
    pub keep: Duration,
    /// Chance of the one who plays with the cluster.
    pub dice: Dice,
    by_id: HashMap<OwnerId, usize>,
    by_address: HashMap<SocketAddr, usize>,
}

impl Cluster {
    /// `nodes` nodes that know each other and nothing else.
    ///
    /// # Panics
    ///
    /// If a node refuses the list of all nodes.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a list that was just written")]
    pub fn new(nodes: usize, loss: f64, seed: u64) -> Self {
        let mut cluster = Self {
            network: Network::new(0, loss, seed),
            nodes: Vec::new(),
            seen: Vec::new(),
            keep: Duration::from_secs(24 * 3600),
            dice: Dice::new(seed ^ 1),
            by_id: HashMap::new(),
            by_address: HashMap::new(),
        };
        for _ in 0..nodes {
            cluster.add();
        }
        let all: Vec<Identity> = cluster.nodes.iter().map(Node::identity).collect();
        let list = swim::list(all.iter());
        for node in 0..nodes {
            cluster.start(node);
            cluster.with(node, |membership, now| {
                membership.adopt(&list, now).expect("a list of members");
            });
        }
        cluster.seen.clear();
        cluster
    }

    /// One more node, which is not started.
    pub fn add(&mut self) -> usize {
        let index = self.nodes.len();
        let id = OwnerId::new(Dice::new(index as u64 + 1).uuid());
        let number = u32::try_from(index).unwrap_or(u32::MAX) + (10 << 24);
        let address = SocketAddr::from((number.to_be_bytes(), 62501));
        self.by_id.insert(id.clone(), index);
        self.by_address.insert(address, index);
        self.network.add();
        self.nodes.push(Node {
            membership: None,
            view: View::default(),
            id,
            address,
            generation: 0,
            reports: Vec::new(),
            mono_ahead: self.dice.below(1 << 50) as u64,
            wall_ahead: 0,
            paused_until: 0,
            held: Vec::new(),
            wake_at: Nanos::MAX,
        });
        index
    }

    /// A copy of a node's machine at an address of its own, which is not started.
    pub fn copy(&mut self, of: usize) -> usize {
        let index = self.add();
        self.by_id.remove(&self.nodes[index].id);
        self.nodes[index].id = self.nodes[of].id.clone();
        self.nodes[index].generation = self.nodes[of].generation;
        index
    }

    /// Starts a node in its next generation.
    pub fn start(&mut self, node: usize) {
        let generation = self.nodes[node].generation + 1;
        self.start_as(node, generation);
    }

    /// Starts a node in a generation.
    pub fn start_as(&mut self, node: usize, generation: u64) {
        let (seed, time) = (self.dice.draw(), self.network.now);
        let entry = &mut self.nodes[node];
        entry.generation = generation;
        let mut settings = Settings::new(entry.identity(), seed);
        settings.keep = self.keep;
        let keys = Box::new(QuickKeys(entry.id.clone()));
        let mut membership = Membership::new(settings, keys, entry.now(time));
        membership.open(&entry.id, generation);
        entry.membership = Some(membership);
        entry.view = View::default();
        entry.wake_at = Nanos::MAX;
        self.settle(node);
    }

    /// Ends a node, without a word.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].membership = None;
    }

    /// Lets a node stand still for a while; datagrams wait for it.
    pub fn pause(&mut self, node: usize, span: Nanos) {
        self.nodes[node].paused_until = self.network.now + span;
        let until = self.nodes[node].paused_until;
        self.network.wake(node, until);
    }

    /// Lets a node ask another one for everything.
    pub fn join(&mut self, node: usize, by: usize) {
        let by = self.nodes[by].id.clone();
        self.with(node, |membership, now| membership.join(&by, now));
    }

    /// Sends a node a message in the name of another one.
    pub fn inject_message(&mut self, node: usize, from: usize, bytes: &[u8]) {
        let from = self.nodes[from].id.clone();
        self.with(node, |membership, now| membership.handle_message(&from, bytes, now));
    }

    /// Sends a node a datagram.
    pub fn inject_datagram(&mut self, node: usize, bytes: &[u8]) {
        let from = SocketAddr::from(([10, 255, 255, 1], 1));
        self.with(node, |membership, now| membership.handle_datagram(from, bytes, now));
    }

    /// What `node` knows that `owner` says.
    #[must_use]
    pub fn said(&self, node: usize, owner: usize) -> Vec<(Key, Fact)> {
        let facts = self.nodes[node].view.facts().filter(|(id, ..)| **id == self.nodes[owner].id);
        facts.map(|(_, key, fact)| (key.clone(), fact.clone())).collect()
    }

    /// Moves a datagram's way: what is sent to `address` arrives at `node` from now on.
    pub fn route(&mut self, address: SocketAddr, node: usize) {
        self.by_address.insert(address, node);
    }

    /// Does something with a node's membership, and what follows from it.
    pub fn with<T>(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Membership, Now) -> T,
    ) -> Option<T> {
        let entry = &mut self.nodes[node];
        let now = entry.now(self.network.now);
        let done = entry.membership.as_mut().map(|membership| act(membership, now));
        self.settle(node);
        done
    }

    /// Says something in a node's own log, and lets others hear of all in it.
    pub fn say(&mut self, node: usize, key: Key, fact: Option<&Fact>) {
        let id = self.nodes[node].id.clone();
        self.with(node, |membership, now| {
            let said = membership.say(&id, key, fact, now);
            assert!(said.is_ok(), "{said:?}");
            membership.publish(now);
        });
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Nanos) {
        let end = self.network.now + span;
        while let Some((node, event)) = self.network.next(end) {
            self.handle(node, event);
        }
    }

    /// Lets time pass until something holds, which is looked at every tenth of a second.
    /// How long it took; `None` if it does not hold in time.
    pub fn run_until(&mut self, limit: Nanos, holds: impl Fn(&Self) -> bool) -> Option<Nanos> {
        let start = self.network.now;
        while !holds(self) {
            if self.network.now - start >= limit {
                return None;
            }
            self.run(SECOND / 10);
        }
        Some(self.network.now - start)
    }

    /// Live nodes.
    pub fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].membership.is_some())
    }

    /// What `node` takes `other` for.
    #[must_use]
    pub fn state(&self, node: usize, other: usize) -> Option<State> {
        let membership = self.nodes[node].membership.as_ref()?;
        Some(membership.nodes().get(&self.nodes[other].id)?.state)
    }

    /// Whether all of `nodes` take all of them for alive.
    #[must_use]
    pub fn is_whole(&self, nodes: &[usize]) -> bool {
        nodes.iter().all(|a| nodes.iter().all(|b| self.state(*a, *b) == Some(State::Alive)))
    }

    fn handle(&mut self, node: usize, event: Event) {
        let time = self.network.now;
        let entry = &mut self.nodes[node];
        if time < entry.paused_until {
            if !matches!(event, Event::Wake) {
                entry.held.push(event);
            }
            return;
        }
        // What was held comes after the timer that is late: the harder order.
        let held = std::mem::take(&mut entry.held);
        self.take_in(node, event);
        for event in held {
            self.take_in(node, event);
        }
    }

    fn take_in(&mut self, node: usize, event: Event) {
        let time = self.network.now;
        let from = match &event {
            Event::Message { from, .. } => Some(self.nodes[*from].id.clone()),
            Event::Datagram { .. } | Event::Wake => None,
        };
        let entry = &mut self.nodes[node];
        let now = entry.now(time);
        let Some(membership) = &mut entry.membership else { return };
        match (event, from) {
            (Event::Datagram { from, bytes }, _) => membership.handle_datagram(from, &bytes, now),
            (Event::Message { bytes, .. }, Some(from)) => {
                membership.handle_message(&from, &bytes, now);
            }
            _ => {
                // Woken for an hour that was put off meanwhile.
                if time < entry.wake_at {
                    return;
                }
                entry.wake_at = Nanos::MAX;
                membership.handle_timeout(now);
            }
        }
        self.settle(node);
    }

    /// Carries out what a node wants done.
    fn settle(&mut self, node: usize) {
        let time = self.network.now;
        let entry = &mut self.nodes[node];
        let now = entry.now(time);
        while let Some(effect) = entry.membership.as_mut().and_then(Membership::poll_effect) {
            match effect {
                Effect::Datagram { to, bytes } => {
                    if let Some(to) = self.by_address.get(&to) {
                        self.network.datagram(node, entry.address, *to, bytes);
                    }
                }
                Effect::Message { to, bytes } => {
                    // As a real node: where it listens as far as is known, otherwise by name.
                    let membership = entry.membership.as_ref();
                    let known = membership.and_then(|membership| membership.nodes().get(&to));
                    let by_address =
                        known.and_then(|known| self.by_address.get(&known.identity.address));
                    if let Some(to) = by_address.or_else(|| self.by_id.get(&to)) {
                        self.network.message(node, *to, bytes);
                    }
                }
                Effect::Learned(learned) => {
                    let (owner, version) = (self.by_id.get(&learned.owner), learned.version);
                    let seen = owner.map(|owner| Seen::Log(node, *owner, version));
                    self.seen.extend(seen.map(|seen| (time, seen)));
                    entry.view.learn(learned, now);
                }
                Effect::Node(id, state) => {
                    if let Some(about) = self.by_id.get(&id) {
                        self.seen.push((time, Seen::State(node, *about, state)));
                    }
                    match state {
                        State::Alive | State::Suspect => entry.view.show(&id),
                        State::Dead | State::Left => entry.view.hide(&id),
                    };
                }
                Effect::Forgotten(id) => drop(entry.view.forget(&id)),
                Effect::Report(report) => entry.reports.push(report),
                Effect::Outlived { generation, .. } => entry.generation = generation,
                Effect::Renewed(_) => {}
            }
        }
        let deadline = entry.membership.as_ref().and_then(Membership::poll_deadline);
        if let Some(Mono(at)) = deadline {
            let at = at.saturating_sub(entry.mono_ahead).max(time);
            if at < entry.wake_at {
                entry.wake_at = at;
                self.network.wake(node, at);
            }
        }
    }
}

impl Node {
    /// Who it is in its present life.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(self.id.clone(), self.address, self.generation.max(1))
    }

    fn now(&self, time: Nanos) -> Now {
        let wall = 1_800_000_000 * SECOND + time;
        Now {
            mono: Mono(time + self.mono_ahead),
            wall: Wall(wall.saturating_add_signed(self.wall_ahead)),
        }
    }
}
