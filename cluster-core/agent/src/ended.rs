//! Tasks that ended and of which all has been said: what is still shown of them, and
//! how long their sandboxes are kept.
//!
//! The rule for sandboxes is Mesos': the fuller the disk, the shorter they are kept,
//! and none where less than the headroom is free.

use crate::record::Record;
use crate::task::Task;
use mizzen_types::ids::ContainerId;
use mizzen_types::time::Wall;
use std::collections::VecDeque;
use std::time::Duration;

/// Most ended tasks that an agent shows; the oldest go first.
pub const MAX_SHOWN: usize = 1_000;

/// Most sandboxes of ended tasks that are kept, however empty the disk is.
pub const MAX_KEPT: usize = 10_000;

/// How long sandboxes are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retention {
    /// On an empty disk.
    pub delay: Duration,
    /// Part of the disk that is to stay free, from 0 to 1.
    pub headroom: f64,
}

impl Retention {
    /// How long they are kept while `usage` of the disk is used, from 0 to 1.
    #[must_use]
    pub fn at(&self, usage: f64) -> Duration {
        self.delay.mul_f64((1.0 - self.headroom - usage).clamp(0.0, 1.0))
    }

    /// Whose sandboxes are kept no longer: those that ended too long ago, and the
    /// oldest if there are too many.
    #[must_use]
    pub fn due(
        &self,
        mut ended: Vec<(Wall, ContainerId)>,
        usage: f64,
        now: Wall,
    ) -> Vec<ContainerId> {
        ended.sort();
        let kept = u64::try_from(self.at(usage).as_nanos()).unwrap_or(u64::MAX);
        let too_many = ended.len().saturating_sub(MAX_KEPT);
        let is_due =
            |(index, at): (usize, Wall)| index < too_many || now.0.saturating_sub(at.0) >= kept;
        let with_index = ended.into_iter().enumerate();
        with_index.filter(|(index, (at, _))| is_due((*index, *at))).map(|(_, (_, id))| id).collect()
    }
}

/// The newest ended tasks, oldest first.
#[derive(Debug, Default)]
pub(crate) struct EndedTasks(VecDeque<Task>);

impl EndedTasks {
    /// One more has ended.
    pub fn push(&mut self, task: Task) {
        self.0.push_back(task);
        if self.0.len() > MAX_SHOWN {
            self.0.pop_front();
        }
    }

    /// Tasks that ended before those that are here, oldest first.
    pub fn adopt(&mut self, mut records: Vec<Record>) {
        let room = MAX_SHOWN.saturating_sub(self.0.len());
        let beyond = records.len().saturating_sub(room);
        for mut record in records.drain(beyond..).rev() {
            // What nobody waits for any more is not on its way.
            record.pending.clear();
            self.0.push_front(Task::new(record));
        }
    }

    /// Their sandboxes are gone, so there is nothing to show any more.
    pub fn remove(&mut self, containers: &[ContainerId]) {
        self.0.retain(|task| !containers.contains(&task.record.container));
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Task> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_fuller_the_disk_the_shorter_they_are_kept() {
        let retention = Retention { delay: 100 * HOUR, headroom: 0.1 };
        let table = [(0.0, 90), (0.4, 50), (0.89, 1), (0.9, 0), (1.0, 0)];
        for (usage, hours) in table {
            let kept = retention.at(usage).as_secs_f64() / HOUR.as_secs_f64();
            assert!((kept - f64::from(hours)).abs() < 1e-6, "{usage}: {kept}");
        }
    }

    #[test]
    fn old_ones_are_due_and_the_oldest_of_too_many() {
        let retention = Retention { delay: HOUR, headroom: 0.0 };
        let second = |n: u64| Wall(n * 1_000_000_000);
        let id = |n: usize| ContainerId::new(format!("{n:05}"));
        let now = second(10_000);
        let three = vec![(second(9_999), id(1)), (second(6_400), id(2)), (second(6_401), id(3))];
        assert_eq!(retention.due(three.clone(), 0.0, now), [id(2)]);
        assert_eq!(retention.due(three.clone(), 0.9, now), [id(2), id(3)]);
        assert_eq!(retention.due(three, 1.0, now).len(), 3);
        let many: Vec<_> = (0..MAX_KEPT + 2).rev().map(|n| (second(9_000), id(n))).collect();
        assert_eq!(retention.due(many, 0.0, now), [id(0), id(1)]);
        // A clock that was set back makes nobody old.
        assert_eq!(retention.due(vec![(second(20_000), id(1))], 0.0, now), []);
    }
}
