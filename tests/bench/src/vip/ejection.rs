//! One of four backends drops what arrives: how many connections does that cost,
//! and is it tried again?

use super::Bench;
use super::backends::Backends;
use super::clients::{self, Clients, Connection, Plan};
use super::contestant::{self, Between, Contestant};
use super::node::Engine;
use super::peers::Kind;
use super::stage::{Port, Service, Stage};
use crate::generator::Seat;
use crate::network::Namespace;
use crate::report::{Report, Row};
use anyhow::{Context, Result};
use std::process::Command;
use std::thread;
use std::time::Duration;

const CLIENTS: usize = 8;
const SICK: u8 = 4;

/// Clients give up before the kernel repeats a SYN, so that every SYN is a connect.
const PATIENCE: Duration = Duration::from_millis(700);

/// From their start until one backend becomes sick.
const WELL: Duration = Duration::from_secs(1);
/// How often SYNs are counted.
const LOOK: Duration = Duration::from_millis(20);
/// A backend that got no SYN for so long, while others got so many connections, is
/// ejected.
const SILENCE: Duration = Duration::from_millis(200);
const MEANWHILE: usize = 200;

/// SYNs in all.
const GOAL: f64 = 8.0;

const METRIC: &str = "one of four drops SYNs";

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let stage = Stage::set(&bench.sandbox)?;
    let _backends = Backends::start(&bench.sandbox, &stage)?;
    let services = [Service::new(0, Port::Slow, 4)];
    let all = [
        Between::Mizzen(Engine::Ebpf),
        Between::Mizzen(Engine::Nfqueue),
        Between::Peer(Kind::Iptables),
        Between::Peer(Kind::Nginx),
    ];
    for contestant in contestant::enter_all(&all, bench, &stage, &services, report)? {
        let name = contestant.between.name();
        let story = watch(bench, &contestant, &services[0], &stage.backends).context(name)?;
        show(name, &story, matches!(contestant.between, Between::Mizzen(_)), report);
    }
    report.note(format!(
        "ejection: {CLIENTS} clients that give up after {} ms; ejected: no SYN for {} ms while others got {MEANWHILE} connections",
        PATIENCE.as_millis(),
        SILENCE.as_millis()
    ));
    Ok(())
}

/// What happened to the sick backend.
#[derive(Debug)]
struct Story {
    /// SYNs that it got so far, at a time.
    syns: Vec<(Duration, u64)>,
    /// When it was well again.
    healed: Duration,
    connections: Vec<Connection>,
}

impl Story {
    /// When it was ejected, and after how many SYNs.
    fn ejected(&self) -> Option<(Duration, u64)> {
        let rises = self.syns.windows(2).filter(|pair| pair[1].1 > pair[0].1).map(|pair| pair[1]);
        let mut ends: Vec<Duration> = rises.clone().skip(1).map(|(at, _)| at).collect();
        ends.push(self.healed);
        rises.zip(ends).find_map(|((at, count), end)| {
            let others = self.begun_within(at, end).filter(|c| c.backend.is_some()).count();
            (end.saturating_sub(at) >= SILENCE && others >= MEANWHILE).then_some((at, count))
        })
    }

    fn begun_within(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Connection> {
        self.connections.iter().filter(move |c| c.begun >= from && c.begun < to)
    }

    /// From the end of its sickness until somebody got an answer from it.
    fn back_after(&self) -> Option<Duration> {
        let first = self
            .connections
            .iter()
            .filter(|c| c.begun >= self.healed && c.backend == Some(SICK))
            .map(|c| c.begun + c.whole)
            .min();
        first.map(|at| at.saturating_sub(self.healed))
    }
}

fn watch(
    bench: &Bench,
    contestant: &Contestant,
    service: &Service,
    backends: &Namespace,
) -> Result<Story> {
    // Ours pauses for 5 s at first, for 10 s after a probe that failed. Others are
    // only there to be seen beside it.
    let (sick, well) = match contestant.between {
        Between::Mizzen(_) => (bench.rounds(8, 7), bench.rounds(10, 1)),
        _ => (3, 1),
    };
    let (sick, well) = (Duration::from_secs(sick.into()), Duration::from_secs(well.into()));
    let plan = Plan { width: CLIENTS, patience: PATIENCE, time: WELL + sick + well };
    let seat = Seat { cgroup: &contestant.cgroup, network: Some(&contestant.network) };
    let clients = Clients::start(seat, &contestant.targets(service), plan)?;
    thread::sleep(WELL);
    let rule = Drops::begin(backends, service)?;
    let mut syns = vec![(clients::now(), 0)];
    let until = clients::now() + sick;
    while clients::now() < until {
        thread::sleep(LOOK);
        syns.push((clients::now(), rule.count()?));
    }
    drop(rule);
    let healed = clients::now();
    Ok(Story { syns, healed, connections: clients.finish()? })
}

fn show(name: &str, story: &Story, goal: bool, report: &mut Report) {
    let all = story.syns.last().map_or(0, |(_, count)| *count);
    let ejected = story.ejected();
    let figures: Vec<f64> = ejected.iter().map(|(_, count)| *count as f64).collect();
    let row = Row::new(METRIC, name, "SYNs until ejected", &figures);
    report.add(if goal { row.at_most(GOAL) } else { row });
    let probes: Vec<f64> = ejected.iter().map(|(_, count)| (all - count) as f64).collect();
    let row = Row::new(METRIC, name, "probes afterwards", &probes);
    report.add(if goal { row.at_least(1.0) } else { row });
    report.add(Row::new(METRIC, name, "SYNs in all", &[all as f64]));
    let back: Vec<f64> = story.back_after().iter().map(Duration::as_secs_f64).collect();
    report.add(Row::new(METRIC, name, "s until used again", &back));
}

/// A rule that drops and counts the SYNs to the sick backend, while it lives.
struct Drops<'a> {
    backends: &'a Namespace,
}

impl<'a> Drops<'a> {
    fn begin(backends: &'a Namespace, service: &Service) -> Result<Self> {
        let port = service.vip.port();
        let text = format!(
            "table ip sick {{\n counter syns {{\n }}\n chain arriving {{\n  type filter hook input \
             priority 0\n  ip daddr 10.20.0.{SICK} tcp dport {port} tcp flags & (syn | ack) == syn \
             counter name syns drop\n }}\n}}\n"
        );
        backends.run(Command::new("nft").args(["-f", "-"]), &text)?;
        Ok(Self { backends })
    }

    fn count(&self) -> Result<u64> {
        let words = ["list", "counter", "ip", "sick", "syns"];
        let text = self.backends.run(Command::new("nft").args(words), "")?;
        let count = text.split_whitespace().skip_while(|word| *word != "packets").nth(1);
        count.context("a counter without packets")?.parse().context("packets")
    }
}

impl Drop for Drops<'_> {
    fn drop(&mut self) {
        let words = ["delete", "table", "ip", "sick"];
        let _ = self.backends.run(Command::new("nft").args(words), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn connections(from: u64, to: u64) -> Vec<Connection> {
        let one =
            |ms| Connection { begun: at(ms), whole: at(1), backend: Some(1 + (ms % 3) as u8) };
        (from..to).map(one).collect()
    }

    #[test]
    fn ejected_is_who_gets_nothing_while_others_do() {
        let syns = vec![(at(0), 0), (at(20), 3), (at(40), 5), (at(60), 5), (at(900), 6)];
        let healed = at(1000);
        let busy = Story { syns: syns.clone(), healed, connections: connections(0, 1000) };
        assert_eq!(busy.ejected(), Some((at(40), 5)));
        // Everybody hangs at the sick one: that is no ejection.
        let stuck = Story { syns, healed, connections: connections(0, 30) };
        assert_eq!(stuck.ejected(), None);
    }

    #[test]
    fn back_is_who_answers_again() {
        let mut connections = connections(0, 10);
        connections.push(Connection { begun: at(1200), whole: at(5), backend: Some(SICK) });
        connections.push(Connection { begun: at(900), whole: at(5), backend: Some(SICK) });
        let story = Story { syns: Vec::new(), healed: at(1000), connections };
        assert_eq!(story.back_after(), Some(at(205)));
    }
}
