//! Who holds what: keeps the sorters of roles and frameworks in step.

use crate::allocator::Allocator;
use crate::candidates::Trigger;
use crate::sorter::Sorter;
use crate::state::Activity;
use mizzen_types::ids::{AgentId, FrameworkId};
use mizzen_types::resources::Resources;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Allocator {
    pub(crate) fn look_at(&mut self, agent: &AgentId, trigger: Trigger) {
        match trigger {
            Trigger::Now => self.now_due.add(agent),
            Trigger::Batch => self.batch_due.add(agent),
        }
    }

    pub(crate) fn look_at_all(&mut self, trigger: Trigger) {
        match trigger {
            Trigger::Now => self.now_due.add_all(),
            Trigger::Batch => self.batch_due.add_all(),
        }
    }

    pub(crate) fn enter(&mut self, framework: &FrameworkId, role: &Arc<str>) {
        if !self.by_role.contains_key(role) {
            self.roles.add(role);
            self.roles.activate(role);
            let sorter = Sorter::new(self.settings.excluded.clone());
            self.by_role.insert(Arc::clone(role), sorter);
        }
        if let Some(sorter) = self.by_role.get_mut(role) {
            sorter.add(framework.as_str());
        }
    }

    pub(crate) fn leave(&mut self, framework: &FrameworkId, role: &Arc<str>) {
        let Some(sorter) = self.by_role.get_mut(role) else { return };
        sorter.remove(framework.as_str());
        if sorter.is_empty() {
            self.by_role.remove(role);
            self.roles.remove(role);
        }
    }

    /// A framework stays in a role that it left while it holds something there.
    pub(crate) fn leave_if_done(&mut self, framework: &FrameworkId, role: &Arc<str>) {
        let subscribed =
            self.frameworks.get(framework).is_some_and(|f| f.spec.roles.contains(role));
        let held = self.by_role.get(role).and_then(|sorter| sorter.held(framework.as_str()));
        if !subscribed && held.is_none_or(BTreeMap::is_empty) {
            self.leave(framework, role);
        }
    }

    pub(crate) fn track(
        &mut self,
        id: &FrameworkId,
        role: &Arc<str>,
        agent: &AgentId,
        held: &Resources,
    ) {
        if !self.frameworks.contains_key(id) || held.is_empty() {
            return;
        }
        self.enter(id, role);
        if let Some(sorter) = self.by_role.get_mut(role) {
            sorter.allocated(id.as_str(), agent.as_str(), held);
        }
        self.roles.allocated(role, agent.as_str(), held);
    }

    pub(crate) fn untrack(
        &mut self,
        id: &FrameworkId,
        role: &Arc<str>,
        agent: &AgentId,
        held: &Resources,
    ) {
        let Some(sorter) = self.by_role.get_mut(role) else { return };
        if !sorter.contains(id.as_str()) {
            return;
        }
        sorter.unallocated(id.as_str(), agent.as_str(), held);
        self.roles.unallocated(role, agent.as_str(), held);
        self.leave_if_done(id, role);
    }

    pub(crate) fn apply_activity(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let wanted = framework.spec.roles.difference(&framework.spec.suppressed);
        let wanted: BTreeSet<_> = match framework.activity {
            Activity::Active => wanted.cloned().collect(),
            Activity::Inactive => BTreeSet::new(),
        };
        for (role, sorter) in &mut self.by_role {
            if wanted.contains(role) {
                sorter.activate(id.as_str());
            } else {
                sorter.deactivate(id.as_str());
            }
        }
    }
}
