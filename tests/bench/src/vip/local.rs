//! Clients on the node: what a connection, a request and a stream cost through each
//! balancer, the backends being on another node.

use super::Bench;
use super::contestant::{self, Between, Contestant};
use super::node::Engine;
use super::peers::Kind;
use super::stage::{Port, Service, Stage};
use crate::generator::{Generator, Work};
use crate::paired::turn;
use crate::process::Cores;
use crate::report::{Report, Row};
use crate::statistics::{Ratio, usual_high};
use anyhow::{Result, ensure};
use std::time::Duration;

/// Rounds of a full run. Many short ones tell more than a few long ones: what disturbs the machine lasts for seconds,
/// and a pair of blocks that is over in less is disturbed as a whole or not at all.
const ROUNDS: u32 = 96;

/// Rounds of one set of generators. One process is faster than another by a percent
/// for as long as it lives.
const SET: u32 = 12;

/// Rounds of a set before those that count.
const WARM_UP: u32 = 1;

/// Of the slow peers a figure in every second round is enough.
const PEERS_EVERY: u32 = 2;

const ALL: [Between; 8] = [
    Between::Nothing,
    Between::Control,
    Between::Mizzen(Engine::Ebpf),
    Between::Mizzen(Engine::Nfqueue),
    Between::Peer(Kind::Iptables),
    Between::Peer(Kind::Nft),
    Between::Peer(Kind::Haproxy),
    Between::Peer(Kind::Nginx),
];

/// Repetitions in a block.
const SATURATE: u32 = 3_000;
const CONVERSE: u32 = 1_500;
const EXCHANGE: u32 = 1_000;
/// Mebibytes.
const STREAM: u32 = 128;

/// The blocks of a round: of each the contestants take theirs in turns, so that those of a pair follow each other.
const WORKS: [Work; 4] = [Work::Saturate, Work::Converse, Work::Exchange, Work::Stream];

/// The figures of a block, in the order in which they are shown.
const METRICS: [(&str, &str); 8] = [
    ("connections, all cores", "1/s"),
    ("CPU of a connection, both ends", "µs"),
    ("connect p50", "µs"),
    ("connect p99", "µs"),
    ("whole connection p50", "µs"),
    ("request/response p50", "µs"),
    ("request/response p99", "µs"),
    ("one stream", "Gbit/s"),
];
const RR_P99: usize = 6;

/// What the median ratio should be.
#[derive(Debug, Clone, Copy)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// At most what is usual when nothing is between.
    AsControl,
    None,
}

const EBPF: [Goal; 8] = [
    Goal::AtLeast(0.97),
    Goal::AtMost(1.04),
    Goal::None,
    Goal::AtMost(1.10),
    Goal::None,
    Goal::AtMost(1.01),
    Goal::AsControl,
    Goal::AtLeast(0.99),
];

const NFQUEUE: [Goal; 8] = {
    let mut goals = [Goal::None; 8];
    goals[0] = Goal::AtLeast(0.68);
    goals[1] = Goal::AtMost(1.27);
    goals
};

/// Connections that a variant must have made, and without a failure.
const CONNECTIONS_GOAL: f64 = 100_000.0;

/// One balancer's figures, round by round; none where it paused.
struct Series {
    between: Between,
    rounds: Vec<Option<[f64; 8]>>,
    connections: u64,
    failures: u64,
}

impl Series {
    fn ours(&self) -> bool {
        matches!(self.between, Between::Mizzen(_))
    }
}

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let stage = Stage::set(&bench.sandbox)?;
    let services = [Service::new(0, Port::EveryCore, 4), Service::new(0, Port::OneCore, 4)];
    let contestants = contestant::enter_all(&ALL, bench, &stage, &services, report)?;
    let rounds = bench.rounds(ROUNDS, 3);
    let series = race(bench, &contestants, &services, rounds)?;
    for metric in 0..METRICS.len() {
        for one in &series {
            report.add(row(metric, one, &series));
        }
    }
    // A quick run cannot make so many.
    let goal = CONNECTIONS_GOAL * f64::from(rounds) / f64::from(ROUNDS);
    for one in &series {
        let row = Row::new("connections made", one.between.name(), "", &[one.connections as f64]);
        report.add(if one.ours() { row.at_least(goal.round()) } else { row });
    }
    for one in &series {
        let row = Row::new("failures", one.between.name(), "", &[one.failures as f64]);
        report.add(if one.ours() { row.at_most(0.0) } else { row });
    }
    report.note(format!(
        "local: 4 backends on another node (veth); {rounds} rounds, blocks of {SATURATE} connections on all cores, {CONVERSE} one by one, {EXCHANGE} requests, {STREAM} MiB; all but the first on one core"
    ));
    Ok(())
}

fn race(
    bench: &Bench,
    contestants: &[Contestant],
    services: &[Service; 2],
    rounds: u32,
) -> Result<Vec<Series>> {
    let new = |contestant: &Contestant| Series {
        between: contestant.between,
        rounds: Vec::new(),
        connections: 0,
        failures: 0,
    };
    let mut all: Vec<Series> = contestants.iter().map(new).collect();
    let mut done = 0;
    while done < rounds {
        let mut generators =
            contestants.iter().map(Contestant::generator).collect::<Result<Vec<_>>>()?;
        for round in 0..WARM_UP + SET.min(rounds - done) {
            let pause = !done.is_multiple_of(PEERS_EVERY);
            let pauses = |one: &Contestant| pause && matches!(one.between, Between::Peer(_));
            let mut figures: Vec<Option<[f64; 8]>> =
                contestants.iter().map(|one| (!pauses(one)).then_some([0.0; 8])).collect();
            for work in WORKS {
                for index in turn(contestants.len(), round) {
                    let Some(figures) = &mut figures[index] else { continue };
                    let (contestant, series) = (&contestants[index], &mut all[index]);
                    let generator = &mut generators[index];
                    measure(bench, contestant, generator, services, series, work, figures)?;
                }
            }
            if round >= WARM_UP {
                for (series, figures) in all.iter_mut().zip(figures) {
                    series.rounds.push(figures);
                }
                done += 1;
            }
        }
    }
    Ok(all)
}

/// One block, and what it says.
fn measure(
    bench: &Bench,
    contestant: &Contestant,
    generator: &mut Generator,
    services: &[Service; 2],
    series: &mut Series,
    work: Work,
    figures: &mut [f64; 8],
) -> Result<()> {
    let (cores, service, count) = match work {
        Work::Saturate => (Cores::All, &services[0], SATURATE),
        Work::Exchange => (Cores::Ours, &services[1], EXCHANGE),
        Work::Stream => (Cores::Ours, &services[1], STREAM),
        Work::Converse | Work::Connect => (Cores::Ours, &services[1], CONVERSE),
    };
    contestant.hold(cores)?;
    let before = bench.sandbox.cpu_time()?;
    let block = generator.block(work, &contestant.targets(service), count)?;
    let cpu = bench.sandbox.cpu_time()?.saturating_sub(before);
    series.failures += block.failures;
    ensure!(block.count > 0, "{}: no connection", contestant.between.name());
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    match work {
        Work::Saturate => {
            series.connections += block.count;
            figures[0] = block.count as f64 / block.time.as_secs_f64();
            figures[1] = micros(cpu) / block.count as f64;
        }
        Work::Exchange => {
            figures[5] = micros(block.whole.p50);
            figures[6] = micros(block.whole.p99);
        }
        Work::Stream => {
            let bits = f64::from(STREAM) * 1024.0 * 1024.0 * 8.0;
            figures[7] = bits / block.time.as_secs_f64() / 1e9;
        }
        Work::Converse | Work::Connect => {
            series.connections += block.count;
            figures[2] = micros(block.connect.p50);
            figures[3] = micros(block.connect.p99);
            figures[4] = micros(block.whole.p50);
        }
    }
    Ok(())
}

fn row(metric: usize, one: &Series, all: &[Series]) -> Row {
    let (name, unit) = METRICS[metric];
    let of = |series: &Series| -> Vec<f64> {
        series.rounds.iter().flatten().map(|figures| figures[metric]).collect()
    };
    let row = Row::new(name, one.between.name(), unit, &of(one));
    let base = all.iter().find(|series| series.between == Between::Nothing);
    let Some(base) = base.filter(|_| one.between != Between::Nothing) else { return row };
    let (values, bases) = pairs(one, base, metric);
    let row = row.ratio(Ratio::paired(&values, &bases), Between::Nothing.name());
    let goal = match one.between {
        Between::Mizzen(Engine::Ebpf) => EBPF[metric],
        Between::Mizzen(Engine::Nfqueue) => NFQUEUE[metric],
        _ => Goal::None,
    };
    match goal {
        Goal::AtLeast(limit) => row.ratio_at_least(limit),
        Goal::AtMost(limit) => row.ratio_at_most(limit),
        Goal::AsControl => row.ratio_at_most(spread_of_control(all, base).max(1.0)),
        Goal::None => row,
    }
}

/// The p99 of requests differs this much without anything between.
fn spread_of_control(all: &[Series], base: &Series) -> f64 {
    let control = all.iter().find(|series| series.between == Between::Control);
    let high = control.and_then(|control| {
        let (values, bases) = pairs(control, base, RR_P99);
        usual_high(&values, &bases)
    });
    high.unwrap_or(1.0)
}

/// The figures of those rounds in which both took part.
fn pairs(one: &Series, base: &Series, metric: usize) -> (Vec<f64>, Vec<f64>) {
    let both = one.rounds.iter().zip(&base.rounds);
    both.filter_map(|(one, base)| Some(((*one)?[metric], (*base)?[metric]))).unzip()
}
