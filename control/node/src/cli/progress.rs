//! How far something is that is waited for, on stderr.

use super::table::{Paint, Tone};
use std::io::IsTerminal;

/// One line that is written over on a terminal, and a line for each change
/// elsewhere.
pub(super) struct Progress {
    last: String,
    terminal: bool,
    paint: Paint,
}

impl Progress {
    /// Nothing has been said.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { last: String::new(), terminal, paint: Paint::of_stderr() }
    }

    /// Says how far it is now.
    pub fn show(&mut self, line: &str) {
        if line == self.last {
            return;
        }
        if self.terminal {
            crate::say(&format!("\r\u{1b}[K{}", self.paint.mark(Tone::Faint, line)));
        } else if !same_but_for_time(line, &self.last) {
            crate::say(&format!("{line}\n"));
        }
        line.clone_into(&mut self.last);
    }

    /// Nothing more will be said.
    pub fn end(&self) {
        if self.terminal && !self.last.is_empty() {
            crate::say("\n");
        }
    }
}

/// Whether two lines differ in nothing but seconds that go by, as in `in 3 s`.
fn same_but_for_time(a: &str, b: &str) -> bool {
    let timeless = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let is_time = |index: usize| {
            let unit =
                words.get(index + 1).is_some_and(|unit| unit.trim_end_matches([',', ';']) == "s");
            unit && words[index].parse::<f64>().is_ok()
        };
        let kept = (0..words.len()).filter(|index| !is_time(*index));
        kept.map(|index| words[index]).collect::<Vec<_>>().join(" ")
    };
    timeless(a) == timeless(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_that_go_by_are_no_news() {
        let waits = "/web: 0 of 1 running - its last copy failed, the next one is started in";
        let because = "(last failure: TASK_FAILED exited with 1)";
        let line = |seconds: u32| format!("{waits} {seconds} s {because}");
        assert!(same_but_for_time(&line(12), &line(3)));
        assert!(!same_but_for_time(&line(3), &line(3).replace("exited with 1", "exited with 2")));
        assert!(!same_but_for_time("/web: 0 of 2 running", "/web: 1 of 2 running"));
        assert!(!same_but_for_time("", "/web: 1 of 2 running"));
    }
}
