//! What a VIP costs, how fast one changes, and what it does about sick backends;
//! beside a direct connection and the balancers that one would have otherwise.
//!
//! ```text
//!   client networks (one for each balancer        backend network
//!   that rules its network, one for the rest)
//!   generator ─ 10.100.0.1 ─▶ balancer ─ 10.10.n.0/30 ─▶ 10.20.0.1 … : server
//! ```

mod arriving;
pub(crate) mod backends;
pub(crate) mod clients;
mod closed_loop;
mod contestant;
mod desired;
mod ejection;
mod loading;
mod local;
mod maglev;
mod node;
mod peers;
mod scale;
mod stage;
mod table;

use crate::report::Report;
use crate::rows::{self, Options, Row};
use crate::sandbox::Sandbox;
use anyhow::Result;

/// All parts.
const ROWS: [Row<Bench>; 7] = [
    ("local", local::run),
    ("arriving", arriving::run),
    ("scale", scale::run),
    ("loading", loading::run),
    ("closed-loop", closed_loop::run),
    ("ejection", ejection::run),
    ("maglev", maglev::run),
];

/// What every row has.
#[derive(Debug)]
struct Bench {
    sandbox: Sandbox,
    options: Options,
}

impl Bench {
    /// As many, or a few to see that it works.
    fn rounds(&self, full: u32, quick: u32) -> u32 {
        self.options.rounds(full, quick)
    }

    /// Whether the one of this name is to be measured. What ratios are taken to always is.
    fn has(&self, name: &str) -> bool {
        name == "direct" || self.options.has(name)
    }
}

/// Measures what the words after `vip` ask for.
pub(crate) fn run(words: &[&str], report: &mut Report) -> Result<()> {
    let options = Options::parse(words, &ROWS)?;
    let bench = Bench { sandbox: Sandbox::enter()?, options };
    rows::run(&ROWS, &bench.options, &bench, report);
    Ok(())
}
