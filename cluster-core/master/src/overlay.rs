//! The registry of the overlays: which agent has which blocks.
//!
//! An agent gets a number, from which the addresses of its end of the tunnels follow, and of
//! each overlay a block of each family; more blocks when those are nearly used up. It keeps
//! them by its id, over restarts and changes of its address. They become free when the agent
//! is gone for good: an operator said so, or nobody has seen it for two weeks. Blocks that
//! nobody ever had are given first, then those that became free, the one that is free for the
//! longest first.
//!
//! What an agent says it had before is believed as long as nobody else has it, so that a
//! registry that was lost comes back from the agents. What agents of DC/OS have can be
//! adopted, see `foreign.rs`.

mod blocks;
mod forecast;
mod foreign;
mod settings;
mod view;

pub use blocks::Pool;
pub use forecast::Usage;
pub(crate) use foreign::foreign_id;
pub use foreign::{AdoptError, Adopted};
pub use settings::{OverlayDefinition, OverlaySettings, SettingsError};
pub use view::agent_state;

use crate::registry::{RegistryError, Saved, read};
use blocks::{number, overlap};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mizzen_types::ids::AgentId;
use mizzen_types::overlay::{Habits, Mac, Overlay, OverlayClaim, OverlayGrant, OverlayShare, Vtep};
use mizzen_types::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Record of each agent.
const AGENTS: &str = "master/overlay-agent/";
/// Record of what belongs to no agent.
const COMMON: &str = "master/overlay";
const FORMAT: u16 = 1;

/// The number of the first overlay, as DC/OS has it.
const FIRST_VNI: u32 = 1024;
/// An agent that wants more blocks of an overlay than this has a leak.
const MAX_BLOCKS: usize = 64;

/// Who has what.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlays {
    settings: OverlaySettings,
    agents: BTreeMap<AgentId, AgentBlocks>,
    common: Common,
}

/// What one agent has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AgentBlocks {
    format: u16,
    /// Where it was the last time that it registered.
    address: IpAddr,
    /// The addresses of its end of the tunnels are the ones with this number.
    number: u32,
    /// Its blocks by the name of their overlay, also of overlays that are not configured now.
    blocks: BTreeMap<String, Vec<Block>>,
    /// Whether it is an agent of DC/OS that has not become one of ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    foreign: bool,
}

/// A block that an agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Block {
    net: IpNet,
    since: Wall,
}

/// What belongs to no agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Common {
    format: u16,
    /// Numbers of overlays for which the configuration says none.
    vnis: BTreeMap<String, u32>,
    /// Blocks that became free, the first one first, by the name of their overlay.
    freed: BTreeMap<String, Vec<IpNet>>,
    /// Agents' numbers that became free.
    freed_numbers: Vec<u32>,
}

impl Overlays {
    /// Reads what was saved.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] names the first record that cannot be read.
    pub fn from_records(
        settings: OverlaySettings,
        records: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, RegistryError> {
        let common = Common {
            format: FORMAT,
            vnis: BTreeMap::new(),
            freed: BTreeMap::new(),
            freed_numbers: Vec::new(),
        };
        let mut overlays = Self { settings, agents: BTreeMap::new(), common };
        for (key, value) in records {
            if let Some(id) = key.strip_prefix(AGENTS) {
                let record = read(FORMAT, &key, &value)?;
                overlays.agents.insert(AgentId::from(id), record);
            } else if key == COMMON {
                overlays.common = read(FORMAT, &key, &value)?;
            }
        }
        overlays.number_overlays();
        Ok(overlays)
    }

    /// An agent registers from `address` and says what it had: gives it what it needs. `None`
    /// if nothing is left for it.
    pub fn welcome(
        &mut self,
        id: &AgentId,
        address: IpAddr,
        claim: &OverlayClaim,
        now: Wall,
    ) -> Option<OverlayGrant> {
        if !self.agents.contains_key(id) && !self.take_over(id, address) {
            let number = self.claimed_number(claim).or_else(|| self.free_number())?;
            self.common.freed_numbers.retain(|freed| *freed != number);
            let blocks = BTreeMap::new();
            let record = AgentBlocks { format: FORMAT, address, number, blocks, foreign: false };
            self.agents.insert(id.clone(), record);
        }
        if let Some(agent) = self.agents.get_mut(id) {
            agent.address = address;
        }
        self.believe(id, claim, now);
        self.provide(id, now);
        self.grant(id)
    }

    /// Gives an agent one more block of an overlay: of its IPv4 addresses, which run out
    /// first, if it has any. `None` if it cannot have one.
    pub fn extend(&mut self, id: &AgentId, overlay: &str, now: Wall) -> Option<OverlayGrant> {
        let pools = self.settings.overlay(overlay)?.pools.clone();
        let pool = pools.iter().min_by_key(|pool| pool.network.addr().is_ipv6())?;
        let count = self.agents.get(id)?.count(overlay);
        if count >= MAX_BLOCKS || !self.give(id, overlay, pool, now) {
            return None;
        }
        self.grant(id)
    }

    /// The agent is gone for good: what it had is free. Returns who got some of it, because
    /// nothing had been left for them; `None` if it had nothing.
    pub fn release(&mut self, id: &AgentId, now: Wall) -> Option<BTreeSet<AgentId>> {
        let gone = self.agents.remove(id)?;
        self.common.freed_numbers.push(gone.number);
        for (name, blocks) in gone.blocks {
            let freed = self.common.freed.entry(name).or_default();
            freed.extend(blocks.into_iter().map(|block| block.net));
        }
        let all: Vec<AgentId> = self.agents.keys().cloned().collect();
        Some(all.into_iter().filter(|other| self.provide(other, now)).collect())
    }

    /// What an agent has of the overlays that are configured.
    #[must_use]
    pub fn grant(&self, id: &AgentId) -> Option<OverlayGrant> {
        let agent = self.agents.get(id)?;
        let mut shares: Vec<OverlayShare> = self
            .settings
            .overlays
            .iter()
            .filter_map(|overlay| self.share(overlay, agent))
            .collect();
        shares.sort_by(|a, b| a.overlay.name.cmp(&b.overlay.name));
        Some(OverlayGrant {
            vtep: self.vtep(agent.number),
            port: self.settings.port,
            habits: self.settings.habits,
            shares,
        })
    }

    /// Agents that had this address when they registered last.
    pub fn agents_at(&self, address: IpAddr) -> impl Iterator<Item = &AgentId> + '_ {
        let there = move |agent: &AgentBlocks| agent.address == address;
        self.agents.iter().filter(move |(_, agent)| there(agent)).map(|(id, _)| id)
    }

    /// What an agent has, of whichever overlays.
    pub(crate) fn has(&self, id: &AgentId) -> Option<&AgentBlocks> {
        self.agents.get(id)
    }

    /// An agent's record as it is to be saved; no contents if it has nothing.
    #[must_use]
    pub fn record(&self, id: &AgentId) -> Saved {
        Saved::new(format!("{AGENTS}{id}"), self.agents.get(id))
    }

    /// The record of what belongs to no agent.
    #[must_use]
    pub fn common_record(&self) -> Saved {
        Saved::new(COMMON.to_owned(), Some(&self.common))
    }

    /// Takes over what an agent had, as far as nobody else has it.
    fn believe(&mut self, id: &AgentId, claim: &OverlayClaim, now: Wall) {
        for (name, blocks) in &claim.blocks {
            let Some(overlay) = self.settings.overlay(name) else { continue };
            let pools = overlay.pools.clone();
            for net in blocks {
                if self.agents.get(id).is_none_or(|agent| agent.count(name) >= MAX_BLOCKS) {
                    break;
                }
                let fits = pools.iter().any(|pool| pool.may_give(net));
                let free = !self.taken().any(|other| overlap(&other, net));
                if fits && free {
                    self.hand_over(id, name, *net, now);
                }
            }
        }
    }

    /// Gives an agent a block of every pool of which it has none; whether it got one.
    fn provide(&mut self, id: &AgentId, now: Wall) -> bool {
        let mut changed = false;
        if self.agents.get(id).is_some_and(|agent| agent.foreign) {
            return changed; // it takes nothing from us
        }
        for overlay in self.settings.overlays.clone() {
            for pool in &overlay.pools {
                let has = self.agents.get(id).is_some_and(|agent| agent.has(&overlay.name, pool));
                changed |= !has && self.give(id, &overlay.name, pool, now);
            }
        }
        changed
    }

    fn give(&mut self, id: &AgentId, name: &str, pool: &Pool, now: Wall) -> bool {
        let freed = self.common.freed.get(name).cloned().unwrap_or_default();
        let taken: Vec<IpNet> = self.taken().collect();
        let fresh = pool.first_free(&[&taken[..], &freed].concat());
        let used = || {
            freed
                .iter()
                .copied()
                .find(|net| pool.may_give(net) && !taken.iter().any(|other| overlap(other, net)))
        };
        let Some(net) = fresh.or_else(used) else { return false };
        self.hand_over(id, name, net, now);
        true
    }

    fn hand_over(&mut self, id: &AgentId, name: &str, net: IpNet, since: Wall) {
        if let Some(freed) = self.common.freed.get_mut(name) {
            freed.retain(|other| !overlap(other, &net));
        }
        if let Some(agent) = self.agents.get_mut(id) {
            agent.blocks.entry(name.to_owned()).or_default().push(Block { net, since });
        }
    }

    /// All blocks that somebody has, of whichever overlay: containers of one that has another
    /// name now, or is no more, keep their addresses.
    fn taken(&self) -> impl Iterator<Item = IpNet> + '_ {
        let blocks = self.agents.values().flat_map(|agent| agent.blocks.values());
        blocks.flatten().map(|block| block.net)
    }

    fn share(&self, overlay: &OverlayDefinition, agent: &AgentBlocks) -> Option<OverlayShare> {
        // Of a network that was configured before, nothing can be used.
        let inside = |net: &IpNet| overlay.pools.iter().any(|pool| pool.network.contains(net));
        let blocks = agent.blocks.get(&overlay.name)?.iter().map(|block| block.net);
        let blocks: Vec<IpNet> = blocks.filter(inside).collect();
        let overlay = Overlay {
            name: overlay.name.clone(),
            vni: self.vni(overlay),
            networks: overlay.pools.iter().map(|pool| pool.network).collect(),
            mtu: overlay.mtu,
        };
        Some(OverlayShare { overlay, blocks }).filter(|share| !share.blocks.is_empty())
    }

    fn vni(&self, overlay: &OverlayDefinition) -> u32 {
        match self.settings.habits {
            Habits::Dcos => FIRST_VNI,
            Habits::Ours => {
                let kept = self.common.vnis.get(&overlay.name).copied();
                overlay.vni.or(kept).unwrap_or(FIRST_VNI)
            }
        }
    }

    /// Overlays without a number get the first free one, and keep it.
    fn number_overlays(&mut self) {
        let said = self.settings.overlays.iter().filter_map(|overlay| overlay.vni);
        let mut used: BTreeSet<u32> = said.chain(self.common.vnis.values().copied()).collect();
        for overlay in self.settings.overlays.iter().filter(|overlay| overlay.vni.is_none()) {
            if !self.common.vnis.contains_key(&overlay.name) {
                let free = (FIRST_VNI..).find(|vni| !used.contains(vni)).unwrap_or(FIRST_VNI);
                used.insert(free);
                self.common.vnis.insert(overlay.name.clone(), free);
            }
        }
    }

    fn vtep(&self, number: u32) -> Vtep {
        let network = self.settings.vtep_network;
        let address = Ipv4Addr::from(u32::from(network.network()).wrapping_add(number));
        let [_, b, c, d] = address.octets();
        let [x, y, z] = self.settings.mac_prefix;
        let v4 = Ipv4Net::new(address, network.prefix_len()).ok().map(IpNet::V4);
        let v6 = self.settings.vtep_network6.and_then(|network| {
            let address = u128::from(network.network()).wrapping_add(number.into());
            Ipv6Net::new(Ipv6Addr::from(address), network.prefix_len()).ok().map(IpNet::V6)
        });
        Vtep { addresses: v4.into_iter().chain(v6).collect(), mac: Mac([x, y, z, b, c, d]) }
    }

    /// How many numbers there are for agents.
    fn numbers(&self) -> u32 {
        let bits = 32 - u32::from(self.settings.vtep_network.prefix_len());
        1_u32.checked_shl(bits).unwrap_or(u32::MAX).saturating_sub(2)
    }

    fn claimed_number(&self, claim: &OverlayClaim) -> Option<u32> {
        let claimed = claim.vtep.iter().find_map(|address| self.number_of(*address))?;
        let free = !self.agents.values().any(|agent| agent.number == claimed);
        free.then_some(claimed)
    }

    /// The number that an address of an end of the tunnels goes with.
    fn number_of(&self, address: IpAddr) -> Option<u32> {
        let network = self.settings.vtep_network;
        let inside = IpNet::V4(network).contains(&address);
        let offset = number(address).checked_sub(u32::from(network.network()).into())?;
        let found = u32::try_from(offset).ok().filter(|_| inside)?;
        (1..=self.numbers()).contains(&found).then_some(found)
    }

    fn free_number(&self) -> Option<u32> {
        let taken: BTreeSet<u32> = self.agents.values().map(|agent| agent.number).collect();
        let freed: BTreeSet<u32> = self.common.freed_numbers.iter().copied().collect();
        let mut all = 1..=self.numbers();
        let fresh = all.find(|number| !taken.contains(number) && !freed.contains(number));
        let used = || self.common.freed_numbers.iter().copied().find(|n| !taken.contains(n));
        fresh.or_else(used)
    }
}

impl AgentBlocks {
    fn count(&self, overlay: &str) -> usize {
        self.blocks.get(overlay).map_or(0, Vec::len)
    }

    fn has(&self, overlay: &str, pool: &Pool) -> bool {
        let blocks = self.blocks.get(overlay).into_iter().flatten();
        blocks.map(|block| block.net).any(|net| pool.network.contains(&net))
    }
}

#[cfg(test)]
pub(crate) mod tests;
