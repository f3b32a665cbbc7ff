//! What the overlay costs: packets between containers, of two nodes and of one; connecting a
//! container by CNI and letting it go; reaching a thousand other nodes; the membership of
//! thousands; and twenty nodes from nothing.

mod cni;
mod host;
mod members;
mod pair;
mod path;
mod peers;
mod resident;
pub(crate) mod twenty;

use crate::report::Report;
use crate::rows::{self, Options, Row};
use crate::sandbox::Sandbox;
use anyhow::Result;

/// All parts.
const ROWS: [Row<Bench>; 6] = [
    ("path", path::run),
    ("beside", path::run_beside),
    ("cni", cni::run),
    ("peers", peers::run),
    ("members", members::run),
    ("twenty", twenty::run),
];

/// What every row has.
struct Bench {
    sandbox: Sandbox,
    options: Options,
}

/// Measures what the words after `overlay` ask for.
pub(crate) fn run(words: &[&str], report: &mut Report) -> Result<()> {
    let options = Options::parse(words, &ROWS)?;
    let bench = Bench { sandbox: Sandbox::enter()?, options };
    rows::run(&ROWS, &bench.options, &bench, report);
    Ok(())
}
