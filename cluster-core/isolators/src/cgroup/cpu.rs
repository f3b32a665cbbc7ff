//! The cpu and cpuacct controllers.

use super::file::CgroupError;
use super::{Limits, Place, Statistics, Version};

/// Length of a CFS period, in microseconds. As in Mesos.
const PERIOD_USEC: u64 = 100_000;

/// Smallest quota that the kernel takes, in microseconds.
const MIN_QUOTA_USEC: u64 = 1_000;

/// `cpu.shares` of one CPU, and the smallest value that the kernel takes.
const SHARES_PER_CPU: f64 = 1024.0;
const MIN_SHARES: u64 = 2;

/// `cpu.weight` of one CPU, and the largest value that the kernel takes.
const WEIGHT_PER_CPU: f64 = 100.0;
const MAX_WEIGHT: u64 = 10_000;

/// One second in the unit of `cpuacct.stat`, which is the same on every Linux.
const USEC_PER_TICK: u64 = 10_000;

/// What a container's `cpus` mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CpuLimit {
    /// A share: more is given while nobody else wants it.
    Shares,
    /// A share, and never more than it.
    Quota,
    /// A share, and never more than so many CPUs.
    Cpus(f64),
}

/// Sets share and quota.
pub(super) fn limit(place: &Place, limits: &Limits) -> Result<(), CgroupError> {
    let quota = match limits.cpu_limit {
        CpuLimit::Shares => None,
        CpuLimit::Quota => Some(limits.cpus),
        CpuLimit::Cpus(cpus) => Some(cpus),
    };
    let quota = quota.map(|cpus| whole(cpus * PERIOD_USEC as f64).max(MIN_QUOTA_USEC));
    match place.version {
        Version::V1 => {
            let shares = whole(limits.cpus * SHARES_PER_CPU).max(MIN_SHARES);
            place.file("cpu.shares").write(&shares.to_string())?;
            if let Some(quota) = quota {
                place.file("cpu.cfs_period_us").write(&PERIOD_USEC.to_string())?;
                place.file("cpu.cfs_quota_us").write(&quota.to_string())?;
            }
        }
        Version::V2 => {
            let weight = whole(limits.cpus * WEIGHT_PER_CPU).clamp(1, MAX_WEIGHT);
            place.file("cpu.weight").write(&weight.to_string())?;
            if let Some(quota) = quota {
                place.file("cpu.max").write(&format!("{quota} {PERIOD_USEC}"))?;
            }
        }
    }
    Ok(())
}

/// Reads the time that was used.
pub(super) fn usage(place: &Place, statistics: &mut Statistics) {
    match place.version {
        Version::V1 => {
            let stat = place.file("cpuacct.stat");
            let usec = |key| stat.field(key).map(|ticks| ticks * USEC_PER_TICK);
            statistics.cpu_user_usec = usec("user");
            statistics.cpu_system_usec = usec("system");
        }
        Version::V2 => {
            let stat = place.file("cpu.stat");
            statistics.cpu_user_usec = stat.field("user_usec");
            statistics.cpu_system_usec = stat.field("system_usec");
        }
    }
}

/// Reads what the quota did.
pub(super) fn throttling(place: &Place, statistics: &mut Statistics) {
    let stat = place.file("cpu.stat");
    statistics.cpu_periods = stat.field("nr_periods");
    statistics.cpu_throttled_periods = stat.field("nr_throttled");
    statistics.cpu_throttled_usec = match place.version {
        Version::V1 => stat.field("throttled_time").map(|nanoseconds| nanoseconds / 1_000),
        Version::V2 => stat.field("throttled_usec"),
    };
}

/// Rounds down; what is negative or not a number is zero.
fn whole(value: f64) -> u64 {
    value as u64
}
