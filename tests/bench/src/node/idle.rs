//! A node that has nothing to do.

use crate::daemon::Daemon;
use crate::report::{Report, Row};
use anyhow::Result;
use std::thread;
use std::time::{Duration, Instant};

/// What follows a start is not rest yet.
const SETTLE: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(10);
/// MiB.
const RESIDENT_GOAL: f64 = 48.0;
/// Percent of one core.
const CPU_GOAL: f64 = 0.5;

/// Lets the node rest, and tells what that cost.
pub(super) fn run(daemon: &Daemon, report: &mut Report) -> Result<()> {
    thread::sleep(SETTLE);
    let (started, before) = (Instant::now(), daemon.cpu_time()?);
    thread::sleep(REST);
    let used = daemon.cpu_time()?.saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / started.elapsed().as_secs_f64();
    let memory = daemon.memory()?;
    report.add(
        Row::new("idle: memory", "resident", "MiB", &[memory.resident]).at_most(RESIDENT_GOAL),
    );
    report.add(Row::new("idle: memory", "proportional", "MiB", &[memory.proportional]));
    report.add(Row::new("idle: CPU", "10 s", "% of a core", &[percent]).at_most(CPU_GOAL));
    Ok(())
}
