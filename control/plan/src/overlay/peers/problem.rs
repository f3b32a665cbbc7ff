//! Why something that another node says is not believed.

use ipnet::IpNet;
use mizzen_types::ids::OwnerId;

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
