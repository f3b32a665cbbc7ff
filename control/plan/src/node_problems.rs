//! What a node says is wrong with it, and since when: a fact, so that every node can tell.

use mizzen_types::fact::{Fact, NodeProblem};
use mizzen_types::time::Wall;

/// So many problems are said at most; `mizzen status` there has all of them.
const MOST: usize = 12;
/// Letters of a problem that are said.
const LONGEST: usize = 240;

/// What was said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeProblems {
    said: Vec<NodeProblem>,
}

impl NodeProblems {
    /// These are the problems now, each as `part: text`. Whether something else is to be said
    /// than before; what that is, [`fact`](Self::fact) has.
    ///
    /// A part that goes on having a problem has it since it began, however its words change.
    pub fn follow(&mut self, texts: &[String], now: Wall) -> bool {
        let since = |text: &str| {
            let before = self.said.iter().find(|said| part(&said.text) == part(text));
            before.map_or(now, |said| said.since)
        };
        let problem = |text: &String| NodeProblem {
            text: text.chars().take(LONGEST).collect(),
            since: since(text),
        };
        let now_said: Vec<NodeProblem> = texts.iter().take(MOST).map(problem).collect();
        let differs = now_said != self.said;
        self.said = now_said;
        differs
    }

    /// What is to be said; nothing if nothing is wrong.
    #[must_use]
    pub fn fact(&self) -> Option<Fact> {
        (!self.said.is_empty()).then(|| Fact::NodeProblems(self.said.clone()))
    }

    /// The problems, in the order in which they were given.
    #[must_use]
    pub fn said(&self) -> &[NodeProblem] {
        &self.said
    }
}

/// The part of the node that a problem is of.
fn part(text: &str) -> &str {
    text.split(": ").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(problems: &mut NodeProblems, texts: &[&str], at: u64) -> bool {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        problems.follow(&texts, Wall(at))
    }

    #[test]
    fn a_life_with_problems() {
        let mut problems = NodeProblems::default();
        type Row<'a> = (u64, &'a [&'a str], bool, &'a [u64]);
        #[rustfmt::skip]
        let table: [Row<'_>; 7] = [
            (1, &[],                             false, &[]),
            (2, &["vip: full"],                  true,  &[2]),
            (3, &["vip: full"],                  false, &[2]),
            (4, &["disk: slow", "vip: full"],    true,  &[4, 2]),
            (5, &["disk: slow", "vip: fuller"],  true,  &[4, 2]),
            (6, &["disk: slow"],                 true,  &[4]),
            (7, &[],                             true,  &[]),
        ];
        for (at, texts, news, since) in table {
            assert_eq!(follow(&mut problems, texts, at), news, "at {at}");
            let found: Vec<u64> = problems.said().iter().map(|said| said.since.0).collect();
            assert_eq!(found, since, "at {at}");
            assert_eq!(problems.fact().is_none(), texts.is_empty());
        }
    }

    #[test]
    fn no_node_can_say_more_than_others_want_to_hear() {
        let mut problems = NodeProblems::default();
        let texts: Vec<String> =
            (0..100).map(|n| format!("part {n}: {}", "ü".repeat(999))).collect();
        assert!(problems.follow(&texts, Wall(1)));
        assert_eq!(problems.said().len(), MOST);
        assert!(problems.said().iter().all(|said| said.text.chars().count() == LONGEST));
        assert!(!problems.follow(&texts, Wall(2)), "the same, cut short in the same way");
    }
}
