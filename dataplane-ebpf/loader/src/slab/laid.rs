//! What is remembered of a long run: enough to find a backend without looking at all.
//!
//! ```text
//! ◀── open, in order ──▶│◀─ withheld, in order ─▶│◀─ spare ─▶      when it is laid out
//! ◀── open, in order ─x─────▶│ came │◀─ in order ─▶│ came │ spare    later; some are gone
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use mizzen_ebpf_abi::{Slot, VipValue, maps};
use mizzen_ebpf_core::select::{point, spread};
use mizzen_ebpf_core::steps::CLASSES;

use crate::mapped::Mapped;
use crate::words::{backend, slot_address};
use crate::{BackendWanted, Distance, draft};

/// A run whose backends can be changed in place.
#[derive(Debug)]
pub struct Laid {
    /// The VIP's element.
    pub value: VipValue,
    /// Slots that the run has or may have.
    capacity: u32,
    /// How many were open, and how many there were, when it was laid out.
    open: u32,
    length: u32,
    /// How many of the open slots of each class are of backends that are gone.
    gone: [u32; CLASSES as usize],
    /// Positions of the backends that came or were moved since.
    elsewhere: BTreeMap<SocketAddr, u32>,
}

impl Laid {
    /// Just laid out.
    pub fn new(value: VipValue, capacity: u32) -> Self {
        let VipValue { open, length, .. } = value;
        let gone = [0; CLASSES as usize];
        Self { value, capacity, open, length, gone, elsewhere: BTreeMap::new() }
    }

    /// Slots that belong to the run, the spare ones as well.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Where spare slots can be added, if none is left, and how many: no more than it might have got at first.
    pub fn wants_spare(&self) -> Option<(u32, u32)> {
        let had = self.capacity - self.length;
        let missing = draft::spare(self.length).saturating_sub(had);
        let is_used_up = self.value.length == self.capacity && missing > 0;
        is_used_up.then_some((self.value.base + self.capacity, missing))
    }

    /// So many spare slots were added.
    pub fn add_spare(&mut self, count: u32) {
        self.capacity += count;
    }

    /// Leaves the spare slots to others: the first, and how many.
    pub fn give_up_spare(&mut self) -> (u32, u32) {
        let VipValue { base, length, .. } = self.value;
        let count = self.capacity - length;
        self.capacity = length;
        (base + length, count)
    }

    /// Position and slot of the backend at an address.
    pub fn find(&self, slots: &Mapped<Slot>, address: SocketAddr) -> Option<(u32, Slot)> {
        let at = |position: u32| slots.get(self.value.base + position);
        if let Some(position) = self.elsewhere.get(&address) {
            return at(*position).map(|slot| (*position, slot));
        }
        let parts = [0..self.open, self.open.max(self.value.open)..self.length];
        let places = parts.into_iter().flat_map(|part| DISTANCES.map(|far| (part.clone(), far)));
        places.into_iter().find_map(|(part, distance)| {
            let wanted = (distance, address);
            let key = |slot: &Slot| (backend(slot).distance, slot_address(slot));
            let is_before = |position| at(position).is_some_and(|slot| key(&slot) < wanted);
            let position = partition_point(part.clone(), is_before);
            let slot = at(position).filter(|_| part.contains(&position))?;
            (key(&slot) == wanted && slot.flags & Slot::GONE == 0).then_some((position, slot))
        })
    }

    /// Whether draws hit all by their weight with one more backend behind the last one.
    pub fn is_fair_with(&self, slots: &Mapped<Slot>, wanted: &BackendWanted) -> bool {
        let VipValue { base, flags, .. } = self.value;
        let farthest = self.open.checked_sub(1).and_then(|last| slots.get(base + last));
        let is_like = |slot: Slot| {
            slot.weight == u32::from(wanted.weight)
                && (flags & VipValue::LOCALITY == 0 || backend(&slot).distance == wanted.distance)
        };
        !wanted.is_open() || farthest.is_some_and(is_like)
    }

    /// Whether there is a spare slot, and no VIP too large.
    pub fn has_spare(&self) -> bool {
        let length = self.value.length;
        let backends = length - self.gone.iter().sum::<u32>();
        length < self.capacity && backends < maps::BACKENDS_CAPACITY as u32
    }

    /// Whether the backend at a position may go while its slot stays: enough of those that draws hit must be left.
    pub fn may_go(&self, position: u32) -> bool {
        self.class(position).is_none_or(|class| {
            let part = draft::classes(&self.value).part(class);
            self.gone[class as usize] < part.length / draft::SHARE
        })
    }

    /// Notes that the backend at a position is gone, or elsewhere.
    pub fn note_gone(&mut self, position: u32) {
        if let Some(class) = self.class(position) {
            self.gone[class as usize] += 1;
        }
    }

    /// Notes where a backend is now, if it is anywhere.
    pub fn note_place(&mut self, address: SocketAddr, position: Option<u32>) {
        match position {
            Some(position) => self.elsewhere.insert(address, position),
            None => self.elsewhere.remove(&address),
        };
    }

    /// The slot that gets what hits one whose backend goes: any other of its class, or draws would hit one of them too
    /// often.
    pub fn heir(&self, slots: &Mapped<Slot>, position: u32) -> u32 {
        let base = self.value.base;
        let class = self.class(position).unwrap_or_default();
        let part = draft::classes(&self.value).part(class);
        let seed = u64::from(self.value.generation) << 32 | u64::from(position) << 8;
        let mut others =
            (0..TRIES).map(|n| base + part.start + point(spread(seed + n), part.length));
        let is_admitted = |slot: Slot| slot.flags & Slot::ADMITTED != 0;
        let heir = others.find(|other| slots.get(*other).is_some_and(is_admitted));
        // Without any, its draws are passed over.
        heir.filter(|heir| *heir != base + position).unwrap_or(base + position)
    }

    /// The class of an open position.
    fn class(&self, position: u32) -> Option<u32> {
        let VipValue { near, within, open, .. } = self.value;
        (position < open).then(|| u32::from(position >= near) + u32::from(position >= within))
    }
}

const DISTANCES: [Distance; 3] = [Distance::Node, Distance::Zone, Distance::Far];

/// Each misses with a chance of one in [`draft::SHARE`].
const TRIES: u64 = 32;

/// The first position of which it is not so.
fn partition_point(part: Range<u32>, is_so: impl Fn(u32) -> bool) -> u32 {
    let Range { mut start, mut end } = part;
    while start < end {
        let middle = start + (end - start) / 2;
        if is_so(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}
