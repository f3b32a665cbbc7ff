//! Where blocks are, by 32 bits of a keyed hash.
//!
//! Open addressing with eight slots to a cache line. The table is cut into segments that
//! grow by themselves, so that no change ever pays for moving all of it.

use super::arena::Handle;

const SEGMENTS: usize = 256;
const SMALLEST: usize = 8;

/// Slots by hash.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    segments: Box<[Segment]>,
}

#[derive(Debug, Clone, Default)]
struct Segment {
    /// A power of two, or none.
    slots: Box<[Slot]>,
    used: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    /// [`Handle::NONE`] in an empty slot.
    handle: Handle,
}

const EMPTY: Slot = Slot { hash: 0, handle: Handle::NONE };

impl Table {
    pub(crate) fn new() -> Self {
        Self { segments: vec![Segment::default(); SEGMENTS].into_boxed_slice() }
    }

    /// The blocks that have this hash; nearly always one or none.
    pub(crate) fn candidates(&self, hash: u32) -> impl Iterator<Item = Handle> {
        let slots = &self.segments[segment_of(hash)].slots;
        let mut at = home(hash, slots.len());
        std::iter::from_fn(move || {
            loop {
                // A segment without slots has none to look at either.
                let slot = slots.get(at)?;
                if slot.handle == Handle::NONE {
                    return None;
                }
                at = (at + 1) & (slots.len() - 1);
                if slot.hash == hash {
                    return Some(slot.handle);
                }
            }
        })
    }

    pub(crate) fn insert(&mut self, hash: u32, handle: Handle) {
        self.segments[segment_of(hash)].insert(Slot { hash, handle });
    }

    /// A block has moved.
    pub(crate) fn update(&mut self, hash: u32, from: Handle, to: Handle) {
        let segment = &mut self.segments[segment_of(hash)];
        if let Some(at) = segment.position(hash, from) {
            segment.slots[at].handle = to;
        }
    }

    pub(crate) fn remove(&mut self, hash: u32, handle: Handle) {
        self.segments[segment_of(hash)].remove(hash, handle);
    }

    /// How many blocks there are.
    pub(crate) fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.used).sum()
    }

    /// The blocks of one segment and their hashes; `None` behind the last segment.
    pub(crate) fn segment(&self, number: usize) -> Option<impl Iterator<Item = (u32, Handle)>> {
        let slots = &self.segments.get(number)?.slots;
        let used = slots.iter().filter(|slot| slot.handle != Handle::NONE);
        Some(used.map(|slot| (slot.hash, slot.handle)))
    }
}

impl Segment {
    fn insert(&mut self, slot: Slot) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.place(slot);
        self.used += 1;
    }

    /// Puts a slot at its home or into the next empty place behind it.
    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = home(slot.hash, self.slots.len());
        while self.slots[at].handle != Handle::NONE {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(SMALLEST);
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; size].into_boxed_slice());
        for slot in old.iter().filter(|slot| slot.handle != Handle::NONE) {
            self.place(*slot);
        }
    }

    fn position(&self, hash: u32, handle: Handle) -> Option<usize> {
        let mut at = home(hash, self.slots.len());
        loop {
            let slot = self.slots.get(at)?;
            if slot.handle == Handle::NONE {
                return None;
            }
            if slot.handle == handle {
                return Some(at);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Takes a slot out and closes the gap, so that no search ends too early.
    fn remove(&mut self, hash: u32, handle: Handle) {
        let Some(mut gap) = self.position(hash, handle) else { return };
        let mask = self.slots.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot.handle == Handle::NONE {
                break;
            }
            let from_home = at.wrapping_sub(home(slot.hash, self.slots.len())) & mask;
            if from_home >= (at.wrapping_sub(gap) & mask) {
                self.slots[gap] = slot;
                gap = at;
            }
        }
        self.slots[gap] = EMPTY;
        self.used -= 1;
    }
}

/// The upper eight bits choose the segment, those below them the slot.
fn segment_of(hash: u32) -> usize {
    (hash >> 24) as usize
}

fn home(hash: u32, slots: usize) -> usize {
    ((u64::from(hash << 8) * slots as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::arena::Arena;
    use proptest::prelude::*;

    proptest! {
        /// Few different hashes, so that they meet all the time.
        #[test]
        fn it_holds_what_was_put_in(
            steps in prop::collection::vec((0..400_usize, 0..3_u32, 0..40_u32), 1..600)
        ) {
            let mut arena = Arena::new();
            let handles: Vec<Handle> = (0..400).map(|_| arena.insert(&[0; 4]).expect("room")).collect();
            let mut table = Table::new();
            let mut model: Vec<Option<u32>> = vec![None; 400];
            for (which, segment, low) in steps {
                let hash = (segment << 24) | (low << 18);
                match model[which].take() {
                    Some(hash) => table.remove(hash, handles[which]),
                    None => {
                        table.insert(hash, handles[which]);
                        model[which] = Some(hash);
                    }
                }
                prop_assert_eq!(table.len(), model.iter().flatten().count());
            }
            for (which, hash) in model.iter().enumerate() {
                for asked in [*hash, Some(7), Some(3 << 18)].into_iter().flatten() {
                    let found = table.candidates(asked).any(|handle| handle == handles[which]);
                    prop_assert_eq!(found, *hash == Some(asked));
                }
            }
            let all = (0..SEGMENTS).filter_map(|number| table.segment(number)).flatten();
            prop_assert_eq!(all.count(), table.len());
        }
    }
}
