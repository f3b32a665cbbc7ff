//! What outlives the process: which agents there are, which are unreachable or gone, what
//! operators want of them, and which machines are maintained when.
//!
//! One record per agent and one of the maintenance, as JSON with a format number. Records of
//! other kinds below [`PREFIX`] belong to versions to come and are left alone.

use mizzen_api::v1;
use mizzen_types::ids::{AgentId, OwnerId};
use mizzen_types::record::{self, RecordError};
use mizzen_types::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Names of all records begin with this.
pub const PREFIX: &str = "master/";
const AGENTS: &str = "master/agent/";
const MAINTENANCE: &str = "master/maintenance";
const FORMAT: u16 = 1;

/// Time between clean-ups.
pub(crate) const GC_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Agents that are away are forgotten after two weeks.
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 3600);
/// And the oldest ones beyond this number.
const MAX_COUNT: usize = 102_400;

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over the registry record {key}")]
pub struct RegistryError {
    /// Its name.
    pub key: String,
    /// What is wrong with it.
    pub source: RecordError,
}

/// A record as it is to be saved.
#[derive(Debug)]
pub struct Saved {
    /// Its name, below [`PREFIX`].
    pub key: String,
    /// Its contents; none of what is no more, and an error if it cannot be written.
    pub value: Result<Option<Vec<u8>>, serde_json::Error>,
}

impl Saved {
    pub(crate) fn new(key: String, value: Option<&impl Serialize>) -> Self {
        Self { key, value: value.map(serde_json::to_vec).transpose() }
    }
}

/// Where an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Part of the cluster.
    Admitted,
    /// Lost, and not back in time.
    Unreachable {
        /// Since when.
        since: Wall,
    },
    /// Removed because its machine went down for its maintenance.
    Down {
        /// Since when.
        since: Wall,
    },
    /// An operator took it out for good; it never comes back under this id.
    Gone {
        /// Since when.
        since: Wall,
    },
}

/// A drain that an operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// Whether anything is left on the agent.
    pub progress: Progress,
    /// What was asked for.
    pub config: v1::DrainConfig,
    /// When.
    pub since: Wall,
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// There are tasks, or updates that a framework is to acknowledge, or the agent is away.
    Draining,
    /// Nothing is left.
    Drained,
}

/// Whether an agent's resources are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// They are.
    #[default]
    Active,
    /// An operator does not want it.
    Deactivated,
}

/// Which machines are maintained when, and which are down for it now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Maintenance {
    format: u16,
    /// All windows; host names in lower case.
    pub schedule: v1::maintenance::Schedule,
    /// Machines of them that are down.
    pub down: Vec<v1::MachineId>,
}

impl Default for Maintenance {
    fn default() -> Self {
        let schedule = v1::maintenance::Schedule::default();
        Self { format: FORMAT, schedule, down: Vec::new() }
    }
}

/// An agent in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    format: u16,
    /// Where it stands.
    pub presence: Presence,
    /// What it said of itself last.
    pub info: v1::AgentInfo,
    /// The node that the id was given to.
    #[serde(default)]
    pub node: Option<OwnerId>,
    /// Whether its resources are offered.
    #[serde(default)]
    pub service: Service,
    /// The drain, if there is one.
    #[serde(default)]
    pub drain: Option<Drain>,
}

/// All records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    agents: BTreeMap<AgentId, AgentRecord>,
    maintenance: Maintenance,
}

impl Registry {
    /// Reads what was saved.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] names the first record that cannot be read.
    pub fn from_records(
        records: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, RegistryError> {
        let mut registry = Self::default();
        for (key, value) in records {
            if let Some(id) = key.strip_prefix(AGENTS) {
                let record = read(FORMAT, &key, &value)?;
                registry.agents.insert(AgentId::from(id), record);
            } else if key == MAINTENANCE {
                registry.maintenance = read(FORMAT, &key, &value)?;
            }
        }
        Ok(registry)
    }

    /// All agents, by id.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentId, &AgentRecord)> + '_ {
        self.agents.iter()
    }

    /// One agent.
    #[must_use]
    pub fn agent(&self, id: &AgentId) -> Option<&AgentRecord> {
        self.agents.get(id)
    }

    /// Says where an agent stands; what operators want of it stays.
    pub fn set_agent(&mut self, id: &AgentId, info: v1::AgentInfo, presence: Presence) {
        let (node, service, drain) = match self.agents.get(id) {
            Some(known) => (known.node.clone(), known.service, known.drain),
            None => (None, Service::Active, None),
        };
        let record = AgentRecord { format: FORMAT, presence, info, node, service, drain };
        self.agents.insert(id.clone(), record);
    }

    /// Says which node an agent's id was given to; nothing if there is no such agent.
    pub fn set_node(&mut self, id: &AgentId, node: OwnerId) {
        if let Some(record) = self.agents.get_mut(id) {
            record.node = Some(node);
        }
    }

    /// Says what operators want of an agent; nothing if there is no such agent.
    pub fn set_service(&mut self, id: &AgentId, service: Service, drain: Option<Drain>) {
        if let Some(record) = self.agents.get_mut(id) {
            (record.service, record.drain) = (service, drain);
        }
    }

    /// The drain of an agent, if there is one.
    #[must_use]
    pub fn drain(&self, id: &AgentId) -> Option<Drain> {
        self.agents.get(id)?.drain
    }

    /// Whether an operator does not want the agent's resources to be offered.
    #[must_use]
    pub fn is_deactivated(&self, id: &AgentId) -> bool {
        self.agents.get(id).is_some_and(|record| record.service == Service::Deactivated)
    }

    /// Whether the agent was taken out for good.
    #[must_use]
    pub fn is_gone(&self, id: &AgentId) -> bool {
        self.agents.get(id).is_some_and(|r| matches!(r.presence, Presence::Gone { .. }))
    }

    /// Which machines are maintained when.
    #[must_use]
    pub fn maintenance(&self) -> &Maintenance {
        &self.maintenance
    }

    /// Replaces the maintenance.
    pub(crate) fn set_maintenance(&mut self, maintenance: Maintenance) {
        self.maintenance = maintenance;
    }

    /// The maintenance as it is to be saved; no contents if there is none.
    pub(crate) fn maintenance_record(&self) -> Saved {
        let some = Some(&self.maintenance).filter(|kept| !kept.schedule.windows.is_empty());
        Saved::new(MAINTENANCE.to_owned(), some)
    }

    /// Since when an agent is unreachable, if it is.
    #[must_use]
    pub fn unreachable_since(&self, id: &AgentId) -> Option<Wall> {
        match self.agents.get(id)?.presence {
            Presence::Unreachable { since } => Some(since),
            Presence::Admitted | Presence::Down { .. } | Presence::Gone { .. } => None,
        }
    }

    /// Since when an agent is not part of the cluster, if it is not.
    fn away_since(&self, id: &AgentId) -> Option<Wall> {
        match self.agents.get(id)?.presence {
            Presence::Unreachable { since }
            | Presence::Down { since }
            | Presence::Gone { since } => Some(since),
            Presence::Admitted => None,
        }
    }

    /// An agent's record as it is to be saved; no contents if there is none.
    pub(crate) fn record(&self, id: &AgentId) -> Saved {
        Saved::new(format!("{AGENTS}{id}"), self.agents.get(id))
    }

    /// Forgets agents that have been away for too long or are too many, and names them.
    pub(crate) fn collect(&mut self, now: Wall) -> Vec<AgentId> {
        let away = self.agents.keys().filter_map(|id| Some((self.away_since(id)?, id.clone())));
        let mut away: Vec<(Wall, AgentId)> = away.collect();
        away.sort();
        let surplus = away.len().saturating_sub(MAX_COUNT);
        let old = |since: Wall| u128::from(now.0.saturating_sub(since.0)) > MAX_AGE.as_nanos();
        let gone = away.into_iter().enumerate();
        let gone = gone.filter(|(at, (since, _))| *at < surplus || old(*since));
        let gone: Vec<AgentId> = gone.map(|(_, (_, id))| id).collect();
        self.agents.retain(|id, _| !gone.contains(id));
        gone
    }
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(
    format: u16,
    key: &str,
    value: &[u8],
) -> Result<T, RegistryError> {
    record::read(format, value).map_err(|source| RegistryError { key: key.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_types::error::chain;

    #[test]
    fn records_come_back() {
        let id = AgentId::from("m-S0");
        let (hostname, port) = ("node".to_owned(), Some(5051));
        let info = v1::AgentInfo { hostname, port, ..v1::AgentInfo::default() };
        let mut registry = Registry::default();
        registry.set_agent(&id, info, Presence::Unreachable { since: Wall(7) });
        let Saved { key, value } = registry.record(&id);
        assert_eq!(key, "master/agent/m-S0");
        let records =
            [(key.clone(), value.unwrap().unwrap()), ("master/weight/web".into(), vec![0])];
        let read = Registry::from_records(records).unwrap();
        assert_eq!(read, registry);
        assert_eq!(read.unreachable_since(&id), Some(Wall(7)));

        let newer = br#"{"format":2,"presence":"admitted","info":{"hostname":"x"}}"#;
        for (value, want) in [(&b"no"[..], "is unreadable"), (newer, "format 2")] {
            let error = Registry::from_records([(key.clone(), value.to_vec())]).unwrap_err();
            let text = chain(&error);
            assert!(text.contains(&key) && text.contains(want), "{text}");
        }
    }

    #[test]
    fn old_unreachable_agents_are_forgotten() {
        let day = |days: u64| Wall(days * 24 * 3600 * 1_000_000_000);
        let mut registry = Registry::default();
        for (id, presence) in [
            ("old", Presence::Unreachable { since: day(1) }),
            ("new", Presence::Unreachable { since: day(10) }),
            ("here", Presence::Admitted),
            ("gone", Presence::Gone { since: day(1) }),
            ("maintained", Presence::Down { since: day(1) }),
        ] {
            registry.set_agent(&id.into(), v1::AgentInfo::default(), presence);
        }
        assert_eq!(registry.collect(day(16)), ["gone", "maintained", "old"].map(AgentId::from));
        assert_eq!(registry.agents().count(), 2);
    }
}
