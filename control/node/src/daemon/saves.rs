//! What must be on the disk before the next thing happens.
//!
//! The master and the service scheduler queue a record to save in front of the
//! effects that rely on it. If the disk refuses, that queue stops at the record and
//! is tried again; nothing that relies on it is done meanwhile, nothing is lost.

use super::replies::{Refusal, refuse};
use mizzen_store::{Store, StoreError, Write};
use mizzen_types::error::chain;
use mizzen_types::record;
use mizzen_types::time::Mono;
use serde::Serialize;
use std::time::Duration;

const RETRY: Duration = Duration::from_secs(1);

/// Records of one part that wait for the disk, in order.
#[derive(Debug)]
pub(crate) struct Saves {
    prefix: &'static str,
    waiting: Vec<Write>,
    retry: Option<Mono>,
}

impl Saves {
    /// Nothing waits. Keys of this part get `prefix`.
    pub(crate) fn new(prefix: &'static str) -> Self {
        Self { prefix, waiting: Vec::new(), retry: None }
    }

    /// Queues one record.
    pub(crate) fn push(&mut self, key: &str, value: Option<Vec<u8>>) {
        self.waiting.push((format!("{}{key}", self.prefix), value));
    }

    /// Whether the part must wait before it goes on.
    pub(crate) fn is_stalled(&self, now: Mono) -> bool {
        self.retry.is_some_and(|at| at > now)
    }

    /// When to try again.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.retry
    }

    /// Writes what waits as one batch.
    pub(crate) fn flush(&mut self, store: &Store, now: Mono) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        match store.write(&self.waiting) {
            Ok(()) => {
                self.waiting.clear();
                self.retry = None;
                Ok(())
            }
            Err(error) => {
                self.retry = Some(now + RETRY);
                Err(error)
            }
        }
    }
}

/// What a request wants to be written down; nothing removes the record. A value that has no
/// bytes fails the request, and its record stays as it is.
pub(crate) fn written<T: Serialize>(
    format: u16,
    value: Option<&T>,
) -> Result<Option<Vec<u8>>, Refusal> {
    let bytes = value.map(|value| record::write(format, value)).transpose();
    bytes.map_err(|error| refuse(500, format!("the change has no record: {}", chain(&error))))
}

/// Every record of a part, without the part's prefix.
pub(crate) fn saved(store: &Store, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let records = store.scan(prefix)?;
    let strip = |(key, value): (String, Vec<u8>)| {
        (key.strip_prefix(prefix).unwrap_or(&key).to_owned(), value)
    };
    Ok(records.into_iter().map(strip).collect())
}
