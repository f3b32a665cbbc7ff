//! Where the nodes of the cluster are, as one of them sees it.

use crate::fact::NodeFact;
use crate::ids::OwnerId;
use crate::vip::Distance;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Where the nodes of the cluster are.
#[derive(Debug, Clone)]
pub struct Places {
    here: OwnerId,
    nodes: BTreeMap<OwnerId, Place>,
    by_address: BTreeMap<IpAddr, OwnerId>,
    /// Addresses that this machine has.
    own: BTreeSet<IpAddr>,
    /// Nodes that do not answer at the moment.
    doubted: BTreeSet<OwnerId>,
}

/// What a node says about where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    address: IpAddr,
    zone: Option<String>,
    hostname: String,
}

/// How much of what was computed from facts and places has to be computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moved {
    /// Nothing.
    Nothing,
    /// What that node's log says, and whatever looks a node up by name or address.
    Node,
    /// All of it: this node itself is somewhere else.
    Here,
}

impl Places {
    /// Nothing is known but who this node is.
    #[must_use]
    pub fn new(here: OwnerId) -> Self {
        Self {
            here,
            nodes: BTreeMap::new(),
            by_address: BTreeMap::new(),
            own: BTreeSet::new(),
            doubted: BTreeSet::new(),
        }
    }

    /// The node that sees the others from here.
    #[must_use]
    pub fn here(&self) -> &OwnerId {
        &self.here
    }

    /// Takes in what a node says about itself; how much that changes.
    pub fn apply(&mut self, owner: &OwnerId, node: Option<&NodeFact>) -> Moved {
        let after = node.map(|node| Place {
            address: node.address.to_canonical(),
            zone: node.zone.clone(),
            hostname: node.hostname.clone(),
        });
        if self.nodes.get(owner) == after.as_ref() {
            return Moved::Nothing;
        }
        match after {
            Some(place) => drop(self.nodes.insert(owner.clone(), place)),
            None => drop(self.nodes.remove(owner)),
        }
        let address = |(owner, place): (&OwnerId, &Place)| (place.address, owner.clone());
        self.by_address = self.nodes.iter().map(address).collect();
        if self.is_here(owner) { Moved::Here } else { Moved::Node }
    }

    /// Which addresses this machine has, besides the one that its node says.
    pub fn set_own(&mut self, addresses: BTreeSet<IpAddr>) {
        self.own = addresses;
    }

    /// A node does not answer, or answers again; whether that is news.
    pub fn set_doubt(&mut self, node: &OwnerId, doubted: bool) -> bool {
        match doubted {
            true => self.doubted.insert(node.clone()),
            false => self.doubted.remove(node),
        }
    }

    /// Whether a node does not answer at the moment.
    #[must_use]
    pub fn is_doubted(&self, node: &OwnerId) -> bool {
        self.doubted.contains(node)
    }

    /// Whether this is the node that looks.
    #[must_use]
    pub fn is_here(&self, owner: &OwnerId) -> bool {
        self.here == *owner
    }

    /// How far away a node is.
    #[must_use]
    pub fn distance(&self, owner: &OwnerId) -> Distance {
        if self.is_here(owner) {
            return Distance::Node;
        }
        let zone = |owner| self.nodes.get(owner).and_then(|place| place.zone.as_ref());
        match zone(owner) {
            Some(theirs) if Some(theirs) == zone(&self.here) => Distance::Zone,
            _ => Distance::Far,
        }
    }

    /// How far away an address is that no task has: that of a node, or anything else.
    #[must_use]
    pub fn distance_of(&self, address: IpAddr) -> Distance {
        match self.by_address.get(&address) {
            _ if address.is_loopback() || self.own.contains(&address) => Distance::Node,
            Some(owner) => self.distance(owner),
            None => Distance::Far,
        }
    }

    /// The address of the machine that calls itself so, in any case of letters; of
    /// several the first one by owner.
    #[must_use]
    pub fn address_of(&self, hostname: &str) -> Option<IpAddr> {
        let called = |place: &&Place| place.hostname.eq_ignore_ascii_case(hostname);
        self.nodes.values().find(called).map(|place| place.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(hostname: &str, address: &str, zone: Option<&str>) -> NodeFact {
        NodeFact {
            hostname: hostname.into(),
            address: address.parse().unwrap(),
            agent_id: None,
            zone: zone.map(str::to_owned),
            authority: false,
            overlay: None,
        }
    }

    #[test]
    fn nodes_move() {
        let mut places = Places::new("a".into());
        let (a, b) = ("a".into(), "b".into());
        let east = node("B.example", "10.0.0.2", Some("east"));
        assert_eq!(places.apply(&b, Some(&east)), Moved::Node);
        assert_eq!(places.apply(&b, Some(&east)), Moved::Nothing);
        assert_eq!((places.distance(&a), places.distance(&b)), (Distance::Node, Distance::Far));
        assert_eq!(places.apply(&a, Some(&node("a", "10.0.0.1", Some("east")))), Moved::Here);
        assert_eq!(places.distance(&b), Distance::Zone);
        assert_eq!(places.distance_of("10.0.0.2".parse().unwrap()), Distance::Zone);
        assert_eq!(places.address_of("b.EXAMPLE"), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(places.apply(&b, None), Moved::Node);
        assert_eq!((places.distance(&b), places.address_of("b.example")), (Distance::Far, None));
    }

    #[test]
    fn nodes_that_name_no_zone_are_not_near_each_other() {
        let mut places = Places::new("a".into());
        places.apply(&"a".into(), Some(&node("a", "10.0.0.1", None)));
        places.apply(&"b".into(), Some(&node("b", "10.0.0.2", None)));
        assert_eq!(places.distance(&"b".into()), Distance::Far);
    }
}
