//! What the authority issues to every node: the keys of datagrams, and who was expelled.
//!
//! Both are signed by it and passed on from node to node, so that it may be away.

use crate::certificate::{Root, TrustError};
use crate::seal::Epoch;
use crate::text;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// At most so many nodes are on the list: it goes with the first words on each stream.
pub const MAX_EXPELLED: usize = 500;
/// Said with everything that is signed, so that it cannot stand for anything else.
const SIGN: &[u8] = b"mizzen expulsions 1";

/// What the authority issued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Keys of datagrams, oldest first.
    pub epochs: Vec<Epoch>,
    /// Who does not belong to the cluster any more.
    #[serde(default)]
    pub expulsions: Expulsions,
}

/// Nodes whose certificates do not count any more; signed by the authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expulsions {
    /// Grows by one with each change; zero if nobody ever was expelled.
    pub number: u32,
    /// Keys of datagrams before this one count no longer: an expelled node knows them.
    pub first_epoch: u32,
    /// Who, and when that was by the authority's clock.
    pub nodes: BTreeMap<OwnerId, Wall>,
    #[serde(with = "text::bytes")]
    pub(crate) signature: Vec<u8>,
}

impl Expulsions {
    /// Whether a node was expelled.
    #[must_use]
    pub fn has(&self, node: &OwnerId) -> bool {
        self.nodes.contains_key(node)
    }

    /// Whether this is a later list than `known`, and the authority's.
    ///
    /// # Errors
    ///
    /// [`TrustError::Signature`] if it is later and the authority did not make it.
    pub(crate) fn is_news(&self, known: &Self, root: &Root) -> Result<bool, TrustError> {
        if self.number <= known.number {
            return Ok(false);
        }
        root.check_signed(&self.message(), &self.signature)?;
        Ok(true)
    }

    /// What the authority signs.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut message = SIGN.to_vec();
        message.extend_from_slice(&self.number.to_be_bytes());
        message.extend_from_slice(&self.first_epoch.to_be_bytes());
        for (node, at) in &self.nodes {
            let name = node.as_str().as_bytes();
            message.extend_from_slice(&(name.len() as u64).to_be_bytes());
            message.extend_from_slice(name);
            message.extend_from_slice(&at.0.to_be_bytes());
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;

    const NOW: Wall = Wall(1_800_000_000_000_000_000);

    #[test]
    fn only_a_later_list_of_the_authority_counts() {
        let (authority, stranger) =
            (Authority::generate(NOW).unwrap(), Authority::generate(NOW).unwrap());
        let none = Expulsions::default();
        let first = authority.expel(&none, &"a".into(), 2, NOW).unwrap();
        let second = authority.expel(&first, &"b".into(), 3, NOW).unwrap();
        assert_eq!((second.number, second.first_epoch), (2, 3));
        assert!(second.has(&"a".into()) && second.has(&"b".into()) && !second.has(&"c".into()));
        let root = authority.root();
        assert!(first.is_news(&none, root).unwrap());
        assert!(second.is_news(&first, root).unwrap());
        assert!(!first.is_news(&second, root).unwrap(), "an older one is told again");
        let foreign = stranger.expel(&second, &"c".into(), 4, NOW).unwrap();
        assert!(matches!(foreign.is_news(&second, root), Err(TrustError::Signature)));
        let mut shorter = second.clone();
        shorter.number += 1;
        shorter.nodes.clear();
        assert!(shorter.is_news(&second, root).is_err(), "nobody is let in again by others");
    }
}
