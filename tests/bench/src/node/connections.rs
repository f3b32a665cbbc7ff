//! The price of a VIP: connections and requests, directly and through it.
//!
//! | variant | generator is | and connects to |
//! |---|---|---|
//! | direct | outside | the backend: this is what 1.000 means |
//! | control | outside | the backend, once more: this is the noise |
//! | hooked | inside | the backend: programs run and find no VIP |
//! | vip | inside | the VIP |
//!
//! *Inside* is the cgroup whose processes can use VIPs. The server is the same one
//! for all variants, the app's task, and on the same core as the generators.

use super::apps::{App, Cores, Place, Way};
use crate::api::Api;
use crate::generator::{Seat, Work};
use crate::paired::{self, Plan, Series, Variant};
use crate::report::{Report, Row};
use crate::sandbox::{self, Sandbox};
use crate::statistics::Ratio;
use anyhow::Result;

const CONNECT: Plan = Plan { work: Work::Connect, count: 200, rounds: 30, sets: 10 };
const EXCHANGE: Plan = Plan { work: Work::Exchange, count: 500, rounds: 30, sets: 10 };
const CONNECT_GOAL: f64 = 1.08;
const EXCHANGE_GOAL: f64 = 1.01;

const DIRECT: &str = "direct";
const VIP: &str = "vip";

/// Measures with the backend in either place.
pub(super) fn run(sandbox: &Sandbox, api: &Api, report: &mut Report) -> Result<()> {
    for (place, words) in [(Place::Host, "host"), (Place::Container, "container")] {
        let app = App::start(api, place, Cores::Shared)?;
        for (plan, way, metric, goal) in [
            (CONNECT, app.closing, "connect+close", CONNECT_GOAL),
            (EXCHANGE, app.answering, "request/response", EXCHANGE_GOAL),
        ] {
            let series = paired::run(|| variants(sandbox, way), plan)?;
            rows(&format!("{metric}, {words}"), &series, goal, report);
        }
        app.remove(api)?;
    }
    report.note("direct, control: the client is outside the cgroup of VIPs; hooked: it is inside and connects to no VIP");
    for (plan, words) in [(CONNECT, "connections"), (EXCHANGE, "requests")] {
        report.note(format!(
            "{} pairs: blocks of {} {words}, the variants in turns, all on core {}",
            plan.rounds * plan.sets,
            plan.count,
            sandbox::core()
        ));
    }
    Ok(())
}

fn variants(sandbox: &Sandbox, way: Way) -> Result<Vec<Variant>> {
    let inside = Seat { cgroup: &sandbox.inside, network: None };
    let outside = Seat { cgroup: &sandbox.outside, network: None };
    Ok(vec![
        Variant::new(DIRECT, outside, way.backend)?,
        Variant::new("control", outside, way.backend)?,
        Variant::new("hooked", inside, way.backend)?,
        Variant::new(VIP, inside, way.vip)?,
    ])
}

fn rows(metric: &str, all: &[Series], goal: f64, report: &mut Report) {
    let bases = all.iter().find(|series| series.name == DIRECT).map_or(&[][..], |s| &s.figures);
    for series in all {
        let row = Row::new(metric, series.name, "µs", &series.figures);
        let row = match series.name {
            DIRECT => row,
            _ => row.ratio(Ratio::paired(&series.figures, bases), DIRECT),
        };
        report.add(if series.name == VIP { row.ratio_at_most(goal) } else { row });
    }
    let failures: u64 = all.iter().map(|series| series.failures).sum();
    report.add(Row::new(metric, "failures", "", &[failures as f64]).at_most(0.0));
}
