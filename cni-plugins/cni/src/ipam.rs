//! `mizzen-ipam`: addresses from ranges, one file per lease.

use mizzen_cni_core::config::{IpamConfig, TeardownConfig, valid_attachments};
use mizzen_cni_core::gc::plan_gc;
use mizzen_cni_core::ipam::Pool;
use mizzen_cni_core::request::{Attachment, Command, Request};
use mizzen_cni_core::result::CniResult;
use mizzen_cni_core::state::lease_directory;
use serde_json::Value;

use crate::error::PluginError;
use crate::leases::{Holder, LeaseStore};
use crate::state;

/// Does what `request` asks of the address plugin.
pub(crate) fn handle(request: &Request) -> Result<Option<Value>, PluginError> {
    let teardown = TeardownConfig::read(&request.config)?;
    let directory = lease_directory(&request.config, &request.network)?;
    let store = || LeaseStore::open(Holder::Ipam, &teardown.data_dir, directory, &request.network);
    let completed = || state::completed(&request.config, &teardown.data_dir);
    let config = || completed().map(|completed| completed.config);
    match &request.command {
        Command::Add(attachment) => {
            let result = state::with_addresses(&request.config, &teardown.data_dir, |known| {
                let config = IpamConfig::read(&known.config)?;
                let store = store()?;
                let _lock = store.lock(&attachment.key)?;
                take(&store, &config, attachment, None)
            })?;
            Ok(Some(result.to_json(request.version)))
        }
        Command::Del(attachment) => {
            let store = store()?;
            let _lock = store.lock(&attachment.key)?;
            store.release(&attachment.key)?;
            Ok(None)
        }
        Command::Check(attachment) => check(&store()?, attachment).map(|()| None),
        Command::Status => status(&store()?, &IpamConfig::read(&config()?)?).map(|()| None),
        Command::Gc => collect(&store()?, request).map(|()| None),
        Command::Version => Ok(None),
    }
}

/// Takes leases. The caller holds the container's lock, and may know of `hairpin` at its port.
pub(crate) fn take(
    store: &LeaseStore,
    config: &IpamConfig,
    attachment: &Attachment,
    hairpin: Option<bool>,
) -> Result<CniResult, PluginError> {
    let pools: Vec<Pool> = config.sets.iter().map(|set| Pool::new(set)).collect();
    let addresses = store.take(&attachment.key, &pools, &attachment.wanted.ips, hairpin)?;
    let ips = addresses.iter().zip(&pools).map(|(address, pool)| pool.configuration(*address));
    Ok(CniResult { ips: ips.collect(), routes: config.routes.clone(), ..CniResult::default() })
}

/// Fails if the attachment has no lease.
pub(crate) fn check(store: &LeaseStore, attachment: &Attachment) -> Result<(), PluginError> {
    let key = &attachment.key;
    if store.observe_of(key)?.is_empty() {
        return Err(PluginError::NoLease { key: key.clone() });
    }
    Ok(())
}

/// Fails if no address is free.
pub(crate) fn status(store: &LeaseStore, config: &IpamConfig) -> Result<(), PluginError> {
    let taken = store.addresses()?;
    for set in &config.sets {
        let free = Pool::new(set).choose(&[], None, &taken);
        free.map_err(|error| PluginError::NotAvailable(Box::new(error.into())))?;
    }
    Ok(())
}

fn collect(store: &LeaseStore, request: &Request) -> Result<(), PluginError> {
    let valid = valid_attachments(&request.config)?;
    for key in plan_gc(&valid, &[], &store.owned()?).into_keys() {
        let _lock = store.lock(&key)?;
        store.release(&key)?;
    }
    Ok(store.remove_damaged()?)
}
