//! From what other nodes say of themselves to what leads to their containers.
//!
//! A node is believed only where nobody else claims the same. Of two nodes that claim one
//! block, or one end of the tunnels, the one whose name comes first has it, on every node
//! alike; what this node has itself nobody can claim. The other one keeps what nobody else
//! claims, and people are told.
//!
//! A node that is dead may be one whose daemon is down while its containers run, so what leads
//! there stays until somebody else has its blocks, or it is forgotten.
//!
//! A change costs what it changes: entries of a node are made anew if it speaks, or if
//! somebody speaks who claims the same.

mod encryption;
mod facts;
mod problem;

use super::desired::{
    Desired, EncryptedPeer, Forwarding, Neighbour, PeerChange, PeerEntries, PeerRoute, RouteTable,
};
use facts::{End, blocks, ends, own_fact, route, tunnels};
use ipnet::IpNet;
use mizzen_types::ids::OwnerId;
use mizzen_types::overlay::{Habits, NodeOverlay, OverlayGrant};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use encryption::{OwnEncryption, encryption_mtu};
pub use problem::PeerProblem;

/// Bytes that a packet grows by in a tunnel: outer IP, UDP, VXLAN, inner Ethernet.
const OVERHEAD_V4: u32 = 20 + 8 + 8 + 14;
const OVERHEAD_V6: u32 = 40 + 8 + 8 + 14;
/// What names of DC/OS' agents begin with; nodes are called by UUIDs.
const FOREIGN: &str = "foreign-";
/// No path is so narrow that IPv6 does not fit.
const LEAST_MTU: u32 = 1280;

/// What this node is and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// What the master gave it.
    pub grant: OverlayGrant,
    /// Its address under the tunnels.
    pub underlay: IpAddr,
    /// Largest packet of the link with that address, in bytes, if it is known.
    pub underlay_mtu: Option<u32>,
    /// Names of its ends of the tunnels, by number.
    pub links: BTreeMap<u32, String>,
    /// Addresses of its bridges, by overlay.
    pub gateways: BTreeMap<String, Vec<IpAddr>>,
    /// What it encrypts by, if it does.
    pub encryption: Option<OwnEncryption>,
}

/// What a DC/OS agent that is no node of this cluster is called among [`Peers`].
#[must_use]
pub fn foreign_peer(address: IpAddr) -> OwnerId {
    OwnerId::new(format!("{FOREIGN}{address}"))
}

/// Whether a peer is such an agent.
#[must_use]
pub fn is_foreign(peer: &OwnerId) -> bool {
    peer.as_str().starts_with(FOREIGN)
}

/// The other nodes.
#[derive(Debug, Clone)]
pub struct Peers {
    here: OwnerId,
    own: Option<Own>,
    facts: BTreeMap<OwnerId, NodeOverlay>,
    /// Nodes that nobody hears; what they said last is in `facts`.
    dead: BTreeSet<OwnerId>,
    /// Largest packets that were found to reach other nodes, in bytes.
    probed: BTreeMap<OwnerId, u32>,
    blocks: BTreeMap<IpNet, BTreeSet<OwnerId>>,
    ends: BTreeMap<End, BTreeSet<OwnerId>>,
    entries: BTreeMap<OwnerId, PeerEntries>,
    problems: BTreeMap<OwnerId, Vec<PeerProblem>>,
}

impl Peers {
    /// Nothing is known but who this node is.
    #[must_use]
    pub fn new(here: OwnerId) -> Self {
        Self {
            here,
            own: None,
            facts: BTreeMap::new(),
            dead: BTreeSet::new(),
            probed: BTreeMap::new(),
            blocks: BTreeMap::new(),
            ends: BTreeMap::new(),
            entries: BTreeMap::new(),
            problems: BTreeMap::new(),
        }
    }

    /// What this node has, from now on; all entries are made anew.
    pub fn set_own(&mut self, own: Option<Own>) -> Vec<PeerChange> {
        if self.own == own {
            return Vec::new();
        }
        if let Some(before) = self.own.take() {
            self.unclaim(&self.here.clone(), &own_fact(&before));
        }
        if let Some(now) = &own {
            self.claim(&self.here.clone(), &own_fact(now));
        }
        self.own = own;
        self.plan(&self.facts.keys().cloned().collect())
    }

    /// What a node says of itself; `None` if it is gone. What this node says of itself does
    /// not matter: it knows better.
    pub fn apply(&mut self, peer: &OwnerId, fact: Option<&NodeOverlay>) -> Vec<PeerChange> {
        let back = self.dead.remove(peer);
        if *peer == self.here || self.facts.get(peer) == fact && !back {
            return Vec::new();
        }
        let mut concerned = BTreeSet::from([peer.clone()]);
        if let Some(before) = self.facts.remove(peer) {
            self.unclaim(peer, &before);
            concerned.extend(self.rivals(&before));
        } else {
            self.probed.remove(peer);
        }
        if let Some(fact) = fact {
            concerned.extend(self.rivals(fact));
            self.claim(peer, fact);
            self.facts.insert(peer.clone(), fact.clone());
        }
        self.plan(&concerned)
    }

    /// Nobody hears a node any more. What it said last holds as long as no other node says
    /// anything else.
    pub fn set_dead(&mut self, peer: &OwnerId) -> Vec<PeerChange> {
        let Some(fact) = self.facts.get(peer) else { return Vec::new() };
        let mut concerned = self.rivals(fact);
        concerned.insert(peer.clone());
        if self.dead.insert(peer.clone()) { self.plan(&concerned) } else { Vec::new() }
    }

    /// Whether nobody hears a node.
    #[must_use]
    pub fn is_dead(&self, peer: &OwnerId) -> bool {
        self.dead.contains(peer)
    }

    /// The largest packet that reaches a node under the tunnels was found out.
    pub fn probed(&mut self, peer: &OwnerId, mtu: Option<u32>) -> Vec<PeerChange> {
        let before = match mtu {
            Some(mtu) => self.probed.insert(peer.clone(), mtu),
            None => self.probed.remove(peer),
        };
        if before == mtu { Vec::new() } else { self.plan(&BTreeSet::from([peer.clone()])) }
    }

    /// All that the kernel should hold.
    #[must_use]
    pub fn desired(&self) -> Desired {
        let Some(own) = &self.own else { return Desired::default() };
        let encryption = encryption::end(own);
        if self.entries.is_empty() {
            return Desired { encryption, ..Desired::default() };
        }
        let networks: BTreeSet<IpNet> =
            own.grant.shares.iter().flat_map(|share| share.overlay.networks.clone()).collect();
        let networks: Vec<IpNet> = networks.into_iter().collect();
        let sources = if own.grant.habits == Habits::Dcos { networks.clone() } else { Vec::new() };
        let (tunnels, peers) = (tunnels(own), self.entries.clone());
        Desired { tunnels, peers, networks, sources, encryption }
    }

    /// What leads to each other node.
    pub fn entries(&self) -> impl Iterator<Item = (&OwnerId, &PeerEntries)> {
        self.entries.iter()
    }

    /// What each other node says of itself.
    pub fn facts(&self) -> impl Iterator<Item = (&OwnerId, &NodeOverlay)> {
        self.facts.iter()
    }

    /// What is not believed, and why.
    pub fn problems(&self) -> impl Iterator<Item = (&OwnerId, &PeerProblem)> {
        self.problems.iter().flat_map(|(peer, all)| all.iter().map(move |problem| (peer, problem)))
    }

    /// Largest packet under the tunnels to a node, in bytes, as far as it is known.
    #[must_use]
    pub fn path_mtu(&self, peer: &OwnerId) -> Option<u32> {
        let theirs = self.facts.get(peer).and_then(|fact| fact.underlay_mtu);
        let ours = self.own.as_ref().and_then(|own| own.underlay_mtu);
        [theirs, ours, self.probed.get(peer).copied()].into_iter().flatten().min()
    }

    /// The same of a node that can be asked again: it is alive, and has answered before.
    #[must_use]
    pub fn answered_mtu(&self, peer: &OwnerId) -> Option<u32> {
        let answers = self.probed.contains_key(peer) && !self.is_dead(peer);
        self.path_mtu(peer).filter(|_| answers)
    }

    fn claim(&mut self, node: &OwnerId, fact: &NodeOverlay) {
        for block in blocks(fact) {
            self.blocks.entry(block).or_default().insert(node.clone());
        }
        for end in ends(fact) {
            self.ends.entry(end).or_default().insert(node.clone());
        }
    }

    fn unclaim(&mut self, node: &OwnerId, fact: &NodeOverlay) {
        for block in blocks(fact) {
            take_out(&mut self.blocks, &block, node);
        }
        for end in ends(fact) {
            take_out(&mut self.ends, &end, node);
        }
    }

    /// Who claims something of what this fact claims.
    fn rivals(&self, fact: &NodeOverlay) -> BTreeSet<OwnerId> {
        let blocks = blocks(fact).into_iter().flat_map(|block| self.claimers(block));
        let ends = ends(fact).into_iter().filter_map(|end| self.ends.get(&end)).flatten();
        blocks.map(|(_, node)| node).chain(ends).cloned().collect()
    }

    /// Claims of blocks that overlap this one. Blocks lie in each other or apart, so they
    /// begin in this one, or are one of the networks around it.
    fn claimers(&self, block: IpNet) -> impl Iterator<Item = (IpNet, &OwnerId)> {
        let around = (0..block.prefix_len()).filter_map(move |prefix| {
            let net = IpNet::new(block.addr(), prefix).ok()?.trunc();
            self.blocks.get(&net).map(|nodes| (net, nodes))
        });
        let first = IpNet::new(block.network(), 0).unwrap_or(block);
        let inside = self
            .blocks
            .range(first..)
            .take_while(move |(net, _)| {
                net.addr().is_ipv4() == block.addr().is_ipv4() && net.addr() <= block.broadcast()
            })
            .filter(move |(net, _)| block.contains(*net))
            .map(|(net, nodes)| (*net, nodes));
        around.chain(inside).flat_map(|(net, nodes)| nodes.iter().map(move |node| (net, node)))
    }

    /// Makes the entries of these nodes anew.
    fn plan(&mut self, peers: &BTreeSet<OwnerId>) -> Vec<PeerChange> {
        let mut changes = Vec::new();
        for peer in peers.iter().filter(|peer| **peer != self.here) {
            let (after, problems) = match (&self.own, self.facts.get(peer)) {
                (Some(own), Some(fact)) => self.entries_of(own, peer, fact),
                _ => (None, Vec::new()),
            };
            match problems.is_empty() {
                true => drop(self.problems.remove(peer)),
                false => drop(self.problems.insert(peer.clone(), problems)),
            }
            let before = match &after {
                Some(entries) => self.entries.insert(peer.clone(), entries.clone()),
                None => self.entries.remove(peer),
            };
            if before != after {
                changes.push(PeerChange { peer: peer.clone(), before, after });
            }
        }
        changes
    }

    fn entries_of(
        &self,
        own: &Own,
        peer: &OwnerId,
        fact: &NodeOverlay,
    ) -> (Option<PeerEntries>, Vec<PeerProblem>) {
        let v4 = own.underlay.is_ipv4();
        let Some(underlay) = fact.underlay.iter().copied().find(|a| a.is_ipv4() == v4) else {
            return (None, vec![PeerProblem::NoUnderlay { family: if v4 { 4 } else { 6 } }]);
        };
        if let Some(problem) = self.end_taken(peer, fact) {
            return (None, vec![problem]);
        }
        if underlay == own.underlay {
            // What this machine was before it left and joined anew; if it is another one, the
            // members know of two with one address.
            return (None, Vec::new());
        }
        let encryption = match encryption::encrypted(own, fact, underlay) {
            Ok(encryption) => encryption,
            Err(problem) => return (None, vec![problem]),
        };
        let mut problems = Vec::new();
        let mut entries = PeerEntries { encryption, ..PeerEntries::default() };
        for share in &fact.shares {
            let Some(ours) = own.grant.shares.iter().find(|o| o.overlay.name == share.name) else {
                continue; // an overlay of which this node has nothing
            };
            if ours.overlay.vni != share.vni {
                let (overlay, theirs) = (share.name.clone(), share.vni);
                problems.push(PeerProblem::Number { overlay, theirs, ours: ours.overlay.vni });
                continue;
            }
            let mtu = self.route_mtu(peer, underlay, encryption);
            let mtu = mtu.filter(|mtu| *mtu < ours.overlay.mtu);
            for block in &share.blocks {
                match self.refusal(peer, share, block, &ours.overlay.networks) {
                    Some(problem) => problems.push(problem),
                    None => entries.routes.extend(route(own, fact, share, *block, mtu)),
                }
            }
        }
        self.add_ends(own, fact, underlay, &mut entries);
        entries.routes.sort_unstable();
        entries.routes.dedup();
        (Some(entries).filter(|entries| !entries.routes.is_empty()), problems)
    }

    /// Neighbours and forwarding entries of all tunnels that routes lead into.
    fn add_ends(&self, own: &Own, fact: &NodeOverlay, underlay: IpAddr, entries: &mut PeerEntries) {
        let mac = fact.mac;
        let numbers: BTreeSet<u32> = entries.routes.iter().map(|route| route.vni).collect();
        for vni in &numbers {
            entries.forwarding.push(Forwarding { vni: *vni, mac, underlay });
            let neighbour = |address: &IpAddr| Neighbour { vni: *vni, address: *address, mac };
            entries.neighbours.extend(fact.vtep.iter().map(neighbour));
        }
        entries.neighbours.sort_unstable();
        if own.grant.habits == Habits::Dcos
            && let Some(vni) = numbers.first()
            && let Some(via) = fact.vtep.iter().copied().find(|a| a.is_ipv4() == underlay.is_ipv4())
        {
            entries.routes.push(PeerRoute {
                vni: *vni,
                destination: IpNet::from(underlay),
                via,
                table: RouteTable::Dcos,
                source: None,
                mtu: None,
            });
        }
    }

    /// Largest packet inside a tunnel to a node.
    fn route_mtu(
        &self,
        peer: &OwnerId,
        underlay: IpAddr,
        encryption: Option<EncryptedPeer>,
    ) -> Option<u32> {
        let tunnel = if underlay.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        let overhead = tunnel + encryption.map_or(0, |_| encryption::overhead(underlay));
        Some(self.path_mtu(peer)?.saturating_sub(overhead).max(LEAST_MTU))
    }
}

fn take_out<K: Ord>(claims: &mut BTreeMap<K, BTreeSet<OwnerId>>, key: &K, node: &OwnerId) {
    if let Some(nodes) = claims.get_mut(key) {
        nodes.remove(node);
        if nodes.is_empty() {
            claims.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
