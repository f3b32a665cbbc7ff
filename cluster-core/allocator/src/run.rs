//! One run: agents in random order, roles and frameworks in order of their shares.
//!
//! A run has stages, each of which walks over the agents:
//!
//! 1. guarantees — nothing to do until roles can have quotas;
//! 2. [`Allocator::share_fairly`] — everything that is left.
//!
//! Both ask [`Allocator::offerable`] what a framework may be offered at all and end
//! with [`Allocator::commit`].

use crate::AgentCapability;
use crate::allocator::{Allocation, Allocator};
use crate::state::{Activity, Agent, Framework, FrameworkCapability as Can, GpuPolicy, Region};
use mizzen_types::ids::{AgentId, FrameworkId};
use mizzen_types::random::Dice;
use mizzen_types::resources::{Quantities, Resources};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one run has done so far.
#[derive(Default)]
struct Run {
    given: Allocation,
    /// Shared volumes are offered once a run, though they stay available.
    shared: BTreeMap<AgentId, Resources>,
}

impl Allocator {
    pub(crate) fn run(&mut self, mut agents: Vec<AgentId>, seed: u64) -> Allocation {
        self.runs += 1;
        let mut dice = Dice::new(seed);
        let mut run = Run::default();
        agents.retain(|agent| {
            self.agents.get(agent).is_some_and(|agent| agent.activity == Activity::Active)
        });
        dice.shuffle(&mut agents);
        self.share_fairly(&agents, &mut run);
        run.given
    }

    /// Offers all that is left of each agent to who is next.
    fn share_fairly(&mut self, agents: &[AgentId], run: &mut Run) {
        for agent in agents {
            for role in self.roles.order(&self.total).iter() {
                if self.agents.get(agent).is_none_or(|agent| agent.available.is_empty()) {
                    break;
                }
                self.share_in_role(agent, role, run);
            }
        }
    }

    fn share_in_role(&mut self, agent: &AgentId, role: &Arc<str>, run: &mut Run) {
        let Some(sorter) = self.by_role.get_mut(role) else { return };
        let order = sorter.order(&self.total);
        let mut index = 0;
        while index < order.len() {
            // Nothing changes until something is committed, so what there is needs
            // to be computed once for all who do not want it.
            let Some(state) = self.agents.get(agent) else { return };
            let available = available_to(state, role, run.shared.get(agent));
            if available.is_empty() {
                return;
            }
            let quantities = available.quantities();
            let found = order[index..].iter().enumerate().find_map(|(skipped, id)| {
                let id = FrameworkId::from(id.as_ref());
                let offer = self.offerable(agent, state, role, &id, &available, &quantities)?;
                Some((index + skipped, id, offer.into_owned()))
            });
            let Some((at, framework, offer)) = found else { return };
            self.commit(agent, role, &framework, offer, run);
            index = at + 1;
        }
    }

    /// What of `available` this framework may be offered; `None` for nothing.
    fn offerable<'a>(
        &self,
        agent: &AgentId,
        state: &Agent,
        role: &Arc<str>,
        id: &FrameworkId,
        available: &'a Resources,
        quantities: &Quantities,
    ) -> Option<Cow<'a, Resources>> {
        let framework = self.frameworks.get(id)?;
        if !self.is_enough(framework, role, quantities) || !self.suits(framework, state, role) {
            return None;
        }
        let offer = strip(framework, state, available);
        if let Cow::Owned(stripped) = &offer
            && !self.is_enough(framework, role, &stripped.quantities())
        {
            return None;
        }
        (!self.filters.refuses(id, role, agent, &offer)).then_some(offer)
    }

    fn is_enough(&self, framework: &Framework, role: &str, quantities: &Quantities) -> bool {
        let minima = match framework.spec.min_allocatable.get(role) {
            Some(own) => own,
            None => &self.settings.min_allocatable,
        };
        !quantities.is_empty()
            && (minima.is_empty() || minima.iter().any(|least| quantities.contains(least)))
    }

    fn suits(&self, framework: &Framework, agent: &Agent, role: &str) -> bool {
        let agent_can = |capability| agent.spec.capabilities.contains(&capability);
        let gpus = agent.traits.gpus && self.settings.gpus == GpuPolicy::Reserve;
        (!gpus || framework.can(Can::GpuResources))
            && (agent.spec.region == Region::Home || framework.can(Can::RegionAware))
            && (!framework.can(Can::MultiRole) || agent_can(AgentCapability::MultiRole))
            && (!role.contains('/') || agent_can(AgentCapability::HierarchicalRole))
    }

    fn commit(
        &mut self,
        agent: &AgentId,
        role: &Arc<str>,
        framework: &FrameworkId,
        offer: Resources,
        run: &mut Run,
    ) {
        let Some(state) = self.agents.get_mut(agent) else { return };
        state.give(framework, role, &offer);
        if state.traits.special {
            *run.shared.entry(agent.clone()).or_default() += offer.shared();
        }
        if let Some(sorter) = self.by_role.get_mut(role) {
            sorter.allocated(framework.as_str(), agent.as_str(), &offer);
        }
        self.roles.allocated(role, agent.as_str(), &offer);
        let roles = run.given.entry(framework.clone()).or_default();
        let agents = roles.entry(Arc::clone(role)).or_default();
        *agents.entry(agent.clone()).or_default() += offer;
    }
}

fn available_to(agent: &Agent, role: &str, offered: Option<&Resources>) -> Resources {
    let mut available = if agent.traits.reserved {
        agent.available.allocatable_to(role)
    } else {
        agent.available.clone()
    };
    if let Some(offered) = offered {
        available -= offered;
    }
    available
}

/// Leaves out what the framework could not deal with.
fn strip<'a>(framework: &Framework, agent: &Agent, all: &'a Resources) -> Cow<'a, Resources> {
    if !agent.traits.special {
        return Cow::Borrowed(all);
    }
    Cow::Owned(all.filter(|resource| {
        (!resource.shared || framework.can(Can::SharedResources))
            && (!resource.revocable || framework.can(Can::RevocableResources))
            && (resource.reservations.len() < 2 || framework.can(Can::ReservationRefinement))
    }))
}
