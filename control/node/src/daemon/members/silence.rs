//! Nodes that do not answer: what is known of them is what they said last.

use crate::daemon::core::Core;
use mizzen_membership::identity::node_of;
use mizzen_membership::swim::State;
use mizzen_types::fact::{Fact, TaskFact};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Now;
use std::fmt;
use std::time::Duration;

/// A node that is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silence {
    /// Its host name, or its id as long as it is not known.
    pub(crate) name: String,
    /// For how long nothing has been heard of it.
    pub(crate) span: Duration,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} does not answer (silent for {} s)", self.name, self.span.as_secs())
    }
}

impl Core {
    /// Since when an owner's node is dead; none if it is not.
    pub(crate) fn silence_of(&self, owner: &OwnerId, now: Now) -> Option<Silence> {
        let node = node_of(owner);
        let members = self.members.as_ref()?;
        let span = match members.membership.nodes().get(&node) {
            // Not every node speaks with every other one before it hears that it is dead.
            Some(known) if known.state == State::Dead => {
                known.silent_for(now).unwrap_or_else(|| known.age(now))
            }
            Some(_) => return None,
            // It was dead before this daemon started.
            None if self.view.is_hidden(owner) => self.view.age(owner, now).unwrap_or_default(),
            None => return None,
        };
        Some(Silence { name: self.name_of(&node).to_owned(), span })
    }

    /// The tasks that ran on dead nodes when these were last heard.
    pub(crate) fn silent_tasks(
        &self,
        now: Now,
    ) -> impl Iterator<Item = (&OwnerId, &TaskFact, Silence)> {
        self.view.hidden_facts().filter_map(move |(owner, _, fact)| match fact {
            Fact::Task(task) => Some((owner, &**task, self.silence_of(owner, now)?)),
            _ => None,
        })
    }
}
