//! Which elements of an array map are free.
//!
//! A run that is given back rests first: a program that looked its VIP up a moment
//! ago may still read it. When the free runs do not suffice, the caller waits for
//! those programs and calls [`Extents::settle`]. So a wait is paid once for very
//! many changes, and no timer decides how long is long enough.

use std::collections::BTreeMap;

/// The free and the resting elements of one array.
#[derive(Debug)]
pub struct Extents {
    /// First element → length; runs never touch.
    free: BTreeMap<u32, u32>,
    resting: Vec<(u32, u32)>,
}

impl Extents {
    /// Everything below `capacity` is free.
    pub fn new(capacity: u32) -> Self {
        Self { free: BTreeMap::from([(0, capacity)]), resting: Vec::new() }
    }

    /// Everything below `capacity` rests, except `used` runs, which may be in any order.
    pub fn around(capacity: u32, used: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut used: Vec<(u32, u32)> =
            used.into_iter().filter(|(_, length)| *length > 0).collect();
        used.sort_unstable();
        let mut resting = Vec::new();
        let mut end = 0;
        for (base, length) in used {
            if base > end {
                resting.push((end, base - end));
            }
            end = end.max(base.saturating_add(length));
        }
        if capacity > end {
            resting.push((end, capacity - end));
        }
        Self { free: BTreeMap::new(), resting }
    }

    /// Takes a run of `length` from the lowest place that has one.
    pub fn take(&mut self, length: u32) -> Option<u32> {
        if length == 0 {
            return Some(0);
        }
        let (&base, &available) = self.free.iter().find(|(_, available)| **available >= length)?;
        self.free.remove(&base);
        if available > length {
            self.free.insert(base + length, available - length);
        }
        Some(base)
    }

    /// Takes what is free from `base` on, at most so many; how many that are.
    pub fn take_behind(&mut self, base: u32, most: u32) -> u32 {
        let Some(available) = self.free.remove(&base) else { return 0 };
        let taken = available.min(most);
        if available > taken {
            self.free.insert(base + taken, available - taken);
        }
        taken
    }

    /// Gives back a run that nobody has seen.
    pub fn give_back(&mut self, base: u32, length: u32) {
        if length > 0 {
            self.join(base, length);
        }
    }

    /// Gives back a run that programs may still be reading.
    pub fn rest(&mut self, base: u32, length: u32) {
        if length > 0 {
            self.resting.push((base, length));
        }
    }

    /// Whether [`Extents::settle`] would free anything.
    pub fn has_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Nobody reads the resting runs any more: they are free.
    pub fn settle(&mut self) {
        for (base, length) in std::mem::take(&mut self.resting) {
            self.join(base, length);
        }
    }

    fn join(&mut self, base: u32, length: u32) {
        let (mut base, mut length) = (base, length);
        if let Some((&before, &before_length)) = self.free.range(..base).next_back()
            && before + before_length == base
        {
            self.free.remove(&before);
            (base, length) = (before, before_length + length);
        }
        if let Some(after_length) = self.free.remove(&(base + length)) {
            length += after_length;
        }
        self.free.insert(base, length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_lowest_place_that_is_long_enough() {
        let mut extents = Extents::new(10);
        assert_eq!(extents.take(4), Some(0));
        assert_eq!(extents.take(4), Some(4));
        assert_eq!(extents.take(4), None);
        extents.give_back(0, 4);
        assert_eq!(extents.take(2), Some(0));
        assert_eq!(extents.take(3), None);
        assert_eq!(extents.take(2), Some(2));
    }

    #[test]
    fn a_run_is_made_longer_where_there_is_room() {
        let mut extents = Extents::new(10);
        assert_eq!(extents.take(4), Some(0));
        assert_eq!(extents.take_behind(4, 2), 2);
        assert_eq!(extents.take_behind(4, 2), 0);
        assert_eq!(extents.take_behind(6, 9), 4);
        assert_eq!(extents.take_behind(10, 1), 0);
        extents.give_back(0, 10);
        assert_eq!(extents.take(10), Some(0));
    }

    #[test]
    fn what_programs_may_read_is_not_reused_before_it_settles() {
        let mut extents = Extents::new(4);
        assert_eq!(extents.take(4), Some(0));
        extents.rest(0, 4);
        assert_eq!(extents.take(1), None);
        assert!(extents.has_resting());
        extents.settle();
        assert_eq!(extents.take(4), Some(0));
    }

    #[test]
    fn after_a_restart_only_what_is_referred_to_is_taken() {
        let mut extents = Extents::around(10, [(6, 2), (0, 0), (1, 2)]);
        assert_eq!(extents.take(1), None, "everything else rests first");
        extents.settle();
        assert_eq!(extents.take(3), Some(3));
        assert_eq!(extents.take(1), Some(0));
        assert_eq!(extents.take(2), Some(8));
        assert_eq!(extents.take(1), None);
    }

    proptest! {
        /// Runs in use never overlap, and giving all back makes one run of all again.
        #[test]
        fn no_element_has_two_owners(steps in prop::collection::vec((1_u32..20, any::<bool>()), 1..200)) {
            let mut extents = Extents::new(100);
            let mut owners = [false; 100];
            let mut runs = Vec::new();
            for (length, give) in steps {
                if give && let Some((base, length)) = runs.pop() {
                    owners[base as usize..(base + length) as usize].fill(false);
                    extents.rest(base, length);
                    extents.settle();
                } else if let Some(base) = extents.take(length) {
                    let run = &mut owners[base as usize..(base + length) as usize];
                    prop_assert!(run.iter().all(|owned| !owned));
                    run.fill(true);
                    runs.push((base, length));
                }
            }
            for (base, length) in runs {
                extents.give_back(base, length);
            }
            prop_assert_eq!(extents.take(100), Some(0));
        }
    }
}
