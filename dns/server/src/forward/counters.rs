//! What forwarding did, for whoever watches.

use super::cache::Cache;
use crate::upstream::UpstreamSnapshot;
use std::sync::atomic::{AtomicU64, Ordering};

/// What forwarding did so far, and how it stands.
#[derive(Debug, Clone)]
pub struct ForwardSnapshot {
    /// The cache.
    pub cache: CacheSnapshot,
    /// Each upstream once, in the order of the configuration.
    pub upstreams: Vec<UpstreamSnapshot>,
    /// Questions that wait for upstreams.
    pub flights: usize,
    /// Clients that wait for them.
    pub waiting: usize,
}

/// What the cache did so far, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheSnapshot {
    /// Questions answered from it.
    pub hits: u64,
    /// Questions for which somebody had to be asked.
    pub misses: u64,
    /// Questions answered with what was too old.
    pub stale: u64,
    /// Answers that were asked for anew before their end.
    pub prefetches: u64,
    /// Questions of ours that came back to us.
    pub loops: u64,
    /// Answers that are kept.
    pub entries: usize,
    /// What they weigh, in bytes.
    pub bytes: u64,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) prefetches: AtomicU64,
    pub(super) loops: AtomicU64,
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self, cache: &Cache) -> CacheSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheSnapshot {
            hits: read(&self.hits),
            misses: read(&self.misses),
            stale: read(&self.stale),
            prefetches: read(&self.prefetches),
            loops: read(&self.loops),
            entries: cache.entries(),
            bytes: cache.weight(),
        }
    }
}
