//! Agents of a DC/OS cluster that is taken over node by node.
//!
//! What they have is read from what their own master says of them. Nobody else gets it, and
//! the nodes of this cluster reach their containers. When such a machine becomes a node of
//! this cluster, known by its address, it has what it had: those that are still to come,
//! which learn nothing any more, go on reaching it where it was.

use super::{AgentBlocks, Block, FIRST_VNI, FORMAT, Overlays, overlap};
use ipnet::IpNet;
use mizzen_types::ids::AgentId;
use mizzen_types::overlay::{Habits, Mac, NodeOverlay};
use mizzen_types::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Why agents of DC/OS are not adopted; then none of them is.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It was said by something else.
    #[error("this is not what `/overlay-master/state` says: {0}")]
    Form(String),
    /// Tunnels of DC/OS have one number for all overlays.
    #[error("the overlays here are not made as DC/OS makes them: `overlay.mode` has to be `dcos`")]
    Habits,
    /// There is nothing to adopt.
    #[error("no agent in it has a share of an overlay")]
    Nobody,
    /// An agent has something that it cannot have here.
    #[error("agent {address}: {what}")]
    Agent {
        /// Its address.
        address: IpAddr,
        /// What, and why not.
        what: String,
    },
}

/// What became of the agents of DC/OS, by their addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Adopted {
    /// They keep what they have.
    pub adopted: Vec<IpAddr>,
    /// Agents of this cluster have these addresses, and blocks of their own.
    pub ours: Vec<IpAddr>,
}

/// What is read of `GET /overlay-master/state`.
#[derive(Deserialize)]
struct State {
    agents: Vec<StateAgent>,
}

#[derive(Deserialize)]
struct StateAgent {
    ip: IpAddr,
    #[serde(default)]
    overlays: Vec<StateOverlay>,
}

#[derive(Deserialize)]
struct StateOverlay {
    info: Info,
    subnet: Option<IpNet>,
    subnet6: Option<IpNet>,
    backend: Backend,
}

#[derive(Deserialize)]
struct Info {
    name: String,
}

#[derive(Deserialize)]
struct Backend {
    vxlan: Vxlan,
}

#[derive(Deserialize)]
struct Vxlan {
    vni: u32,
    vtep_ip: IpNet,
    vtep_mac: Mac,
}

impl Overlays {
    /// Adopts the agents in an answer of DC/OS' `/overlay-master/state`, except those that are
    /// agents of this cluster by now.
    ///
    /// # Errors
    ///
    /// [`AdoptError`]; then nothing has changed.
    pub fn adopt(&mut self, state: &[u8], now: Wall) -> Result<Adopted, AdoptError> {
        let State { agents } =
            serde_json::from_slice(state).map_err(|error| AdoptError::Form(error.to_string()))?;
        if self.settings.habits != Habits::Dcos {
            return Err(AdoptError::Habits);
        }
        let mut draft = self.clone();
        let mut all = Adopted::default();
        for agent in agents.into_iter().filter(|agent| !agent.overlays.is_empty()) {
            let address = agent.ip;
            if draft.agents.values().any(|ours| ours.address == address && !ours.foreign) {
                all.ours.push(address);
                continue;
            }
            draft.adopt_agent(agent, now).map_err(|what| AdoptError::Agent { address, what })?;
            all.adopted.push(address);
        }
        if all == Adopted::default() {
            return Err(AdoptError::Nobody);
        }
        *self = draft;
        Ok(all)
    }

    /// The addresses of agents that have not become ours.
    pub fn foreign(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.agents.values().filter(|agent| agent.foreign).map(|agent| agent.address)
    }

    /// Whether such an agent has this address.
    #[must_use]
    pub fn is_foreign(&self, address: IpAddr) -> bool {
        self.agents.contains_key(&foreign_id(address))
    }

    /// How the containers of such an agent are reached.
    #[must_use]
    pub fn foreign_fact(&self, address: IpAddr) -> Option<NodeOverlay> {
        let id = foreign_id(address);
        Some(self.grant(&id)?.fact(vec![address], None))
    }

    /// Gives an agent that registers for the first time what the machine had as one of DC/OS.
    /// Whether it had anything.
    pub(super) fn take_over(&mut self, id: &AgentId, address: IpAddr) -> bool {
        let Some(record) = self.agents.remove(&foreign_id(address)) else { return false };
        self.agents.insert(id.clone(), AgentBlocks { foreign: false, ..record });
        true
    }

    fn adopt_agent(&mut self, agent: StateAgent, since: Wall) -> Result<(), String> {
        let StateAgent { ip: address, overlays } = agent;
        let id = foreign_id(address);
        self.agents.remove(&id);
        let mut blocks: BTreeMap<String, Vec<Block>> = BTreeMap::new();
        let mut number = None;
        for overlay in overlays {
            let Vxlan { vni, vtep_ip, vtep_mac } = overlay.backend.vxlan;
            if vni != FIRST_VNI {
                return Err(format!("its tunnels have the number {vni} instead of {FIRST_VNI}"));
            }
            number = Some(self.foreign_number(vtep_ip.addr(), vtep_mac)?);
            let name = overlay.info.name;
            for net in [overlay.subnet, overlay.subnet6].into_iter().flatten() {
                self.check_block(&name, &net)?;
                blocks.entry(name.clone()).or_default().push(Block { net, since });
            }
        }
        let number = number.ok_or("it has no end of the tunnels")?;
        self.common.freed_numbers.retain(|freed| *freed != number);
        for (name, freed) in &mut self.common.freed {
            let theirs = blocks.get(name).into_iter().flatten();
            let theirs: Vec<IpNet> = theirs.map(|block| block.net).collect();
            freed.retain(|net| !theirs.iter().any(|other| overlap(other, net)));
        }
        let record = AgentBlocks { format: FORMAT, address, number, blocks, foreign: true };
        self.agents.insert(id, record);
        Ok(())
    }

    /// The number that an end of the tunnels goes with, if it can be had.
    fn foreign_number(&self, end: IpAddr, mac: Mac) -> Result<u32, String> {
        let number = self.number_of(end).ok_or_else(|| {
            format!("its end of the tunnels, {end}, is not in {}", self.settings.vtep_network)
        })?;
        if let Some((other, _)) = self.agents.iter().find(|(_, agent)| agent.number == number) {
            return Err(format!("its end of the tunnels, {end}, is that of agent {other}"));
        }
        let ours = self.vtep(number).mac;
        if ours != mac {
            return Err(format!("with {end} goes the link-layer address {ours}, not {mac}"));
        }
        Ok(number)
    }

    fn check_block(&self, name: &str, net: &IpNet) -> Result<(), String> {
        let overlay = self.settings.overlay(name);
        let overlay = overlay
            .ok_or_else(|| format!("there is no overlay `{name}` here (`overlay.networks`)"))?;
        if !overlay.pools.iter().any(|pool| pool.may_give(net)) {
            return Err(format!("{net} is no block of the overlay `{name}`"));
        }
        let has = |agent: &AgentBlocks| {
            let blocks = agent.blocks.get(name).into_iter().flatten();
            blocks.into_iter().any(|block| overlap(&block.net, net))
        };
        match self.agents.iter().find(|(_, agent)| has(agent)) {
            Some((other, _)) => Err(format!("{net} belongs to agent {other}")),
            None => Ok(()),
        }
    }
}

/// What an agent of DC/OS is called until it is one of ours.
pub(crate) fn foreign_id(address: IpAddr) -> AgentId {
    AgentId::from(format!("foreign-{address}"))
}
