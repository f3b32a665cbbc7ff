//! Sets of sequence numbers, which come in runs.

use crate::coding::{Garbage, Reader, Writer};

/// A set of numbers as runs, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// First and last of each run; runs neither touch nor overlap.
    runs: Vec<(u64, u64)>,
}

impl Ranges {
    /// Numbers in ascending order.
    pub(super) fn from_sorted(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            match runs.last_mut() {
                Some((_, last)) if number <= last.saturating_add(1) => *last = number.max(*last),
                _ => runs.push((number, number)),
            }
        }
        Self { runs }
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        let run = self.runs.partition_point(|(_, last)| *last < number);
        self.runs.get(run).is_some_and(|(first, _)| *first <= number)
    }

    /// How many numbers there are.
    pub(super) fn count(&self) -> u64 {
        self.runs
            .iter()
            .fold(0, |sum: u64, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.length(self.runs.len());
        let mut after = 0;
        for (first, last) in &self.runs {
            writer.number(first - after).number(last - first);
            after = last.saturating_add(1);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Garbage> {
        let count = reader.count(2)?;
        let mut runs = Vec::with_capacity(count);
        let mut after = 0_u64;
        for _ in 0..count {
            let first = after.checked_add(reader.number()?);
            let last =
                first.zip(Some(reader.number()?)).and_then(|(first, more)| first.checked_add(more));
            let (Some(first), Some(last)) = (first, last) else {
                return Err(Garbage::Malformed("range"));
            };
            if !runs.is_empty() && first == after {
                return Err(Garbage::Malformed("range"));
            }
            runs.push((first, last));
            after = last.saturating_add(1);
        }
        Ok(Self { runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back() {
        let numbers = [1, 2, 3, 7, 9, 10, u64::MAX];
        let ranges = Ranges::from_sorted(numbers);
        let mut writer = Writer::default();
        ranges.write(&mut writer);
        let bytes = writer.finish();
        let read = Ranges::read(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(read, ranges);
        assert_eq!(read.iter().collect::<Vec<_>>(), numbers);
        assert_eq!(read.count(), 7);
        assert!(read.contains(2) && read.contains(10) && !read.contains(8) && !read.contains(0));
    }

    #[test]
    fn numbers_beyond_the_last_are_garbage() {
        let mut writer = Writer::default();
        writer.number(1).number(5).number(u64::MAX);
        let bytes = writer.finish();
        assert_eq!(Ranges::read(&mut Reader::new(&bytes)), Err(Garbage::Malformed("range")));
    }
}
