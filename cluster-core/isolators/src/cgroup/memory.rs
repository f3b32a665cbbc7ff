//! The memory controller.

use super::file::CgroupError;
use super::{Limits, Place, Statistics, Version};

const MIB: u64 = 1 << 20;

/// No container gets less, because none can start with less. As in Mesos.
const MIN_MB: u64 = 32;

/// The kernel killed something of the container for want of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oom {
    /// For the task's status: what was requested, what was used.
    pub message: String,
    /// Largest use, in bytes.
    pub used_bytes: u64,
    /// The limit, in bytes.
    pub limit_bytes: u64,
    /// How many processes the kernel killed.
    pub kills: u64,
}

/// Sets soft and hard limit.
pub(super) fn limit(place: &Place, limits: &Limits) -> Result<(), CgroupError> {
    let bytes = limits.mem_mb.max(MIN_MB).saturating_mul(MIB).to_string();
    let (soft, hard) = match place.version {
        Version::V1 => ("memory.soft_limit_in_bytes", "memory.limit_in_bytes"),
        Version::V2 => ("memory.low", "memory.max"),
    };
    place.file(soft).write(&bytes)?;
    place.file(hard).write(&bytes)
}

/// Reads what is used.
pub(super) fn usage(place: &Place, statistics: &mut Statistics) {
    let stat = place.file("memory.stat");
    let number = |name| place.file(name).number().ok();
    match place.version {
        Version::V1 => {
            statistics.mem_bytes = number("memory.usage_in_bytes");
            statistics.mem_anon_bytes = stat.field("total_rss");
            statistics.mem_file_bytes = stat.field("total_cache");
            statistics.mem_max_bytes = number("memory.max_usage_in_bytes");
            statistics.mem_limit_bytes = number("memory.limit_in_bytes");
            statistics.mem_limit_hits = number("memory.failcnt");
        }
        Version::V2 => {
            statistics.mem_bytes = number("memory.current");
            statistics.mem_anon_bytes = stat.field("anon");
            statistics.mem_file_bytes = stat.field("file");
            statistics.mem_max_bytes = number("memory.peak");
            // The word `max` stands for no limit.
            statistics.mem_limit_bytes = number("memory.max");
            statistics.mem_limit_hits = place.file("memory.events").field("max");
        }
    }
}

/// Looks for kills; the limit alone says little, because it is also reached by page
/// cache, which is given back without harm.
pub(super) fn observe_oom(place: &Place) -> Option<Oom> {
    let kills = match place.version {
        Version::V1 => place.file("memory.oom_control").field("oom_kill")?,
        Version::V2 => place.file("memory.events").field("oom_kill")?,
    };
    if kills == 0 {
        return None;
    }
    let mut statistics = Statistics::default();
    usage(place, &mut statistics);
    let limit_bytes = statistics.mem_limit_bytes.unwrap_or_default();
    // Kernels before 5.19 do not tell the peak in v2; the limit was reached, in any case.
    let used_bytes = statistics.mem_max_bytes.unwrap_or(limit_bytes);
    let message = format!(
        "Memory limit exceeded: Requested: {}MB Maximum Used: {}MB",
        limit_bytes / MIB,
        used_bytes / MIB
    );
    Some(Oom { message, used_bytes, limit_bytes, kills })
}
