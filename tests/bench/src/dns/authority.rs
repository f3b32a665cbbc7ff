//! Questions a second, latency, time to load and memory of servers that know the names.

use super::Bench;
use super::contestant::{Contestant, Duty, Who, dnsperf};
use super::generator::{Generator, Load, Outcome, write_questions};
use super::names::Names;
use super::peers::Kind;
use crate::paired::turn;
use crate::report::{Report, Row};
use crate::statistics::Ratio;
use anyhow::{Context, Result};
use std::time::Duration;

/// Questions that are open at once under full load.
const OPEN: usize = 64;
/// Different questions; the answers of so many do not fit into a processor's own cache.
const QUESTIONS: usize = 200_000;

/// Tasks, and the share of the null responder's answers a second that is the goal.
const SIZES: [(u32, f64); 2] = [(1_000, 0.92), (100_000, 0.80)];
/// Milliseconds, at half of the full load.
const P99_GOAL: f64 = 1.0;
/// Latency is looked at for so long at a time: a pause of the machine spoils the intervals
/// that it falls into and no others.
const INTERVAL: Duration = Duration::from_millis(100);
/// Milliseconds, from nothing.
const BUILD_GOAL: f64 = 700.0;
/// MiB.
const MEMORY_GOAL: f64 = 80.0;

/// Everybody who takes part.
const ALL: [Who; 8] = [
    Who::Null,
    Who::Control,
    Who::Mizzen,
    Who::Peer(Kind::Nsd),
    Who::Peer(Kind::Knot),
    Who::Peer(Kind::Unbound),
    Who::Peer(Kind::Bind),
    Who::Peer(Kind::Dnsmasq),
];

/// What one server was measured to do, a figure of each round.
#[derive(Default)]
struct Series {
    full: Vec<f64>,
    dnsperf: Vec<f64>,
    processor: Vec<f64>,
    half_p99: Vec<f64>,
    lost: u64,
    bad: u64,
    loaded: f64,
    memory: f64,
}

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    for (tasks, goal) in SIZES {
        size(bench, Names { tasks }, goal, report)?;
    }
    Ok(())
}

fn size(bench: &Bench, names: Names, goal: f64, report: &mut Report) -> Result<()> {
    let questions = bench.sandbox.directory("dns")?.join(format!("questions-{}", names.tasks));
    write_questions(&questions, &names.questions(QUESTIONS))?;
    let mut generator = Generator::start(&questions)?;
    let mut servers = Vec::new();
    for who in ALL.into_iter().filter(|who| bench.has(*who)) {
        match Contestant::start(who, Duty::Authority(names), bench) {
            Ok(server) => servers.push((server, Series::default())),
            Err(error) if matches!(who, Who::Peer(_)) => report.missing(who.name(), &error),
            Err(error) => return Err(error.context(who.name())),
        }
    }
    for (server, series) in &mut servers {
        series.loaded = server.loaded.as_secs_f64() * 1e3;
        generator.ask(server.address, Load::Open(OPEN), bench.block())?;
    }
    for round in 0..bench.rounds(12, 2) {
        for index in turn(servers.len(), round) {
            let (server, series) = &mut servers[index];
            block(server, &mut generator, bench.block(), series)?;
            series.dnsperf.push(dnsperf(server.address, &questions, bench.block())?);
        }
    }
    half_load(bench, &mut servers, &mut generator)?;
    for (server, series) in &mut servers {
        series.memory = server.memory()?;
    }
    show(&servers, names, goal, report)
}

fn block(
    server: &Contestant,
    generator: &mut Generator,
    time: Duration,
    series: &mut Series,
) -> Result<()> {
    let before = server.cpu_time()?;
    let outcome = generator.ask(server.address, Load::Open(OPEN), time)?;
    let used = server.cpu_time()? - before;
    series.full.push(outcome.rate());
    series.processor.push(used.as_secs_f64() * 1e6 / outcome.answers as f64);
    note_errors(series, outcome);
    Ok(())
}

/// Latency at half of what a server can do, in many short intervals in turn with all others.
fn half_load(
    bench: &Bench,
    servers: &mut [(Contestant, Series)],
    generator: &mut Generator,
) -> Result<()> {
    for round in 0..bench.rounds(41, 3) {
        for index in turn(servers.len(), round) {
            let (server, series) = &mut servers[index];
            let mut full = series.full.clone();
            full.sort_by(f64::total_cmp);
            let half = full.get(full.len() / 2).context("no rounds")? / 2.0;
            let outcome = generator.ask(server.address, Load::Paced(half as u32), INTERVAL)?;
            series.half_p99.push(outcome.p99.as_secs_f64() * 1e3);
            note_errors(series, outcome);
        }
    }
    Ok(())
}

fn note_errors(series: &mut Series, outcome: Outcome) {
    series.lost += outcome.lost;
    series.bad += outcome.bad;
}

fn show(
    servers: &[(Contestant, Series)],
    names: Names,
    goal: f64,
    report: &mut Report,
) -> Result<()> {
    let tasks = names.tasks;
    let (_, null) = servers.first().context("nobody to compare with")?;
    type Pick = fn(&Series) -> &Vec<f64>;
    let figures: [(&str, &'static str, Pick, Option<f64>); 3] = [
        ("answers a second, 64 open", "/s", |series| &series.full, Some(goal)),
        ("answers a second, dnsperf", "/s", |series| &series.dnsperf, None),
        ("processor time of an answer", "µs", |series| &series.processor, None),
    ];
    for (what, unit, pick, goal) in figures {
        for (server, series) in servers {
            let metric = format!("{tasks} tasks: {what}");
            let row = Row::new(&metric, server.who.name(), unit, pick(series));
            let row = row.ratio(Ratio::paired(pick(series), pick(null)), "null");
            let goal = goal.filter(|_| server.who == Who::Mizzen);
            report.add(match goal {
                Some(goal) => row.ratio_at_least(goal),
                None => row,
            });
        }
    }
    for (server, series) in servers {
        let ours = server.who == Who::Mizzen;
        let metric = format!("{tasks} tasks: p99 at half of the load");
        let row = Row::new(&metric, server.who.name(), "ms", &series.half_p99);
        let row = row.ratio(Ratio::paired(&series.half_p99, &null.half_p99), "null");
        report.add(if ours { row.at_most(P99_GOAL) } else { row });
    }
    report.note(
        "p99: that of each interval of 0.1 s, then the median, least and largest of the intervals",
    );
    for (server, series) in servers.iter().filter(|(server, _)| server.who == Who::Mizzen) {
        let metric = format!("{tasks} tasks: lost, and wrong");
        let wrong = (series.lost + series.bad) as f64;
        report.add(Row::new(&metric, server.who.name(), "", &[wrong]).at_most(0.0));
    }
    let known = servers.iter().filter(|(s, _)| !matches!(s.who, Who::Null | Who::Control));
    for (server, series) in known.clone() {
        let metric = format!("{tasks} tasks: from nothing to the first answer");
        let row = Row::new(&metric, server.who.name(), "ms", &[series.loaded]);
        report.add(if server.who == Who::Mizzen { row.at_most(BUILD_GOAL) } else { row });
    }
    for (server, series) in known {
        let metric = format!("{tasks} tasks: memory");
        let row = Row::new(&metric, server.who.name(), "MiB", &[series.memory]);
        report.add(if server.who == Who::Mizzen { row.at_most(MEMORY_GOAL) } else { row });
    }
    Ok(())
}
