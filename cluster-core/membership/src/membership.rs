//! Membership of one node: who is alive, and what everybody says, as one value.
//!
//! [`Membership`] puts [`Swim`], [`Exchange`] and [`Nodes`] together: whoever is alive is
//! a peer of the exchange, a joining node gets members and logs from one peer, what the
//! dead said is kept for a while and then forgotten.

use crate::coding::Garbage;
use crate::exchange::{self, Exchange, Fault, Keys, Learned, Presence, Unsaid};
use crate::identity::{Identity, node_of};
use crate::nodes::Nodes;
use crate::swim::{self, State, Swim, Timings};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The same thing is reported once in so long.
const REPORT_AGAIN: Duration = Duration::from_secs(60);
/// And not more than so many things.
const MAX_REPORTS: usize = 32;
/// The dead are looked through this often.
const SWEEP: Duration = Duration::from_secs(60);

/// What a node starts with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who it is. The generation is larger than all that its node used before.
    pub me: Identity,
    /// Times of the membership protocol.
    pub timings: Timings,
    /// What a dead node said is kept so long.
    pub keep: Duration,
    /// Decides all chance.
    pub seed: u64,
}

impl Settings {
    /// The usual settings.
    #[must_use]
    pub fn new(me: Identity, seed: u64) -> Self {
        let timings = Timings::default();
        Self { me, keep: timings.forget, timings, seed }
    }
}

/// The next thing to do, or to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a datagram, at most [`MAX_DATAGRAM`](swim::MAX_DATAGRAM) bytes.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Send a message over a stream.
    Message {
        /// To which node; [`Membership::nodes`] knows where it listens.
        to: OwnerId,
        /// What.
        bytes: Vec<u8>,
    },
    /// An owner said something: for [`View::learn`](crate::view::View::learn).
    Learned(Learned),
    /// A node is in another state, life or place; [`Membership::nodes`] has it already.
    Node(OwnerId, State),
    /// A node is gone for good: for [`View::forget`](crate::view::View::forget).
    Forgotten(OwnerId),
    /// This node goes on in another life.
    Renewed(Identity),
    /// This node's log goes on in this generation, which is to be kept on disk.
    Outlived {
        /// Which log.
        owner: OwnerId,
        /// Its generation now.
        generation: u64,
    },
    /// Something that a person should know.
    Report(Report),
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// About who is who.
    Swim(swim::Report),
    /// About a peer.
    Peer(OwnerId, Fault),
    /// Several live nodes are believed to listen at one address.
    SharedAddress {
        /// The address.
        address: SocketAddr,
        /// The node that was heard of last.
        node: OwnerId,
    },
    /// A peer was asked for the members, and what it said is none.
    Members(Garbage),
}

/// Membership of one node.
#[derive(Debug)]
pub struct Membership {
    swim: Swim,
    exchange: Exchange,
    nodes: Nodes,
    keep: Duration,
    sweep_at: Mono,
    /// Nodes whose logs are here and of which nothing else was ever heard: since when.
    strangers: BTreeMap<OwnerId, Mono>,
    /// Whatever others say of these is no news.
    expelled: BTreeSet<OwnerId>,
    told: Vec<(Report, Mono)>,
    effects: VecDeque<Effect>,
}

impl Membership {
    /// A node that knows nobody yet.
    #[must_use]
    pub fn new(settings: Settings, keys: Box<dyn Keys>, now: Now) -> Self {
        let me = settings.me.clone();
        let mut nodes = Nodes::default();
        nodes.change(me.clone(), State::Alive, now);
        let exchange_seed = settings.seed ^ 0x6578_6368_616e_6765;
        Self {
            exchange: Exchange::new(me.node().clone(), keys, exchange_seed, now.mono),
            swim: Swim::new(me, settings.timings, settings.seed, now.mono),
            nodes,
            keep: settings.keep,
            sweep_at: now.mono + SWEEP,
            strangers: BTreeMap::new(),
            expelled: BTreeSet::new(),
            told: Vec::new(),
            effects: VecDeque::new(),
        }
    }

    /// Calls whoever listens at `addresses`, and again until somebody is known. Enough for
    /// a node that was a member before.
    pub fn call(&mut self, addresses: Vec<SocketAddr>, now: Now) {
        self.swim.join(addresses, now.mono);
        self.settle(now);
    }

    /// Asks `peer`, to which there is a stream, for all members and all logs.
    pub fn join(&mut self, peer: &OwnerId, now: Now) {
        self.exchange.join(peer, now.mono);
        self.settle(now);
    }

    /// All members that are known, for [`adopt`](Self::adopt).
    #[must_use]
    pub fn members(&self) -> Vec<u8> {
        self.swim.export()
    }

    /// Takes in the members that this node knew before it was restarted, or that somebody
    /// told it: from [`members`](Self::members) or [`swim::list`].
    ///
    /// # Errors
    ///
    /// [`Garbage`] if it is no such list.
    pub fn adopt(&mut self, members: &[u8], now: Now) -> Result<(), Garbage> {
        let adopted = self.swim.adopt(members, now.mono);
        self.settle(now);
        adopted
    }

    /// Says goodbye.
    pub fn leave(&mut self, now: Now) {
        self.swim.leave(now.mono);
        self.settle(now);
    }

    /// A node does not belong to the cluster any more: it is gone and forgotten at once,
    /// whoever still hears it.
    pub fn expel(&mut self, node: &OwnerId, now: Now) {
        if node == self.me().node() || !self.expelled.insert(node.clone()) {
            return;
        }
        self.exchange.set_peer(node, Presence::Away, now.mono);
        self.exchange.expel(node, now.mono);
        if self.nodes.remove(node) {
            self.exchange.set_members(self.nodes.digest());
            self.effects.push_back(Effect::Node(node.clone(), State::Left));
            self.effects.push_back(Effect::Forgotten(node.clone()));
        }
        self.settle(now);
    }

    /// Begins a log of this node, see [`Exchange::open`].
    pub fn open(&mut self, owner: &OwnerId, generation: u64) {
        self.exchange.open(owner, generation);
    }

    /// Says something in a log of this node, see [`Exchange::say`].
    ///
    /// # Errors
    ///
    /// [`Unsaid`] if no entry can hold the fact; then nothing is said of the key any more.
    pub fn say(
        &mut self,
        owner: &OwnerId,
        key: Key,
        fact: Option<&Fact>,
        now: Now,
    ) -> Result<(), Unsaid> {
        if let (Key::Node, fact) = (&key, fact) {
            self.nodes.describe(owner, node_fact(fact));
        }
        self.exchange.say(owner, key, fact, now.mono)
    }

    /// Lets others hear what this node says, see [`Exchange::publish`].
    pub fn publish(&mut self, now: Now) {
        self.exchange.publish(now.mono);
    }

    /// A datagram came, already unsealed.
    pub fn handle_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Now) {
        self.swim.handle_datagram(from, bytes, now.mono);
        if let Some(tag) = self.swim.take_heard() {
            self.nodes.hear(tag, now.mono);
        }
        if let Some((tag, span)) = self.swim.take_round_trip() {
            self.nodes.measure(tag, span);
        }
        self.settle(now);
    }

    /// A message came over the stream of `from`, which proved who it is.
    pub fn handle_message(&mut self, from: &OwnerId, bytes: &[u8], now: Now) {
        self.exchange.handle_message(from, bytes, now.mono);
        self.settle(now);
    }

    /// There is no way to `node` by streams at the moment, alive as it may be.
    pub fn handle_unreachable(&mut self, node: &OwnerId, now: Now) {
        self.exchange.lose(node, now.mono);
        self.settle(now);
    }

    /// The stream to a node ended, alive as it may be.
    pub fn handle_closed(&mut self, node: &OwnerId, now: Now) {
        self.exchange.handle_closed(node, now.mono);
        self.settle(now);
    }

    /// There is a stream to a node.
    pub fn handle_opened(&mut self, node: &OwnerId, now: Now) {
        self.exchange.handle_opened(node, now.mono);
        self.settle(now);
    }

    /// The time of [`poll_deadline`](Self::poll_deadline) has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.swim.handle_timeout(now.mono);
        self.exchange.handle_timeout(now.mono);
        if self.sweep_at <= now.mono {
            self.sweep_at = now.mono + SWEEP;
            let mut gone = self.nodes.forget(self.keep, now);
            gone.extend(self.forget_strangers(now.mono));
            for node in gone {
                self.exchange.forget(&node, now.mono);
                self.effects.push_back(Effect::Forgotten(node));
            }
        }
        self.settle(now);
    }

    /// Nodes that were dead before this one started: others passed on what they had said. They
    /// are kept for as long as those that died later.
    fn forget_strangers(&mut self, now: Mono) -> Vec<OwnerId> {
        let nodes =
            self.exchange.owners().map(node_of).filter(|node| self.nodes.get(node).is_none());
        let since = |node: OwnerId| {
            let since = self.strangers.get(&node).copied().unwrap_or(now);
            (node, since)
        };
        let (old, young) = nodes.map(since).partition(|(_, since)| now.since(*since) >= self.keep);
        self.strangers = young;
        let old: BTreeMap<OwnerId, Mono> = old;
        old.into_keys().collect()
    }

    /// The next thing to do or to know.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        let parts = [self.swim.poll_deadline(), self.exchange.poll_deadline(), Some(self.sweep_at)];
        parts.into_iter().flatten().min()
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The logs.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Who this node is now.
    #[must_use]
    pub fn me(&self) -> &Identity {
        self.swim.me()
    }

    /// Whether this process stays out, because a later one uses its node's name.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.swim.is_refused()
    }

    /// Lets the parts tell each other what they need to know, until none has anything.
    fn settle(&mut self, now: Now) {
        loop {
            if let Some(effect) = self.swim.poll_effect() {
                self.take_swim(effect, now);
            } else if let Some(effect) = self.exchange.poll_effect() {
                self.take_exchange(effect, now);
            } else {
                return;
            }
        }
    }

    fn take_swim(&mut self, effect: swim::Effect, now: Now) {
        let effect = match effect {
            swim::Effect::Send { to, bytes } => Effect::Datagram { to, bytes },
            swim::Effect::Changed(identity, state) => return self.change(identity, state, now),
            swim::Effect::Renewed(me) => {
                self.nodes.change(me.clone(), State::Alive, now);
                self.exchange.set_members(self.nodes.digest());
                Effect::Renewed(me)
            }
            swim::Effect::Report(report) => return self.report(Report::Swim(report), now),
        };
        self.effects.push_back(effect);
    }

    fn change(&mut self, identity: Identity, state: State, now: Now) {
        let (node, address) = (identity.node().clone(), identity.address);
        if self.expelled.contains(&node) || !self.nodes.change(identity, state, now) {
            return;
        }
        self.exchange.set_members(self.nodes.digest());
        // What it says of itself may have come before the news that it is there.
        if self.nodes.get(&node).is_some_and(|node| node.fact.is_none()) {
            let fact = self.exchange.said(&node, &Key::Node);
            self.nodes.describe(&node, node_fact(fact.as_ref()));
        }
        let presence = if state <= State::Suspect { Presence::Here } else { Presence::Away };
        self.exchange.set_peer(&node, presence, now.mono);
        if state == State::Alive && self.nodes.is_shared(address) {
            let report = Report::SharedAddress { address, node: node.clone() };
            self.report(report, now);
        }
        self.effects.push_back(Effect::Node(node, state));
    }

    fn take_exchange(&mut self, effect: exchange::Effect, now: Now) {
        let effect = match effect {
            exchange::Effect::Send { to, bytes } => Effect::Message { to, bytes },
            exchange::Effect::Learned(learned) => {
                self.describe(&learned);
                Effect::Learned(learned)
            }
            exchange::Effect::Outlived { owner, generation } => {
                Effect::Outlived { owner, generation }
            }
            exchange::Effect::Asked { by } => {
                let members = self.swim.export();
                return self.exchange.tell_members(&by, members);
            }
            exchange::Effect::Members(members) => match self.swim.adopt(&members, now.mono) {
                Ok(()) => return,
                Err(garbage) => return self.report(Report::Members(garbage), now),
            },
            exchange::Effect::Report { peer, fault } => {
                return self.report(Report::Peer(peer, fault), now);
            }
        };
        self.effects.push_back(effect);
    }

    /// Passes a report on, unless that was done just now.
    fn report(&mut self, report: Report, now: Now) {
        self.told.retain(|(_, at)| now.mono.since(*at) < REPORT_AGAIN);
        if self.told.len() < MAX_REPORTS && self.told.iter().all(|(told, _)| *told != report) {
            self.told.push((report.clone(), now.mono));
            self.effects.push_back(Effect::Report(report));
        }
    }

    /// Keeps what a node says of itself beside its state.
    fn describe(&mut self, learned: &Learned) {
        if let Some((_, fact)) = learned.said.iter().find(|(key, _)| *key == Key::Node) {
            self.nodes.describe(&learned.owner, node_fact(Some(fact)));
        } else if learned.gone.contains(&Key::Node) {
            self.nodes.describe(&learned.owner, None);
        }
    }
}

fn node_fact(fact: Option<&Fact>) -> Option<mizzen_types::fact::NodeFact> {
    match fact {
        Some(Fact::Node(fact)) => Some(fact.clone()),
        _ => None,
    }
}
