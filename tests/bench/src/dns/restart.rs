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
const TASKS: u32 = 100_000;
/// Milliseconds without an answer, in the worst round.
const GOAL: f64 = 100.0;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let metric = "longest time without an answer, killed and started again";
    let rounds = bench.rounds(10, 2);
    for (variant, tasks) in [("one name", 0), ("100,000 tasks known before", TASKS)] {
        let node = Node::start(bench, |place| remember_tasks(place, tasks))?;
        let gaps = gaps(node, tasks, Index::Kept, rounds)?;
        report.add(Row::new(metric, variant, "ms", &gaps).worst_at_most(GOAL));
    }
    let node = Node::start(bench, |place| remember_tasks(place, TASKS))?;
    let gaps = gaps(node, TASKS, Index::Lost, bench.rounds(3, 1))?;
    report.add(Row::new(metric, "100,000 tasks, without their index", "ms", &gaps));
    Ok(())
}

/// Whether the next process finds the index of what this one knew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Index {
    Kept,
    /// As after the machine was started.
    Lost,
}

/// One for each round.
fn gaps(mut node: Node, tasks: u32, index: Index, rounds: u32) -> Result<Vec<f64>> {
    if let Some(last) = tasks.checked_sub(1) {
        until_served(node.address, &Names::name(last), Names::address(last))?;
    }
    remember(&node)?;
    let path = node.place.state_dir.join("names.index");
    if tasks > 0 && index == Index::Kept {
        let written = || Ok(path.exists().then_some(()));
        until("the index is written", Duration::from_secs(60), written)?;
    }
    let mut gaps = Vec::new();
    for round in 0..rounds {
        let (before, after) = (address(2 * round), address(2 * round + 1));
        set(&node, before)?;
        until_served(node.address, NAME, before)?;
        let watch = Watch::start(node.address, NAME, after)?;
        node.kill();
        if index == Index::Lost {
            // It may not have been written yet.
            let _ = std::fs::remove_file(&path);
        }
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
