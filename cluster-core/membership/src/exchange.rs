//! How every node comes to know every owner's log.
//!
//! [`Exchange`] is a value that decides. It holds the logs that this node writes and a
//! copy of everybody else's; messages of peers and the time go in, messages and facts
//! come out. Messages go over a stream that keeps their order, may be lost with the
//! stream, and are opaque to it.
//!
//! * *Push.* Each node has a few neighbours at random; with those who chose it they are
//!   about six. News goes to all of them at once, or with more news a tenth of a second
//!   after the last; whoever hears something new does the same. The graph of neighbours
//!   is connected, so that news reaches everybody in four or five steps.
//! * *Digests.* What a broken stream swallowed is found by comparing: of the last half
//!   minute's news every few seconds, of everything once a minute with a random peer. Two
//!   nodes that know the same say so in eight bytes.
//! * *Pull.* Who finds that it lacks something asks for it, says what it has, and gets the
//!   rest in pieces. A node that joins asks for everything; where a peer fails, it goes
//!   on with the next.
//!
//! Nothing is taken in that its owner did not sign, see `set.rs`. A peer that sends
//! garbage, facts of others or what nobody asked for is reported, and soon not read at
//! all for a while.

mod digest;
mod forget;
mod local;
mod message;
mod peers;
mod pull;
mod push;
mod ranges;
mod set;
#[cfg(test)]
mod tests;

use crate::coding::Garbage;
use crate::identity::{node_of, tag_of};
use crate::wire;
use digest::Digests;
use local::Local;
use message::Message;
use mizzen_types::fact::{Fact, Key, Version};
use mizzen_types::ids::OwnerId;
use mizzen_types::random::Dice;
use mizzen_types::time::Mono;
use peers::Peers;
use pull::Pulls;
use push::News;
use set::{Head, Set, Stand};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Messages are at most about this long, in bytes, whatever they carry.
pub const MAX_MESSAGE: usize = 1 << 20;
/// A piece of a log ends beyond this many bytes.
const PIECE: usize = 192 << 10;
/// A fact is at most this long, in bytes.
const MAX_FACT: usize = 256 << 10;
/// A log has at most so many entries.
const MAX_ENTRIES: u64 = 1 << 18;
/// A node writes at most so many logs.
const MAX_LOGS: usize = 8;

/// A fact that others are not told, because no entry can hold it.
#[derive(Debug, thiserror::Error)]
pub enum Unsaid {
    /// It is longer than any may be.
    #[error("what is to be said of {key:?} has {length} bytes, more than the {MAX_FACT} of a fact")]
    TooLong {
        /// What it is about.
        key: Key,
        /// How long it is, in bytes.
        length: usize,
    },
    /// It has no JSON; no such fact is known.
    #[error("what is to be said of {key:?} cannot be written")]
    Unwritable {
        /// What it is about.
        key: Key,
        /// Why.
        source: serde_json::Error,
    },
}

/// Signs what this node says, and judges what others say. It decides by its arguments
/// alone.
pub trait Keys: Send {
    /// What others need to judge this node's signatures: its certificate.
    fn credential(&self) -> Vec<u8>;
    /// Signs as this node.
    fn sign(&self, message: &[u8]) -> Vec<u8>;
    /// Whether `signature` of `message` is that of `node`, going by `credential`, which
    /// came from somewhere and must itself be judged.
    fn verify(&self, node: &OwnerId, credential: &[u8], message: &[u8], signature: &[u8]) -> bool;
    /// Whether a credential that was judged is that of the node with the cluster's authority.
    fn is_authority(&self, _credential: &[u8]) -> bool {
        false
    }
}

/// The next thing to do, or to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a message.
    Send {
        /// To which node.
        to: OwnerId,
        /// At most about [`MAX_MESSAGE`].
        bytes: Vec<u8>,
    },
    /// An owner said something.
    Learned(Learned),
    /// Others knew a later log of this node's, which had been forgotten here. Its log goes
    /// on in this generation, which is to be kept on disk.
    Outlived {
        /// Which log.
        owner: OwnerId,
        /// Its generation now.
        generation: u64,
    },
    /// A node that joins, or that knows other members, asks for the members:
    /// [`Exchange::tell_members`] answers.
    Asked {
        /// Who asks.
        by: OwnerId,
    },
    /// The members, from a node that was asked for them.
    Members(Vec<u8>),
    /// A peer did what it should not.
    Report {
        /// Who did.
        peer: OwnerId,
        /// What it did.
        fault: Fault,
    },
}

/// What an owner said: all of it is one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// Who said it.
    pub owner: OwnerId,
    /// Where its log stands now.
    pub version: Version,
    /// What it says now, and did not before or said otherwise.
    pub said: Vec<(Key, Fact)>,
    /// Of what it says nothing any more.
    pub gone: Vec<Key>,
    /// How many entries this version of the program cannot read; they are passed on.
    pub unreadable: usize,
    /// Whether its node has the cluster's authority, as its certificate says.
    pub by_authority: bool,
}

/// What a peer should not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// What it sent is no message.
    #[error("sent garbage")]
    Garbage(#[source] Garbage),
    /// A signature is not that of the owner.
    #[error("sent facts that their owner did not sign")]
    Forged,
    /// Entries are not those that the owner signed.
    #[error("sent other entries than their owner signed")]
    Altered,
    /// A message or a log is larger than any may be, or a node has more logs.
    #[error("sent more than there may be")]
    TooMuch,
    /// It gave what it was not asked for.
    #[error("sent what nobody asked for")]
    Unasked,
}

/// The logs of all owners, as one node holds them.
pub struct Exchange {
    me: OwnerId,
    keys: Box<dyn Keys>,
    dice: Dice,
    locals: BTreeMap<u64, Local>,
    sets: BTreeMap<u64, Set>,
    digests: Digests,
    peers: Peers,
    pulls: Pulls,
    news: News,
    members: u64,
    expelled: BTreeSet<OwnerId>,
    effects: VecDeque<Effect>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let owners = self.sets.len() + self.locals.len();
        f.debug_struct("Exchange").field("me", &self.me).field("owners", &owners).finish()
    }
}

impl Exchange {
    /// A node that knows nothing and has nothing to say yet. `seed` decides all its
    /// chance.
    #[must_use]
    pub fn new(me: OwnerId, keys: Box<dyn Keys>, seed: u64, now: Mono) -> Self {
        let mut dice = Dice::new(seed);
        let peers = Peers::new(&mut dice, now);
        Self {
            me,
            keys,
            dice,
            locals: BTreeMap::new(),
            sets: BTreeMap::new(),
            digests: Digests::default(),
            peers,
            pulls: Pulls::default(),
            news: News::default(),
            members: 0,
            expelled: BTreeSet::new(),
            effects: VecDeque::new(),
        }
    }

    /// Asks `peer` for all members and all logs.
    pub fn join(&mut self, peer: &OwnerId, now: Mono) {
        self.peers.hurry(now);
        self.peers.ask_members(peer, now);
        self.send(peer, &Message::Join);
    }

    /// Answers [`Effect::Asked`] with what [`Swim::export`](crate::swim::Swim::export) says.
    pub fn tell_members(&mut self, peer: &OwnerId, members: Vec<u8>) {
        self.send(peer, &Message::Members(members));
    }

    /// Sets the hash of the members that are here: two nodes compare it.
    pub fn set_members(&mut self, digest: u64) {
        self.members = digest;
    }

    /// A node may be talked to from now on, or not.
    pub fn set_peer(&mut self, node: &OwnerId, presence: Presence, now: Mono) {
        if *node == self.me {
            return;
        }
        match presence {
            Presence::Here => {
                self.peers.come(node, now);
                if self.digests.recall(node) {
                    self.ask_compare(node, now);
                }
            }
            Presence::Away => {
                self.peers.go(node, now);
                self.abandon_pull(node, now);
            }
        }
    }

    /// Messages to a peer do not arrive, alive as it may be.
    pub fn lose(&mut self, node: &OwnerId, now: Mono) {
        self.peers.lose(node, now);
        self.abandon_pull(node, now);
    }

    /// The stream to a peer ended, and maybe what was sent last was lost: an answer that has
    /// not come does not come any more.
    pub fn handle_closed(&mut self, node: &OwnerId, now: Mono) {
        self.peers.note_closed(node);
        self.abandon_pull(node, now);
    }

    /// There is a stream to a peer. If there was one before, that may have taken news along
    /// which neither would miss before the next comparison.
    pub fn handle_opened(&mut self, node: &OwnerId, now: Mono) {
        if self.peers.take_closed(node) {
            self.ask_compare(node, now);
        }
    }

    /// A message came.
    pub fn handle_message(&mut self, from: &OwnerId, bytes: &[u8], now: Mono) {
        if self.peers.is_ignored(from, now) {
            return;
        }
        if bytes.len() > MAX_MESSAGE + PIECE {
            return self.fault(from, Fault::TooMuch, now);
        }
        let message = match Message::read(bytes) {
            Ok(message) => message,
            Err(garbage) => return self.fault(from, Fault::Garbage(garbage), now),
        };
        match message {
            Message::Greet => self.greeted(from, now),
            Message::Full => self.refused(from, now),
            Message::Push(deltas) => self.take_push(from, deltas, now),
            Message::Compare(all, members) => self.compare(from, all, members),
            Message::Buckets(hashes) => self.compare_buckets(from, &hashes),
            Message::Stands(buckets, stands) => self.compare_stands(from, &buckets, &stands, now),
            Message::Recent(stands) => self.want_later(from, &stands, now),
            Message::Want(wants) => self.give(from, &wants),
            Message::Give(parts) => self.take_parts(from, parts, now),
            Message::Join => {
                self.effects.push_back(Effect::Asked { by: from.clone() });
                let stands = self.stands(|_| true);
                self.send(from, &Message::Recent(stands));
            }
            Message::Members(members) => match self.peers.was_asked_members(from, now) {
                true => self.effects.push_back(Effect::Members(members)),
                false => self.fault(from, Fault::Unasked, now),
            },
        }
    }

    /// The time of [`poll_deadline`](Self::poll_deadline) has come.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.flush(now);
        self.attend_peers(now);
        self.expire_pulls(now);
    }

    /// The next thing to do or to know.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        let deadlines = [self.news.deadline(), Some(self.peers.deadline()), self.pulls.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Where the log of `owner` stands here.
    #[must_use]
    pub fn version(&self, owner: &OwnerId) -> Version {
        self.set(tag_of(owner)).map(|set| set.head.version).unwrap_or_default()
    }

    /// Every owner whose log is here.
    pub fn owners(&self) -> impl Iterator<Item = &OwnerId> {
        let locals = self.locals.values().filter_map(|local| local.set.as_ref());
        self.sets.values().chain(locals).map(|set| &set.head.owner)
    }

    /// What an owner says of `key`, if its log is here and says anything of it.
    #[must_use]
    pub fn said(&self, owner: &OwnerId, key: &Key) -> Option<Fact> {
        let set = self.set(tag_of(owner))?;
        let named = |item: &&set::Item| wire::read_key(&item.bytes).is_ok_and(|said| said == *key);
        let item = set.items.values().rev().find(named)?;
        wire::read_entry(&item.bytes).ok().map(|(_, fact)| fact)
    }

    /// The set of an owner, whoever writes it.
    fn set(&self, tag: u64) -> Option<&Set> {
        match self.locals.get(&tag) {
            Some(local) => local.set.as_ref(),
            None => self.sets.get(&tag),
        }
    }

    fn stand(&self, tag: u64) -> Option<Stand> {
        self.set(tag).map(|set| set.head.stand())
    }

    fn is_genuine(&self, head: &Head, credential: &[u8]) -> bool {
        let message = Head::message(&head.owner, head.version, &head.root);
        self.keys.verify(&node_of(&head.owner), credential, &message, &head.signature)
    }

    fn send(&mut self, to: &OwnerId, message: &Message) {
        self.effects.push_back(Effect::Send { to: to.clone(), bytes: message.write() });
    }

    fn fault(&mut self, peer: &OwnerId, fault: Fault, now: Mono) {
        if self.peers.blame(peer, now) {
            self.effects.push_back(Effect::Report { peer: peer.clone(), fault });
        }
    }
}

/// Whether a node may be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is alive.
    Here,
    /// It is suspect, dead or out of reach.
    Away,
}

/// Time between two looks at something, a little different each time.
fn jittered(dice: &mut Dice, span: Duration) -> Duration {
    let millis = span.as_millis() as usize;
    Duration::from_millis((millis * 3 / 4 + dice.below(millis / 2)) as u64)
}
