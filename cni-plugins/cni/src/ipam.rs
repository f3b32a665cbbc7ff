//! `mizzen-ipam`: addresses from a range, one file per lease.

use mizzen_cni_core::config::{IpamConfig, valid_attachments};
use mizzen_cni_core::gc::plan_gc;
use mizzen_cni_core::ipam::Pool;
use mizzen_cni_core::request::{Attachment, Command, Request};
use mizzen_cni_core::result::CniResult;
use serde_json::Value;

use crate::error::PluginError;
use crate::leases::{Holder, LeaseStore};

/// Does what `request` asks of the address plugin.
pub(crate) fn handle(request: &Request) -> Result<Option<Value>, PluginError> {
    let config = IpamConfig::read(&request.config)?;
    let store = LeaseStore::open(&config.data_dir, &request.network)?;
    match &request.command {
        Command::Add(attachment) => {
            let _lock = store.lock(Holder::Ipam, &attachment.key)?;
            let result = take(&store, &config, attachment)?;
            Ok(Some(result.to_json(request.version)))
        }
        Command::Del(attachment) => {
            let _lock = store.lock(Holder::Ipam, &attachment.key)?;
            store.release(&attachment.key)?;
            Ok(None)
        }
        Command::Check(attachment) => check(&store, attachment).map(|()| None),
        Command::Status => status(&store, &config).map(|()| None),
        Command::Gc => collect(&store, request).map(|()| None),
        Command::Version => Ok(None),
    }
}

/// Takes a lease. The caller holds the container's lock.
pub(crate) fn take(
    store: &LeaseStore,
    config: &IpamConfig,
    attachment: &Attachment,
) -> Result<CniResult, PluginError> {
    let pool = Pool::new(config);
    let address = store.take(&attachment.key, &pool, attachment.requested_ip)?;
    Ok(pool.result(address, &config.routes))
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
    let taken = store.observe()?.into_keys().collect();
    let free = Pool::new(config).choose(None, None, &taken);
    free.map(|_| ()).map_err(|error| PluginError::NotAvailable(Box::new(error.into())))
}

fn collect(store: &LeaseStore, request: &Request) -> Result<(), PluginError> {
    let valid = valid_attachments(&request.config)?;
    for key in plan_gc(&valid, &[], &owned(store)?).into_keys() {
        let _lock = store.lock(Holder::Ipam, &key)?;
        store.release(&key)?;
    }
    Ok(())
}

/// The leases with a known owner; what cannot be read is not ours to remove.
pub(crate) fn owned(
    store: &LeaseStore,
) -> Result<Vec<(std::net::IpAddr, mizzen_cni_core::AttachmentKey)>, PluginError> {
    let leases = store.observe()?.into_iter();
    Ok(leases.filter_map(|(address, owner)| Some((address, owner?))).collect())
}
