//! Who is asked to leave agents that are to be maintained.
//!
//! Whoever holds something of such an agent, offered or allocated, is asked in the run that
//! looks at the agent, once until the answer comes. Who answers is asked again when the
//! time is over for which it does not want to hear of it.

use crate::allocator::Allocator;
use crate::candidates::Trigger;
use crate::state::Activity;
use mizzen_types::ids::{AgentId, FrameworkId};
use mizzen_types::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Whom to ask to leave which agents.
pub type Requests = BTreeMap<FrameworkId, Vec<AgentId>>;

/// What there is to ask, was asked and was answered.
#[derive(Debug, Default)]
pub(crate) struct Inverse {
    /// Agents to be left, with those that have been asked and have not answered.
    agents: BTreeMap<AgentId, BTreeSet<FrameworkId>>,
    /// Who does not want to hear of which agent, and until when.
    filters: BTreeMap<(AgentId, FrameworkId), Mono>,
    /// Found in runs and not yet taken.
    requests: Requests,
}

impl Inverse {
    pub(crate) fn next_end(&self) -> Option<Mono> {
        self.filters.values().min().copied()
    }

    /// Ends filters that are due, and names their agents.
    pub(crate) fn expire(&mut self, now: Mono) -> BTreeSet<AgentId> {
        let due = self.filters.extract_if(.., |_, until| *until <= now);
        due.map(|((agent, _), _)| agent).collect()
    }

    pub(crate) fn forget_agent(&mut self, id: &AgentId) {
        self.agents.remove(id);
        self.filters.retain(|(agent, _), _| agent != id);
    }

    pub(crate) fn forget_framework(&mut self, id: &FrameworkId) {
        for asked in self.agents.values_mut() {
            asked.remove(id);
        }
        self.clear_filters(id);
    }

    pub(crate) fn clear_filters(&mut self, id: &FrameworkId) {
        self.filters.retain(|(_, framework), _| framework != id);
    }
}

impl Allocator {
    /// Asks everyone who holds something of an agent to leave it, also those who have been
    /// asked or have answered.
    pub fn ask_to_leave(&mut self, id: &AgentId) {
        self.inverse.forget_agent(id);
        self.inverse.agents.insert(id.clone(), BTreeSet::new());
        self.look_at(id, Trigger::Now);
    }

    /// Nobody has to leave the agent.
    pub fn stop_asking(&mut self, id: &AgentId) {
        self.inverse.forget_agent(id);
    }

    /// Whom the runs since the last time found to be asked.
    pub fn take_requests(&mut self) -> Requests {
        std::mem::take(&mut self.inverse.requests)
    }

    /// The request was taken back or answered; it is made again, after `refused` if the
    /// framework said how long it does not want to hear of it.
    pub fn request_over(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        refused: Option<Duration>,
        now: Mono,
    ) {
        let Some(asked) = self.inverse.agents.get_mut(agent) else { return };
        asked.remove(framework);
        let Some(refused) = refused else { return self.look_at(agent, Trigger::Batch) };
        let until = now + refused.max(self.settings.interval);
        self.inverse.filters.insert((agent.clone(), framework.clone()), until);
    }

    /// Notes whom to ask about these agents.
    pub(crate) fn find_requests(&mut self, looked_at: &[AgentId]) {
        let Inverse { agents, filters, requests } = &mut self.inverse;
        for id in looked_at {
            let (Some(asked), Some(agent)) = (agents.get_mut(id), self.agents.get(id)) else {
                continue;
            };
            if agent.activity == Activity::Inactive {
                continue;
            }
            for framework in agent.held.keys() {
                let listens = self
                    .frameworks
                    .get(framework)
                    .is_some_and(|framework| framework.activity == Activity::Active);
                let filtered = filters.contains_key(&(id.clone(), framework.clone()));
                if listens && !filtered && asked.insert(framework.clone()) {
                    requests.entry(framework.clone()).or_default().push(id.clone());
                }
            }
        }
    }

    pub(crate) fn is_asking(&self) -> bool {
        !self.inverse.agents.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentSpec, FrameworkSpec, Settings};
    use mizzen_types::resources::Resources;
    use std::sync::Arc;

    fn resources(text: &str) -> Resources {
        Resources::parse(text).unwrap()
    }

    fn requests(allocator: &mut Allocator) -> Vec<String> {
        allocator.allocate(1);
        let requests = allocator.take_requests();
        requests.iter().map(|(framework, agents)| format!("{framework} {agents:?}")).collect()
    }

    #[test]
    fn who_holds_something_is_asked_once_until_the_answer_and_again_later() {
        let second = |s: u64| Mono(s * 1_000_000_000);
        let mut allocator = Allocator::new(Settings::default(), Mono(0));
        let (agent, first, second_one) = ("a".into(), "f1".into(), "f2".into());
        let roles = BTreeSet::from([Arc::from("*")]);
        for framework in [&first, &second_one] {
            let spec = FrameworkSpec { roles: roles.clone(), ..FrameworkSpec::default() };
            allocator.add_framework(framework, spec, Activity::Active);
        }
        let held = [(first.clone(), [(Arc::from("*"), resources("cpus:1;mem:64"))].into())];
        allocator.add_agent(&agent, AgentSpec::new(resources("cpus:1;mem:64")), held.into());
        assert_eq!(requests(&mut allocator), [""; 0], "nobody has to leave");

        allocator.ask_to_leave(&agent);
        assert_eq!(requests(&mut allocator), ["f1 [AgentId(\"a\")]"], "the other holds nothing");
        allocator.look_at(&agent, Trigger::Now);
        assert_eq!(requests(&mut allocator), [""; 0], "has been asked");

        let later = Some(Duration::from_secs(5));
        allocator.request_over(&first, &agent, later, second(1));
        allocator.look_at(&agent, Trigger::Now);
        assert_eq!(requests(&mut allocator), [""; 0], "does not want to hear of it");
        assert_eq!(allocator.poll_deadline(), Some(second(6)));
        allocator.handle_timeout(second(6));
        assert_eq!(requests(&mut allocator).len(), 1, "asked again");

        allocator.request_over(&first, &agent, None, second(7));
        allocator.handle_timeout(second(8));
        assert_eq!(requests(&mut allocator).len(), 1, "at once, if it wants to hear of it");

        allocator.request_over(&first, &agent, later, second(9));
        allocator.revive(&first, &BTreeSet::new());
        assert_eq!(requests(&mut allocator).len(), 1, "reviving ends all filters");
        allocator.set_agent_activity(&agent, Activity::Inactive);
        allocator.ask_to_leave(&agent);
        assert_eq!(requests(&mut allocator), [""; 0], "nobody is asked about who is away");
        allocator.stop_asking(&agent);
        allocator.set_agent_activity(&agent, Activity::Active);
        allocator.look_at(&agent, Trigger::Now);
        assert_eq!(requests(&mut allocator), [""; 0]);
    }
}
