//! The records of published ports: a file for each container, whole whenever somebody looks.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::portmap::{
    PortRecord, RECORD_LOCK, record_data_dir, record_directory, record_name, table,
};
use mizzen_cni_core::request::Request;
use mizzen_netlink::namespace_name;
use serde_json::json;

use crate::error::PluginError;
use crate::leases::{ContainerLock, LeaseError, failed, lock, remove, write};

/// The records of a table of this network namespace, for containers of one network.
pub(super) struct Records<'a> {
    dir: PathBuf,
    network: &'a str,
}

impl<'a> Records<'a> {
    /// Where those are that `request` is about.
    pub(super) fn of(request: &'a Request) -> Result<Self, PluginError> {
        let (data_dir, table) = (record_data_dir(&request.config)?, table(&request.config)?);
        let dir = record_directory(&data_dir, &namespace_name()?, &table);
        Ok(Self { dir, network: &request.network })
    }

    /// Waits until nobody else changes records and ports, and makes the directory if need be.
    pub(super) fn make(&self) -> Result<ContainerLock, LeaseError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.map_err(|source| failed("create directory", &self.dir, source))?;
        lock(&self.dir.join(RECORD_LOCK))
    }

    /// Waits until nobody else changes records and ports; without a directory there is nobody.
    pub(super) fn lock(&self) -> Result<Option<ContainerLock>, LeaseError> {
        match lock(&self.dir.join(RECORD_LOCK)) {
            Err(LeaseError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(None)
            }
            lock => lock.map(Some),
        }
    }

    /// Writes a record, or another one in its place. The caller holds the lock.
    pub(super) fn write(&self, record: &PortRecord) -> Result<(), LeaseError> {
        let name = record_name(self.network, &record.key());
        let (draft, path) = (self.dir.join(format!(".new-{name}")), self.dir.join(name));
        write(&draft, &json!(record).to_string())?;
        std::fs::rename(&draft, &path).map_err(|source| failed("replace", &path, source))
    }

    /// Removes the record of `key`, if there is one.
    pub(super) fn remove(&self, key: &AttachmentKey) -> Result<(), LeaseError> {
        remove(&self.dir.join(record_name(self.network, key)))
    }

    /// Removes the records of this network but those of `valid`.
    pub(super) fn remove_except(&self, valid: &BTreeSet<AttachmentKey>) -> Result<(), LeaseError> {
        let failed = |source| failed("list", &self.dir, source);
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let record = std::fs::read(&path).ok();
            let record = record.and_then(|text| serde_json::from_slice::<PortRecord>(&text).ok());
            let ours = record.filter(|record| record.network == self.network);
            if ours.is_some_and(|record| !valid.contains(&record.key())) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}
