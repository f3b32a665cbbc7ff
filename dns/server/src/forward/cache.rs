//! The map of kept answers, shared by all threads.
//!
//! It is cut into shards, each with a lock that a look-up takes for reading, and gives up
//! what is asked for least (S3-FIFO), so that a flood of names that are asked for once
//! does not push out the others. Its hash is keyed: nobody can make names that collide.

use super::settings::ForwardSettings;
use mizzen_dns_core::{CacheKey, Kept, Relayed};
use mizzen_types::time::Mono;
use quick_cache::sync::{Cache as Map, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What an entry costs beside its key and answer: the map's slot and the counts.
const OVERHEAD: usize = 160;
/// How long nobody is asked anew after it was tried (RFC 8767, 5).
const RETRY: Duration = Duration::from_secs(5);

type Shards = Map<Box<[u8]>, Arc<Entry>, Weight, RandomState>;

/// Answers by question.
pub(super) struct Cache {
    /// None if nothing shall be kept.
    map: Option<Shards>,
    limits: (usize, usize),
}

/// A kept answer and how often it was given.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kept: Kept,
    asked: AtomicU32,
    /// When it may be asked for anew, in nanoseconds like [`Mono`].
    refresh_at: AtomicU64,
}

/// Bytes of an entry, and at least so many that no more than the wanted number fits.
#[derive(Debug, Clone)]
struct Weight {
    least: u64,
}

impl Weighter<Box<[u8]>, Arc<Entry>> for Weight {
    fn weight(&self, key: &Box<[u8]>, entry: &Arc<Entry>) -> u64 {
        let bytes = key.len() + entry.kept.answer().size() + OVERHEAD;
        self.least.max(bytes as u64)
    }
}

impl Cache {
    pub(super) fn new(settings: &ForwardSettings) -> Self {
        let (entries, bytes) = (settings.cache_entries, settings.cache_bytes as u64);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(bytes)
            .build()
            .ok()
            .filter(|_| entries > 0 && bytes > 0);
        let least = bytes.div_ceil(entries.max(1) as u64);
        let map = options.map(|options| {
            let weight = Weight { least };
            Map::with_options(options, weight, RandomState::new(), DefaultLifecycle::default())
        });
        Self { map, limits: (entries, settings.cache_bytes) }
    }

    /// A cache as large as the settings say with what `former` holds, which is that one if
    /// it is as large already.
    pub(super) fn resized(former: &Arc<Self>, settings: &ForwardSettings) -> Arc<Self> {
        if former.limits == (settings.cache_entries, settings.cache_bytes) {
            return Arc::clone(former);
        }
        let cache = Self::new(settings);
        if let (Some(from), Some(to)) = (&former.map, &cache.map) {
            from.iter().for_each(|(key, entry)| to.insert(key, entry));
        }
        Arc::new(cache)
    }

    pub(super) fn get(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.map.as_ref()?.get(key.as_bytes())
    }

    /// Keeps an answer as long as it may be kept.
    ///
    /// * `failure` — whether it is ours, and says that nobody answered.
    pub(super) fn keep(&self, key: &CacheKey, answer: &Relayed, failure: Failure, now: Mono) {
        let Some(map) = &self.map else { return };
        let kept = match failure {
            Failure::None => Kept::new(answer.clone(), now),
            Failure::NoAnswer => Some(Kept::silence(answer.clone(), now)),
            Failure::Busy => None,
        };
        if let Some(kept) = kept {
            let (asked, refresh_at) = (AtomicU32::new(0), AtomicU64::new(0));
            let entry = Arc::new(Entry { kept, asked, refresh_at });
            map.insert(key.as_bytes().into(), entry);
        }
    }

    pub(super) fn entries(&self) -> usize {
        self.map.as_ref().map_or(0, Map::len)
    }

    /// Bytes as they are counted against the limit.
    pub(super) fn weight(&self) -> u64 {
        self.map.as_ref().map_or(0, Map::weight)
    }
}

/// Why an answer is our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It is not.
    None,
    /// Nobody answered.
    NoAnswer,
    /// Nobody could be asked without too many questions waiting.
    Busy,
}

impl Entry {
    /// Counts a question and returns how many there were.
    pub(super) fn count(&self) -> u32 {
        self.asked.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Notes that asking anew was in vain.
    pub(super) fn hold(&self, now: Mono) {
        self.refresh_at.store((now + RETRY).0, Ordering::Relaxed);
    }

    /// Whether asking anew was in vain not long ago.
    pub(super) fn is_held(&self, now: Mono) -> bool {
        self.refresh_at.load(Ordering::Relaxed) > now.0
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("entries", &self.entries()).finish_non_exhaustive()
    }
}
