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
//!      ──▶ report, statistics the table, and target/bench/<name>.json
//! ```

mod api;
mod daemon;
mod generator;
mod node;
mod paired;
mod report;
mod sandbox;
mod server;
mod statistics;
mod wait;

use anyhow::{Context, Result, bail};
use report::Report;
use std::process::ExitCode;

const USAGE: &str = "\
usage: mizzen-bench SECTION      (inside `mizzen lab --no-node --`)
       mizzen-bench serve --port PORT --closing PORT [--cpu CPU]

sections:
  node    figures of one node: idle, start, deployment, recovery, cost of a VIP";

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
    match words {
        ["node"] => section("node", node::run),
        ["serve", options @ ..] => server::run(options).map(|()| ExitCode::SUCCESS),
        ["generate", cgroup, cpu] => {
            generator::run(cgroup.as_ref(), cpu.parse().context("the number of a core")?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["--help" | "-h"] => {
            println!("{USAGE}");
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
