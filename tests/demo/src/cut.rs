//! One of three nodes is cut off from the others under load, and plugged in again.

use crate::cluster::{
    INSTANCES, NODES, PATIENCE, REQUESTS, Tasks, answered_by_all, await_agents, await_backends,
    same, start_loads, stop_loads, tasks,
};
use crate::far::ask_from;
use crate::load::{Seen, resolve};
use crate::node::{await_that, json, json_on, mizzen_on, show};
use crate::request::{Lost, now};
use crate::steps::{NAME, PORT, admitted_on, say};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The node that is cut off.
const CUT: usize = 3;
/// Those that are not.
const LIVING: [usize; 2] = [1, 2];
/// How long others may send requests to a node that is cut off.
const OUT_WITHIN: Duration = Duration::from_secs(4);
/// Names of the tasks themselves.
const TASKS: &str = "web.marathon.mesos";

/// When the node was about to be cut off, and when the others suspected it, which takes its
/// backends out of the VIP; since 1970.
struct Window {
    cut: Duration,
    out: Duration,
}

/// Cuts the node off and heals it.
pub(crate) fn and_heal() -> Result<()> {
    let before = tasks()?;
    cut(&before)?;
    heal()?;
    same(&before, &tasks()?)
}

fn cut(tasks: &Tasks) -> Result<()> {
    let (vip, there) = (resolve(NAME, PORT)?, backends_of(CUT, tasks)?);
    say(&format!("Node {CUT} is unplugged while requests go to {vip} from the others."));
    let loads = start_loads(&LIVING)?;
    for number in LIVING {
        println!("  from node {number}, before the cut:");
        answered_by_all(number, tasks)?;
    }
    let cut = now();
    lab(&["--cut", &CUT.to_string()])?;
    await_backends(&LIVING, INSTANCES - there.len())?;
    let window = Window { cut, out: now() };
    let after = ask_from(2, NAME, REQUESTS)?;
    let seen = stop_loads(loads)?;
    hold_against(&seen, &there, &window)?;
    ensure!(after.values().sum::<u32>() == REQUESTS, "requests afterwards are lost");
    ensure!(there.keys().all(|task| !after.contains_key(task)), "it answered: {after:?}");
    let took = window.out.saturating_sub(window.cut);
    ensure!(took <= OUT_WITHIN, "its backends were out only after {took:?}");
    await_gone(&there)?;
    show(&["nodes"])?;
    show(&["dns", TASKS])
}

/// Tells what was lost: requests that were in flight on the node when it was cut off, and those
/// that were sent to it before anybody could know. Nothing else may be.
fn hold_against(seen: &Seen, there: &BTreeMap<String, SocketAddr>, window: &Window) -> Result<()> {
    let crossed: u64 = there.keys().filter_map(|task| seen.answers.get(task)).sum();
    let addresses: BTreeSet<_> = there.values().copied().collect();
    let on_it = |lost: &Lost| lost.backend.is_some_and(|backend| addresses.contains(&backend));
    let (excused, other): (Vec<_>, Vec<_>) =
        seen.failures.iter().partition(|lost| on_it(lost) && lost.began <= window.out);
    let in_flight = excused.iter().filter(|lost| lost.began <= window.cut).count();
    println!(
        "  its backends were out after {} ms; of {} requests {crossed} were answered by it before",
        window.out.saturating_sub(window.cut).as_millis(),
        seen.requests,
    );
    println!(
        "  {} lost: {in_flight} in flight on it when it was cut off, {} begun after that while it \
         was not suspected yet, {} others",
        seen.failures.len(),
        excused.len() - in_flight,
        other.len()
    );
    ensure!(crossed > 0, "no request reached node {CUT} before the cut");
    ensure!(other.is_empty(), "lost without having been sent to node {CUT} by then: {other:?}");
    Ok(())
}

fn heal() -> Result<()> {
    say(&format!("Node {CUT} is plugged in again."));
    let loads = start_loads(&LIVING)?;
    lab(&["--heal", &CUT.to_string()])?;
    let healed = Instant::now();
    await_backends(&[1, 2, 3], INSTANCES)?;
    await_agents()?;
    let back = healed.elapsed();
    let seen = stop_loads(loads)?;
    println!(
        "  its backends and its agent were back after {} ms; {} requests, {} failed",
        back.as_millis(),
        seen.requests,
        seen.failures.len()
    );
    ensure!(seen.failures.is_empty(), "lost requests: {:?}", seen.failures.first());
    Ok(())
}

/// The tasks of a node with the addresses by which the others reach them.
fn backends_of(number: usize, tasks: &Tasks) -> Result<BTreeMap<String, SocketAddr>> {
    let of_it = tasks.get(&number).context("no such node")?;
    let mut backends = admitted_on(1)?;
    backends.retain(|task, _| of_it.contains_key(task));
    ensure!(backends.len() == INSTANCES / NODES, "backends on node {number}: {backends:?}");
    Ok(backends)
}

/// Waits until the others count the node as dead, and no name leads to it.
fn await_gone(there: &BTreeMap<String, SocketAddr>) -> Result<()> {
    let left = INSTANCES - there.len();
    await_that("the node is dead, and names lead to the living only", PATIENCE, || {
        for number in LIVING {
            let nodes = json_on(number, &["nodes"])?;
            let dead = nodes.as_array().into_iter().flatten().filter(|row| row["state"] == "dead");
            if dead.count() != 1 {
                return Ok(None);
            }
        }
        let names = json(&["dns", TASKS, "A"])?;
        Ok(names["answers"].as_array().is_some_and(|rows| rows.len() == left).then_some(()))
    })
}

fn lab(arguments: &[&str]) -> Result<()> {
    println!("\n$ mizzen lab {}", arguments.join(" "));
    let status = mizzen_on(1, &[&["lab"], arguments].concat()).status()?;
    ensure!(status.success(), "`mizzen lab {}` failed", arguments.join(" "));
    Ok(())
}
