//! One task's change among 100,000: when it is seen, and whether answers stop meanwhile.

use super::Bench;
use super::contestant::{Contestant, Duty, Who};
use super::names::Names;
use super::watch::Watch;
use crate::report::{Report, Row};
use anyhow::Result;
use std::net::Ipv4Addr;
use std::time::Instant;

const NAMES: Names = Names { tasks: 100_000 };
/// Milliseconds, from the order until somebody who asks all the time has seen it.
const SEEN_GOAL: f64 = 1.0;
/// Milliseconds between two answers.
const GAP_GOAL: f64 = 1.0;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut server = Contestant::start(Who::Mizzen, Duty::Authority(NAMES), bench)?;
    let (mut zone, mut seen, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds(41, 5) {
        let task = 50_000 + round * 7;
        let address = Ipv4Addr::from(0xac10_0000 + round);
        let watch = Watch::start(server.address, &Names::name(task), address)?;
        let ordered = Instant::now();
        zone.push(server.change(task, address)?.as_secs_f64() * 1e3);
        let found = watch.seen()?;
        seen.push((found.at - ordered).as_secs_f64() * 1e3);
        gaps.push(found.gap.as_secs_f64() * 1e3);
    }
    let metric = "one of 300,000 records changed";
    report.add(Row::new(metric, "in the zones", "ms", &zone));
    report.add(Row::new(metric, "until it is answered", "ms", &seen).at_most(SEEN_GOAL));
    report.add(Row::new(metric, "worst gap between answers", "ms", &gaps).at_most(GAP_GOAL));
    report.note("until it is answered: by a client that asks every 50 µs, from the order on a pipe to the resolver's process");
    Ok(())
}
