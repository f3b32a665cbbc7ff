//! What is wrong with the node right now, for `mizzen status`.

use std::collections::BTreeMap;
use tracing::{info, warn};

/// One text per part of the node. A problem is logged when it appears or changes,
/// not each time it is met.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    by_part: BTreeMap<&'static str, String>,
}

impl Problems {
    /// This part has this problem.
    pub(crate) fn report(&mut self, part: &'static str, text: String) {
        if self.by_part.get(part) != Some(&text) {
            warn!(part, problem = text, "not as it should be");
            self.by_part.insert(part, text);
        }
    }

    /// This part has all of these, or is well.
    pub(crate) fn report_all(&mut self, part: &'static str, texts: &[String]) {
        if texts.is_empty() { self.solve(part) } else { self.report(part, texts.join("; ")) }
    }

    /// This part is well.
    pub(crate) fn solve(&mut self, part: &'static str) {
        if self.by_part.remove(part).is_some() {
            info!(part, "well again");
        }
    }

    /// What this part suffers from.
    pub(crate) fn of(&self, part: &str) -> Option<&str> {
        self.by_part.get(part).map(String::as_str)
    }

    /// All of them, as `part: text`.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.by_part.iter().map(|(part, text)| format!("{part}: {text}")).collect()
    }
}
