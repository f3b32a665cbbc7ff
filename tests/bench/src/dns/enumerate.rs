//! Mesos-DNS' list of everything, of a real node that knows many tasks, and what such a
//! node needs.

use super::Bench;
use super::names::Names;
use super::node::{Node, remember_tasks};
use super::watch;
use crate::api;
use crate::report::{Report, Row};
use anyhow::{Context, Result, ensure};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const TASKS: u32 = 50_000;
/// Seconds.
const GOAL: f64 = 1.0;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let node = Node::start(bench, |place| remember_tasks(place, TASKS))?;
    let last = TASKS - 1;
    watch::until_served(node.address, &Names::name(last), Names::address(last))?;
    let mut figures = Vec::new();
    for _ in 0..bench.rounds(5, 2) {
        let begun = Instant::now();
        let stream = TcpStream::connect(node.http).context("cannot reach Mesos-DNS' API")?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let list = api::ask(stream, "GET", "/v1/enumerate", "")?;
        figures.push(begun.elapsed().as_secs_f64());
        let tasks = list.matches("\"id\":").count();
        ensure!(tasks == TASKS as usize, "{tasks} of {TASKS} tasks are listed");
    }
    report.add(Row::new("/v1/enumerate of 50,000 tasks", "mizzen", "s", &figures).at_most(GOAL));
    let resident = node.daemon()?.memory()?.resident;
    report.add(Row::new(
        "memory of a node with 50,000 tasks of others",
        "mizzen",
        "MiB",
        &[resident],
    ));
    Ok(())
}
