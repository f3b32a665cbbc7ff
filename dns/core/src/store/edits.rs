//! Bytes that go and bytes that come, in one block.

use std::ops::Range;

/// What is edited; of two edits at one place the earlier region is written first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Region {
    Head,
    Starts,
    Targets,
    Records,
    Claims,
    Hidden,
}

/// Edits of one block. They do not overlap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edits {
    list: Vec<Edit>,
    /// The bytes that come.
    fresh: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Edit {
    at: usize,
    gone: usize,
    come: Range<usize>,
    region: Region,
}

impl Edits {
    /// Takes `gone` bytes out at `at` and puts in what `write` appends; gives its length.
    pub(crate) fn push(
        &mut self,
        at: usize,
        gone: usize,
        region: Region,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let start = self.fresh.len();
        write(&mut self.fresh);
        let come = start..self.fresh.len();
        let length = come.len();
        if self.fresh.len() > start || gone > 0 {
            self.list.push(Edit { at, gone, come, region });
        }
        length
    }

    /// Brings them into the order of the block. What only comes comes before what goes;
    /// edits of one region that only come stay in the order in which they were made.
    pub(crate) fn sort(&mut self) {
        self.list.sort_by_key(|edit| (edit.at, edit.gone > 0, edit.region));
    }

    /// The length of a block of `before` bytes afterwards.
    pub(crate) fn length(&self, before: usize) -> usize {
        self.list.iter().fold(before, |length, edit| length + edit.come.len() - edit.gone)
    }

    /// Carries them out in `block`, whose first `before` bytes are used and which has room
    /// for more. Nothing moves that need not.
    pub(crate) fn apply(&self, block: &mut [u8], before: usize) {
        // Pieces between edits: from where, how long, where to.
        let mut pieces: Vec<(Range<usize>, usize)> = Vec::with_capacity(self.list.len() + 1);
        let mut places = Vec::with_capacity(self.list.len());
        let (mut from, mut to) = (0, 0);
        for edit in &self.list {
            pieces.push((from..edit.at, to));
            to += edit.at - from;
            places.push(to);
            to += edit.come.len();
            from = edit.at + edit.gone;
        }
        pieces.push((from..before, to));
        // A piece that moves to the left moves after those to its left, and the other way
        // round, so that none is written over before it has moved.
        for (piece, to) in pieces.iter().filter(|(piece, to)| *to < piece.start) {
            block.copy_within(piece.clone(), *to);
        }
        for (piece, to) in pieces.iter().rev().filter(|(piece, to)| *to > piece.start) {
            block.copy_within(piece.clone(), *to);
        }
        for (edit, to) in self.list.iter().zip(places) {
            block[to..to + edit.come.len()].copy_from_slice(&self.fresh[edit.come.clone()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// As if everything were written anew.
        #[test]
        fn what_stays_stays(
            steps in prop::collection::vec((0..9_usize, 0..9_usize, prop::collection::vec(100..200_u8, 0..9)), 0..8)
        ) {
            let block: Vec<u8> = (0..100).collect();
            let (mut edits, mut at, mut want, mut kept) = (Edits::default(), 0, Vec::new(), 0);
            for (skip, gone, come) in &steps {
                at += skip + 1;
                edits.push(at, *gone, Region::Records, |out| out.extend_from_slice(come));
                want.extend_from_slice(&block[kept..at]);
                want.extend_from_slice(come);
                at += gone;
                kept = at;
            }
            want.extend_from_slice(&block[kept..]);
            edits.sort();
            let length = edits.length(100);
            prop_assert_eq!(length, want.len());
            let mut out = block;
            out.resize(length.max(100), 0);
            edits.apply(&mut out, 100);
            prop_assert_eq!(&out[..length], &want[..]);
        }
    }
}
