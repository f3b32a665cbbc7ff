//! The node's part in a cluster: sockets meet [`Membership`], and what it learns meets
//! names and VIPs.

mod addresses;
mod admissions;
mod clocks;
mod expulsions;
mod known;
mod metrics;
mod reports;
mod silence;
mod start;
mod tasks;
mod tokens;
mod views;

pub(crate) use silence::Silence;

use super::core::Core;
use super::credentials::{CREDENTIALS, MEMBERS};
use super::{build, clock};
use addresses::SharedAddresses;
use admissions::Desk;
use clocks::Clocks;
use mizzen_gossip::certificate::TrustError;
use mizzen_gossip::identity::{Credentials, Signer};
use mizzen_gossip::join::Contact;
use mizzen_gossip::transport::{Arrival, Channel, Event, Transport, Unsent};
use mizzen_membership::exchange::Unsaid;
use mizzen_membership::identity::node_of;
use mizzen_membership::membership::{Effect, Membership};
use mizzen_membership::nodes::Node;
use mizzen_membership::swim::State;
use mizzen_types::fact::{Entry, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, info};

/// Members are written down so long after one came or went: a node that is killed soon
/// finds the others by it.
const REMEMBER: Duration = Duration::from_millis(200);
/// And at most this often.
const REMEMBER_AGAIN: Duration = Duration::from_secs(5);
/// From the first word of another node until all that are alive have been heard of.
const SETTLING: Duration = Duration::from_secs(10);
/// The part's name in problems.
const CLUSTER: &str = "cluster";

/// The node's id in problems.
const IDENTITY: &str = "node id";

/// The node's part in a cluster.
pub(crate) struct Members {
    membership: Membership,
    transport: Transport,
    credentials: Credentials,
    signer: Signer,
    /// Lets nodes in, if the authority is here.
    desk: Option<Desk>,
    contacts: Vec<Contact>,
    remember_at: Option<Mono>,
    /// Not to be written down again before.
    remembered_until: Mono,
    /// When certificate and keys are looked at.
    trust_at: Mono,
    /// When this process began to hear others.
    begun: Mono,
    /// Whether one of them has said since then what it knows of the authority's.
    is_told: bool,
    /// Messages of peers that were not what they should be.
    faults: u64,
    clocks: Clocks,
    shared: SharedAddresses,
    /// When all nodes that are alive have been heard of since another one was.
    settled_at: Option<Mono>,
}

/// What a node without others has instead of what their sockets find.
pub(crate) type Arrivals = Option<mpsc::Receiver<Arrival>>;

/// The next thing that the sockets found; never, if there are none.
pub(crate) async fn arrival(arrivals: &mut Arrivals) -> Arrival {
    let found = match arrivals {
        Some(arrivals) => arrivals.recv().await,
        None => None,
    };
    match found {
        Some(found) => found,
        None => std::future::pending().await,
    }
}

impl Members {
    /// When something is to be done.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let parts = [
            self.membership.poll_deadline(),
            self.transport.poll_deadline(),
            self.remember_at,
            Some(self.trust_at),
            Some(self.clocks.deadline()),
            self.shared.deadline(),
            self.settled_at,
        ];
        parts.into_iter().flatten().min()
    }

    /// Whether the cluster's authority is here.
    pub(crate) fn has_authority(&self) -> bool {
        self.desk.is_some()
    }

    /// Says something in a log of this node.
    pub(crate) fn say(&mut self, entry: &Entry, now: Now) -> Result<(), Unsaid> {
        let (owner, key) = (&entry.owner, entry.key.clone());
        self.membership.say(owner, key, entry.value.as_ref(), now)
    }

    /// Sends a peer a message over its stream.
    pub(crate) fn send(
        &mut self,
        peer: &OwnerId,
        channel: Channel,
        bytes: &[u8],
        now: Now,
    ) -> Result<(), Unsent> {
        self.transport.send(peer, channel, bytes, now.mono)
    }

    /// Wants a stream to a peer that stays.
    pub(crate) fn hold(&mut self, peer: &OwnerId, now: Now) {
        self.transport.hold(peer, now.mono);
    }

    /// Wants none any more.
    pub(crate) fn release(&mut self, peer: &OwnerId) {
        self.transport.release(peer);
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.membership.poll_deadline().is_some_and(|at| at <= now.mono) {
            self.membership.handle_timeout(now);
        }
        if self.transport.poll_deadline().is_some_and(|at| at <= now.mono) {
            self.transport.handle_timeout(now);
        }
        if self.clocks.deadline() <= now.mono {
            self.tell_all_the_time(now);
        }
    }

    /// What has the node's secrets, to be kept.
    fn kept(&self) -> Result<Vec<u8>, TrustError> {
        self.credentials.to_bytes(&self.transport.issued())
    }

    /// Where the authority's node is, for those who ask for it here.
    fn show_authorities(&mut self) {
        let knows =
            |node: &&Node| node.is_here() && node.fact.as_ref().is_some_and(|fact| fact.authority);
        let all = self.membership.nodes().iter().filter(knows);
        let addresses = all.map(|node| node.identity.address).collect();
        self.transport.set_authorities(addresses);
    }
}

impl Core {
    /// All that the node itself says has been said: others may hear it.
    pub(crate) fn begin_membership(&mut self) {
        let (store, now) = (&self.store, clock::now());
        if let Some(members) = self.members.as_mut() {
            members.begin(store, now);
        }
    }

    /// The sockets found something.
    pub(crate) fn handle_arrival(&mut self, arrival: Arrival) {
        if let Some(members) = self.members.as_mut() {
            members.transport.handle(arrival, clock::now());
        }
    }

    /// The time of [`Members::deadline`] may have come.
    pub(crate) fn handle_members_timeout(&mut self, now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        members.handle_timeout(now);
        if members.remember_at.is_some_and(|at| at <= now.mono) {
            members.remember_at = None;
            members.remembered_until = now.mono + REMEMBER_AGAIN;
            let known = members.membership.members();
            self.node_saves.push(MEMBERS, Some(known));
            self.flush_node(now);
        }
        let is_due = |at: Option<Mono>| at.is_some_and(|at| at <= now.mono);
        if is_due(self.members.as_ref().and_then(|members| members.shared.deadline())) {
            self.look_at_addresses(now.mono);
        }
        if is_due(self.members.as_ref().map(|members| members.trust_at)) {
            self.look_at_trust(now);
        }
        if is_due(self.members.as_ref().and_then(|members| members.settled_at)) {
            self.drop_absent(now);
        }
    }

    /// Drops what a former process knew of nodes that are not here. Those that died before
    /// this one started are nothing that anybody tells it.
    fn drop_absent(&mut self, now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        members.settled_at = self.names.is_loading().then(|| now.mono + SETTLING);
        let nodes = members.membership.nodes();
        let is_here = |owner: &OwnerId| nodes.get(&node_of(owner)).is_some_and(Node::is_here);
        let absent: BTreeSet<OwnerId> =
            self.names.stale_owners().filter(|owner| !is_here(owner)).cloned().collect();
        self.names.forget_of(&absent);
    }

    /// Carries out what membership and sockets want; says whether they wanted anything.
    pub(crate) fn settle_members(&mut self, now: Now) -> bool {
        let mut worked = false;
        loop {
            if let Some(event) = self.members.as_mut().and_then(|m| m.transport.poll_event()) {
                self.handle_event(event, now);
            } else if let Some(effect) =
                self.members.as_mut().and_then(|m| m.membership.poll_effect())
            {
                self.carry_out_membership(effect, now);
            } else {
                return worked;
            }
            worked = true;
        }
    }

    fn handle_event(&mut self, event: Event, now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        match event {
            Event::Datagram { from, bytes } => {
                members.membership.handle_datagram(from, &bytes, now);
            }
            Event::Message { peer, channel: Channel::Exchange, bytes } => {
                members.membership.handle_message(&peer, &bytes, now);
            }
            Event::Message { peer, channel: Channel::Link, bytes } => {
                self.link_message(&peer, &bytes, now);
            }
            Event::Message { peer, channel: Channel::Question, bytes } => {
                self.hear_question(&peer, &bytes, now);
            }
            Event::Message { peer, channel: Channel::Clock, bytes } => {
                members.clocks.hear(&peer, &bytes, now);
            }
            Event::Opened(peer) => {
                debug!(%peer, "stream opened");
                members.is_told = true;
                members.tell_time(&peer, now);
                members.membership.handle_opened(&peer, now);
            }
            Event::Closed { peer, reason } => {
                debug!(%peer, reason, "stream closed");
                members.membership.handle_closed(&peer, now);
                self.lose_node(&peer);
                self.link_broken(&peer, now);
            }
            Event::Unreachable { peer, reason } => {
                debug!(%peer, reason, "no stream");
                members.membership.handle_unreachable(&peer, now);
                self.lose_node(&peer);
                self.link_broken(&peer, now);
            }
            Event::ForeignKey { from } => {
                let heard = |node: &&Node| node.identity.address == from;
                let node = members.membership.nodes().iter().find(heard);
                if let Some(node) = node.map(|node| node.identity.node().clone()) {
                    members.transport.open(&node, now.mono);
                }
            }
            Event::Issued => {
                self.keep_credentials(now);
            }
            Event::Expelled(node) => self.follow_expulsion(&node, now),
            Event::Applied { applicant, reply } => {
                // Who went away meanwhile asks again.
                let _ = reply.send(self.admit(&applicant, now));
            }
            Event::RenewalAsked { peer, public_key } => self.certify(&peer, &public_key, now),
            Event::Certificate(certificate) => self.take_certificate(certificate, now),
        }
    }

    fn carry_out_membership(&mut self, effect: Effect, now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        match effect {
            Effect::Datagram { to, bytes } => members.transport.send_datagram(to, &bytes, now),
            Effect::Message { to, bytes } => {
                if let Some(node) = members.membership.nodes().get(&to) {
                    members.transport.place(&to, node.identity.address);
                }
                if members.send(&to, Channel::Exchange, &bytes, now).is_err() {
                    members.membership.handle_unreachable(&to, now);
                }
            }
            Effect::Learned(learned) => {
                if learned.unreadable > 0 {
                    debug!(owner = %learned.owner, entries = learned.unreadable, "of another version");
                }
                if learned.said.iter().any(|(key, _)| *key == Key::Node) {
                    members.show_authorities();
                }
                let log = learned.owner.clone();
                let node = node_of(&log);
                if members.membership.nodes().get(&node).is_none() {
                    // Others pass on what dead nodes said, too, and whoever is alive will be
                    // heard of as a node.
                    let changes = self.view.hide(&node);
                    self.follow_changes(changes);
                }
                let (leads, by_authority) = (node != log, learned.by_authority);
                let changes = self.view.learn(learned, now);
                self.follow_changes(changes);
                if leads {
                    self.follow_leader(now);
                    self.follow_master_policies(&log, by_authority);
                }
            }
            Effect::Node(node, state) => self.follow_node(&node, state, now),
            Effect::Forgotten(node) => {
                members.transport.forget(&node);
                members.clocks.forget(&node);
                let changes = self.view.forget(&node);
                self.follow_changes(changes);
                self.forget_overlay(&node);
                self.forget_policy_facts(&node);
            }
            Effect::Renewed(me) => {
                info!(
                    generation = me.generation,
                    life = me.rejoins,
                    "back after being called dead"
                );
            }
            Effect::Outlived { owner, generation } => {
                info!(%owner, generation, "others knew a later log of this node's");
                self.note_old_state();
                self.node_saves.push(build::GENERATION, Some(generation.to_string().into()));
                self.flush_node(now);
            }
            Effect::Report(report) => self.note_report(&report, now),
        }
    }

    /// A node is in another state, or elsewhere.
    fn follow_node(&mut self, node: &OwnerId, state: State, now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        if let Some(known) = members.membership.nodes().get(node) {
            members.transport.place(node, known.identity.address);
        }
        let soon = (now.mono + REMEMBER).max(members.remembered_until);
        members.remember_at.get_or_insert(soon);
        members.show_authorities();
        if state == State::Alive {
            members.settled_at.get_or_insert(now.mono + SETTLING);
        }
        let changes = match state {
            State::Alive if self.view.is_hidden(node) => {
                info!(%node, "a node is in");
                members.transport.welcome(node, now.mono);
                self.view.show(node)
            }
            State::Alive | State::Suspect => self.view.show(node),
            State::Dead | State::Left => {
                info!(%node, ?state, "a node is out");
                members.transport.close(node, "the node is gone");
                self.view.hide(node)
            }
        };
        self.follow_changes(changes);
        if self.members.as_ref().is_some_and(|members| members.shared.deadline().is_some()) {
            self.look_at_addresses(now.mono);
        }
        if !self.view.is_hidden(node) {
            self.forget_silent_tasks(node);
        }
        if state == State::Left {
            self.forget_overlay(node);
            self.forget_policy_facts(node);
        }
        self.follow_leader(now);
        let changed = self.vips.planner.set_doubt(node, state == State::Suspect);
        self.vips.look_at(changed);
    }
}
