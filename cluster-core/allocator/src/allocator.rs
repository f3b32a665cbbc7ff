//! The events: what makes agents worth a look, and what does not.

use crate::candidates::{Candidates, Trigger};
use crate::filter::Filters;
use crate::inverse::Inverse;
use crate::share::{Share, Weight};
use crate::sorter::{Sorter, Total};
use crate::state::{
    Activity, Agent, AgentAllocation, AgentSpec, Framework, FrameworkSpec, Settings,
};
use mizzen_types::ids::{AgentId, FrameworkId};
use mizzen_types::resources::{Quantities, Resources};
use mizzen_types::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What a run gave: framework → role → agent → resources.
pub type Allocation = BTreeMap<FrameworkId, BTreeMap<Arc<str>, BTreeMap<AgentId, Resources>>>;

/// A shorter interval would leave no time for anything else.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// The allocator.
#[derive(Debug)]
pub struct Allocator {
    pub(crate) settings: Settings,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) frameworks: BTreeMap<FrameworkId, Framework>,
    pub(crate) total: Total,
    /// Roles that have frameworks.
    pub(crate) roles: Sorter,
    /// By role, the frameworks subscribed to it or still holding something in it.
    pub(crate) by_role: BTreeMap<Arc<str>, Sorter>,
    pub(crate) filters: Filters,
    pub(crate) inverse: Inverse,
    pub(crate) now_due: Candidates,
    pub(crate) batch_due: Candidates,
    last_batch: Mono,
    pub(crate) runs: u64,
}

impl Allocator {
    /// An allocator that knows nobody; batches fall on multiples of the interval
    /// from `now`.
    #[must_use]
    pub fn new(mut settings: Settings, now: Mono) -> Self {
        settings.interval = settings.interval.max(SHORTEST_INTERVAL);
        Self {
            roles: Sorter::new(settings.excluded.clone()),
            settings,
            agents: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            total: Total::default(),
            by_role: BTreeMap::new(),
            filters: Filters::default(),
            inverse: Inverse::default(),
            now_due: Candidates::default(),
            batch_due: Candidates::default(),
            last_batch: now,
            runs: 0,
        }
    }

    /// Adds an agent and what frameworks already hold of it, also ones that are
    /// not known yet.
    pub fn add_agent(&mut self, id: &AgentId, spec: AgentSpec, held: AgentAllocation) {
        self.remove_agent(id);
        let agent = Agent::new(spec, held);
        self.total.add(&agent.quantities);
        for (framework, roles) in agent.held.clone() {
            for (role, resources) in &roles {
                self.track(&framework, role, id, resources);
            }
        }
        self.agents.insert(id.clone(), agent);
        self.look_at(id, Trigger::Now);
    }

    /// Removes an agent and all that is held of it.
    pub fn remove_agent(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.remove(id) else { return };
        self.total.subtract(&agent.quantities);
        for (framework, roles) in &agent.held {
            for (role, resources) in roles {
                self.untrack(framework, role, id, resources);
            }
        }
        self.filters.clear_agent(id);
        self.inverse.forget_agent(id);
        self.now_due.some.remove(id);
        self.batch_due.some.remove(id);
    }

    /// Whether anything more of an agent is offered.
    pub fn set_agent_activity(&mut self, id: &AgentId, activity: Activity) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.activity = activity;
            self.look_at(id, Trigger::Batch);
        }
    }

    /// Adds a framework, with what it holds on the agents known.
    pub fn add_framework(&mut self, id: &FrameworkId, spec: FrameworkSpec, activity: Activity) {
        self.remove_framework(id);
        for role in &spec.roles {
            self.enter(id, role);
        }
        self.frameworks.insert(id.clone(), Framework { spec, activity });
        let held: Vec<_> = self
            .agents
            .iter()
            .filter_map(|(agent, state)| Some((agent.clone(), state.held.get(id)?.clone())))
            .collect();
        for (agent, roles) in held {
            for (role, resources) in &roles {
                self.track(id, role, &agent, resources);
            }
        }
        self.apply_activity(id);
        if activity == Activity::Active {
            self.look_at_all(Trigger::Now);
        }
    }

    /// Replaces roles, suppressed roles, capabilities and minima of a framework.
    /// Takes effect in the next batch.
    pub fn update_framework(&mut self, id: &FrameworkId, spec: FrameworkSpec) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let old = std::mem::replace(&mut framework.spec, spec);
        let new = framework.spec.roles.clone();
        let revived = &old.suppressed - &framework.spec.suppressed;
        for role in new.difference(&old.roles) {
            self.enter(id, role);
        }
        for role in old.roles.difference(&new) {
            self.filters.clear_role(id, role);
            self.leave_if_done(id, role);
        }
        for role in &revived {
            self.filters.clear_role(id, role);
        }
        self.apply_activity(id);
        self.look_at_all(Trigger::Batch);
    }

    /// Removes a framework; what it holds stays held until it is recovered.
    pub fn remove_framework(&mut self, id: &FrameworkId) {
        if self.frameworks.remove(id).is_none() {
            return;
        }
        self.filters.clear_framework(id);
        self.inverse.forget_framework(id);
        let roles: Vec<_> = self
            .by_role
            .iter()
            .filter(|(_, sorter)| sorter.contains(id.as_str()))
            .map(|(role, _)| Arc::clone(role))
            .collect();
        for role in roles {
            let held = self.by_role.get(&role).and_then(|sorter| sorter.held(id.as_str()));
            for (agent, resources) in held.cloned().unwrap_or_default() {
                self.roles.unallocated(&role, &agent, &resources);
            }
            self.leave(id, &role);
        }
    }

    /// Whether a framework takes part. One that stops loses all of its filters.
    pub fn set_framework_activity(&mut self, id: &FrameworkId, activity: Activity) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        framework.activity = activity;
        self.apply_activity(id);
        match activity {
            Activity::Active => self.look_at_all(Trigger::Now),
            Activity::Inactive => {
                self.filters.clear_framework(id);
                self.inverse.forget_framework(id);
            }
        }
    }

    /// No more offers for these roles; all of its roles if none is named.
    pub fn suppress(&mut self, id: &FrameworkId, roles: &BTreeSet<Arc<str>>) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let roles = if roles.is_empty() { framework.spec.roles.clone() } else { roles.clone() };
        framework.spec.suppressed.extend(roles);
        self.apply_activity(id);
    }

    /// Offers for these roles again, also of what was refused; for all of its roles
    /// if none is named.
    pub fn revive(&mut self, id: &FrameworkId, roles: &BTreeSet<Arc<str>>) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let roles = if roles.is_empty() { framework.spec.roles.clone() } else { roles.clone() };
        framework.spec.suppressed.retain(|role| !roles.contains(role));
        for role in &roles {
            self.filters.clear_role(id, role);
        }
        self.inverse.clear_filters(id);
        self.apply_activity(id);
        self.look_at_all(Trigger::Now);
    }

    /// Sets the weight of a role.
    pub fn set_weight(&mut self, role: &str, weight: Weight) {
        self.roles.set_weight(role, weight);
        self.look_at_all(Trigger::Batch);
    }

    /// The weight of a role.
    #[must_use]
    pub fn weight(&self, role: &str) -> Weight {
        self.roles.weight(role)
    }

    /// Takes back what a framework held, and filters it for `refused` from `now`,
    /// at least until the batch after the next; a framework that is not active gets
    /// no filter. Resources that it does not hold are ignored.
    pub fn recover(
        &mut self,
        framework: &FrameworkId,
        role: &Arc<str>,
        agent: &AgentId,
        resources: &Resources,
        refused: Option<Duration>,
        now: Mono,
    ) {
        let resources = resources.unallocated();
        if let Some(state) = self.agents.get_mut(agent) {
            let taken = state.take(framework, role, &resources);
            if taken.is_empty() {
                return;
            }
            self.untrack(framework, role, agent, &taken);
            self.look_at(agent, Trigger::Batch);
        }
        let Some(refused) = refused.filter(|refused| !refused.is_zero()) else { return };
        let active = self.frameworks.get(framework).is_some_and(|framework| {
            framework.activity == Activity::Active && framework.spec.roles.contains(role)
        });
        if active && self.agents.contains_key(agent) {
            let place = (framework.clone(), Arc::clone(role), agent.clone());
            self.filters.add(place, resources, now, refused.max(self.settings.interval));
        }
    }

    /// When [`Allocator::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        let batch = (!self.batch_due.is_empty()).then(|| self.last_batch + self.settings.interval);
        [batch, self.filters.next_end(), self.inverse.next_end()].into_iter().flatten().min()
    }

    /// Ends filters and starts batches that are due at `now`.
    pub fn handle_timeout(&mut self, now: Mono) {
        for agent in self.inverse.expire(now) {
            self.look_at(&agent, Trigger::Now);
        }
        let interval = self.settings.interval;
        let passed = now.since(self.last_batch).as_nanos();
        let ticks = passed.checked_div(interval.as_nanos()).unwrap_or(0);
        let latest = u64::try_from(ticks.saturating_mul(interval.as_nanos())).unwrap_or(u64::MAX);
        let batch = Mono(self.last_batch.0.saturating_add(latest));
        if ticks > 0 {
            for agent in self.filters.expire(batch, Some((batch, batch - interval))) {
                self.look_at(&agent, Trigger::Batch);
            }
            self.last_batch = batch;
            let due = std::mem::take(&mut self.batch_due);
            self.now_due.absorb(due);
        } else {
            for agent in self.filters.expire(now, None) {
                self.look_at(&agent, Trigger::Batch);
            }
        }
    }

    /// Whether [`Allocator::allocate`] has agents to look at.
    #[must_use]
    pub fn is_run_due(&self) -> bool {
        !self.now_due.is_empty()
    }

    /// Looks at the agents that are due, in an order that `seed` decides, and gives
    /// what is free to who is next.
    pub fn allocate(&mut self, seed: u64) -> Allocation {
        let due = std::mem::take(&mut self.now_due);
        if due.is_empty() {
            return Allocation::new();
        }
        let agents: Vec<AgentId> = if due.all {
            self.agents.keys().cloned().collect()
        } else {
            due.some.into_iter().collect()
        };
        let asked = if self.is_asking() { agents.clone() } else { Vec::new() };
        let given = self.run(agents, seed);
        self.find_requests(&asked);
        given
    }

    /// Dominant share of a role with all below it, before its weight; `None` if
    /// there is no such role.
    #[must_use]
    pub fn share(&self, role: &str) -> Option<Share> {
        self.roles.share(role, &self.total)
    }

    /// The scalars of all agents.
    #[must_use]
    pub fn total(&self) -> &Quantities {
        self.total.quantities()
    }

    /// The scalars that are offered or allocated to known frameworks.
    #[must_use]
    pub fn offered_or_allocated(&self) -> Quantities {
        self.roles.quantities("").cloned().unwrap_or_default()
    }

    /// How many runs there were.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// How many filters hold, by role.
    #[must_use]
    pub fn filters_by_role(&self) -> BTreeMap<Arc<str>, usize> {
        self.filters.count_by_role()
    }

    /// What of an agent nobody holds.
    #[must_use]
    pub fn available(&self, agent: &AgentId) -> Option<&Resources> {
        self.agents.get(agent).map(|agent| &agent.available)
    }

    /// What of an agent is held, by framework and role.
    #[must_use]
    pub fn held(&self, agent: &AgentId) -> Option<&AgentAllocation> {
        self.agents.get(agent).map(|agent| &agent.held)
    }
}

#[cfg(test)]
#[path = "allocator_tests.rs"]
mod tests;
