//! Twenty nodes on one machine: from nothing until every one of 200 containers reaches every
//! other one, and all names and VIPs lead where they should.
//!
//! Each round is a lab of its own ([`round`] runs inside of it), so that it begins from nothing.

use super::Bench;
use crate::api;
use crate::daemon::{self, Memory};
use crate::neighbours::WideNeighbours;
use crate::report::{Report, Row};
use crate::sandbox::ourselves;
use crate::{process, wait};
use anyhow::{Context, Result, ensure};
use mizzen_tests_mesh::{Expected, Findings, ask_all};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NODES: usize = 20;
/// Each has a container on each node.
const APPS: usize = 10;
/// Seconds from nothing until all is right.
const GOAL: f64 = 60.0;
/// For each part of it.
const LIMIT: Duration = Duration::from_secs(60);
/// How long the nodes are left alone to see what they cost.
const REST: Duration = Duration::from_secs(10);

/// What one round found: seconds since its beginning where nothing else is said.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Round {
    /// All nodes know all nodes, and the master has all agents.
    joined: f64,
    /// All containers run.
    launched: f64,
    /// All names, VIPs and pairs are right from inside of every container.
    right: f64,
    /// Seconds of processors that the daemons had until then.
    cpu: f64,
    /// MiB of each daemon, shared pages divided by those who share them.
    memory: Vec<f64>,
    /// Share of a processor that each daemon takes when nothing happens, in percent.
    idle: Vec<f64>,
}

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let _room = WideNeighbours::make()?;
    let mut rounds: Vec<Round> = Vec::new();
    for _ in 0..bench.options.rounds(3, 1) {
        let ours = ourselves()?;
        let mut command = Command::new("mizzen");
        command.args(["lab", "--no-node", "--nodes", &NODES.to_string(), "--"]);
        let said = process::run(command.arg(ours).arg("twenty"), "")?;
        rounds.push(serde_json::from_str(&said).context("a round said no figures")?);
    }
    let variant = format!("{NODES} nodes, {} containers", NODES * APPS);
    let each = |pick: fn(&Round) -> f64| rounds.iter().map(pick).collect::<Vec<f64>>();
    let all = |pick: fn(&Round) -> &Vec<f64>| rounds.iter().flat_map(pick).copied().collect();
    let (memory, idle): (Vec<f64>, Vec<f64>) =
        (all(|round| &round.memory), all(|round| &round.idle));
    let row = |metric: &str, unit, figures: &[f64]| Row::new(metric, &variant, unit, figures);
    report.add(row("from nothing: one cluster", "s", &each(|round| round.joined)));
    report.add(row("from nothing: all containers run", "s", &each(|round| round.launched)));
    let right = row("from nothing: all pairs, names, VIPs right", "s", &each(|round| round.right));
    report.add(right.at_most(GOAL));
    report.add(row("processors' time of all daemons for it", "s", &each(|round| round.cpu)));
    report.add(row("memory of a daemon then", "MiB", &memory));
    report.add(row("a daemon at rest, of one processor", "%", &idle));
    Ok(())
}

/// One round, in a lab of [`NODES`] places; prints what it found.
pub(crate) fn round() -> Result<()> {
    let begun = Instant::now();
    let mut round = Round::default();
    let cluster = Cluster::start()?;
    cluster.await_whole()?;
    round.joined = begun.elapsed().as_secs_f64();
    crate::step(&format!("one cluster after {:.1} s", round.joined));
    cluster.run_apps()?;
    let expected = cluster.await_tasks()?;
    round.launched = begun.elapsed().as_secs_f64();
    crate::step(&format!("all containers run after {:.1} s", round.launched));
    cluster.await_right(&expected)?;
    round.right = begun.elapsed().as_secs_f64();
    crate::step(&format!("all is right after {:.1} s", round.right));
    let cpu = cluster.cpu_times()?;
    round.cpu = cpu.iter().sum();
    for node in &cluster.nodes {
        let Memory { proportional, .. } = daemon::memory_of(node.child.id())?;
        round.memory.push(proportional);
    }
    std::thread::sleep(REST);
    for (before, after) in cpu.iter().zip(cluster.cpu_times()?) {
        round.idle.push((after - before) / REST.as_secs_f64() * 100.0);
    }
    println!("{}", serde_json::to_string(&round)?);
    Ok(())
}

/// The nodes of this lab.
struct Cluster {
    nodes: Vec<Node>,
}

/// A daemon in its place of the lab; killed when dropped.
struct Node {
    child: Child,
    socket: PathBuf,
}

impl Cluster {
    /// Starts the first node, and all others as soon as it gives a token.
    fn start() -> Result<Self> {
        let state = std::env::var_os("MIZZEN_STATE_DIR").context("this is no lab")?;
        let lab = Path::new(&state).ancestors().nth(2).context("a lab has a directory")?;
        let first = Node::start(1, lab, &[])?;
        wait::until("the first node answers", LIMIT, || {
            Ok(api::get(&first.socket, "/v1/status").ok())
        })?;
        let uses = NODES.to_string();
        let token = process::run(Command::new("mizzen").args(["join-token", "--uses", &uses]), "")?;
        let host = std::env::var("MIZZEN_ADDRESS").context("this is no lab")?;
        let mut nodes = vec![first];
        for number in 2..=NODES {
            nodes.push(Node::start(number, lab, &["--join", &host, "--token", token.trim()])?);
        }
        Ok(Self { nodes })
    }

    /// Waits until every node knows every node, and the master every agent.
    fn await_whole(&self) -> Result<()> {
        for node in &self.nodes {
            wait::until("a node knows all nodes", LIMIT, || {
                let Ok(nodes) = api::get(&node.socket, "/v1/cluster/nodes") else {
                    return Ok(None);
                };
                let rows = nodes.as_array().map_or(&[][..], Vec::as_slice);
                let alive = rows.iter().filter(|row| row["state"] == "alive").count();
                Ok((alive == NODES).then_some(()))
            })?;
        }
        wait::until("the master has all agents", LIMIT, || {
            let agents = self.master("GET", 5050, "/slaves", "")?;
            let agents: Value = serde_json::from_str(&agents)?;
            let rows = agents["slaves"].as_array().map_or(&[][..], Vec::as_slice);
            let active = rows.iter().filter(|row| row["active"] == true).count();
            Ok((active == NODES).then_some(()))
        })
    }

    fn run_apps(&self) -> Result<()> {
        let program = crate::sandbox::find_executable("mizzen-test-prober")?;
        let command = program.display().to_string();
        for number in 0..APPS {
            let app = mizzen_tests_mesh::app(&format!("app{number}"), &command, NODES, 1);
            self.master("POST", 8080, "/v2/apps", &app.to_string())?;
        }
        Ok(())
    }

    /// Waits until all containers run, and returns what their nodes say of them.
    fn await_tasks(&self) -> Result<Expected> {
        wait::until("all containers run", LIMIT, || {
            let mut expected = Expected::default();
            for (before, node) in self.nodes.iter().enumerate() {
                expected.add(&api::get(&node.socket, "/v1/tasks")?);
                if expected.tasks() < (before + 1) * APPS {
                    return Ok(None);
                }
            }
            Ok(Some(expected))
        })
    }

    /// Has every container look at everything, and every node tell its VIPs.
    fn await_right(&self, expected: &Expected) -> Result<()> {
        let found = ask_all(&expected.question(LIMIT / 3)).context("a prober cannot be asked")?;
        let slowest = found.values().map(|found| found.milliseconds).max().unwrap_or(0);
        crate::step(&format!("all containers found all within {slowest} ms of being asked"));
        ensure!(found.len() == NODES * APPS, "only {} probers have answered", found.len());
        for (task, Findings { wrong, .. }) in &found {
            ensure!(wrong.is_empty(), "{task} finds wrong: {wrong:?}");
        }
        for node in &self.nodes {
            wait::until("all VIPs lead to all of their tasks", LIMIT, || {
                let table = api::get(&node.socket, "/v1/vip-table")?;
                Ok(expected.wrong_vips(&table).is_empty().then_some(()))
            })?;
        }
        Ok(())
    }

    /// Seconds of processors of each daemon since its start.
    fn cpu_times(&self) -> Result<Vec<f64>> {
        let time = |node: &Node| Ok(daemon::cpu_time_of(node.child.id())?.as_secs_f64());
        self.nodes.iter().map(time).collect()
    }

    fn master(&self, method: &str, port: u16, path: &str, body: &str) -> Result<String> {
        let host = std::env::var("MIZZEN_ADDRESS").context("this is no lab")?;
        let stream = std::net::TcpStream::connect(SocketAddr::new(host.parse()?, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        api::ask(stream, method, path, body)
    }
}

impl Node {
    /// Starts the daemon in place `number` (from 1) of the lab in `lab`.
    fn start(number: usize, lab: &Path, flags: &[&str]) -> Result<Self> {
        let place = lab.join(format!("n{number}"));
        let log = std::fs::File::create(place.join("bench-node.log"))?;
        let mut command = Command::new("mizzen");
        command.args(["lab", "--on", &number.to_string(), "--", "mizzen", "node"]).args(flags);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot start `mizzen node`")?;
        Ok(Self { child, socket: place.join("run/mizzen.sock") })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
