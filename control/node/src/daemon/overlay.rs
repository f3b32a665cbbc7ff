//! The node's share of the overlays: as the leading master gives it, kept on the disk.

use super::core::Core;
use mizzen_store::Store;
use mizzen_types::overlay::OverlayGrant;
use tracing::{info, warn};

/// Key of the share in the store.
const GRANT: &str = "overlay/grant";

/// The share of a former process.
pub(crate) fn kept_grant(store: &Store) -> anyhow::Result<Option<OverlayGrant>> {
    let Some(bytes) = store.get(GRANT)? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(grant) => Ok(Some(grant)),
        Err(error) => {
            // The master says it again.
            warn!(%error, "the node's share of the overlays is unreadable");
            Ok(None)
        }
    }
}

impl Core {
    /// The master gave the node its share of the overlays.
    pub(crate) fn take_grant(&mut self, grant: OverlayGrant) {
        if self.grant.as_ref() == Some(&grant) {
            return;
        }
        info!(shares = grant.shares.len(), vtep = %grant.vtep.mac, "share of the overlays");
        self.node_saves.push(GRANT, serde_json::to_vec(&grant).ok());
        self.grant = Some(grant);
        self.introduce();
    }
}
