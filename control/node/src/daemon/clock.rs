//! The one place where clocks are read.

use mizzen_types::time::{Mono, Now, Wall};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Both clocks, now.
pub(crate) fn now() -> Now {
    // Time since boot goes on during suspend, as deadlines of the network do.
    let mono = nanoseconds(ClockId::Boottime);
    let wall = nanoseconds(ClockId::Realtime);
    Now { mono: Mono(mono), wall: Wall(wall) }
}

/// How long until `deadline`.
pub(crate) fn until(deadline: Mono) -> Duration {
    deadline.since(now().mono)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
