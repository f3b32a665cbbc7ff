//! The zones between many readers and one writer.

use mizzen_dns_core::Zones;
use parking_lot::RwLock;

/// Zones that are answered from while they change.
#[derive(Debug)]
pub struct SharedZones(RwLock<Zones>);

impl SharedZones {
    /// Shares `zones`.
    #[must_use]
    pub fn new(zones: Zones) -> Self {
        Self(RwLock::new(zones))
    }

    /// Looks at the zones. Answers go on meanwhile, changes wait.
    pub fn read<R>(&self, look: impl FnOnce(&Zones) -> R) -> R {
        look(&self.0.read())
    }

    /// Takes the zones of `other`, all at once, and gives its own in exchange. Both must have
    /// the same key, or what is read at this moment goes the full road.
    pub fn swap(&self, other: &Self) {
        std::mem::swap(&mut *self.0.write(), &mut *other.0.write());
    }

    /// Changes the zones. Answers wait meanwhile, so a large change is better made in
    /// several calls.
    pub fn update<R>(&self, change: impl FnOnce(&mut Zones) -> R) -> R {
        change(&mut self.0.write())
    }
}
