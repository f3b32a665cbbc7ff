//! A vector whose copies share most of it.
//!
//! ```text
//!  start    0     256    511  …     a copy has a list of its own, of the same runs;
//!           │      │      │         who changes it then copies one run
//!           ▼      ▼      ▼
//!         [····] [···] [·····]
//! ```

use std::slice;
use std::sync::Arc;

/// Items in a new run; those at hand, which get no longer than twice that, are copied by a change, and so is the list of
/// runs, which is about as long where there are as many backends as a VIP may have.
const LENGTH: usize = 256;

/// A vector in runs: at least one, and none that is empty beside others.
#[derive(Clone, Debug)]
pub(crate) struct Runs<T> {
    runs: Vec<Run<T>>,
}

#[derive(Clone, Debug)]
struct Run<T> {
    /// Position of its first item.
    start: usize,
    items: Arc<Vec<T>>,
}

/// Goes through items in their order.
#[derive(Clone, Debug)]
pub(crate) struct Iter<'a, T> {
    items: slice::Iter<'a, T>,
    /// Those behind that of `items`.
    runs: slice::Iter<'a, Run<T>>,
}

impl<T> Runs<T> {
    pub fn get(&self, position: usize) -> Option<&T> {
        // As in nearly every VIP, for each connection several times.
        if let [all] = &*self.runs {
            return all.items.get(position);
        }
        let run = &self.runs[self.run_of(position)];
        run.items.get(position - run.start)
    }

    pub fn iter(&self) -> Iter<'_, T> {
        self.iter_from(0)
    }

    /// Goes through those from a position on.
    pub fn iter_from(&self, position: usize) -> Iter<'_, T> {
        let number = self.run_of(position);
        let run = &self.runs[number];
        let items = run.items.get(position - run.start..).unwrap_or_default();
        Iter { items: items.iter(), runs: self.runs[number + 1..].iter() }
    }

    /// As [`slice::partition_point`].
    pub fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        let begins_before = |run: &Run<T>| run.items.first().is_some_and(&is_before);
        let run = &self.runs[self.runs.partition_point(begins_before).saturating_sub(1)];
        run.start + run.items.partition_point(is_before)
    }

    /// The run that a position is in, or at whose end.
    fn run_of(&self, position: usize) -> usize {
        self.runs.partition_point(|run| run.start <= position).saturating_sub(1)
    }

    /// Counts the starts of runs anew behind this one.
    fn count_behind(&mut self, number: usize) {
        let mut start = self.runs[number].start;
        for run in &mut self.runs[number..] {
            run.start = start;
            start += run.items.len();
        }
    }
}

impl<T: Clone> Runs<T> {
    /// As [`Vec::insert`].
    pub fn insert(&mut self, position: usize, item: T) {
        let number = self.run_of(position);
        let Run { start, items } = &mut self.runs[number];
        let items = Arc::make_mut(items);
        items.insert(position - *start, item);
        if items.len() > 2 * LENGTH {
            let rest = Run { start: 0, items: Arc::new(items.split_off(LENGTH)) };
            self.runs.insert(number + 1, rest);
        }
        self.count_behind(number);
    }

    /// As [`Vec::remove`].
    pub fn remove(&mut self, position: usize) -> T {
        let number = self.run_of(position);
        let Run { start, items } = &mut self.runs[number];
        let item = Arc::make_mut(items).remove(position - *start);
        self.join(number);
        let number = number.saturating_sub(1);
        self.join(number);
        self.count_behind(number);
        item
    }

    /// Makes one of this run and the one behind it if both are short.
    fn join(&mut self, number: usize) {
        if let [run, next, ..] = &mut self.runs[number..]
            && run.items.len() + next.items.len() <= LENGTH
        {
            Arc::make_mut(&mut run.items).extend_from_slice(&next.items);
            self.runs.remove(number + 1);
        }
    }
}

impl<T> FromIterator<T> for Runs<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter();
        let (mut runs, mut start) = (Vec::new(), 0);
        loop {
            let run: Vec<T> = items.by_ref().take(LENGTH).collect();
            let length = run.len();
            if length > 0 || runs.is_empty() {
                runs.push(Run { start, items: Arc::new(run) });
            }
            if length < LENGTH {
                return Self { runs };
            }
            start += length;
        }
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(item);
            }
            self.items = self.runs.next()?.items.iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_ebpf_core::select::{mix, point};

    #[test]
    fn it_is_what_a_vector_would_be_and_its_copies_stay_what_they_were() {
        let mut list: Vec<usize> = (0..5 * LENGTH).collect();
        let mut runs: Runs<usize> = list.iter().copied().collect();
        let (first, before) = (list.clone(), runs.clone());
        // It grows, shrinks to nothing, and grows again.
        for (phase, inserts) in [(0_u64, 6_u64), (1, 1), (2, 5)] {
            for step in 0..8_000 {
                let chance = mix(phase << 32 | step);
                let at = |length: usize| point(chance as u32, length as u32) as usize;
                if chance >> 61 < inserts {
                    let position = at(list.len() + 1);
                    list.insert(position, step as usize);
                    runs.insert(position, step as usize);
                } else if !list.is_empty() {
                    let position = at(list.len());
                    assert_eq!(runs.remove(position), list.remove(position));
                }
                let position = at(list.len() + 1);
                assert_eq!(runs.get(position), list.get(position));
                assert!(runs.iter_from(position).take(9).eq(list[position..].iter().take(9)));
            }
            assert!(runs.iter().eq(&list), "phase {phase}");
            assert!(runs.runs.iter().all(|run| run.items.len() <= 2 * LENGTH));
            assert!(runs.runs.len() <= 2 + 2 * list.len() / LENGTH, "{} are few", list.len());
        }
        assert!(before.iter().eq(&first));
    }

    #[test]
    fn the_point_between_those_before_and_behind_is_found() {
        for length in [0, 1, LENGTH, 2 * LENGTH + 1] {
            let runs: Runs<usize> = (0..length).collect();
            for point in [0, 1, LENGTH - 1, LENGTH, LENGTH + 1, 2 * LENGTH, 3 * LENGTH] {
                assert_eq!(runs.partition_point(|item| *item < point), point.min(length));
            }
            assert_eq!(runs.get(length), None);
        }
    }
}
