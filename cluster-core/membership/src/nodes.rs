//! The nodes of the cluster as a person sees them.

use crate::identity::{Identity, tag_of};
use crate::swim::State;
use mizzen_types::fact::NodeFact;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name, its address, which of its lives this is.
    pub identity: Identity,
    /// Whether it is alive.
    pub state: State,
    /// Since when it is in that state, as this node knows.
    pub since: Now,
    /// When it last said something to this node itself.
    pub heard: Option<Mono>,
    /// How long it takes to answer a datagram of this node, smoothed; `None` until it did.
    pub round_trip: Option<Duration>,
    /// What it says of itself; `None` until its log is here.
    pub fact: Option<Arc<NodeFact>>,
}

/// All nodes, this one included.
#[derive(Debug, Default)]
pub struct Nodes {
    nodes: BTreeMap<u64, Node>,
    /// How many live nodes are believed to listen at an address.
    addresses: BTreeMap<SocketAddr, u32>,
    /// Hash of which life of which node is here.
    digest: u64,
}

impl Node {
    /// How long it is in its state.
    #[must_use]
    pub fn age(&self, now: Now) -> Duration {
        now.mono.since(self.since.mono)
    }

    /// How long ago it said something to this node itself.
    #[must_use]
    pub fn silent_for(&self, now: Now) -> Option<Duration> {
        self.heard.map(|heard| now.mono.since(heard))
    }

    /// Where it stands, as it says.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.fact.as_ref()?.zone.as_deref()
    }

    /// Whether it is alive or only suspect.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.state <= State::Suspect
    }
}

impl Nodes {
    /// One node.
    #[must_use]
    pub fn get(&self, node: &OwnerId) -> Option<&Node> {
        self.nodes.get(&tag_of(node))
    }

    /// All nodes, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// How many nodes are in `state`.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.nodes.values().filter(|node| node.state == state).count()
    }

    /// Live nodes of other names that listen at the address of `node`: all but one of them
    /// are wrong.
    #[must_use]
    pub fn sharing(&self, node: &Node) -> Vec<&Node> {
        let same = |other: &&Node| {
            other.identity.address == node.identity.address
                && other.identity.tag() != node.identity.tag()
                && other.is_here()
        };
        self.nodes.values().filter(same).collect()
    }

    /// A node is in a state, maybe in another life or at another address. Whether that is
    /// news.
    pub(crate) fn change(&mut self, identity: Identity, state: State, now: Now) -> bool {
        let Some(node) = self.nodes.get_mut(&identity.tag()) else {
            let tag = identity.tag();
            if state <= State::Suspect {
                self.digest ^= identity.digest();
                self.move_address(None, Some(identity.address));
            }
            let (heard, round_trip, fact) = (None, None, None);
            self.nodes.insert(tag, Node { identity, state, since: now, heard, round_trip, fact });
            return true;
        };
        let news = node.state != state || node.identity != identity;
        let before = node.is_here().then_some(node.identity.address);
        let was = if node.is_here() { node.identity.digest() } else { 0 };
        if node.state != state {
            (node.state, node.since) = (state, now);
        }
        node.identity = identity;
        let after = node.is_here().then_some(node.identity.address);
        let is = if node.is_here() { node.identity.digest() } else { 0 };
        self.digest ^= was ^ is;
        self.move_address(before, after);
        news
    }

    fn move_address(&mut self, before: Option<SocketAddr>, after: Option<SocketAddr>) {
        if before == after {
            return;
        }
        if let Some(address) = before {
            match self.addresses.get_mut(&address) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.addresses.remove(&address)),
            }
        }
        if let Some(address) = after {
            *self.addresses.entry(address).or_default() += 1;
        }
    }

    /// Two nodes that know the same nodes to be here have the same.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn hear(&mut self, tag: u64, now: Mono) {
        if let Some(node) = self.nodes.get_mut(&tag) {
            node.heard = Some(now);
        }
    }

    pub(crate) fn measure(&mut self, tag: u64, span: Duration) {
        if let Some(node) = self.nodes.get_mut(&tag) {
            node.round_trip = Some(node.round_trip.map_or(span, |before| (before * 3 + span) / 4));
        }
    }

    pub(crate) fn describe(&mut self, node: &OwnerId, fact: Option<NodeFact>) {
        if let Some(node) = self.nodes.get_mut(&tag_of(node)) {
            node.fact = fact.map(Arc::new);
        }
    }

    pub(crate) fn is_shared(&self, address: SocketAddr) -> bool {
        self.addresses.get(&address).is_some_and(|count| *count > 1)
    }

    /// Takes one out. Whether it was there.
    pub(crate) fn remove(&mut self, node: &OwnerId) -> bool {
        let Some(node) = self.nodes.remove(&tag_of(node)) else { return false };
        if node.is_here() {
            self.digest ^= node.identity.digest();
            self.move_address(Some(node.identity.address), None);
        }
        true
    }

    /// Takes out those that are gone for longer than `keep`.
    pub(crate) fn forget(&mut self, keep: Duration, now: Now) -> Vec<OwnerId> {
        let gone = |node: &&Node| !node.is_here() && node.age(now) >= keep;
        let gone: Vec<_> =
            self.nodes.values().filter(gone).map(|node| node.identity.node().clone()).collect();
        self.nodes.retain(|_, node| node.is_here() || node.age(now) < keep);
        gone
    }
}
