//! Several nodes at one address. Packets get to one of them only, so the others are taken for
//! dead, and are heard all the same.

use super::Members;
use crate::daemon::core::Core;
use mizzen_membership::nodes::Node;
use mizzen_membership::swim::State;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// The part's name in problems.
const ADDRESSES: &str = "node addresses";
/// Who was there before is believed to live for a few seconds when a machine was set up anew.
/// What is seen for longer than this, or again, is told.
const LASTING: Duration = Duration::from_secs(5);
/// What was not seen for so long is over.
const OVER: Duration = Duration::from_secs(20);

/// Who was seen where, by address.
#[derive(Debug, Default)]
pub(super) struct SharedAddresses {
    seen: BTreeMap<SocketAddr, Sighting>,
    look_at: Option<Mono>,
}

/// Nodes that were seen at one address.
#[derive(Debug)]
struct Sighting {
    first: Mono,
    last: Mono,
    nodes: BTreeSet<OwnerId>,
}

impl SharedAddresses {
    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.look_at
    }

    /// Takes over which nodes are at one address with others now.
    fn look(&mut self, shared: BTreeMap<SocketAddr, BTreeSet<OwnerId>>, now: Mono) {
        self.seen.retain(|_, sighting| now.since(sighting.last) < OVER);
        for (address, nodes) in shared {
            let new = || Sighting { first: now, last: now, nodes: BTreeSet::new() };
            let sighting = self.seen.entry(address).or_insert_with(new);
            sighting.last = now;
            sighting.nodes.extend(nodes);
        }
        self.look_at = (!self.seen.is_empty()).then(|| now + LASTING);
    }

    /// What lasts.
    fn lasting(&self) -> impl Iterator<Item = (&SocketAddr, &BTreeSet<OwnerId>)> {
        let lasts = |(_, sighting): &(_, &Sighting)| sighting.last.since(sighting.first) >= LASTING;
        self.seen.iter().filter(lasts).map(|(address, sighting)| (address, &sighting.nodes))
    }
}

impl Members {
    /// Nodes that live or speak, by the addresses that they share.
    fn shared_addresses(&self, now: Mono) -> BTreeMap<SocketAddr, BTreeSet<OwnerId>> {
        let mut all: BTreeMap<SocketAddr, BTreeSet<OwnerId>> = BTreeMap::new();
        let runs = |node: &&Node| node.is_here() || speaks_when_dead(node, now);
        for node in self.membership.nodes().iter().filter(runs) {
            let identity = &node.identity;
            all.entry(identity.address).or_default().insert(identity.node().clone());
        }
        all.retain(|_, nodes| nodes.len() > 1);
        all
    }

    fn name_of(&self, node: &OwnerId) -> String {
        match self.fact_of(node) {
            Some(fact) => format!("{} ({node})", fact.hostname),
            None => node.to_string(),
        }
    }
}

/// Whether a node was heard lately, and after it had been found dead: it does not get the
/// questions whether it is there.
fn speaks_when_dead(node: &Node, now: Mono) -> bool {
    let lately = |heard: Mono| heard > node.since.mono && now.since(heard) < LASTING * 2;
    node.state == State::Dead && node.heard.is_some_and(lately)
}

impl Core {
    /// Several nodes may be at one address, or may be so no longer.
    pub(super) fn look_at_addresses(&mut self, now: Mono) {
        let Some(members) = self.members.as_mut() else { return };
        let shared = members.shared_addresses(now);
        members.shared.look(shared, now);
        let text = |(address, nodes): (&SocketAddr, &BTreeSet<OwnerId>)| {
            let names: Vec<String> = nodes.iter().map(|node| members.name_of(node)).collect();
            format!(
                "{} are believed to be at one address, {address}, and only one of them is \
                 reached: give each machine an address of its own",
                names.join(" and ")
            )
        };
        let texts: Vec<String> = members.shared.lasting().map(text).collect();
        self.tell_of(ADDRESSES, &texts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_or_comes_again_is_told_until_it_is_over() {
        let address = SocketAddr::from(([10, 0, 0, 2], 62501));
        let both: BTreeSet<OwnerId> = ["a".into(), "b".into()].into();
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        let mut shared = SharedAddresses::default();
        assert_eq!(shared.deadline(), None);
        #[rustfmt::skip]
        let steps = [
            (10,  true,  false, "a machine may have been set up anew"),
            (12,  false, false, "and that is what it was"),
            (80,  true,  false, "long after that"),
            (85,  true,  true,  "it lasts"),
            (90,  false, true,  "the other one did not answer for a while"),
            (100, true,  true,  "and is back"),
            (119, false, true,  "it may be back yet"),
            (120, false, false, "it is over"),
        ];
        for (second, seen, told, when) in steps {
            let now = if seen { [(address, both.clone())].into() } else { BTreeMap::new() };
            shared.look(now, at(second));
            let found: Vec<_> = shared.lasting().collect();
            assert_eq!(found, told.then_some((&address, &both)).into_iter().collect::<Vec<_>>());
            assert!(shared.deadline().is_none_or(|look| look == at(second + 5)), "{when}");
        }
        assert_eq!(shared.deadline(), None);
    }
}
