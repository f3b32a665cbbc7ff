//! The membership of whole clusters, in virtual time and each in one thread: how soon news gets around,
//! what rest costs, and whether anybody is called dead who is not.
//!
//! The same seed gives the same figures on any machine, except for what a join takes of its processor.

use super::Bench;
use crate::report::{Report, Row};
use crate::rows::Options;
use crate::step;
use anyhow::{Context, Result, ensure};
use mizzen_tests_gossip_sim::cluster::Cluster;
use mizzen_tests_gossip_sim::joining::{self, Signatures};
use mizzen_tests_gossip_sim::measure::{self, Deaths, Quiet, Spread, Spreads};
use mizzen_tests_gossip_sim::network::{Nanos, SECOND};
use std::thread;

/// Nodes of the clusters, and seconds of rest in a run that is not told to take an hour.
const SIZES: [(usize, &str, u32); 2] = [(1000, "1,000 nodes", 300), (3000, "3,000 nodes", 60)];
const HOUR: u32 = 3600;
/// Part of datagrams that are lost.
const LOSS: f64 = 0.01;
const SEED: u64 = 1;
/// Nodes that say something.
const OWNERS: usize = 50;
/// Whom a new node learns of: nodes, and backends on each.
const HOSTS: (u64, u64) = (1000, 50);

/// What was seen of one cluster.
struct Seen {
    name: &'static str,
    deaths: Deaths,
    changes: Spreads,
    quiet: Quiet,
    seconds: u32,
}

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    step("members: clusters of 1,000 and of 3,000 nodes, which takes minutes");
    // Virtual time does not mind company.
    let seen: Vec<Seen> = thread::scope(|scope| {
        let mut looks = Vec::new();
        for size in SIZES {
            match has_room(size.0) {
                Ok(()) => looks.push(scope.spawn(move || look(&bench.options, size))),
                Err(error) => report.missing(size.1, &error),
            }
        }
        let seen = looks.into_iter().map(|look| look.join().ok().context("a cluster panicked"));
        seen.collect::<Result<_>>()
    })?;
    known(&seen, report);
    at_rest(&seen, report);
    join(bench, report)
}

/// Every node knows every node, which takes a kibibyte for each that it knows.
fn has_room(nodes: usize) -> Result<()> {
    let memory = std::fs::read_to_string("/proc/meminfo").context("cannot tell what is free")?;
    let free = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let free = free.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    let free = free.context("cannot tell what is free")?;
    ensure!(
        free > nodes * nodes,
        "it needs {} MiB, and {} are free",
        nodes * nodes / 1024,
        free / 1024
    );
    Ok(())
}

fn look(options: &Options, (nodes, name, seconds): (usize, &'static str, u32)) -> Seen {
    let (dying, changing) = (options.rounds(30, 3), options.rounds(10, 2));
    let seconds = match options.takes_an_hour() {
        true => HOUR,
        false => options.rounds(seconds, 10),
    };
    let mut cluster = Cluster::new(nodes, LOSS, SEED);
    cluster.run(5 * SECOND);
    measure::speak(&mut cluster, OWNERS);
    let changes = measure::changes(&mut cluster, OWNERS, changing as usize);
    let quiet = measure::quiet(&mut cluster, u64::from(seconds) * SECOND);
    let deaths = measure::deaths(&mut cluster, dying as usize);
    Seen { name, deaths, changes, quiet, seconds }
}

/// How soon news is known.
fn known(seen: &[Seen], report: &mut Report) {
    let mut rows = |metric: &str, goal: Option<f64>, of: &dyn Fn(&Seen) -> Vec<f64>| {
        for one in seen {
            let row = Row::new(metric, one.name, "s", &of(one));
            report.add(goal.into_iter().fold(row, Row::at_most));
        }
    };
    rows("a dead node is suspect to half", None, &|s| each(&s.deaths.suspect, |s| s.half));
    rows("a dead node is dead to half", Some(2.5), &|s| each(&s.deaths.dead, |s| s.half));
    rows("a dead node is dead to all", Some(4.0), &|s| each(&s.deaths.dead, |s| s.all));
    for one in seen {
        let times: Vec<f64> =
            each(&one.changes, |spread| spread.most).iter().map(|time| time * 1e3).collect();
        report.add(Row::new("a change is known to 90 %", one.name, "ms", &times).at_most(1e3));
    }
    report.note(format!("members: virtual time, {} % of datagrams lost, seed {SEED}", LOSS * 1e2));
}

/// What rest costs, and who was wronged.
fn at_rest(seen: &[Seen], report: &mut Report) {
    for one in seen {
        let row = Row::new("an idle node sends", one.name, "B/s", &[one.quiet.bytes]);
        report.add(row.at_most(3000.0));
    }
    for one in seen {
        let wronged = (one.quiet.deaths + one.deaths.wrong) as f64;
        report.add(Row::new("live nodes called dead", one.name, "", &[wronged]).at_most(0.0));
        report.note(format!("{} were at rest for {} s of their time", one.name, one.seconds));
    }
    if seen.iter().any(|one| one.seconds < HOUR) {
        report.note("`--hour` looks for live nodes called dead for an hour of their time");
    }
}

/// A new node learns of all backends: time on the wire, and both ends' work one after the other.
fn join(bench: &Bench, report: &mut Report) -> Result<()> {
    step("members: a node joins");
    let (hosts, each) = HOSTS;
    let mut figures = Vec::new();
    for _ in 0..bench.options.rounds(3, 1) {
        let join = joining::join(hosts, each, Signatures::Real);
        ensure!(join.backends as u64 == hosts * each, "it learned of {} backends", join.backends);
        figures.push(seconds(join.network) + (join.joiner + join.server).as_secs_f64());
    }
    let name = "of 1,000 nodes";
    report.add(Row::new("50,000 backends joined", name, "s", &figures).at_most(3.0));
    Ok(())
}

fn each(spreads: &Spreads, pick: fn(&Spread) -> Nanos) -> Vec<f64> {
    spreads.all().iter().map(pick).map(seconds).collect()
}

/// What never came to all took infinitely long.
fn seconds(time: Nanos) -> f64 {
    if time == Nanos::MAX { f64::INFINITY } else { time as f64 / SECOND as f64 }
}
