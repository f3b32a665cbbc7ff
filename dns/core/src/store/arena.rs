//! Memory for many small blocks, each known by four bytes.
//!
//! Blocks lie in chunks, so growing never moves what is there and a change costs the
//! block that changes. A freed block is kept for the next one of its size class; a block
//! beyond [`LARGEST_SHARED`] has a chunk of its own, which is given back.

/// Bytes of a chunk.
const CHUNK: usize = 1 << 19;
/// Blocks start at multiples of this.
const STEP: usize = 8;
/// Largest block that shares a chunk, in bytes.
const LARGEST_SHARED: usize = 1 << 16;
/// Up to here every multiple of [`STEP`] is a size class; beyond, eight classes share a
/// power of two.
const FINE: usize = 1 << 10;
const CLASSES: usize = FINE / STEP + 8 * (LARGEST_SHARED / FINE).ilog2() as usize + 1;
/// No block: the end of a list of free ones.
const NONE: u32 = u32::MAX;

/// Where a block is: its chunk in the upper half, its place in steps in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle(u32);

/// Chunks and what is free in them.
#[derive(Debug, Clone)]
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
    /// The chunk that new blocks are taken from, and how much of it is taken.
    open: Option<(usize, usize)>,
    /// The first free block of each class; each names the next one in its first bytes.
    free: Box<[u32]>,
    /// Places of large blocks that are gone.
    vacant: Vec<usize>,
}

impl Handle {
    /// A handle that no block has.
    pub(crate) const NONE: Self = Self(NONE);

    fn new(chunk: usize, offset: usize) -> Option<Self> {
        let chunk = u16::try_from(chunk).ok()?;
        let place = u16::try_from(offset / STEP).ok()?;
        let number = (u32::from(chunk) << 16) | u32::from(place);
        (number != NONE).then_some(Self(number))
    }

    fn chunk(self) -> usize {
        (self.0 >> 16) as usize
    }

    fn offset(self) -> usize {
        (self.0 & 0xffff) as usize * STEP
    }
}

impl Arena {
    pub(crate) fn new() -> Self {
        let free = vec![NONE; CLASSES].into_boxed_slice();
        Self { chunks: Vec::new(), open: None, free, vacant: Vec::new() }
    }

    /// The bytes from a block's start on; a block knows its own length.
    pub(crate) fn bytes(&self, handle: Handle) -> &[u8] {
        &self.chunks[handle.chunk()][handle.offset()..]
    }

    /// The same to write into.
    pub(crate) fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        &mut self.chunks[handle.chunk()][handle.offset()..]
    }

    /// Takes up `bytes` as a block. `None` when 65,536 chunks, 32 GiB of small blocks,
    /// are full.
    pub(crate) fn insert(&mut self, bytes: &[u8]) -> Option<Handle> {
        let handle = match class_of(bytes.len()) {
            Some((class, size)) => self.take(class, size)?,
            None => return self.insert_large(bytes),
        };
        self.bytes_mut(handle)[..bytes.len()].copy_from_slice(bytes);
        Some(handle)
    }

    /// Puts `bytes` in the place of the block of `length` bytes at `handle`, or elsewhere.
    pub(crate) fn replace(
        &mut self,
        handle: Handle,
        length: usize,
        bytes: &[u8],
    ) -> Option<Handle> {
        let class = class_of(bytes.len());
        if class.is_some() && class == class_of(length) {
            self.bytes_mut(handle)[..bytes.len()].copy_from_slice(bytes);
            return Some(handle);
        }
        if let Some(chunk) = self.large_mut(handle, length).filter(|_| class.is_none()) {
            resize(chunk, bytes.len());
            chunk.copy_from_slice(bytes);
            return Some(handle);
        }
        let new = self.insert(bytes)?;
        self.remove(handle, length);
        Some(new)
    }

    /// Changes a large block in its place, from `length` to `new` bytes. Returns what
    /// `change` gives, which sees the longer one of both; `None` if one of them is small.
    pub(crate) fn change_large<T>(
        &mut self,
        handle: Handle,
        (length, new): (usize, usize),
        change: impl FnOnce(&mut [u8]) -> T,
    ) -> Option<T> {
        let chunk = self.large_mut(handle, length).filter(|_| new > LARGEST_SHARED)?;
        resize(chunk, length.max(new));
        let made = change(chunk);
        resize(chunk, new);
        Some(made)
    }

    /// Frees the block of `length` bytes at `handle`.
    pub(crate) fn remove(&mut self, handle: Handle, length: usize) {
        let Some((class, _)) = class_of(length) else {
            self.chunks[handle.chunk()] = Vec::new();
            self.vacant.push(handle.chunk());
            return;
        };
        let next = self.free[class];
        self.bytes_mut(handle)[..4].copy_from_slice(&next.to_le_bytes());
        self.free[class] = handle.0;
    }

    /// The chunk of a large block of `length` bytes.
    fn large_mut(&mut self, handle: Handle, length: usize) -> Option<&mut Vec<u8>> {
        self.chunks.get_mut(handle.chunk()).filter(|_| length > LARGEST_SHARED)
    }

    fn take(&mut self, class: usize, size: usize) -> Option<Handle> {
        let first = self.free[class];
        if first != NONE {
            let handle = Handle(first);
            if let Some(next) = self.bytes(handle).first_chunk::<4>() {
                self.free[class] = u32::from_le_bytes(*next);
            }
            return Some(handle);
        }
        let (chunk, taken) = match self.open {
            Some((chunk, taken)) if taken + size <= CHUNK => (chunk, taken),
            _ => (self.add_chunk(vec![0_u8; CHUNK]), 0),
        };
        self.open = Some((chunk, taken + size));
        Handle::new(chunk, taken)
    }

    fn insert_large(&mut self, bytes: &[u8]) -> Option<Handle> {
        let chunk = self.add_chunk(bytes.into());
        Handle::new(chunk, 0)
    }

    fn add_chunk(&mut self, bytes: Vec<u8>) -> usize {
        match self.vacant.pop() {
            Some(place) => {
                self.chunks[place] = bytes;
                place
            }
            None => {
                self.chunks.push(bytes);
                self.chunks.len() - 1
            }
        }
    }
}

/// Gives a chunk another length, with an eighth of room to grow.
fn resize(chunk: &mut Vec<u8>, length: usize) {
    if length > chunk.capacity() {
        chunk.reserve_exact(length + length / 8 - chunk.len());
    }
    chunk.resize(length, 0);
    if length < chunk.capacity() / 2 {
        chunk.shrink_to(length + length / 8);
    }
}

/// The size class of a block and how large its blocks are; `None` for a large block.
fn class_of(length: usize) -> Option<(usize, usize)> {
    if length <= FINE {
        let steps = length.div_ceil(STEP).max(1);
        return Some((steps - 1, steps * STEP));
    }
    if length > LARGEST_SHARED {
        return None;
    }
    let power = (length - 1).ilog2() as usize;
    let eighth = (1 << power) / 8;
    let eighths = length.div_ceil(eighth);
    let above_fine = 8 * (power - FINE.ilog2() as usize);
    Some((FINE / STEP + above_fine + eighths - 9, eighths * eighth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_grow_with_length_and_hold_it() {
        let mut before = (0, 8);
        for length in 1..=LARGEST_SHARED {
            let (class, size) = class_of(length).expect("a shared block");
            assert!(size >= length && size.is_multiple_of(STEP), "{length} in {size}");
            assert!(size - length < STEP.max(length / 8 + 1), "{length} in {size}");
            assert!((class, size) == before || (class == before.0 + 1 && size > before.1));
            before = (class, size);
        }
        assert!(before.0 < CLASSES);
        assert_eq!(class_of(LARGEST_SHARED + 1), None);
    }

    proptest! {
        /// Blocks keep their bytes whatever comes and goes beside them.
        #[test]
        fn blocks_do_not_touch_each_other(
            steps in prop::collection::vec((0..8_usize, 0..3_u8, 1..3000_usize, any::<u8>()), 1..120)
        ) {
            let mut arena = Arena::new();
            let mut held: Vec<Option<(Handle, Vec<u8>)>> = vec![None; 8];
            for (place, what, length, byte) in steps {
                let length = if length > 2900 { length * 30 } else { length };
                let bytes = vec![byte; length];
                held[place] = match (held[place].take(), what) {
                    (Some((handle, old)), 0) => {
                        arena.remove(handle, old.len());
                        None
                    }
                    (Some((handle, old)), _) => {
                        let handle = arena.replace(handle, old.len(), &bytes).expect("room");
                        Some((handle, bytes))
                    }
                    (None, _) => Some((arena.insert(&bytes).expect("room"), bytes)),
                };
                for (handle, bytes) in held.iter().flatten() {
                    prop_assert_eq!(&arena.bytes(*handle)[..bytes.len()], &bytes[..]);
                }
            }
        }
    }
}
