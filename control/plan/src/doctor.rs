//! What stands in the way of a node on this machine.
//!
//! [`Observed`] is what the machine, the configuration and a running daemon say; [`CHECKS`] is
//! a table of small judgments over it. Each says what it found, why that matters and what to
//! do. Who looks at the machine is `control/kernel`; nothing here or there changes anything.

mod addresses;
mod cgroups;
mod clock;
mod daemon;
mod disk;
mod features;
mod firewall;
mod leftovers;
mod limits;
mod observed;
mod paths;
mod ports;
mod published;
mod resolv_conf;
mod settings;
#[cfg(test)]
mod testing;

pub use cgroups::Cgroups;
pub use clock::ClockState;
pub use daemon::{Daemon, PeerTold, Told};
pub use disk::{Directory, Disk};
pub use features::{Feature, Probe};
pub use firewall::{Base, Chain, Rule, Statement};
pub use leftovers::{Leftover, Leftovers, Purpose};
pub use limits::Usage;
pub use observed::{Engine, Link, Listener, Look, Machine, Observed, User, Wanted};
pub use ports::{Holder, Socket};
pub use settings::setting_names;

use serde::Serialize;

/// How a finding counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Could not be looked at.
    Skipped,
    /// Works, but worse than it could, or not for long.
    Warning,
    /// Something does not work.
    Error,
}

/// What a judgment says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How it counts.
    pub grade: Grade,
    /// What was found.
    pub what: String,
    /// Why that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do: a command, or where to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A verdict, and which check it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// What it says.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A judgment with its name.
pub struct Check {
    /// As people and scripts see it.
    pub name: &'static str,
    judge: fn(&Observed) -> Vec<Verdict>,
}

/// Every check, in the order in which people read them.
pub const CHECKS: [Check; 14] = [
    Check { name: "daemon", judge: daemon::judge },
    Check { name: "kernel", judge: features::judge },
    Check { name: "cgroups", judge: cgroups::judge },
    Check { name: "settings", judge: settings::judge },
    Check { name: "limits", judge: limits::judge },
    Check { name: "firewall", judge: firewall::judge },
    Check { name: "ports", judge: ports::judge },
    Check { name: "published", judge: published::judge },
    Check { name: "addresses", judge: addresses::judge },
    Check { name: "mtu", judge: paths::judge },
    Check { name: "clock", judge: clock::judge },
    Check { name: "disk", judge: disk::judge },
    Check { name: "resolv.conf", judge: resolv_conf::judge },
    Check { name: "leftovers", judge: leftovers::judge },
];

/// Does all checks; the worst findings come first.
#[must_use]
pub fn examine(observed: &Observed) -> Vec<Finding> {
    let of = |check: &Check| {
        let name = check.name;
        (check.judge)(observed).into_iter().map(move |verdict| Finding { check: name, verdict })
    };
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(of).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict.grade));
    findings
}

impl Verdict {
    fn ok(what: impl Into<String>) -> Self {
        Self::new(Grade::Ok, what)
    }

    fn skipped(what: impl Into<String>) -> Self {
        Self::new(Grade::Skipped, what)
    }

    fn warning(what: impl Into<String>) -> Self {
        Self::new(Grade::Warning, what)
    }

    fn error(what: impl Into<String>) -> Self {
        Self::new(Grade::Error, what)
    }

    fn new(grade: Grade, what: impl Into<String>) -> Self {
        Self { grade, what: what.into(), why: None, remedy: None }
    }

    fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// The judgment of what was seen, or that nothing was.
fn of_look<T>(
    look: &Look<T>,
    subject: &str,
    judge: impl FnOnce(&T) -> Vec<Verdict>,
) -> Vec<Verdict> {
    match look {
        Ok(seen) => judge(seen),
        Err(why) => vec![Verdict::skipped(format!("{subject} cannot be looked at: {why}"))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stands_in_the_way_of_a_well_kept_machine() {
        let findings = examine(&testing::well());
        let bad: Vec<&Finding> =
            findings.iter().filter(|finding| finding.verdict.grade != Grade::Ok).collect();
        assert_eq!(bad, [] as [&Finding; 0]);
        let silent = |check: &&Check| !findings.iter().any(|finding| finding.check == check.name);
        let silent: Vec<&str> = CHECKS.iter().filter(silent).map(|check| check.name).collect();
        assert_eq!(silent, [] as [&str; 0], "each check says that it was done");
    }

    #[test]
    fn the_worst_comes_first_and_each_of_it_says_why_and_what_to_do() {
        let findings = examine(&testing::ill());
        let grades: Vec<Grade> = findings.iter().map(|finding| finding.verdict.grade).collect();
        assert!(grades.is_sorted_by(|a, b| a >= b), "{grades:?}");
        assert_eq!(grades.first(), Some(&Grade::Error));
        for Finding { check, verdict } in &findings {
            let is_said = verdict.why.is_some() && verdict.remedy.is_some();
            assert!(is_said || verdict.grade <= Grade::Skipped, "{check}: {}", verdict.what);
        }
    }
}
