//! When to read: at once, or after others on this CPU had their turn.
//!
//! Much of a batch's price does not depend on its size, and the scheduler lets whoever is woken
//! go first: with many clients on the CPU, each packet would be a batch of its own. Where reads
//! find several packets, their senders are let go on until they have nothing more to send. Where
//! that takes long, somebody computes, and waiting would be in vain.

use rustix::thread::sched_yield;

use crate::shared::now;

/// Packets of a read that speak of a crowd.
const CROWD: usize = 2;

/// Reads for which a crowd is believed in.
const BELIEVED: u32 = 4;

/// A turn of others that is too long.
const LONG: u64 = 1_000_000;

/// For how long nobody is waited for after such a one.
const PAUSE: u64 = 1_000_000_000;

/// The pace of one thread.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    crowd: u32,
    pause_until: u64,
}

impl Pace {
    /// Takes in how many packets a read found.
    pub fn read(&mut self, packets: usize) {
        self.crowd = if packets >= CROWD { BELIEVED } else { self.crowd.saturating_sub(1) };
    }

    /// Lets others go first if that is worth it.
    pub fn wait(&mut self) {
        if self.crowd == 0 {
            return;
        }
        let before = now();
        if self.may_wait(before) {
            sched_yield();
            self.waited(before, now());
        }
    }

    fn may_wait(&self, now: u64) -> bool {
        self.crowd > 0 && now >= self.pause_until
    }

    fn waited(&mut self, before: u64, after: u64) {
        if after.saturating_sub(before) > LONG {
            self.pause_until = after + PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_go_first_in_a_crowd_unless_they_compute() {
        let mut pace = Pace::default();
        pace.read(1);
        assert!(!pace.may_wait(0), "nobody else is there");
        pace.read(3);
        assert!(pace.may_wait(0));
        pace.waited(0, LONG / 2);
        assert!(pace.may_wait(LONG));
        pace.waited(LONG, 3 * LONG);
        assert!(!pace.may_wait(4 * LONG), "somebody computes");
        assert!(pace.may_wait(4 * LONG + PAUSE));
        (0..BELIEVED).for_each(|_| pace.read(1));
        assert!(!pace.may_wait(u64::MAX), "the crowd has gone");
    }
}
