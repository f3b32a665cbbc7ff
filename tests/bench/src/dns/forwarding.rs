//! Names of others from the cache, beside unbound's.

use super::Bench;
use super::contestant::{Contestant, Duty, Who};
use super::generator::{Generator, Load, write_questions};
use super::peers::Kind;
use super::question::Kind as Type;
use crate::paired::turn;
use crate::report::{Report, Row};
use crate::statistics::Ratio;
use anyhow::Result;
use std::time::Duration;

const NAMES: usize = 10_000;
const OPEN: usize = 64;
/// Of unbound's answers a second.
const GOAL: f64 = 1.0;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let names: Vec<(String, Type)> =
        (0..NAMES).map(|number| (format!("host-{number}.example.com"), Type::A)).collect();
    let questions = bench.sandbox.directory("dns")?.join("questions-forwarded");
    write_questions(&questions, &names)?;
    let upstream =
        Contestant::start(Who::Null, Duty::Authority(super::names::Names { tasks: 1 }), bench)?;
    let duty = Duty::Forwarding(upstream.address);
    let mut generator = Generator::start(&questions)?;
    let mut servers = Vec::new();
    for who in [Who::Peer(Kind::Unbound), Who::Mizzen] {
        servers.push((Contestant::start(who, duty, bench)?, Vec::new()));
    }
    for (server, _) in &servers {
        // Gently: these go to the upstream.
        generator.ask(server.address, Load::Open(8), Duration::from_secs(3))?;
    }
    for round in 0..bench.rounds(20, 2) {
        for index in turn(servers.len(), round) {
            let (server, rates) = &mut servers[index];
            let outcome = generator.ask(server.address, Load::Open(OPEN), bench.block())?;
            anyhow::ensure!(outcome.bad == 0, "{} answers wrongly", server.who.name());
            rates.push(outcome.rate());
        }
    }
    let base = servers[0].1.clone();
    for (server, rates) in &servers {
        let row = Row::new("forwarded names, from the cache", server.who.name(), "/s", rates);
        let row = row.ratio(Ratio::paired(rates, &base), "unbound");
        report.add(if server.who == Who::Mizzen { row.ratio_at_least(GOAL) } else { row });
    }
    Ok(())
}
