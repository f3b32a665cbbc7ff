//! What outlives the process: which agents there are, and which are unreachable.
//!
//! One record per agent, as JSON with a format number. Records of other kinds below
//! [`PREFIX`] belong to versions to come and are left alone.

use mizzen_api::v1;
use mizzen_types::ids::AgentId;
use mizzen_types::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Names of all records begin with this.
pub const PREFIX: &str = "master/";
const AGENTS: &str = "master/agent/";
const FORMAT: u16 = 1;

/// Time between clean-ups.
pub(crate) const GC_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Unreachable agents are forgotten after two weeks.
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 3600);
/// And the oldest ones beyond this number.
const MAX_COUNT: usize = 102_400;

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not the JSON of a record.
    #[error("cannot read the registry record {key}")]
    Malformed {
        /// Its name.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Written by a version that this one does not know.
    #[error("the registry record {key} has format {format}, this program reads {FORMAT}")]
    Format {
        /// Its name.
        key: String,
        /// Its format.
        format: u16,
    },
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
}

/// An agent in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    format: u16,
    /// Where it stands.
    pub presence: Presence,
    /// What it said of itself last.
    pub info: v1::AgentInfo,
}

/// All records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    agents: BTreeMap<AgentId, AgentRecord>,
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
            let Some(id) = key.strip_prefix(AGENTS) else { continue };
            let record: AgentRecord = serde_json::from_slice(&value)
                .map_err(|source| RegistryError::Malformed { key: key.clone(), source })?;
            if record.format != FORMAT {
                return Err(RegistryError::Format { key, format: record.format });
            }
            registry.agents.insert(AgentId::from(id), record);
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

    /// Says where an agent stands.
    pub fn set_agent(&mut self, id: &AgentId, info: v1::AgentInfo, presence: Presence) {
        self.agents.insert(id.clone(), AgentRecord { format: FORMAT, presence, info });
    }

    /// Since when an agent is unreachable, if it is.
    #[must_use]
    pub fn unreachable_since(&self, id: &AgentId) -> Option<Wall> {
        match self.agents.get(id)?.presence {
            Presence::Unreachable { since } => Some(since),
            Presence::Admitted => None,
        }
    }

    /// An agent's record as it is to be saved; no contents if there is none.
    pub(crate) fn record(&self, id: &AgentId) -> (String, Option<Vec<u8>>) {
        let value = self.agents.get(id).and_then(|record| serde_json::to_vec(record).ok());
        (format!("{AGENTS}{id}"), value)
    }

    /// Forgets unreachable agents that are too old or too many, and names them.
    pub(crate) fn collect(&mut self, now: Wall) -> Vec<AgentId> {
        let mut unreachable: Vec<(Wall, AgentId)> = self
            .agents
            .keys()
            .filter_map(|id| Some((self.unreachable_since(id)?, id.clone())))
            .collect();
        unreachable.sort();
        let surplus = unreachable.len().saturating_sub(MAX_COUNT);
        let old = |since: Wall| u128::from(now.0.saturating_sub(since.0)) > MAX_AGE.as_nanos();
        let gone = unreachable.into_iter().enumerate();
        let gone = gone.filter(|(at, (since, _))| *at < surplus || old(*since));
        let gone: Vec<AgentId> = gone.map(|(_, (_, id))| id).collect();
        self.agents.retain(|id, _| !gone.contains(id));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let id = AgentId::from("m-S0");
        let (hostname, port) = ("node".to_owned(), Some(5051));
        let info = v1::AgentInfo { hostname, port, ..v1::AgentInfo::default() };
        let mut registry = Registry::default();
        registry.set_agent(&id, info, Presence::Unreachable { since: Wall(7) });
        let (key, value) = registry.record(&id);
        assert_eq!(key, "master/agent/m-S0");
        let records = [(key.clone(), value.unwrap()), ("master/weight/web".into(), vec![0])];
        let read = Registry::from_records(records).unwrap();
        assert_eq!(read, registry);
        assert_eq!(read.unreachable_since(&id), Some(Wall(7)));

        let newer = br#"{"format":2,"presence":"admitted","info":{"hostname":"x"}}"#;
        for (value, want) in [(&b"no"[..], "cannot read"), (newer, "format 2")] {
            let error = Registry::from_records([(key.clone(), value.to_vec())]).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
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
        ] {
            registry.set_agent(&id.into(), v1::AgentInfo::default(), presence);
        }
        assert_eq!(registry.collect(day(16)), [AgentId::from("old")]);
        assert_eq!(registry.agents().count(), 2);
    }
}
