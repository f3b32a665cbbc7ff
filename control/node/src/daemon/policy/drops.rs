//! What was refused lately, or would have been.

use mizzen_kernel::policy::Refusal;
use mizzen_types::time::Wall;
use std::collections::VecDeque;

/// So many are remembered.
const KEPT: usize = 1024;

/// What was refused lately, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    recent: VecDeque<Drop>,
    /// How many there ever were.
    count: u64,
}

/// A refusal, and when it was heard of.
#[derive(Debug, Clone)]
pub(super) struct Drop {
    /// From 1 on.
    pub(super) number: u64,
    pub(super) at: Wall,
    pub(super) refusal: Refusal,
}

impl Drops {
    /// Remembers some.
    pub(super) fn note(&mut self, refusals: Vec<Refusal>, at: Wall) {
        for refusal in refusals {
            self.count += 1;
            if self.recent.len() == KEPT {
                self.recent.pop_front();
            }
            self.recent.push_back(Drop { number: self.count, at, refusal });
        }
    }

    /// Those behind a number, oldest first.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = &Drop> {
        self.recent.iter().filter(move |drop| drop.number > number)
    }

    /// How many there ever were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}
