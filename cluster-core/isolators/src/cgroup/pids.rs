//! The pids controller.

use super::file::CgroupError;
use super::{Place, Statistics};

/// The launcher and the container's first process live in the container's cgroups.
const OURS: u64 = 2;

/// Sets the largest number of processes and threads of the task.
pub(super) fn limit(place: &Place, limit: u64) -> Result<(), CgroupError> {
    place.file("pids.max").write(&limit.saturating_add(OURS).to_string())
}

/// Reads how many there are; both versions spell it alike.
pub(super) fn usage(place: &Place, statistics: &mut Statistics) {
    statistics.pids = place.file("pids.current").number().ok().map(|all| all.saturating_sub(OURS));
}
