//! How long there is no answer when the daemon is killed and started again, with little to
//! know and with much.

use super::Bench;
use super::names::Names;
use super::node::{Node, remember_tasks};
use super::watch::{Watch, until_served};
use crate::api;
use crate::report::{Report, Row};
use crate::wait::until;
use anyhow::Result;
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::Duration;

const NAME: &str = "printer.example";
/// Milliseconds without an answer, in the worst round.
const GOAL: f64 = 100.0;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let metric = "longest time without an answer, killed and started again";
    for (variant, tasks) in [("one name", 0), ("100,000 tasks known before", 100_000)] {
        let node = Node::start(bench, |place| remember_tasks(place, tasks))?;
        let gaps = gaps(bench, node, tasks)?;
        report.add(Row::new(metric, variant, "ms", &gaps).worst_at_most(GOAL));
    }
    Ok(())
}

/// One for each round.
fn gaps(bench: &Bench, mut node: Node, tasks: u32) -> Result<Vec<f64>> {
    if let Some(last) = tasks.checked_sub(1) {
        until_served(node.address, &Names::name(last), Names::address(last))?;
    }
    remember(&node)?;
    let mut gaps = Vec::new();
    for round in 0..bench.rounds(10, 2) {
        let (before, after) = (address(2 * round), address(2 * round + 1));
        set(&node, before)?;
        until_served(node.address, NAME, before)?;
        let watch = Watch::start(node.address, NAME, after)?;
        node.kill();
        node.restart()?;
        set(&node, after)?;
        gaps.push(watch.seen()?.gap.as_secs_f64() * 1e3);
    }
    Ok(gaps)
}

/// Sets the name, and waits until the next process will know it.
fn remember(node: &Node) -> Result<()> {
    let path = node.place.state_dir.join("names.log");
    let size = || std::fs::metadata(&path).map_or(0, |file| file.len());
    let before = size();
    set(node, Ipv4Addr::UNSPECIFIED)?;
    let written = || Ok((size() > before).then_some(()));
    until("what is known is written down", Duration::from_secs(30), written)
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xc000_0200 + number)
}

fn set(node: &Node, address: Ipv4Addr) -> Result<()> {
    let record = json!({ "values": [address.to_string()], "ttl": 60 });
    api::put(&node.place.socket(), &format!("/v1/dns-records/{NAME}/A"), &record)
}
