//! A store that is lost while other files of the node are still there.

use super::NODE_ID;
use super::settings::leases;
use crate::config::Config;
use anyhow::bail;
use mizzen_plan::overlay::local::cni_state_file;
use mizzen_store::Store;
use std::path::Path;

/// Refuses a store that knows nothing of a node which has run before. Such a node would begin a
/// cluster of its own, with tasks of another one's master and with blocks of addresses that
/// other nodes have.
pub(super) fn refuse(store: &Store, config: &Config) -> anyhow::Result<()> {
    if store.get(NODE_ID)?.is_some() {
        return Ok(());
    }
    let of_former_starts = [config.state_dir.join("tasks"), cni_state_file(&leases(config))];
    let Some(found) = of_former_starts.iter().find(|path| holds_something(path)) else {
        return Ok(());
    };
    bail!(
        "the store in {} is empty, but this node has run before ({} is there): put back a copy of \
         store.redb; or join its cluster as another node, with --join and a token; or end what \
         runs here with --teardown, and it begins anew",
        config.state_dir.display(),
        found.display(),
    )
}

/// A file, or a directory with anything in it.
fn holds_something(path: &Path) -> bool {
    match path.read_dir() {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.is_file(),
    }
}
