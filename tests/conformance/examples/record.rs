//! Prints a file of questions with the answers that are given now, for somebody to hold
//! against what is known of the systems before us: `cargo run --example record FILE`.

use anyhow::{Context, Result};
use mizzen_conformance::cases;
use mizzen_conformance::cluster::Cluster;
use mizzen_conformance::resolver::Resolver;
use mizzen_dns_core::Mode;
use std::path::Path;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("which file?")?;
    let text = std::fs::read_to_string(&path)?;
    let questions: Vec<&str> = text.lines().filter(|line| is_kept(line)).collect();
    let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("names/facts.json");
    let cluster = Cluster::read(&std::fs::read_to_string(facts)?)?;
    let file = cases::parse(&path, &questions.join("\n"))?;
    let start = |mode| Resolver::start(cluster.zones(mode, &file.options)?);
    let (strict, legacy) = (start(Mode::Strict)?, start(Mode::Legacy)?);
    let mut asked = std::collections::BTreeSet::new();
    for line in questions {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["?", name, kind, ..] = words.as_slice() else {
            println!("{line}");
            continue;
        };
        if !asked.insert((*name, *kind)) {
            continue;
        }
        let (new, old) = (strict.ask(name, kind)?, legacy.ask(name, kind)?);
        if new == old {
            println!("? {name} {kind}\n{new}");
        } else {
            println!("? {name} {kind} strict\n{new}\n? {name} {kind} legacy\n{old}");
        }
    }
    Ok(())
}

/// Answers are made anew.
fn is_kept(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    first.starts_with('#') || matches!(first, "?" | "options")
}
