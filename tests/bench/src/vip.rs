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
mod ejection;
mod loading;
mod local;
mod maglev;
mod node;
mod peers;
mod scale;
mod stage;
mod table;

use crate::report::{Report, first_line};
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, bail};
use std::time::Instant;

/// A part of the section that can be run by itself.
type Row = (&'static str, fn(&Bench, &mut Report) -> Result<()>);

const ROWS: [Row; 7] = [
    ("local", local::run),
    ("arriving", arriving::run),
    ("scale", scale::run),
    ("loading", loading::run),
    ("closed-loop", closed_loop::run),
    ("ejection", ejection::run),
    ("maglev", maglev::run),
];

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    only: Option<Row>,
    among: Vec<String>,
    length: Length,
}

/// How long is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// Until the figures are good.
    Full,
    /// To see that it works.
    Quick,
}

/// What every row has.
#[derive(Debug)]
struct Bench {
    sandbox: Sandbox,
    /// Names of those who take part; empty if all do.
    among: Vec<String>,
    length: Length,
}

impl Options {
    /// Of the words after `vip`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self { only: None, among: Vec::new(), length: Length::Full };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => options.length = Length::Quick,
                "--only" => {
                    let name = words.next().context("--only needs the name of a row")?;
                    let row = ROWS.into_iter().find(|(known, _)| known == name);
                    options.only = Some(row.with_context(|| format!("there is no row `{name}`"))?);
                }
                "--among" => {
                    let names = words.next().context("--among needs names, with commas between")?;
                    options.among = names.split(',').map(str::to_owned).collect();
                }
                other => bail!("`vip` does not know {other}"),
            }
        }
        Ok(options)
    }
}

impl Bench {
    /// As many, or a few to see that it works.
    fn rounds(&self, full: u32, quick: u32) -> u32 {
        match self.length {
            Length::Full => full,
            Length::Quick => quick,
        }
    }

    /// Whether the one of this name is to be measured. What ratios are taken to always is.
    fn has(&self, name: &str) -> bool {
        name == "direct" || self.among.is_empty() || self.among.iter().any(|one| one == name)
    }
}

/// Measures everything, or the one row. A row that fails has missed its goals and
/// the others go on.
pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let (among, length) = (options.among.clone(), options.length);
    let bench = Bench { sandbox: Sandbox::enter()?, among, length };
    crate::circumstances(report);
    if bench.length == Length::Quick {
        report.note("a quick run: too short for its figures");
    }
    let begun = Instant::now();
    for (name, row) in ROWS {
        if options.only.as_ref().is_some_and(|(only, _)| *only != name) {
            continue;
        }
        crate::step(&format!("{name}, after {} s", begun.elapsed().as_secs()));
        if let Err(error) = row(&bench, report) {
            eprintln!("bench: {name}: {}", first_line(&error));
            report.failed(name, &error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        let all = Options::parse(&[]).unwrap();
        assert!(all.only.is_none() && all.length == Length::Full);
        let one = Options::parse(&["--only", "scale", "--quick"]).unwrap();
        assert_eq!(one.only.map(|(name, _)| name), Some("scale"));
        assert_eq!(one.length, Length::Quick);
        let some = Options::parse(&["--among", "mizzen nfqueue,iptables"]).unwrap();
        assert_eq!(some.among, ["mizzen nfqueue", "iptables"]);
        for bad in [&["--only"][..], &["--only", "x"], &["--slow"], &["--among"]] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
