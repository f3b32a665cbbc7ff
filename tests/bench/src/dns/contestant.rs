//! A server that takes part: started, held on its core, charged for what it uses.

use super::Bench;
use super::names::Names;
use super::peers::Kind;
use super::watch;
use crate::process::{self, Crew};
use crate::sandbox::{self, find_executable};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The core of servers; that of the generator is the last one.
pub(super) const CORE: usize = 0;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// One record, whatever is asked: this is what 1.000 means.
    Null,
    /// The same once more: this is the noise.
    Control,
    Mizzen,
    Peer(Kind),
}

/// What it is to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// The names, from the start.
    Authority(Names),
    /// Nothing: it asks this server, and keeps what it heard.
    Forwarding(SocketAddr),
}

impl Who {
    /// As it is called in figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Control => "control",
            Self::Mizzen => "mizzen",
            Self::Peer(kind) => kind.name(),
        }
    }
}

/// A server that runs; it ends when dropped.
pub(super) struct Contestant {
    pub who: Who,
    pub address: SocketAddr,
    /// From its start until it answered.
    pub loaded: Duration,
    cgroup: PathBuf,
    orders: Option<(ChildStdin, BufReader<ChildStdout>)>,
    _crew: Crew,
}

impl Contestant {
    /// Starts it and waits until it answers.
    pub(super) fn start(who: Who, duty: Duty, bench: &Bench) -> Result<Self> {
        let port = bench.next_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let name = format!("dns-{}-{port}", who.name());
        let cgroup = bench.sandbox.cgroup(&name)?;
        let (program, arguments) = command(who, duty, address, bench, &name)?;
        let log = bench.sandbox.directory(&name)?.join("log");
        let mut command = process::in_cgroup(&cgroup, "taskset", &log)?;
        command.arg("-c").arg(CORE.to_string()).arg(program).args(arguments);
        let talks = who == Who::Mizzen;
        if talks {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        }
        let begun = Instant::now();
        let mut child = command.spawn().context("cannot start a server")?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let crew = Crew::new(child, &cgroup);
        let orders = match pipes {
            (Some(orders), Some(replies)) if talks => Some((orders, BufReader::new(replies))),
            _ => None,
        };
        let mut this = Self { who, address, loaded: Duration::ZERO, cgroup, orders, _crew: crew };
        if talks {
            this.read_time().context("the resolver did not start")?;
        }
        if let (Duty::Authority(names), false) = (duty, matches!(who, Who::Null | Who::Control)) {
            let last = names.tasks - 1;
            watch::until_served(address, &Names::name(last), Names::address(last))?;
        }
        this.loaded = begun.elapsed();
        Ok(this)
    }

    /// Gives `task` another address; returns what the zones took for it.
    pub(super) fn change(&mut self, task: u32, address: std::net::Ipv4Addr) -> Result<Duration> {
        let (orders, _) = self.orders.as_mut().context("this server takes no orders")?;
        writeln!(orders, "{task} {address}")?;
        self.read_time()
    }

    /// Processor time of all its processes since they began.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_to_string(self.cgroup.join("cgroup.threads"))?.lines() {
            // The first number is the time on a processor; threads come and go.
            let path = format!("/proc/{thread}/schedstat");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let first = text.split(' ').next().unwrap_or_default();
            nanoseconds += first.parse::<u64>().unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// MiB of memory, shared pages counting in part.
    pub(super) fn memory(&self) -> Result<f64> {
        let mut kib = 0.0;
        for pid in std::fs::read_to_string(self.cgroup.join("cgroup.procs"))?.lines() {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let line = line.with_context(|| format!("no memory of {pid}"))?;
            kib += line.trim().trim_end_matches("kB").trim().parse::<f64>()?;
        }
        Ok(kib / 1024.0)
    }

    fn read_time(&mut self) -> Result<Duration> {
        let (_, replies) = self.orders.as_mut().context("this server says nothing")?;
        let mut line = String::new();
        replies.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the server ended");
        Ok(Duration::from_nanos(line.trim().parse()?))
    }
}

fn command(
    who: Who,
    duty: Duty,
    address: SocketAddr,
    bench: &Bench,
    name: &str,
) -> Result<(PathBuf, Vec<String>)> {
    let directory = bench.sandbox.directory(name)?;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (listen, core) = (address.to_string(), CORE.to_string());
    Ok(match (who, duty) {
        (Who::Null | Who::Control, _) => {
            (sandbox::ourselves()?, words(&["dns-null", &listen, &core]))
        }
        (Who::Mizzen, Duty::Authority(names)) => {
            let tasks = names.tasks.to_string();
            (sandbox::ourselves()?, words(&["dns-serve", &listen, &tasks, "-", &core]))
        }
        (Who::Mizzen, Duty::Forwarding(upstream)) => {
            let upstream = upstream.to_string();
            (sandbox::ourselves()?, words(&["dns-serve", &listen, "0", &upstream, &core]))
        }
        (Who::Peer(kind), Duty::Authority(names)) => {
            (find_executable(kind.program())?, kind.configure(&directory, address, names)?)
        }
        (Who::Peer(kind), Duty::Forwarding(upstream)) => {
            ensure!(kind == Kind::Unbound, "{} is no forwarder here", kind.name());
            let arguments = super::peers::forwarding_unbound(&directory, address, upstream)?;
            (find_executable(kind.program())?, arguments)
        }
    })
}

/// Answers a second by a generator of somebody else.
pub(super) fn dnsperf(
    server: SocketAddr,
    questions: &std::path::Path,
    time: Duration,
) -> Result<f64> {
    let seconds = time.as_secs_f64().to_string();
    let mut command = Command::new("taskset");
    command.args(["-c", &sandbox::core().to_string(), "dnsperf"]);
    command.args(["-s", &server.ip().to_string(), "-p", &server.port().to_string(), "-d"]);
    command.arg(questions).args(["-l", &seconds, "-c", "4", "-T", "1", "-q", "100", "-t", "2"]);
    let said = process::run(&mut command, "")?;
    let line = said.lines().find_map(|line| line.trim().strip_prefix("Queries per second:"));
    Ok(line.context("dnsperf said no rate")?.trim().parse()?)
}
