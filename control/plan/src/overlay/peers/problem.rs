//! Why something that another node says is not believed.

use super::facts::{End, ends};
use super::{Peers, is_foreign};
use ipnet::IpNet;
use mizzen_types::ids::OwnerId;
use mizzen_types::overlay::{NodeOverlay, NodeShare};

/// What does not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerProblem {
    /// A block that no configuration gives.
    #[error("claims {block}, which is outside of overlay `{overlay}`")]
    Outside {
        /// The overlay.
        overlay: String,
        /// The block.
        block: IpNet,
    },
    /// A block of this node.
    #[error("claims {block} of overlay `{overlay}`, which is this node's")]
    Ours {
        /// The overlay.
        overlay: String,
        /// The block.
        block: IpNet,
    },
    /// A block of another node.
    #[error("claims {block} of overlay `{overlay}`, which is node {by}'s")]
    Taken {
        /// The overlay.
        overlay: String,
        /// The block.
        block: IpNet,
        /// Whose it is.
        by: OwnerId,
    },
    /// The end of another node's tunnels.
    #[error("claims {end} for its end of the tunnels, which is node {by}'s")]
    End {
        /// An address, a link-layer address, or a key.
        end: String,
        /// Whose it is.
        by: OwnerId,
    },
    /// Another number for the same overlay.
    #[error("has overlay `{overlay}` under number {theirs}, this node under {ours}")]
    Number {
        /// The overlay.
        overlay: String,
        /// Its number there.
        theirs: u32,
        /// Its number here.
        ours: u32,
    },
    /// Unencrypted packets, of which this node takes none.
    #[error("does not encrypt, and this node takes encrypted packets only")]
    Plain,
    /// Encrypted packets only, of which this node has none.
    #[error("takes encrypted packets only, and this node does not encrypt")]
    EncryptedOnly,
    /// No way under the tunnels.
    #[error("has no IPv{family} address under the tunnels, and this node has no other")]
    NoUnderlay {
        /// 4 or 6.
        family: u8,
    },
}

impl Peers {
    /// Why a block of a node is not believed.
    pub(super) fn refusal(
        &self,
        peer: &OwnerId,
        share: &NodeShare,
        block: &IpNet,
        networks: &[IpNet],
    ) -> Option<PeerProblem> {
        let (overlay, block) = (share.name.clone(), *block);
        if !networks.iter().any(|network| network.contains(&block)) {
            return Some(PeerProblem::Outside { overlay, block });
        }
        let by = self.claimers(block.trunc()).map(|(_, node)| node).filter(|node| *node != peer);
        let by = by.min_by_key(|node| self.rank(node))?;
        if *by == self.here {
            return Some(PeerProblem::Ours { overlay, block });
        }
        let wins = self.rank(by) < self.rank(peer);
        wins.then(|| PeerProblem::Taken { overlay, block, by: by.clone() })
    }

    /// Who comes first has what several claim; nodes that speak for themselves before those
    /// of which others do.
    pub(super) fn rank<'a>(&self, node: &'a OwnerId) -> (bool, bool, bool, &'a OwnerId) {
        (*node != self.here, is_foreign(node), self.dead.contains(node), node)
    }

    /// Why a node's end of the tunnels is not believed.
    pub(super) fn end_taken(&self, peer: &OwnerId, fact: &NodeOverlay) -> Option<PeerProblem> {
        let claimers = |end: &End| self.ends.get(end).into_iter().flatten();
        let wins = |node: &&OwnerId| self.rank(node) < self.rank(peer);
        ends(fact).iter().find_map(|end| {
            let by = claimers(end).filter(|node| *node != peer).find(wins)?;
            Some(PeerProblem::End { end: end.to_string(), by: by.clone() })
        })
    }
}
