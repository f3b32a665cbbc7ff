//! What operators want of single agents: drained, deactivated, taken out for good, or back
//! in service.
//!
//! ```text
//! active ──DEACTIVATE──▶ deactivated ◀──────────── REACTIVATE ◀───────────┐
//!    │                        │                                           │
//!    └───────── DRAIN ────────┴──▶ draining ──nothing is left──▶ drained ─┤
//!                                                                         ▼
//!                        wherever it stands ─────────MARK_GONE────────▶ gone
//! ```
//!
//! The registry has it before anybody is told, so a master or an agent that starts anew
//! goes on; an agent that is away is drained when it comes back.

use crate::agent::Agent;
use crate::framework::Framework;
use crate::operator::Refusal;
use crate::registry::{AgentRecord, Drain, Presence, Progress, Service};
use crate::removal::Removal;
use crate::task::{self, Task};
use crate::timers::Alarm;
use crate::{Effect, Master};
use mizzen_allocator::Activity;
use mizzen_api::link::{Duty, ToAgent};
use mizzen_api::v1;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::{AgentId, FrameworkId, TaskId};
use mizzen_types::time::Wall;
use std::collections::BTreeSet;

impl Master {
    /// DRAIN_AGENT: no more offers, and an end to all tasks. Asked again, the newest words
    /// count.
    pub(crate) fn drain_agent(
        &mut self,
        id: &AgentId,
        config: v1::DrainConfig,
    ) -> Result<(), Refusal> {
        self.check_known(id)?;
        if config.max_grace_period.as_ref().is_some_and(|grace| grace.nanoseconds < 0) {
            return Err(Refusal::new(400, "'max_grace_period' must not be negative"));
        }
        let since = self.registry.drain(id).map_or(self.now.wall, |drain| drain.since);
        let drain = Drain { progress: Progress::Draining, config, since };
        self.registry.set_service(id, Service::Deactivated, Some(drain));
        self.save_agent(id);
        self.apply_service(id);
        self.check_drained(id);
        Ok(())
    }

    /// DEACTIVATE_AGENT: no more offers; tasks run on.
    pub(crate) fn deactivate_agent(&mut self, id: &AgentId) -> Result<(), Refusal> {
        self.check_known(id)?;
        let drain = self.registry.drain(id);
        self.registry.set_service(id, Service::Deactivated, drain);
        self.save_agent(id);
        self.apply_service(id);
        Ok(())
    }

    /// REACTIVATE_AGENT: offers again, and no drain any more.
    pub(crate) fn reactivate_agent(&mut self, id: &AgentId) -> Result<(), Refusal> {
        self.check_known(id)?;
        if self.registry.drain(id).is_some_and(|drain| drain.progress == Progress::Draining) {
            let text = format!("Agent {id} is still in the DRAINING state");
            return Err(Refusal::new(400, text));
        }
        if !self.registry.is_deactivated(id) {
            return Err(Refusal::new(400, format!("Agent {id} is not deactivated")));
        }
        self.registry.set_service(id, Service::Active, None);
        self.save_agent(id);
        self.apply_service(id);
        Ok(())
    }

    /// MARK_AGENT_GONE: out for good and at once, whatever runs there and whether or not it
    /// can be reached. Whoever asks again may not have heard the first answer.
    pub(crate) fn mark_agent_gone(&mut self, id: &AgentId) -> Result<(), Refusal> {
        match self.registry.agent(id).map(|record| record.presence) {
            None => return Err(Refusal::new(404, format!("Unknown agent {id}"))),
            Some(Presence::Gone { .. }) => {}
            Some(Presence::Admitted | Presence::Unreachable { .. } | Presence::Down { .. }) => {
                self.mark_gone(id);
            }
        }
        Ok(())
    }

    /// What the agent is to be told.
    pub(crate) fn duty_of(&self, id: &AgentId) -> Duty {
        match self.registry.drain(id) {
            Some(drain) => Duty::Drain(drain.config),
            None if self.is_in_maintenance(id) => Duty::Maintain,
            None => Duty::Serve,
        }
    }

    /// Tells the agent what is wanted of it, if that is something new.
    pub(crate) fn apply_duty(&mut self, id: &AgentId) {
        let duty = self.duty_of(id);
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.link.is_some() && agent.duty != duty {
            agent.duty = duty.clone();
            self.tell_agent(id, ToAgent::Duty(duty));
        }
    }

    /// Offers of the agent are made, or taken back, as the registry says.
    pub(crate) fn apply_activity(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else { return };
        if self.is_active(id, agent) {
            self.allocator.set_agent_activity(id, Activity::Active);
        } else {
            self.allocator.set_agent_activity(id, Activity::Inactive);
            self.rescind_of_agent(id);
        }
    }

    /// Whether its resources are offered.
    pub(crate) fn is_active(&self, id: &AgentId, agent: &Agent) -> bool {
        agent.link.is_some() && !self.registry.is_deactivated(id)
    }

    /// A drain is over when nothing is left on the agent: no task that lives, and no last
    /// word of one that its framework, if it listens or may soon do so, has not
    /// acknowledged. Only tasks that come back with the agent make it go on.
    pub(crate) fn check_drained(&mut self, id: &AgentId) {
        let (Some(drain), Some(agent)) = (self.registry.drain(id), self.agents.get(id)) else {
            return;
        };
        if agent.link.is_none() {
            // One that is away has tasks until it says otherwise.
            return;
        }
        let progress = match agent.tasks.iter().any(|task| self.holds_up(task, drain.progress)) {
            true => Progress::Draining,
            false => Progress::Drained,
        };
        if progress == drain.progress {
            return;
        }
        let drain = Drain { progress, ..drain };
        self.registry.set_service(id, Service::Deactivated, Some(drain));
        if progress == Progress::Drained && drain.config.mark_gone() {
            self.mark_gone(id);
        } else {
            self.save_agent(id);
        }
    }

    /// A framework does not listen: what waits for it alone goes on after a while.
    pub(crate) fn expect_framework(&mut self, id: &FrameworkId) {
        let until = self.frameworks.get(id).and_then(Framework::expected_until);
        if let Some(until) = until {
            self.timers.set(until, Alarm::Silence(id.clone()));
        }
    }

    /// A framework had time to listen again. What its tasks said last stays with their
    /// agents until it comes, or is given up.
    pub(crate) fn stop_expecting(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let agents: BTreeSet<AgentId> = framework.tasks.values().map(Task::agent).collect();
        for agent in agents {
            self.check_drained(&agent);
        }
    }

    /// Whether an agent is not drained because of a task.
    fn holds_up(&self, (framework, task): &(FrameworkId, TaskId), progress: Progress) -> bool {
        let Some(framework) = self.frameworks.get(framework) else { return false };
        let Some(task) = framework.tasks.get(task) else { return false };
        let expected = || framework.expected_until().is_none_or(|until| self.now.mono < until);
        !task::is_terminal(task.v1.state()) || (progress == Progress::Draining && expected())
    }

    fn apply_service(&mut self, id: &AgentId) {
        self.apply_activity(id);
        self.apply_duty(id);
    }

    fn mark_gone(&mut self, id: &AgentId) {
        let Some(record) = self.registry.agent(id) else { return };
        let (info, since) = (record.info.clone(), self.now.wall);
        let removal = Removal::gone(&info.hostname);
        self.registry.set_agent(id, info, Presence::Gone { since });
        self.save_agent(id);
        self.say_gone(id, Some(since));
        self.end_unreachable(id, &removal);
        self.remove_agent(id, &removal);
        self.release_overlays(id);
    }

    /// Every node hears that an agent is out for good: its own may say nothing, or not
    /// know of it.
    pub(crate) fn say_gone(&mut self, id: &AgentId, since: Option<Wall>) {
        let value = since.map(|since| Box::new(Fact::GoneAgent(since)));
        self.effects.push_back(Effect::Fact { key: Key::GoneAgent(id.clone()), value });
    }

    /// The same of those that a former master took out.
    pub(crate) fn say_who_is_gone(&mut self) {
        let gone = |(id, record): (&AgentId, &AgentRecord)| match record.presence {
            Presence::Gone { since } => Some((id.clone(), since)),
            Presence::Admitted | Presence::Unreachable { .. } | Presence::Down { .. } => None,
        };
        let gone: Vec<(AgentId, Wall)> = self.registry.agents().filter_map(gone).collect();
        for (id, since) in gone {
            self.say_gone(&id, Some(since));
        }
    }

    fn check_known(&self, id: &AgentId) -> Result<(), Refusal> {
        match self.registry.agent(id).map(|record| record.presence) {
            None => Err(Refusal::new(400, format!("Unknown agent {id}"))),
            Some(Presence::Gone { .. }) => {
                Err(Refusal::new(409, format!("Agent {id} has been marked as gone")))
            }
            Some(Presence::Admitted | Presence::Unreachable { .. } | Presence::Down { .. }) => {
                Ok(())
            }
        }
    }
}
