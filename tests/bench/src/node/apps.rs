//! From an app definition to an answer through its VIP, and from a dead task to
//! the next one.

use crate::api::{self, Api, Vip};
use crate::report::{Report, Row};
use crate::statistics::Summary;
use crate::{daemon, sandbox, wait};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const REPETITIONS: usize = 5;
/// Milliseconds beyond the program's own start.
const DEPLOYMENT_GOAL: f64 = 1_500.0;
/// Milliseconds.
const RECOVERY_GOAL: f64 = 1_000.0;
/// For anything that a node does with an app.
const LIMIT: Duration = Duration::from_secs(20);
/// Of each app; its VIPs have the same one.
const ID: &str = "bench";
/// Of the VIP behind which requests are answered.
const PORT: u16 = 80;
/// Of the VIP behind which connections are closed.
const CLOSING_PORT: u16 = 81;
/// Seconds before a dead task's successor; the default alone is the whole goal.
const BACKOFF: f64 = 0.1;

/// Where an app's containers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On the node's own network.
    Host,
    /// On the bridge, with an address each.
    Container,
}

/// Where the program may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cores {
    Any,
    /// Together with the generators.
    Shared,
}

/// Two addresses of the same port of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub vip: SocketAddr,
    pub backend: SocketAddr,
}

/// An app that runs, one task of it.
pub(super) struct App {
    task: String,
    /// Where requests are answered.
    pub answering: Way,
    /// Where connections are closed.
    pub closing: Way,
}

impl App {
    /// Starts one and waits until it answers through its VIP.
    pub(super) fn start(api: &Api, place: Place, cores: Cores) -> Result<Self> {
        api.create(&definition(place, cores)?)?;
        Self::await_other_than(api, None)
    }

    /// Waits for a task that answers, and that is not `gone`.
    fn await_other_than(api: &Api, gone: Option<&str>) -> Result<Self> {
        let app = wait::until("the VIPs have their backends", LIMIT, || {
            Ok(find(&api.vips()?).filter(|app| gone != Some(&app.task)))
        })?;
        wait::until("the VIP answers", LIMIT, || {
            Ok(api::request(app.answering.vip).is_ok().then_some(()))
        })?;
        Ok(app)
    }

    /// Ends it and waits until nothing of it is left.
    pub(super) fn remove(self, api: &Api) -> Result<()> {
        remove(api)
    }
}

/// One as a user would have it.
pub(super) fn start_one(api: &Api) -> Result<App> {
    App::start(api, Place::Container, Cores::Any)
}

/// From the request to the first answer through the VIP, by its name.
pub(super) fn deployment(api: &Api, report: &mut Report) -> Result<()> {
    let own = own_starts()?;
    let own_median = Summary::of(&own).map_or(0.0, |own| own.median);
    report.add(Row::new("app to answer: the program", "own start", "ms", &own));
    for (place, variant) in [(Place::Host, "host network"), (Place::Container, "container network")]
    {
        let mut figures = Vec::new();
        for _ in 0..REPETITIONS {
            let app = definition(place, Cores::Any)?;
            let started = Instant::now();
            api.create(&app)?;
            wait::until("the VIP answers by its name", LIMIT, || Ok(answers_by_name()))?;
            figures.push(started.elapsed().as_secs_f64() * 1e3 - own_median);
            remove(api)?;
        }
        let row = Row::new("app to answer: beyond that", variant, "ms", &figures);
        report.add(row.at_most(DEPLOYMENT_GOAL));
    }
    Ok(())
}

/// From the death of the only task to its successor in the VIP.
pub(super) fn recovery(api: &Api, report: &mut Report) -> Result<()> {
    let mut app = start_one(api)?;
    let mut figures = Vec::new();
    for _ in 0..REPETITIONS {
        let tasks = api.tasks()?;
        let task = tasks.iter().find(|task| task.id == app.task);
        let victim = task.with_context(|| format!("task {} does not run", app.task))?;
        let killed = Instant::now();
        daemon::kill(victim.pid)?;
        app = App::await_other_than(api, Some(&victim.id))?;
        figures.push(killed.elapsed().as_secs_f64() * 1e3);
    }
    app.remove(api)?;
    let variant = format!("backoff {BACKOFF} s");
    report
        .add(Row::new("dead task to next answer", &variant, "ms", &figures).at_most(RECOVERY_GOAL));
    Ok(())
}

fn definition(place: Place, cores: Cores) -> Result<Value> {
    let (cpus, cpu) = match cores {
        Cores::Any => (0.1, String::new()),
        Cores::Shared => (1.0, format!(" --cpu {}", sandbox::core())),
    };
    let vip = |port: u16| json!({ "VIP_0": format!("/{ID}:{port}") });
    let mut app = json!({
        "id": format!("/{ID}"),
        "cmd": format!("{} --port $PORT0 --closing $PORT1{cpu}", program()?),
        "cpus": cpus,
        "mem": 32,
        "instances": 1,
        "backoffSeconds": BACKOFF,
        "healthChecks": [{
            "protocol": "MESOS_HTTP", "path": "/", "portIndex": 0,
            "delaySeconds": 0, "intervalSeconds": 1, "gracePeriodSeconds": 5,
        }],
    });
    match place {
        Place::Host => {
            app["portDefinitions"] = json!([
                { "port": 0, "labels": vip(PORT) },
                { "port": 0, "labels": vip(CLOSING_PORT) },
            ]);
        }
        Place::Container => {
            app["networks"] = json!([{ "mode": "container", "name": "dcos" }]);
            app["container"] = json!({ "type": "MESOS", "portMappings": [
                { "containerPort": 8080, "labels": vip(PORT) },
                { "containerPort": 8081, "labels": vip(CLOSING_PORT) },
            ]});
        }
    }
    Ok(app)
}

/// This executable as a server, as a shell writes it.
fn program() -> Result<String> {
    let path = sandbox::ourselves()?;
    Ok(format!("exec '{}' serve", path.display()))
}

/// How long the program takes until it listens, started by hand: in
/// milliseconds.
fn own_starts() -> Result<Vec<f64>> {
    let mut figures = Vec::new();
    for _ in 0..REPETITIONS {
        let started = Instant::now();
        let mut child = Command::new("/bin/sh")
            .args(["-c", &program()?])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the apps' program")?;
        let mut line = String::new();
        let read = match child.stdout.take() {
            Some(stdout) => BufReader::new(stdout).read_line(&mut line),
            None => Ok(0),
        };
        figures.push(started.elapsed().as_secs_f64() * 1e3);
        child.kill()?;
        child.wait()?;
        if read? == 0 {
            bail!("the apps' program does not listen");
        }
    }
    Ok(figures)
}

/// Ends the app. A deployment that is still under way would refuse that, or the
/// app that comes next.
fn remove(api: &Api) -> Result<()> {
    let settled = || Ok(api.settled()?.then_some(()));
    wait::until("the app is deployed", LIMIT, settled)?;
    api.delete(ID)?;
    wait::until("the app is gone", LIMIT, || {
        let gone = api.tasks()?.is_empty() && api.vips()?.is_empty();
        if gone { settled() } else { Ok(None) }
    })
}

/// The app, if both its VIPs lead to one task.
fn find(vips: &[Vip]) -> Option<App> {
    let name = name();
    let way = |port: u16| {
        let vip = vips.iter().find(|vip| vip.name == name && vip.address.port() == port)?;
        let backend = vip.backends.first()?;
        Some((&backend.task, Way { vip: vip.address, backend: backend.address }))
    };
    let ((task, answering), (other, closing)) = (way(PORT)?, way(CLOSING_PORT)?);
    (task == other).then(|| App { task: task.clone(), answering, closing })
}

fn name() -> String {
    format!("{ID}.marathon.l4lb.thisdcos.directory")
}

fn answers_by_name() -> Option<()> {
    let address = (name().as_str(), PORT).to_socket_addrs().ok()?.next()?;
    api::request(address).ok()
}
