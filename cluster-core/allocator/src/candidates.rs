//! Agents that are to be looked at, now or in the next batch.

use mizzen_types::ids::AgentId;
use std::collections::BTreeSet;

/// When changed agents are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// In the next run.
    Now,
    /// In the next batch.
    Batch,
}

/// Agents that are to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pub(crate) all: bool,
    pub(crate) some: BTreeSet<AgentId>,
}

impl Candidates {
    pub(crate) fn is_empty(&self) -> bool {
        !self.all && self.some.is_empty()
    }

    pub(crate) fn add(&mut self, agent: &AgentId) {
        if !self.all {
            self.some.insert(agent.clone());
        }
    }

    pub(crate) fn add_all(&mut self) {
        self.all = true;
        self.some.clear();
    }

    pub(crate) fn absorb(&mut self, other: Self) {
        if other.all {
            self.add_all();
        } else if !self.all {
            self.some.extend(other.some);
        }
    }
}
