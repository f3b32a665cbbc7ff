//! A VIP as the maps have it.

use mizzen_ebpf_abi::{Slot, VipValue};

use crate::VipWanted;
use crate::compare::order;
use crate::draft::LONG;
use crate::words::backend;

/// A VIP's element, and the slots of its backends in the order of a run.
#[derive(Debug)]
pub struct Run {
    pub value: VipValue,
    pub slots: Vec<Slot>,
}

impl Run {
    /// Of the slots of the run, which have those of backends that are gone among them.
    pub(super) fn of(value: VipValue, slots: impl Iterator<Item = Slot>) -> Self {
        let mut slots: Vec<Slot> = slots.filter(|slot| slot.flags & Slot::GONE == 0).collect();
        // Shorter ones are written in order, and never changed in place.
        if value.length >= LONG {
            slots.sort_by_key(|slot| order(&backend(slot)));
        }
        Self { value, slots }
    }

    /// How many of the backends are open; they come first.
    pub(super) fn open(&self) -> usize {
        self.slots.partition_point(|slot| backend(slot).is_open())
    }

    /// Every row that the VIP uses: its own and its backends'.
    pub(super) fn rows(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().map(|slot| slot.row).chain([self.value.row])
    }

    /// The wish that led to this, its backends in the order of the run.
    pub fn spec(&self) -> VipWanted {
        let backends = self.slots.iter().map(backend).collect();
        VipWanted::from_value(&self.value, backends)
    }
}
