//! What is wrong with this node, said as a fact, so that `mizzen nodes` on any node tells.

use super::core::Core;
use super::facts::Speaker;
use crate::lock;
use mizzen_plan::node_problems::NodeProblems;
use mizzen_types::fact::{Fact, Key, NodeProblem};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use std::time::Duration;

/// Problems that come and go between two looks are nobody else's concern.
const LOOK: Duration = Duration::from_secs(5);

/// Its state directory, in problems.
const STATE_DIR: &str = "state directory";

/// What the node says is wrong with it.
#[derive(Debug)]
pub(crate) struct Health {
    problems: NodeProblems,
    look_at: Mono,
}

impl Health {
    /// Nothing is wrong yet.
    pub(crate) fn new(now: Mono) -> Self {
        Self { problems: NodeProblems::default(), look_at: now + LOOK }
    }

    /// When it is looked at.
    pub(crate) fn deadline(&self) -> Mono {
        self.look_at
    }

    /// How many problems last.
    pub(crate) fn count(&self) -> usize {
        self.problems.said().len()
    }
}

impl Core {
    /// Says what is wrong, if that is something else than before.
    pub(crate) fn look_at_health(&mut self, now: Now) {
        self.health.look_at = now.mono + LOOK;
        self.look_at_state_dir();
        let texts = self.all_problems();
        if self.health.problems.follow(&texts, now.wall) {
            let fact = self.health.problems.fact();
            self.say(Speaker::Node, Key::NodeProblems, fact);
        }
    }

    /// Who has a file open writes on when its name is gone: nobody would notice before the next
    /// start, which finds nothing.
    fn look_at_state_dir(&mut self) {
        let directory = &self.config.state_dir;
        if lock::is_ours(directory) {
            return self.problems.solve(STATE_DIR);
        }
        let text = format!(
            "{} was removed or replaced while this process runs: a start would find nothing; what \
             is kept so far can be read from /proc/{}/fd",
            directory.display(),
            std::process::id(),
        );
        self.problems.report(STATE_DIR, text);
    }

    /// What a node says is wrong with it; nothing of one that is not heard.
    pub(crate) fn problems_said_by(&self, node: &OwnerId) -> &[NodeProblem] {
        match self.view.facts_from(node, &Key::NodeProblems).next() {
            Some((Key::NodeProblems, Fact::NodeProblems(problems))) => problems,
            _ => &[],
        }
    }
}
