//! Traffic that arrives at the node from elsewhere, and is balanced on its way.
//!
//! ```text
//!   leaf ── 10.11.1.0/30 ── router 1, no programs ──┐
//!   leaf ── 10.11.2.0/30 ── router 2, no programs ──┼── backends
//!   leaf ── 10.11.3.0/30 ── router 3: mizzen node ──┘
//! ```
//!
//! No client is below the cgroup that the node watches.

use super::Bench;
use super::node::{Engine, Node};
use super::stage::{Port, Route, Service, Stage, clients_of};
use crate::generator::{Seat, Targets, Work};
use crate::network::{End, Namespace, cable};
use crate::paired::{self, Plan, Series, Variant};
use crate::report::{Report, Row};
use crate::statistics::Ratio;
use crate::wait;
use anyhow::Result;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

const DIRECT: &str = "routed";
const VIP: &str = "mizzen ebpf";

/// How long the node may take to see a new link and a new VIP.
const READY: Duration = Duration::from_secs(3);

/// Metric, unit, work, repetitions in a block, and the most that a ratio may be.
const WORKS: [(&str, &str, Work, u32, f64); 3] = [
    ("arriving: connect+close", "µs", Work::Connect, 200, 1.10),
    ("arriving: request/response", "µs", Work::Exchange, 500, 1.02),
    ("arriving: stream", "µs/MiB", Work::Stream, 256, 1.0 / 0.98),
];

/// A client's network and the one that leads to the backends.
struct Way {
    leaf: Namespace,
    router: Namespace,
}

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let stage = Stage::set(&bench.sandbox)?;
    let (direct, control) = (Way::make(&stage, 1)?, Way::make(&stage, 2)?);
    let own = Way::make(&stage, 3)?;
    let hooked = bench.sandbox.cgroup("nobody")?;
    let node = Node::start(&bench.sandbox, Engine::Ebpf, Some(&own.router), &hooked)?;
    let services = [Service::new(0, Port::Closing, 4), Service::new(0, Port::OneCore, 4)];
    services.iter().try_for_each(|service| node.set(service, &[]))?;
    let answers = || {
        let connect = || Ok(TcpStream::connect_timeout(&services[1].vip, READY / 10)?);
        Ok(own.leaf.within(connect).ok())
    };
    if let Err(error) = wait::until("what arrives is balanced", READY, answers) {
        report.failed("arriving", &error);
        return Ok(());
    }
    let cgroup = clients_of(&bench.sandbox, "leaf")?;
    for (metric, unit, work, count, goal) in WORKS {
        let service = &services[usize::from(work != Work::Connect)];
        let start = || {
            Ok(vec![
                variant(DIRECT, &cgroup, &direct, service.direct())?,
                variant("control", &cgroup, &control, service.direct())?,
                variant(VIP, &cgroup, &own, service.vip.into())?,
            ])
        };
        let (rounds, sets) = (bench.rounds(15, 3), bench.rounds(6, 1));
        rows(metric, unit, &paired::run(start, Plan { work, count, rounds, sets })?, goal, report);
    }
    report.note("arriving: every way over a router of its own; routed: one without programs");
    Ok(())
}

impl Way {
    fn make(stage: &Stage, number: u8) -> Result<Self> {
        let router = stage.client(Route::None)?;
        let leaf = Namespace::create()?;
        let address = |end: u8| format!("10.11.{number}.{end}/30");
        cable(
            End { namespace: &leaf, link: "out", address: &address(1) },
            End { namespace: &router, link: "leaf", address: &address(2) },
        )?;
        leaf.ip(&format!("route add default via 10.11.{number}.2"))?;
        // Cables of the stage are numbered in the order in which they are made.
        let back = format!("route add 10.11.{number}.0/30 via 10.10.{number}.1");
        stage.backends.ip(&back)?;
        Ok(Self { leaf, router })
    }
}

fn variant(name: &'static str, cgroup: &Path, way: &Way, targets: Targets) -> Result<Variant> {
    Variant::new(name, Seat { cgroup, network: Some(&way.leaf) }, targets)
}

fn rows(metric: &str, unit: &'static str, all: &[Series], goal: f64, report: &mut Report) {
    let bases = all.iter().find(|series| series.name == DIRECT).map_or(&[][..], |s| &s.figures);
    for series in all {
        let row = Row::new(metric, series.name, unit, &series.figures);
        let row = match series.name {
            DIRECT => row,
            _ => row.ratio(Ratio::paired(&series.figures, bases), DIRECT),
        };
        report.add(if series.name == VIP { row.ratio_at_most(goal) } else { row });
    }
}
