//! The clock of the programs.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` gives them.
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative for this clock.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
