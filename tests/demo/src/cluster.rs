//! The demonstration of three nodes, step by step.

use crate::far::{FarLoad, ask_from};
use crate::load::{Seen, resolve};
use crate::node::{Node, await_that, json, json_on, mizzen_on, show, show_on};
use crate::steps::{NAME, PORT, backends_on, say, tasks_on};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NODES: usize = 3;
const INSTANCES: usize = 6;
const REQUESTS: u32 = 300;
/// Clients beside each node.
const CLIENTS: usize = 4;
/// The node that is cut off.
const CUT: usize = 3;
/// How long others may send requests to a node that is cut off.
const OUT_WITHIN: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

/// Task ids with the pids of their processes, by node.
type Tasks = BTreeMap<usize, BTreeMap<String, u32>>;

/// The whole demonstration.
pub(crate) fn demo(app: &Path) -> Result<()> {
    let nodes = start()?;
    run_app(app)?;
    from_each_node()?;
    cut_and_heal()?;
    let nodes = kill_the_master(nodes)?;
    show(&["rm", "web"])?;
    await_that("no task is left", PATIENCE, || {
        Ok(tasks()?.values().all(BTreeMap::is_empty).then_some(()))
    })?;
    drop(nodes);
    println!("\ndemo: ok");
    Ok(())
}

fn start() -> Result<Vec<Node>> {
    say("The first node begins a cluster; two more join it with its token.");
    let mut first = Node::start()?;
    first.wait_ready()?;
    let answer = json(&["join-token", "--uses", "2"])?;
    let token = answer["token"].as_str().context("no token")?;
    let host = json(&["status"])?["address"].as_str().context("no address")?.to_owned();
    let mut nodes = vec![first];
    for number in 2..=NODES {
        nodes.push(Node::start_on(number, &["--join", &host, "--token", token])?);
    }
    let started = Instant::now();
    for node in &mut nodes {
        node.wait_ready()?;
    }
    await_agents()?;
    println!("  three nodes are one cluster after {} ms", started.elapsed().as_millis());
    show(&["nodes"]).and_then(|()| show_on(2, &["agents"])).map(|()| nodes)
}

fn run_app(app: &Path) -> Result<()> {
    say("An app with two instances on each node, started from the second one.");
    let text = std::fs::read(app).with_context(|| format!("cannot read {}", app.display()))?;
    let mut definition: Value = serde_json::from_slice(&text).context("the app is not JSON")?;
    definition["instances"] = json!(INSTANCES);
    let each = (INSTANCES / NODES).to_string();
    definition["constraints"] = json!([["hostname", "MAX_PER", each]]);
    let state = std::env::var_os("MIZZEN_STATE_DIR").unwrap_or_default();
    let file = PathBuf::from(state).join("web.json");
    std::fs::write(&file, definition.to_string())?;
    show_on(2, &["run", &file.display().to_string()])?;
    await_backends(&[1, 2, 3], INSTANCES)?;
    show_on(3, &["vips"])?;
    show_on(3, &["dns", "web.marathon.mesos"])
}

fn from_each_node() -> Result<()> {
    for number in 1..=NODES {
        say(&format!("{REQUESTS} requests to http://{NAME}/ from node {number}:"));
        let answers = ask_from(number, NAME, REQUESTS)?;
        let total: u32 = answers.values().sum();
        println!("  {total} answers by {} tasks", answers.len());
        ensure!(total == REQUESTS, "only {total} of {REQUESTS} requests were answered");
    }
    Ok(())
}

fn cut_and_heal() -> Result<()> {
    let before = tasks()?;
    let vip = resolve(NAME, PORT)?;
    say(&format!("Node {CUT} is unplugged while requests go to {vip} from the others."));
    let loads = start_loads(&[1, 2])?;
    ask_from(1, NAME, REQUESTS)?;
    lab(&["--cut", &CUT.to_string()])?;
    let cut = Instant::now();
    let left = INSTANCES - INSTANCES / NODES;
    await_backends(&[1, 2], left)?;
    let out = cut.elapsed();
    let after = ask_from(2, NAME, REQUESTS)?;
    let seen = stop_loads(loads)?;
    println!(
        "  its backends were out after {} ms; {} requests, {} failed: at most one of each of the \
         {} clients was on it",
        out.as_millis(),
        seen.requests,
        seen.failures.len(),
        2 * CLIENTS
    );
    show(&["nodes"])?;
    show(&["dns", "web.marathon.mesos"])?;
    ensure!(out <= OUT_WITHIN, "its backends were out only after {out:?}");
    ensure!(seen.failures.len() <= 2 * CLIENTS, "lost requests: {:?}", seen.failures);
    ensure!(after.values().sum::<u32>() == REQUESTS, "requests afterwards are lost");

    say(&format!("Node {CUT} is plugged in again."));
    let loads = start_loads(&[1, 2])?;
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
    same(&before, &tasks()?)
}

fn kill_the_master(mut nodes: Vec<Node>) -> Result<Vec<Node>> {
    let before = tasks()?;
    let first = nodes.remove(0);
    let pid = first.pid();
    say(&format!("The master's daemon (pid {pid}) is killed with -9 while requests go on."));
    let loads = start_loads(&[1, 2, 3])?;
    ask_from(1, NAME, REQUESTS)?;
    first.kill()?;
    let without = Instant::now();
    for number in [2, 3] {
        let answers = ask_from(number, NAME, REQUESTS)?;
        ensure!(answers.values().sum::<u32>() == REQUESTS, "node {number} is not answered");
    }
    await_that("the others know that nobody leads", PATIENCE, || {
        let status = json_on(2, &["status"])?;
        let problems = status["problems"].to_string();
        Ok(problems.contains("no master leads").then_some(()))
    })?;
    show_on(2, &["nodes"])?;
    let away = without.elapsed();
    let mut first = Node::start()?;
    let started = Instant::now();
    first.wait_ready()?;
    await_agents()?;
    await_backends(&[1, 2, 3], INSTANCES)?;
    let back = started.elapsed();
    let seen = stop_loads(loads)?;
    println!(
        "  {} requests, {} failed, slowest {} ms; {} ms without a master, all agents were back \
         {} ms after its start",
        seen.requests,
        seen.failures.len(),
        seen.slowest.as_millis(),
        away.as_millis(),
        back.as_millis()
    );
    ensure!(seen.failures.is_empty(), "lost requests: {:?}", seen.failures.first());
    same(&before, &tasks()?)?;
    show(&["agents"])?;
    nodes.insert(0, first);
    Ok(nodes)
}

fn same(before: &Tasks, after: &Tasks) -> Result<()> {
    ensure!(before == after, "other tasks than before: {before:?}, now {after:?}");
    println!("  the same tasks run with the same pids; nothing was launched twice");
    Ok(())
}

fn tasks() -> Result<Tasks> {
    (1..=NODES).map(|number| Ok((number, tasks_on(number)?))).collect()
}

fn await_backends(nodes: &[usize], count: usize) -> Result<()> {
    await_that(&format!("{count} backends on the nodes {nodes:?}"), PATIENCE, || {
        for number in nodes {
            if backends_on(*number)?.len() != count {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// Waits until the master has all agents.
fn await_agents() -> Result<()> {
    await_that("all agents are registered", PATIENCE, || {
        let Ok(answer) = json(&["agents"]) else { return Ok(None) };
        let agents = answer["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
        let active = agents.iter().filter(|agent| agent["active"] == true).count();
        Ok((active == NODES).then_some(()))
    })
}

fn start_loads(nodes: &[usize]) -> Result<Vec<FarLoad>> {
    let vip = resolve(NAME, PORT)?;
    nodes.iter().map(|number| FarLoad::start(*number, vip, CLIENTS)).collect()
}

fn stop_loads(loads: Vec<FarLoad>) -> Result<Seen> {
    loads.into_iter().try_fold(Seen::default(), |seen, load| load.stop().map(|more| seen.and(more)))
}

fn lab(arguments: &[&str]) -> Result<()> {
    println!("\n$ mizzen lab {}", arguments.join(" "));
    let status = mizzen_on(1, &[&["lab"], arguments].concat()).status()?;
    ensure!(status.success(), "`mizzen lab {}` failed", arguments.join(" "));
    Ok(())
}
