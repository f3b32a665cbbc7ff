//! The steps of the demonstration, in order. Each shows something and checks it.

use crate::load::{Load, by_name, resolve};
use crate::node::{Node, await_that, json_on, show};
use crate::request::request;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const NAME: &str = "web.marathon.l4lb.thisdcos.directory";
pub(crate) const PORT: u16 = 80;
const REQUESTS: u32 = 1_000;
const INSTANCES: usize = 2;
/// Share of the requests that each of two backends must get at least.
const LEAST_SHARE: f64 = 0.35;
/// The VIP must follow a dead task within this.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(1);
/// The name must answer again this long after a restart of the daemon.
const NAME_ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// The whole demonstration.
pub(crate) fn demo(app: &Path) -> Result<()> {
    let mut node = Node::start()?;
    let ready = node.wait_ready()?;
    say(&format!("A node with all its parts is up, {} ms after its start.", ready.as_millis()));
    show(&["status"])?;

    run_app(app)?;
    spread()?;
    healing()?;
    let node = restart_under_load(node)?;
    show(&["status"])?;
    show(&["rm", "web"])?;
    no_tasks_left()?;
    drop(node);
    println!("\ndemo: ok");
    Ok(())
}

/// Only the node and the app, until the user has enough.
pub(crate) fn stay(app: &Path) -> Result<()> {
    let mut node = Node::start()?;
    node.wait_ready()?;
    run_app(app)?;
    println!(
        "\nThe node runs, and this shell is on its machine. Try:\n\
         \n    mizzen status                      mizzen tasks\n    \
         mizzen vips                        mizzen dns {NAME}\n    \
         mizzen scale web 4                 mizzen logs -f web\n    \
         curl http://{NAME}/\n    curl http://localhost:61421/vips\n    \
         curl http://leader.mesos:8080/v2/apps    (from scripts: the Marathon API)\n\
         \n`exit` ends the shell, the node and all that it made."
    );
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    Command::new(shell).status()?;
    Ok(())
}

fn run_app(app: &Path) -> Result<()> {
    say("An app definition goes in; tasks, containers, addresses, names and a VIP come out.");
    show(&["run", &app.display().to_string()])?;
    await_backends(INSTANCES, Duration::from_secs(30))?;
    show(&["tasks"])?;
    show(&["dns", "web.marathon.mesos"])?;
    show(&["dns", NAME])?;
    show(&["vips"])
}

fn spread() -> Result<()> {
    say(&format!("{REQUESTS} requests to http://{NAME}/, the name resolved for each:"));
    let started = Instant::now();
    let answers = by_name(NAME, PORT, REQUESTS)?;
    for (task, count) in &answers {
        println!("  {count:5}  {task}");
    }
    println!("  in {} ms", started.elapsed().as_millis());
    ensure!(answers.len() == INSTANCES, "{} backends answered, not {INSTANCES}", answers.len());
    for (task, count) in &answers {
        let share = f64::from(*count) / f64::from(REQUESTS);
        ensure!(share >= LEAST_SHARE, "{task} got only {:.0} % of the requests", share * 100.0);
    }
    Ok(())
}

fn healing() -> Result<()> {
    let before = tasks()?;
    let (victim, pid) = before.iter().next().context("no task to kill")?;
    say(&format!("Task {victim} (pid {pid}) is killed."));
    let vip = resolve(NAME, PORT)?;
    let killed = Instant::now();
    kill(*pid)?;
    await_that("the dead backend is out of the VIP", Duration::from_secs(10), || {
        Ok((!backends()?.iter().any(|backend| backend == victim)).then_some(()))
    })?;
    let followed = killed.elapsed();
    for _ in 0..100 {
        let answer = request(vip).context("a request after the VIP had followed")?;
        ensure!(&answer != victim, "the dead task answered");
    }
    await_backends(INSTANCES, Duration::from_secs(30))?;
    let replaced = killed.elapsed();
    println!(
        "  out of the VIP after {} ms, replaced after {} ms, 100 of 100 requests in between well",
        followed.as_millis(),
        replaced.as_millis()
    );
    ensure!(followed <= FOLLOWS_WITHIN, "the VIP followed only after {followed:?}");
    show(&["tasks"])
}

fn restart_under_load(node: Node) -> Result<Node> {
    let before = tasks()?;
    let vip = resolve(NAME, PORT)?;
    say(&format!("The daemon (pid {}) is killed with -9 while requests go to {vip}.", node.pid()));
    let load = Load::start(vip, Duration::ZERO);
    until_requests_flow(vip)?;
    node.kill()?;
    let without = Instant::now();
    until_requests_flow(vip)?;
    let restarted = Instant::now();
    let mut node = Node::start()?;
    await_that("the name answers again", Duration::from_secs(10), || {
        Ok(resolve_once(NAME).then_some(()))
    })?;
    let answered = restarted.elapsed();
    node.wait_ready()?;
    await_backends(INSTANCES, Duration::from_secs(30))?;
    let seen = load.stop()?;
    let after = tasks()?;
    println!(
        "  {} requests, {} failed, slowest {} ms; {} ms without a daemon; the name answered {} ms after the restart",
        seen.requests,
        seen.failures.len(),
        seen.slowest.as_millis(),
        restarted.duration_since(without).as_millis(),
        answered.as_millis()
    );
    ensure!(seen.failures.is_empty(), "failed requests: {:?}", seen.failures.first());
    ensure!(seen.requests > 0, "no request was sent");
    ensure!(after == before, "other tasks than before: {before:?}, now {after:?}");
    ensure!(answered <= NAME_ANSWERS_WITHIN, "the name answered only after {answered:?}");
    println!("  the same tasks run with the same pids; nothing was launched twice");
    Ok(node)
}

pub(crate) fn no_tasks_left() -> Result<()> {
    await_that("no task is left", Duration::from_secs(20), || Ok(tasks()?.is_empty().then_some(())))
}

/// Some requests of our own, so that a kill really falls into the load.
fn until_requests_flow(vip: SocketAddr) -> Result<()> {
    for _ in 0..200 {
        request(vip).context("a request beside the load")?;
    }
    Ok(())
}

/// Task ids with the pids of their processes.
pub(crate) fn tasks() -> Result<BTreeMap<String, u32>> {
    tasks_on(1)
}

/// The same of node `number`.
pub(crate) fn tasks_on(number: usize) -> Result<BTreeMap<String, u32>> {
    let rows = json_on(number, &["tasks"])?;
    let rows = rows.as_array().context("`mizzen tasks --json` is no list")?;
    let live = rows.iter().filter(|row| row["state"] == "TASK_RUNNING");
    Ok(live
        .filter_map(|row| {
            let pid = u32::try_from(row["pid"].as_u64()?).ok()?;
            Some((row["id"].as_str()?.to_owned(), pid))
        })
        .collect())
}

/// Tasks that the VIP leads to.
pub(crate) fn backends() -> Result<Vec<String>> {
    backends_on(1)
}

/// The same as node `number` has it.
pub(crate) fn backends_on(number: usize) -> Result<Vec<String>> {
    Ok(admitted_on(number)?.into_keys().collect())
}

/// The same with their addresses.
pub(crate) fn admitted_on(number: usize) -> Result<BTreeMap<String, SocketAddr>> {
    let vips = json_on(number, &["vips"])?;
    let vip = vips.as_array().and_then(|vips| {
        vips.iter().find(|vip| vip["name"].as_str().is_some_and(|name| name.starts_with("web.")))
    });
    let admitted = |backend: &&Value| backend["admitted"] == true;
    let list = vip.and_then(|vip| vip["backends"].as_array()).cloned().unwrap_or_default();
    Ok(list
        .iter()
        .filter(admitted)
        .filter_map(|backend| {
            let address = backend["address"].as_str()?.parse().ok()?;
            Some((backend["task"].as_str()?.to_owned(), address))
        })
        .collect())
}

fn await_backends(count: usize, limit: Duration) -> Result<()> {
    await_that("the VIP leads to every instance", limit, || {
        Ok((backends()?.len() == count).then_some(()))
    })
}

/// Asks the resolver itself, once: the system's stub would wait for seconds.
fn resolve_once(name: &str) -> bool {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or(63));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let ask = || -> std::io::Result<bool> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        socket.connect("198.51.100.1:53")?;
        socket.send(&query)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        // Header: no error, at least one answer.
        Ok(length > 12 && answer[3] & 0x0f == 0 && answer[7] > 0)
    };
    ask().unwrap_or(false)
}

fn kill(pid: u32) -> Result<()> {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    ensure!(status.success(), "cannot kill process {pid}");
    Ok(())
}

pub(crate) fn say(text: &str) {
    println!("\n── {text}");
}
