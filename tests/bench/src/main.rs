//! The project's benchmarks: one subcommand each, started by `make bench-<name>`.
//!
//! A section runs its variants interleaved, hands its figures to a [`report`], and
//! fails if a goal was missed. Sections run inside a sandbox:
//! `mizzen lab --no-node -- mizzen-bench node`.
//!
//! ```text
//! node ──▶ daemon, api        the node under test: its process, what it answers
//!      ──▶ paired             variants in turns
//!            └─▶ generator    a process per variant ──▶ server (`serve`, also the apps' program)
//! vip ───▶ network, process   namespaces and programs beside the node
//! dns ───▶ process            servers one beside the other, with a generator of their own
//!      ──▶ report, statistics the table, and target/bench/<name>.json
//! ```

mod api;
mod daemon;
mod dns;
mod generator;
mod neighbours;
mod network;
mod node;
mod overlay;
mod paired;
mod process;
mod report;
mod rows;
mod sandbox;
mod server;
mod statistics;
mod vip;
mod wait;

use anyhow::{Context, Result, bail};
use report::Report;
use std::process::ExitCode;

const USAGE: &str = "\
usage: mizzen-bench SECTION      (inside `mizzen lab --no-node --`)
       mizzen-bench serve --port PORT --closing PORT [--cpu CPU]

sections:
  node    figures of one node: idle, start, deployment, recovery, cost of a VIP
  vip [--quick] [--only ROW] [--among NAME,NAME…]
          figures of VIPs, beside those of other balancers; rows:
          local, arriving, scale, loading, closed-loop, ejection, maglev
  dns [--quick] [--only ROW] [--among NAME,NAME…]
          figures of names, beside those of other servers; rows:
          authority, change, forwarding, enumerate, restart
  overlay [--quick | --hour] [--only ROW] [--among NAME,NAME…]
          figures of the overlay, beside those of others; rows:
          path, beside, cni, peers, members, twenty";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<ExitCode> {
    if words.iter().any(|word| matches!(*word, "--help" | "-h")) {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    match words {
        ["node"] => section("node", node::run),
        ["vip", options @ ..] => section("vip", |report| vip::run(options, report)),
        ["dns", options @ ..] => section("dns", |report| dns::run(options, report)),
        ["overlay", options @ ..] => section("overlay", |report| overlay::run(options, report)),
        ["dns-null", listen, core] => {
            dns::serve::null(listen.parse()?, core.parse()?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["dns-serve", listen, tasks, upstream, core] => {
            let upstream = (*upstream != "-").then(|| upstream.parse()).transpose()?;
            dns::serve::ours(listen.parse()?, tasks.parse()?, upstream, core.parse()?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["dns-generate", questions, core] => {
            dns::generator::run(questions.as_ref(), core.parse()?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["twenty"] => overlay::twenty::round().map(|()| ExitCode::SUCCESS),
        ["serve", options @ ..] => server::run(options).map(|()| ExitCode::SUCCESS),
        ["generate", cgroup, cpu] => {
            generator::run(cgroup.as_ref(), cpu.parse().context("the number of a core")?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["backends", port] => {
            vip::backends::run(port.parse().context("a port")?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["clients", cgroup, options @ ..] => {
            vip::clients::run(cgroup.as_ref(), options)?;
            Ok(ExitCode::SUCCESS)
        }
        ["join", cgroup, "--", program, arguments @ ..] => {
            process::become_program(cgroup.as_ref(), program, arguments)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("unknown arguments\n{USAGE}"),
    }
}

/// Runs a section and shows what it found, even if it did not come to its end.
fn section(name: &str, run: impl FnOnce(&mut Report) -> Result<()>) -> Result<ExitCode> {
    let mut report = Report::new(name);
    let result = run(&mut report);
    if report.is_empty() {
        return result.map(|()| ExitCode::FAILURE);
    }
    print!("{}", report.table());
    let path = report.write()?;
    println!("\nagain:   make bench-{name}\nfigures: {}", path.display());
    result?;
    Ok(if report.reached() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Notes what figures depend on.
fn circumstances(report: &mut Report) {
    if cfg!(debug_assertions) {
        report.note("a debug build: its figures mean nothing");
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let load: Vec<&str> = load.split(' ').take(1).collect();
    let cores = sandbox::core() + 1;
    report.note(format!(
        "Linux {}, {cores} cores, load {} when it began",
        kernel.trim(),
        load.concat()
    ));
}

/// Tells whoever waits what is being done.
fn step(text: &str) {
    eprintln!("bench: {text}");
}
