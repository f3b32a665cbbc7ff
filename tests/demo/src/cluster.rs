//! The demonstration of three nodes, step by step.

use crate::cut;
use crate::far::{FarLoad, ask_from};
use crate::load::{Seen, resolve};
use crate::node::{Node, await_that, json, json_on, show, show_on};
use crate::steps::{NAME, PORT, backends_on, say, tasks_on};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const NODES: usize = 3;
pub(crate) const INSTANCES: usize = 6;
pub(crate) const REQUESTS: u32 = 300;
/// Clients beside each node.
const CLIENTS: usize = 4;
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Task ids with the pids of their processes, by node.
pub(crate) type Tasks = BTreeMap<usize, BTreeMap<String, u32>>;

/// The whole demonstration.
pub(crate) fn demo(app: &Path) -> Result<()> {
    let nodes = start()?;
    run_app(app)?;
    from_each_node()?;
    cut::and_heal()?;
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
    await_that("every node is known by its name", PATIENCE, || {
        let rows = json(&["nodes"])?;
        let named = |row: &&Value| row["hostname"].is_string();
        let named = rows.as_array().into_iter().flatten().filter(named).count();
        Ok((named == NODES).then_some(()))
    })?;
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
    // By default backends on the client's own node come first, and nothing would cross nodes.
    definition["container"]["portMappings"][0]["labels"]["l4lb-locality"] = json!("ignore");
    let state = std::env::var_os("MIZZEN_STATE_DIR").unwrap_or_default();
    let file = PathBuf::from(state).join("web.json");
    std::fs::write(&file, definition.to_string())?;
    show_on(2, &["run", &file.display().to_string()])?;
    await_backends(&[1, 2, 3], INSTANCES)?;
    show_on(3, &["vips"])?;
    show_on(3, &["dns", "web.marathon.mesos"])
}

fn from_each_node() -> Result<()> {
    let tasks = tasks()?;
    for number in 1..=NODES {
        say(&format!("{REQUESTS} requests to http://{NAME}/ from node {number}:"));
        answered_by_all(number, &tasks)?;
    }
    Ok(())
}

/// Sends requests from a node, all of which are answered, by every task of every node.
pub(crate) fn answered_by_all(number: usize, tasks: &Tasks) -> Result<()> {
    let answers = ask_from(number, NAME, REQUESTS)?;
    let total: u32 = answers.values().sum();
    for (node, tasks) in tasks {
        let of_it = tasks.keys().filter_map(|task| answers.get(task));
        println!("  {:5}  by {} tasks on node {node}", of_it.clone().sum::<u32>(), of_it.count());
    }
    ensure!(total == REQUESTS, "only {total} of {REQUESTS} requests were answered");
    let all: BTreeSet<&String> = tasks.values().flat_map(BTreeMap::keys).collect();
    ensure!(answers.keys().collect::<BTreeSet<_>>() == all, "not by all tasks: {answers:?}");
    Ok(())
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

pub(crate) fn same(before: &Tasks, after: &Tasks) -> Result<()> {
    ensure!(before == after, "other tasks than before: {before:?}, now {after:?}");
    println!("  the same tasks run with the same pids; nothing was launched twice");
    Ok(())
}

pub(crate) fn tasks() -> Result<Tasks> {
    (1..=NODES).map(|number| Ok((number, tasks_on(number)?))).collect()
}

pub(crate) fn await_backends(nodes: &[usize], count: usize) -> Result<()> {
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
pub(crate) fn await_agents() -> Result<()> {
    await_that("all agents are registered", PATIENCE, || {
        let Ok(answer) = json(&["agents"]) else { return Ok(None) };
        let agents = answer["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
        let active = agents.iter().filter(|agent| agent["active"] == true).count();
        Ok((active == NODES).then_some(()))
    })
}

pub(crate) fn start_loads(nodes: &[usize]) -> Result<Vec<FarLoad>> {
    let vip = resolve(NAME, PORT)?;
    nodes.iter().map(|number| FarLoad::start(*number, vip, CLIENTS)).collect()
}

pub(crate) fn stop_loads(loads: Vec<FarLoad>) -> Result<Seen> {
    loads.into_iter().try_fold(Seen::default(), |seen, load| load.stop().map(|more| seen.and(more)))
}
