//! How long there is no answer when the daemon is killed and started again.

use super::Bench;
use super::node::Node;
use super::watch::{Watch, until_served};
use crate::api;
use crate::report::{Report, Row};
use anyhow::Result;
use serde_json::json;
use std::net::Ipv4Addr;

const NAME: &str = "printer.example";
/// Milliseconds without an answer.
const GOAL: f64 = 100.0;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut node = Node::start(bench, |_| Ok(()))?;
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
    let row = Row::new("killed and started again", "longest time without an answer", "ms", &gaps);
    report.add(row.at_most(GOAL));
    Ok(())
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xc000_0200 + number)
}

fn set(node: &Node, address: Ipv4Addr) -> Result<()> {
    let record = json!({ "values": [address.to_string()], "ttl": 60 });
    api::put(&node.place.socket(), &format!("/v1/dns-records/{NAME}/A"), &record)
}
