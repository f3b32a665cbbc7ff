//! Where a thread of a queue runs: on the CPU whose packets come to that queue.
//!
//! Whoever lets a packet go carries it on, up to the other end's socket on this machine. Done on
//! the CPU that sent it, nothing has to be fetched from, or woken on, another one.

use std::io;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

/// The CPUs of a thread.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    index: usize,
    queues: usize,
    cpus: CpuSet,
}

impl Home {
    /// That of the queue number `index` of `queues`: every so-many-th CPU.
    pub fn new(index: usize, queues: usize) -> Self {
        let mut cpus = CpuSet::new();
        for cpu in (index..CpuSet::MAX_CPU).step_by(queues.max(1)) {
            cpus.set(cpu);
        }
        Self { index, queues, cpus }
    }

    /// What makes its chance unlike that of the others.
    pub fn salt(&self) -> u64 {
        self.index as u64
    }

    /// Whether the calling thread runs there.
    pub fn is_here(&self) -> bool {
        sched_getcpu() % self.queues.max(1) == self.index
    }

    /// Moves the calling thread there.
    ///
    /// # Errors
    ///
    /// The kernel's, if it may use none of these CPUs.
    pub fn enter(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.cpus)?)
    }
}

/// How many CPUs there are; some of them may be off.
pub(crate) fn count() -> usize {
    let path = "/sys/devices/system/cpu/possible";
    let possible = std::fs::read_to_string(path).unwrap_or_default();
    let last = possible.trim().rsplit([',', '-']).next().and_then(|last| last.parse().ok());
    last.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        |last: usize| last + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_share_the_cpus() {
        let homes: Vec<Home> = (0..3).map(|index| Home::new(index, 3)).collect();
        for cpu in 0..CpuSet::MAX_CPU {
            let of: Vec<usize> =
                homes.iter().filter(|home| home.cpus.is_set(cpu)).map(|home| home.index).collect();
            assert_eq!(of, [cpu % 3]);
        }
    }

    #[test]
    fn a_thread_goes_home() {
        let home = Home::new(0, 1);
        home.enter().expect("a CPU");
        assert!(home.is_here());
        assert!(count() > 0);
    }
}
