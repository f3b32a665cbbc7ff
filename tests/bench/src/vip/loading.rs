//! How fast tables come into the kernel, and what the daemon needs for them.

use super::Bench;
use super::desired::{self, Desired};
use super::node::{Engine, Node};
use super::peers::{self, Kind};
use super::stage::{Port, Service, Stage};
use super::table::Table;
use crate::api;
use crate::network::Namespace;
use crate::report::{Report, Row};
use anyhow::{Context, Result};
use serde_json::json;
use std::time::{Duration, Instant};

/// VIPs that are loaded from nothing.
const VIPS: usize = 10_000;
const BACKENDS: usize = 2;
/// Milliseconds.
const LOAD_GOAL: f64 = 15.0;
/// Milliseconds.
const CHANGE_GOAL: f64 = 0.1;
/// Behind one VIP.
const MANY_BACKENDS: usize = 1_000;
/// Behind one VIP, as many as there may be.
const MOST_BACKENDS: usize = 65_536;
/// Changes whose median counts.
const CHANGES: u16 = 101;
/// Those of which each takes long.
const FEWER_CHANGES: u16 = 21;

/// 50,000 backends.
const DAEMON_VIPS: usize = 500;
const DAEMON_BACKENDS: usize = 100;
/// MiB.
const MEMORY_GOAL: f64 = 60.0;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let services: Vec<Service> =
        (0..VIPS).map(|index| Service::apart(index, Port::OneCore, BACKENDS)).collect();
    from_nothing(bench, &services, report)?;
    peers(bench, &services, report)?;
    changes(bench, &services, report)?;
    memory(bench, report)
}

fn from_nothing(bench: &Bench, services: &[Service], report: &mut Report) -> Result<()> {
    let mut figures = Vec::new();
    for _ in 0..bench.rounds(7, 2) {
        let mut table = Table::open(&bench.sandbox, "loading")?;
        let started = Instant::now();
        table.load(services)?;
        figures.push(milliseconds(started.elapsed()));
    }
    let row = Row::new(LOAD, "mizzen ebpf", "ms", &figures);
    report.add(row.at_most(LOAD_GOAL));
    Ok(())
}

const LOAD: &str = "10,000 VIPs × 2 from nothing";
const CHANGE: &str = "one backend changed";

/// With both engines.
fn changes(bench: &Bench, services: &[Service], report: &mut Report) -> Result<()> {
    let one = |backends| [Service::new(0, Port::OneCore, backends)];
    let (many, most) = (one(MANY_BACKENDS), one(MOST_BACKENDS));
    for (services, variant, queued, changes) in [
        (&services[..1], "of 1 VIP", "of 1 VIP, nfqueue", CHANGES),
        (services, "of 10,000 VIPs", "of 10,000 VIPs, nfqueue", CHANGES),
        (&many, "of 1,000 of one VIP", "of 1,000 of one VIP, nfqueue", CHANGES),
        (&most, "of 65,536 of one VIP", "of 65,536 of one VIP, nfqueue", FEWER_CHANGES),
    ] {
        let programs = Desired::by_programs(&bench.sandbox, "loading")?;
        report.add(change(programs, services, variant, changes)?);
        let network = Namespace::create()?;
        report.add(change(Desired::by_queues(&network)?, services, queued, changes)?);
    }
    Ok(())
}

/// A task is found elsewhere: from its word to the kernel, as far as the node's plan goes.
fn change(
    mut desired: Desired<'_>,
    services: &[Service],
    variant: &'static str,
    changes: u16,
) -> Result<Row> {
    desired.load(services)?;
    let mut changed = services[services.len() / 2].clone();
    let place = changed.backends.len() / 2;
    let mut figures = Vec::new();
    for number in 0..changes {
        changed.backends[place].set_port(10_000 + number);
        let said = desired::task(&changed, place);
        let started = Instant::now();
        desired.take_in(&said)?;
        figures.push(milliseconds(started.elapsed()));
    }
    Ok(Row::new(CHANGE, variant, "ms", &figures).at_most(CHANGE_GOAL))
}

/// The same from nothing, by the others' own tools.
fn peers(bench: &Bench, services: &[Service], report: &mut Report) -> Result<()> {
    let stage = Stage::set(&bench.sandbox)?;
    for kind in [Kind::NftFlat, Kind::Iptables, Kind::Haproxy] {
        let network = stage.client(kind.route())?;
        let started = Instant::now();
        match peers::start(kind, &bench.sandbox, &network, services) {
            Ok(_) => {
                let figure = milliseconds(started.elapsed());
                report.add(Row::new(LOAD, kind.name(), "ms", &[figure]));
            }
            Err(error) => {
                report.missing(kind.name(), &error);
            }
        }
    }
    Ok(())
}

/// Of a daemon with many backends, which somebody registered.
fn memory(bench: &Bench, report: &mut Report) -> Result<()> {
    let hooked = bench.sandbox.cgroup("clients-memory")?;
    let node = Node::start(&bench.sandbox, Engine::Ebpf, None, &hooked)?;
    let idle = node.daemon()?.memory()?.resident;
    let started = Instant::now();
    for index in 0..DAEMON_VIPS {
        register(&node, &Service::apart(index, Port::OneCore, DAEMON_BACKENDS))?;
    }
    let took = started.elapsed().as_secs_f64();
    let table = api::get(&node.socket(), "/v1/vip-table")?;
    let rows = table.as_array().map_or(0, Vec::len);
    anyhow::ensure!(rows == DAEMON_VIPS, "the node has {rows} of {DAEMON_VIPS} VIPs");
    let resident = node.daemon()?.memory()?.resident;
    let metric = "memory of the daemon";
    report.add(Row::new(metric, "no backend", "MiB", &[idle]));
    report.add(Row::new(metric, "50,000 backends", "MiB", &[resident]).at_most(MEMORY_GOAL));
    report.add(Row::new("50,000 backends registered", "by HTTP", "s", &[took]));
    Ok(())
}

fn register(node: &Node, service: &Service) -> Result<()> {
    let backends: Vec<_> = service
        .backends
        .iter()
        .map(|backend| json!({ "address": backend.to_string(), "weight": 1 }))
        .collect();
    let path = format!("/v1/vip-services/{}/tcp", service.vip);
    api::put(&node.socket(), &path, &json!({ "backends": backends })).context("registering")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
