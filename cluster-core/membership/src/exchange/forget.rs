//! Logs that go with their nodes: those of a node that is away for long are forgotten until
//! it is back, those of one that was expelled for good.

use super::Exchange;
use super::set::Set;
use crate::identity::{node_of, tag_of};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Mono;

impl Exchange {
    /// Forgets the logs of a node that is gone for long, until it is back or says something
    /// later.
    pub fn forget(&mut self, node: &OwnerId, now: Mono) {
        let of_node = |set: &&Set| node_of(&set.head.owner) == *node;
        let tags: Vec<u64> =
            self.sets.values().filter(of_node).map(|set| tag_of(&set.head.owner)).collect();
        for tag in tags {
            let Some(set) = self.sets.remove(&tag) else { continue };
            self.digests.forget(&set.head.owner, set.head.stand(), now);
            self.news.forget(tag);
        }
    }

    /// Forgets the logs of a node that does not belong to the cluster any more, and hears no
    /// others of it.
    pub fn expel(&mut self, node: &OwnerId, now: Mono) {
        self.expelled.insert(node.clone());
        self.forget(node, now);
    }

    pub(super) fn is_expelled(&self, owner: &OwnerId) -> bool {
        !self.expelled.is_empty() && self.expelled.contains(&node_of(owner))
    }
}
