//! What names cost: answers a second beside those of other servers and of one that
//! knows nothing, how soon a change is seen, memory.
//!
//! ```text
//!   last core: generator ── 127.0.0.1 ──▶ core 0: one server at a time answers
//! ```

mod authority;
mod change;
mod contestant;
mod datagrams;
mod enumerate;
mod forwarding;
pub(crate) mod generator;
mod names;
mod node;
mod peers;
mod question;
mod restart;
pub(crate) mod serve;
mod watch;

use crate::report::Report;
use crate::rows::{self, Options, Row};
use crate::sandbox::Sandbox;
use anyhow::Result;
use contestant::Who;
use std::cell::Cell;
use std::time::Duration;

/// All parts.
const ROWS: [Row<Bench>; 5] = [
    ("authority", authority::run),
    ("change", change::run),
    ("forwarding", forwarding::run),
    ("enumerate", enumerate::run),
    ("restart", restart::run),
];

/// The port of the first server.
const FIRST_PORT: u16 = 5301;

/// What every row has.
struct Bench {
    sandbox: Sandbox,
    options: Options,
    /// Servers have ports of their own, one after the other.
    port: Cell<u16>,
}

impl Bench {
    /// As many, or a few to see that it works.
    fn rounds(&self, full: u32, quick: u32) -> u32 {
        self.options.rounds(full, quick)
    }

    /// How long is asked at a time.
    fn block(&self) -> Duration {
        Duration::from_millis(self.rounds(700, 100).into())
    }

    /// Whether this one is to be measured. What ratios are taken to always is.
    fn has(&self, who: Who) -> bool {
        who == Who::Null || self.options.has(who.name())
    }

    fn next_port(&self) -> u16 {
        self.port.replace(self.port.get() + 1)
    }
}

/// Measures what the words after `dns` ask for.
pub(crate) fn run(words: &[&str], report: &mut Report) -> Result<()> {
    let options = Options::parse(words, &ROWS)?;
    let bench = Bench { sandbox: Sandbox::enter()?, options, port: Cell::new(FIRST_PORT) };
    rows::run(&ROWS, &bench.options, &bench, report);
    Ok(())
}
