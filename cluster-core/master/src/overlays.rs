//! Agents are told what they have of the overlays.

use crate::overlay::{AdoptError, Adopted, Overlays, foreign_id};
use crate::{Effect, Master};
use mizzen_api::link::ToAgent;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::{AgentId, OwnerId};
use mizzen_types::overlay::{OverlayClaim, OverlayGrant};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Why an agent keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// This master gives no addresses away.
    #[error("this cluster has no overlays")]
    NoOverlays,
    /// Nobody registered from there.
    #[error("no agent with the address {0} has a share of the overlays")]
    Unknown(IpAddr),
    /// It may have containers with these addresses.
    #[error("agent {id} ({address}) is part of the cluster: drain it with `mark_gone` first")]
    Present {
        /// The agent.
        id: AgentId,
        /// Its address.
        address: IpAddr,
    },
}

impl Master {
    /// Gives addresses away from now on.
    pub fn adopt_overlays(&mut self, overlays: Overlays) {
        let foreign: Vec<IpAddr> = overlays.foreign().collect();
        self.overlays = Some(overlays);
        self.save_overlays();
        for address in foreign {
            self.say_foreign(address);
        }
    }

    /// Adopts what agents of DC/OS have, by what their master's `/overlay-master/state` says.
    ///
    /// # Errors
    ///
    /// [`AdoptError`]; then nothing has changed.
    pub fn adopt_foreign_agents(&mut self, state: &[u8]) -> Result<Adopted, AdoptError> {
        let now = self.now.wall;
        let overlays = self.overlays.as_mut().ok_or(AdoptError::Habits)?;
        let all = overlays.adopt(state, now)?;
        for address in &all.adopted {
            self.follow_foreign(*address);
        }
        Ok(all)
    }

    /// Who has which addresses.
    #[must_use]
    pub fn overlays(&self) -> Option<&Overlays> {
        self.overlays.as_ref()
    }

    /// Frees the addresses of agents, all or none of them. Those that can be reached, or may
    /// yet come back, keep theirs.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`] names the first one that keeps its addresses.
    pub fn release_agents(&mut self, addresses: &[IpAddr]) -> Result<(), ReleaseError> {
        let overlays = self.overlays.as_ref().ok_or(ReleaseError::NoOverlays)?;
        let was_foreign: BTreeSet<IpAddr> = overlays.foreign().collect();
        let mut gone = Vec::new();
        for address in addresses {
            let there: Vec<AgentId> = overlays.agents_at(*address).cloned().collect();
            if there.is_empty() {
                return Err(ReleaseError::Unknown(*address));
            }
            if let Some(id) = there.iter().find(|id| self.is_present(id)) {
                return Err(ReleaseError::Present { id: id.clone(), address: *address });
            }
            gone.extend(there);
        }
        for id in gone {
            self.release_overlays(&id);
        }
        for address in addresses.iter().filter(|address| was_foreign.contains(address)) {
            self.say_foreign(*address);
        }
        Ok(())
    }

    /// Whether a node's agents were taken out for good, all of them.
    #[must_use]
    pub fn is_node_gone(&self, node: &OwnerId) -> bool {
        let mut agents =
            self.registry.agents().filter(|(_, record)| record.node.as_ref() == Some(node));
        let mut any = false;
        agents.all(|(id, _)| {
            any = true;
            self.registry.is_gone(id)
        }) && any
    }

    /// What an agent that registers gets.
    pub(crate) fn share_overlays(
        &mut self,
        id: &AgentId,
        claim: &OverlayClaim,
    ) -> Option<OverlayGrant> {
        let address = self.agents.get(id)?.peer;
        let overlays = self.overlays.as_mut()?;
        let before = overlays.has(id).cloned();
        let was_foreign = overlays.is_foreign(address);
        let grant = overlays.welcome(id, address, claim, self.now.wall);
        if before.as_ref() != overlays.has(id) {
            self.save_overlays_of(id);
        }
        if was_foreign {
            self.follow_foreign(address);
        }
        grant
    }

    pub(crate) fn give_more_addresses(&mut self, id: &AgentId, overlay: &str) {
        let now = self.now.wall;
        let Some(overlays) = self.overlays.as_mut() else { return };
        if let Some(grant) = overlays.extend(id, overlay, now) {
            self.save_overlays_of(id);
            self.tell_agent(id, ToAgent::Overlay(grant));
        }
    }

    /// An agent is gone for good.
    pub(crate) fn release_overlays(&mut self, id: &AgentId) {
        let now = self.now.wall;
        let Some(provided) = self.overlays.as_mut().and_then(|all| all.release(id, now)) else {
            return;
        };
        self.save_overlays_of(id);
        for other in provided {
            self.save_overlays_of(&other);
            if let Some(grant) = self.overlays.as_ref().and_then(|all| all.grant(&other)) {
                self.tell_agent(&other, ToAgent::Overlay(grant));
            }
        }
    }

    /// An agent of DC/OS has been adopted, is one of ours by now, or is gone.
    fn follow_foreign(&mut self, address: IpAddr) {
        self.save_overlays_of(&foreign_id(address));
        self.say_foreign(address);
    }

    /// Says how the containers of a DC/OS agent are reached, or takes it back.
    fn say_foreign(&mut self, address: IpAddr) {
        let fact = self.overlays.as_ref().and_then(|overlays| overlays.foreign_fact(address));
        let value = fact.map(|fact| Box::new(Fact::ForeignAgent(fact)));
        self.effects.push_back(Effect::Fact { key: Key::ForeignAgent(address), value });
    }

    /// Whether an agent can be reached, or may come back with its tasks.
    fn is_present(&self, id: &AgentId) -> bool {
        let admitted = self
            .registry
            .agent(id)
            .is_some_and(|record| record.presence == crate::registry::Presence::Admitted);
        admitted || self.agents.contains_key(id)
    }

    fn save_overlays_of(&mut self, id: &AgentId) {
        if let Some(overlays) = &self.overlays {
            let record = overlays.record(id);
            self.save(record);
        }
        self.save_overlays();
    }

    fn save_overlays(&mut self) {
        if let Some(overlays) = &self.overlays {
            let record = overlays.common_record();
            self.save(record);
        }
    }
}
