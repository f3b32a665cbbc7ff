//! One of four backends becomes ten times slower, inside: who notices?

use super::Bench;
use super::backends::Backends;
use super::clients::{self, Clients, Connection, Plan};
use super::contestant::{self, Between, Contestant};
use super::node::Engine;
use super::peers::Kind;
use super::stage::{Port, Service, Stage};
use crate::generator::Seat;
use crate::report::{Report, Row};
use anyhow::{Context, Result};
use std::thread;
use std::time::Duration;

const BACKENDS: u8 = 4;
const SLOW: u8 = 4;
const USUAL_DELAY: Duration = Duration::from_millis(5);
const SLOW_DELAY: Duration = Duration::from_millis(50);

/// From their start until one backend becomes slow.
const QUIET: Duration = Duration::from_secs(2);
/// From there until it must have been noticed.
const LIMIT: Duration = Duration::from_secs(2);

/// Of the p99 of the good ones.
const GOAL: f64 = 1.5;

const METRIC: &str = "one of four slow: p99, 2 s later";

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let stage = Stage::set(&bench.sandbox)?;
    let mut backends = Backends::start(&bench.sandbox, &stage)?;
    let service = Service::new(0, Port::Slow, usize::from(BACKENDS));
    let all = [
        Between::Mizzen(Engine::Ebpf),
        Between::Mizzen(Engine::Nfqueue),
        Between::Peer(Kind::Iptables),
        Between::Peer(Kind::Haproxy),
        Between::Peer(Kind::Nginx),
    ];
    let services = [service.clone()];
    let contestants = contestant::enter_all(&all, bench, &stage, &services, report)?;
    for contestant in &contestants {
        let name = contestant.between.name();
        let run = slow_one(bench, contestant, &service, &mut backends).context(name)?;
        show(name, &run, matches!(contestant.between, Between::Mizzen(_)), report)?;
        // The same programs with a rule that does not look.
        let random = Service::new(1, Port::Slow, usize::from(BACKENDS));
        if let (Some(node), Between::Mizzen(Engine::Ebpf)) = (contestant.node(), contestant.between)
        {
            node.set(&random, &["--rule", "random"])?;
            let run = slow_one(bench, contestant, &random, &mut backends)?;
            show("mizzen ebpf, random", &run, false, report)?;
        }
    }
    report.note(format!(
        "closed loop: 32 clients, answers after {} ms, one backend's after {} ms; iptables: random, haproxy and nginx: round robin",
        USUAL_DELAY.as_millis(),
        SLOW_DELAY.as_millis()
    ));
    Ok(())
}

/// Connections that began after the change must have been noticed.
fn slow_one(
    bench: &Bench,
    contestant: &Contestant,
    service: &Service,
    backends: &mut Backends,
) -> Result<Vec<Connection>> {
    (1..=BACKENDS).try_for_each(|number| backends.delay(number, USUAL_DELAY))?;
    let rest = Duration::from_millis(u64::from(bench.rounds(2500, 1000)));
    let plan = Plan { width: 32, patience: Duration::from_secs(3), time: QUIET + LIMIT + rest };
    let seat = Seat { cgroup: &contestant.cgroup, network: Some(&contestant.network) };
    let clients = Clients::start(seat, &contestant.targets(service), plan)?;
    thread::sleep(QUIET);
    backends.delay(SLOW, SLOW_DELAY)?;
    let from = clients::now() + LIMIT;
    let mut connections = clients.finish()?;
    connections.retain(|connection| connection.begun >= from);
    Ok(connections)
}

fn show(name: &str, run: &[Connection], goal: bool, report: &mut Report) -> Result<()> {
    let p99 = |keep: &dyn Fn(&Connection) -> bool| {
        let mut times: Vec<Duration> = run.iter().filter(|c| keep(c)).map(|c| c.whole).collect();
        times.sort_unstable();
        times.get(times.len() * 99 / 100).map(|time| time.as_secs_f64() * 1e3)
    };
    let all = p99(&|_| true).context("no connection at all")?;
    let good = p99(&|c| c.backend.is_some_and(|backend| backend != SLOW));
    let good = good.context("no connection to a good backend")?;
    let slow = run.iter().filter(|c| c.backend == Some(SLOW)).count();
    let failures = run.iter().filter(|c| c.backend.is_none()).count();
    let row = Row::new(METRIC, name, "× good", &[all / good]);
    report.add(if goal { row.at_most(GOAL) } else { row });
    let share = 100.0 * slow as f64 / run.len() as f64;
    report.add(Row::new(METRIC, name, "ms", &[all]));
    report.add(Row::new(METRIC, name, "% to the slow one", &[share]));
    if failures > 0 || goal {
        report.add(Row::new(METRIC, name, "failures", &[failures as f64]).at_most(0.0));
    }
    Ok(())
}
