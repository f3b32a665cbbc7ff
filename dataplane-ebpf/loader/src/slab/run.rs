//! A VIP as the maps have it.

use mizzen_ebpf_abi::{Slot, VipValue};

use crate::VipWanted;
use crate::words::backend;

/// A VIP's element and its slots.
#[derive(Debug)]
pub struct Run {
    pub value: VipValue,
    pub slots: Vec<Slot>,
}

impl Run {
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
