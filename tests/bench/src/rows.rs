//! Sections with several rows: what the command line asks for, and doing it.

use crate::report::{Report, first_line};
use anyhow::{Context, Result, bail};
use std::time::Instant;

/// A part of a section that can be run by itself.
pub(crate) type Row<B> = (&'static str, fn(&B, &mut Report) -> Result<()>);

/// What the command line asks for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    only: Option<String>,
    /// Names of those who take part; empty if all do.
    among: Vec<String>,
    length: Length,
}

/// How long is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// Until the figures are good.
    Full,
    /// Likewise, and an hour for what may never happen.
    Hour,
    /// To see that it works.
    Quick,
}

impl Options {
    /// Of the words after the section's name.
    pub(crate) fn parse<B>(words: &[&str], rows: &[Row<B>]) -> Result<Self> {
        let mut options = Self { only: None, among: Vec::new(), length: Length::Full };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => options.length = Length::Quick,
                "--hour" => options.length = Length::Hour,
                "--only" => {
                    let name = words.next().context("--only needs the name of a row")?;
                    let known = rows.iter().any(|(known, _)| known == name);
                    options.only = Some(
                        known
                            .then(|| (*name).to_owned())
                            .with_context(|| format!("there is no row `{name}`"))?,
                    );
                }
                "--among" => {
                    let names = words.next().context("--among needs names, with commas between")?;
                    options.among = names.split(',').map(str::to_owned).collect();
                }
                other => bail!("this section does not know {other}"),
            }
        }
        Ok(options)
    }

    /// As many, or a few to see that it works.
    pub(crate) fn rounds(&self, full: u32, quick: u32) -> u32 {
        match self.length {
            Length::Full | Length::Hour => full,
            Length::Quick => quick,
        }
    }

    /// Whether what may never happen is waited for as long as an hour.
    pub(crate) fn takes_an_hour(&self) -> bool {
        self.length == Length::Hour
    }

    /// Whether the one of this name is to be measured.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.among.is_empty() || self.among.iter().any(|one| one == name)
    }
}

/// Measures all rows, or the one. A row that fails has missed its goals and the
/// others go on.
pub(crate) fn run<B>(rows: &[Row<B>], options: &Options, bench: &B, report: &mut Report) {
    crate::circumstances(report);
    if options.length == Length::Quick {
        report.note("a quick run: too short for its figures");
    }
    let begun = Instant::now();
    for (name, row) in rows {
        if options.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        crate::step(&format!("{name}, after {} s", begun.elapsed().as_secs()));
        if let Err(error) = row(bench, report) {
            eprintln!("bench: {name}: {}", first_line(&error));
            report.failed(name, &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        let rows: [Row<()>; 2] = [("local", |(), _| Ok(())), ("scale", |(), _| Ok(()))];
        let parse = |words: &[&str]| Options::parse(words, &rows);
        let all = parse(&[]).unwrap();
        assert!(all.only.is_none() && all.rounds(9, 1) == 9 && all.has("nsd"));
        let one = parse(&["--only", "scale", "--quick"]).unwrap();
        assert_eq!((one.only.as_deref(), one.rounds(9, 1)), (Some("scale"), 1));
        let hour = parse(&["--hour"]).unwrap();
        assert!(hour.takes_an_hour() && hour.rounds(9, 1) == 9 && !all.takes_an_hour());
        let some = parse(&["--among", "mizzen nfqueue,iptables"]).unwrap();
        assert!(some.has("mizzen nfqueue") && some.has("iptables") && !some.has("nsd"));
        for bad in [&["--only"][..], &["--only", "x"], &["--slow"], &["--among"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
