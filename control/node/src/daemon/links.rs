//! The links between masters and agents of different nodes: this node's master has one to
//! each agent of another node, or its agent has one to the master of another.

use super::cluster::LOCAL_LINK;
use super::core::Core;
use mizzen_agent::way::{Leader, Standing, Way};
use mizzen_api::link::{ToAgent, ToMaster};
use mizzen_gossip::transport::Channel;
use mizzen_http::core::Leading;
use mizzen_master::LinkId;
use mizzen_master::ways::Ways;
use mizzen_membership::identity::node_of;
use mizzen_types::error::chain;
use mizzen_types::fact::{Fact, Key, LeaderFact};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use tokio::sync::watch;
use tracing::{debug, info};

/// The part's name in problems.
const LINKS: &str = "links";
/// The name of whoever leads in problems.
const LEADER: &str = "leader";

/// Both ends of links.
#[derive(Debug)]
pub(crate) struct Links {
    /// To agents of other nodes.
    ways: Ways,
    /// To the master of another node.
    way: Way,
    /// Who leads, if that is on another node, and what it says of itself.
    elsewhere: Option<(Leader, LeaderFact)>,
    /// The same for whoever asks this node for what the leader has.
    leading: watch::Sender<Leading>,
}

impl Links {
    /// No links yet.
    pub(crate) fn new(seed: u64) -> Self {
        let ways = Ways::new(LinkId(LOCAL_LINK.0 + 1));
        let (leading, _) = watch::channel(Leading::Here);
        Self { ways, way: Way::new(seed), elsewhere: None, leading }
    }

    /// When [`Core::handle_links_timeout`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.way.poll_deadline()
    }

    /// Who serves what needs the leading master, from now on.
    pub(crate) fn leading(&self) -> watch::Receiver<Leading> {
        self.leading.subscribe()
    }

    /// The node whose master leads, if that is another one.
    pub(crate) fn leading_node(&self) -> Option<&OwnerId> {
        self.elsewhere.as_ref().map(|(leader, _)| &leader.node)
    }

    /// The master of another node, if that one leads.
    pub(crate) fn leader(&self) -> Option<&LeaderFact> {
        self.elsewhere.as_ref().map(|(_, fact)| fact)
    }
}

impl Core {
    /// A peer says something to this node's master or agent.
    pub(crate) fn link_message(&mut self, peer: &OwnerId, bytes: &[u8], now: Now) {
        if let Some(master) = self.master.as_mut() {
            let address = self.members.as_ref().and_then(|members| members.address_of(peer));
            let Some(address) = address else { return };
            let taken = self.links.ways.receive(master, (peer, address), bytes, now);
            if let Some(answer) = taken.answer {
                self.send_link(peer, &answer, now);
            }
            if let Some(problem) = taken.problem {
                self.note_link_problem(peer, &problem);
            }
        } else if let Some(agent) = self.agent.as_mut()
            && let Err(problem) = self.links.way.receive(agent, peer, bytes, now)
        {
            self.note_link_problem(peer, &problem);
        }
    }

    /// What was sent to a peer last may be lost.
    pub(crate) fn link_broken(&mut self, peer: &OwnerId, now: Now) {
        if let Some(master) = self.master.as_mut() {
            self.links.ways.close(master, peer, now);
        } else if let Some(agent) = self.agent.as_mut() {
            self.links.way.broken(agent, peer, now);
        }
    }

    /// The master of another node is to hear this, if there is a way to it. What is not
    /// heard, the agent says again.
    pub(crate) fn tell_other_master(&mut self, message: ToMaster, now: Now) {
        if let Some((to, bytes)) = self.links.way.frame(message, now) {
            self.send_link(&to, &bytes, now);
        }
    }

    /// The agent of another node is to hear this.
    pub(crate) fn tell_other_agent(&mut self, link: LinkId, message: ToAgent, now: Now) {
        if let Some((to, bytes)) = self.links.ways.frame(link, message) {
            self.send_link(&to, &bytes, now);
        }
    }

    /// The time of [`Links::deadline`] may have come.
    pub(crate) fn handle_links_timeout(&mut self, now: Now) {
        if let Some(agent) = self.agent.as_mut().filter(|_| self.master.is_none()) {
            self.links.way.handle_timeout(agent, now);
        }
    }

    /// Looks who leads: whoever says so in the log of a master, on a node that is alive.
    pub(crate) fn follow_leader(&mut self, now: Now) {
        let mut leaders = self.leaders();
        if self.master.is_some() {
            return self.note_other_leaders(&leaders);
        }
        let current = self.links.elsewhere.as_ref().map(|(leader, _)| &leader.node);
        let stays = leaders.iter().position(|(leader, _)| Some(&leader.node) == current);
        let elsewhere = match leaders.is_empty() {
            true => None,
            false => Some(leaders.swap_remove(stays.unwrap_or(0))),
        };
        if self.links.elsewhere != elsewhere {
            self.change_leader(elsewhere, now);
        }
        self.links.leading.send_replace(match self.links.leader() {
            Some(leader) => Leading::There {
                address: leader.address,
                master: leader.port,
                services: leader.services,
            },
            // A node without others answers for itself what it lacks.
            None if self.members.is_none() => Leading::Here,
            None => Leading::Nowhere,
        });
    }

    /// What stands between the agent and its master, for people.
    pub(crate) fn link_problem(&self) -> Option<String> {
        let waits = self.agent.is_some() && self.master.is_none();
        match (waits, self.links.leader(), self.links.way.standing()) {
            (false, ..) | (true, _, Standing::Registered) => None,
            (true, Some(leader), _) => {
                let (name, address) = (&leader.hostname, leader.address);
                Some(format!("agent: the master on {name} ({address}) has not taken it in yet"))
            }
            (true, None, _) => Some("agent: no master leads; its tasks run on".to_owned()),
        }
    }

    fn change_leader(&mut self, elsewhere: Option<(Leader, LeaderFact)>, now: Now) {
        let node = |there: &Option<(Leader, LeaderFact)>| {
            there.as_ref().map(|(leader, _)| leader.node.clone())
        };
        let (before, after) = (node(&self.links.elsewhere), node(&elsewhere));
        match &elsewhere {
            Some((leader, fact)) => {
                let generation = leader.generation;
                info!(node = fact.hostname, address = %fact.address, generation, "a master leads");
            }
            None => info!("no master leads any more"),
        }
        // Its stream is to stand before there is anything to say, and to stay.
        if let Some(members) = self.members.as_mut().filter(|_| before != after) {
            if let Some(before) = before {
                members.release(&before);
            }
            if let Some(after) = &after {
                members.hold(after, now);
            }
        }
        let leader = elsewhere.as_ref().map(|(leader, _)| leader.clone());
        self.links.elsewhere = elsewhere;
        if let Some(agent) = self.agent.as_mut() {
            self.links.way.set_leader(agent, leader, now);
        }
    }

    fn leaders(&self) -> Vec<(Leader, LeaderFact)> {
        let me = self.node_log.owner();
        let logs = self.view.owners().filter(|log| node_of(log) != **log && node_of(log) != *me);
        logs.filter_map(|log| {
            let (Key::Leader, Fact::Leader(fact)) =
                self.view.facts_from(log, &Key::Leader).next()?
            else {
                return None;
            };
            let generation = self.view.version(log).generation;
            Some((Leader { node: node_of(log), generation }, fact.clone()))
        })
        .collect()
    }

    /// Two masters would both offer what the agents have, each its own.
    fn note_other_leaders(&mut self, others: &[(Leader, LeaderFact)]) {
        match others.first() {
            None => self.problems.solve(LEADER),
            Some((_, fact)) => {
                let text = format!(
                    "the master on {} ({}) leads as well: agents of other nodes take one of the two",
                    fact.hostname, fact.address
                );
                self.problems.report(LEADER, text);
            }
        }
    }

    fn send_link(&mut self, to: &OwnerId, bytes: &[u8], now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        if let Err(error) = members.send(to, Channel::Link, bytes, now) {
            debug!(node = %to, error = chain(&error), "what an agent and its master have to say waits");
            self.link_broken(to, now);
        }
    }

    fn note_link_problem(&mut self, peer: &OwnerId, problem: &impl std::error::Error) {
        let text = format!("node {}: {}", self.name_of(peer), chain(problem));
        self.problems.report(LINKS, text);
    }
}
