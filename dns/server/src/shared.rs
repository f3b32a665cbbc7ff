//! The zones between many readers and one writer.

use mizzen_dns_core::Zones;
use parking_lot::{Condvar, Mutex, RwLock};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Zones that are answered from while they change.
#[derive(Debug)]
pub struct SharedZones {
    zones: RwLock<Zones>,
    /// Whether something that was known is not in the zones yet.
    filling: AtomicBool,
    /// Where it comes from. Whoever holds it is the only one who reads.
    source: Mutex<Option<Arc<dyn Source>>>,
    /// The same as `filling`, to be waited for.
    whole: Mutex<bool>,
    became_whole: Condvar,
}

/// Where what was known before comes from while the zones are filled.
pub trait Source: fmt::Debug + Send + Sync {
    /// Brings in all that is known of the names of these hashes.
    fn bring(&self, zones: &SharedZones, names: &[u32]);
}

impl SharedZones {
    /// Shares `zones`.
    #[must_use]
    pub fn new(zones: Zones) -> Self {
        Self {
            zones: RwLock::new(zones),
            filling: AtomicBool::new(false),
            source: Mutex::new(None),
            whole: Mutex::new(true),
            became_whole: Condvar::new(),
        }
    }

    /// Looks at the zones. Answers go on meanwhile, changes wait. While the zones are filled,
    /// what is looked for and not there yet is brought in first, and `look` called again.
    pub fn read<R>(&self, mut look: impl FnMut(&Zones) -> R) -> R {
        if self.filling.load(Ordering::Acquire) {
            return self.read_and_fill(&mut look);
        }
        look(&self.zones.read())
    }

    /// Takes the zones of `other`, all at once, and gives its own in exchange. Both must have
    /// the same key, or what is read at this moment goes the full road.
    pub fn swap(&self, other: &Self) {
        std::mem::swap(&mut *self.zones.write(), &mut *other.zones.write());
    }

    /// Changes the zones. Answers wait meanwhile, so a large change is better made in
    /// several calls.
    pub fn update<R>(&self, change: impl FnOnce(&mut Zones) -> R) -> R {
        change(&mut self.zones.write())
    }

    /// From now on what is asked for comes from `source`, until [`Self::end_filling`].
    pub fn begin_filling(&self, source: Arc<dyn Source>) {
        *self.whole.lock() = false;
        *self.source.lock() = Some(source);
        self.zones.write().begin_filling();
        self.filling.store(true, Ordering::Release);
    }

    /// All that was known is in the zones.
    pub fn end_filling(&self) {
        self.zones.write().end_filling();
        self.filling.store(false, Ordering::Release);
        *self.whole.lock() = true;
        self.became_whole.notify_all();
        // Whoever holds it may have waited for this, and lets go of it.
        if let Some(mut source) = self.source.try_lock() {
            *source = None;
        }
    }

    /// Whether all that is known is in the zones. Before, a name is found and a list of names
    /// is not complete.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.filling.load(Ordering::Acquire)
    }

    /// Waits until that is so.
    pub fn wait_until_whole(&self) {
        let mut whole = self.whole.lock();
        self.became_whole.wait_while(&mut whole, |whole| !*whole);
    }

    #[cold]
    fn read_and_fill<R>(&self, look: &mut impl FnMut(&Zones) -> R) -> R {
        // One after the other: what is noted is what this one looked for.
        let mut held = self.source.lock();
        loop {
            let (found, wanted) = {
                let zones = self.zones.read();
                (look(&zones), zones.take_wanted())
            };
            if wanted.is_empty() {
                if self.is_whole() {
                    *held = None;
                }
                return found;
            }
            if let Some(source) = held.as_ref() {
                source.bring(self, &wanted);
            }
            self.zones.read().complete(&wanted);
        }
    }
}
