//! What a node says is wrong with it, and since when: a fact, so that every node can tell.

use mizzen_types::fact::{Fact, NodeProblem};
use mizzen_types::time::Wall;

/// So many problems are said at most; `mizzen status` there has all of them.
const MOST: usize = 12;
/// Letters of a problem that are said.
const LONGEST: usize = 240;

/// What was wrong at the last look, and what is said of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeProblems {
    seen: Vec<NodeProblem>,
    said: Vec<NodeProblem>,
}

impl NodeProblems {
    /// These are the problems now, each as `part: text`. Whether something else is to be said
    /// than before; what that is, [`fact`](Self::fact) has.
    ///
    /// Said is what was there at the last look, too: a node that looks for the leading master
    /// for a moment has no problem. A part that goes on having one has it since it began,
    /// however its words change.
    pub fn follow(&mut self, texts: &[String], now: Wall) -> bool {
        let before = |text: &str| self.seen.iter().find(|seen| part(&seen.text) == part(text));
        let problem = |text: &String| NodeProblem {
            text: text.chars().take(LONGEST).collect(),
            since: before(text).map_or(now, |seen| seen.since),
        };
        let seen: Vec<NodeProblem> = texts.iter().take(MOST).map(problem).collect();
        let lasting = seen.iter().filter(|problem| before(&problem.text).is_some());
        let lasting: Vec<NodeProblem> = lasting.cloned().collect();
        let differs = lasting != self.said;
        (self.seen, self.said) = (seen, lasting);
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
            (2, &["vip: full"],                  false, &[]),
            (3, &["vip: full"],                  true,  &[2]),
            (4, &["disk: slow", "vip: full"],    false, &[2]),
            (5, &["disk: slow", "vip: fuller"],  true,  &[4, 2]),
            (6, &["disk: slow"],                 true,  &[4]),
            (7, &[],                             true,  &[]),
        ];
        for (at, texts, news, since) in table {
            assert_eq!(follow(&mut problems, texts, at), news, "at {at}");
            let found: Vec<u64> = problems.said().iter().map(|said| said.since.0).collect();
            assert_eq!(found, since, "at {at}");
            assert_eq!(problems.fact().is_none(), since.is_empty());
        }
    }

    #[test]
    fn no_node_can_say_more_than_others_want_to_hear() {
        let mut problems = NodeProblems::default();
        let texts: Vec<String> =
            (0..100).map(|n| format!("part {n}: {}", "ü".repeat(999))).collect();
        assert!(!problems.follow(&texts, Wall(1)), "they may be gone at once");
        assert!(problems.follow(&texts, Wall(2)));
        assert_eq!(problems.said().len(), MOST);
        assert!(problems.said().iter().all(|said| said.text.chars().count() == LONGEST));
        assert!(!problems.follow(&texts, Wall(3)), "the same, cut short in the same way");
    }
}
