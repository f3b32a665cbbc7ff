//! Section `node`: what one node costs, and how fast it is.
//!
//! Idle, an app's start, a task's death, connections through a VIP, and a restart,
//! in this order, so that the restart finds a state directory with a past and a
//! task that runs.

mod apps;
mod connections;
mod idle;

use crate::api::Api;
use crate::daemon::{Daemon, log_tail};
use crate::report::{Report, Row};
use crate::sandbox::{self, Sandbox};
use anyhow::{Context, Result};

const STARTS: usize = 5;
/// Milliseconds.
const START_GOAL: f64 = 500.0;
/// MB of 1,000,000 bytes.
const BINARY_GOAL: f64 = 40.0;

/// Measures everything; what was measured before a failure stays in the report.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let sandbox = Sandbox::enter()?;
    crate::circumstances(report);
    measure(&sandbox, report).with_context(|| {
        format!("the end of the node's log:\n{}\n\nthis failed", log_tail(&sandbox))
    })
}

fn measure(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    binary(report)?;
    crate::step("the node starts, and rests");
    let daemon = Daemon::start(sandbox)?;
    idle::run(&daemon, report)?;
    let api = Api::of(sandbox)?;
    crate::step("apps come and go");
    apps::deployment(&api, report)?;
    crate::step("tasks die");
    apps::recovery(&api, report)?;
    crate::step("connections, directly and through a VIP");
    connections::run(sandbox, &api, report)?;
    crate::step("the node starts again, a task running");
    restarts(sandbox, daemon, &api, report)
}

fn binary(report: &mut Report) -> Result<()> {
    let path = sandbox::find_executable("mizzen")?;
    let size = path.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    let row = Row::new("size of the executable", "mizzen", "MB", &[size.len() as f64 / 1e6]);
    report.add(row.at_most(BINARY_GOAL));
    Ok(())
}

fn restarts(sandbox: &Sandbox, daemon: Daemon, api: &Api, report: &mut Report) -> Result<()> {
    let first = daemon.ready_after().as_secs_f64() * 1e3;
    let app = apps::start_one(api)?;
    let mut figures = Vec::new();
    let mut daemon = daemon;
    for _ in 0..STARTS {
        daemon.stop()?;
        daemon = Daemon::start(sandbox)?;
        figures.push(daemon.ready_after().as_secs_f64() * 1e3);
    }
    app.remove(api)?;
    daemon.stop()?;
    report.add(Row::new("start to ready", "first start", "ms", &[first]));
    report.add(Row::new("start to ready", "used state", "ms", &figures).at_most(START_GOAL));
    Ok(())
}
