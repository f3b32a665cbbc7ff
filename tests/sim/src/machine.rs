//! What survives a crash of the daemon: the disk, and the containers that run.

use mizzen_agent::{Found, Record};
use mizzen_types::container::Exit;
use mizzen_types::ids::ContainerId;
use mizzen_types::random::Dice;
use std::collections::{BTreeMap, BTreeSet};

/// How far a container has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its launcher waits for the network; it goes away with the daemon.
    Preparing,
    /// It runs.
    Running,
    /// It ended, and its launcher wrote down how.
    Ended(Exit),
}

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    /// The task in it: framework and task id.
    pub task: (String, String),
    /// How far it has come.
    pub stage: Stage,
    /// Its first process.
    pub pid: u32,
    /// Whether it was told to end.
    pub told: bool,
}

/// Disk and kernel.
#[derive(Debug, Default)]
pub struct Machine {
    /// The store.
    pub store: BTreeMap<String, Vec<u8>>,
    /// The agent's records, by container.
    pub records: BTreeMap<ContainerId, Vec<u8>>,
    /// Every container that has not been destroyed.
    pub containers: BTreeMap<ContainerId, Container>,
    /// Every task that ever ran, to see that none runs twice.
    pub launched: BTreeSet<(String, String)>,
    next_pid: u32,
}

impl Machine {
    /// Keeps or removes a record of the store.
    pub fn save(&mut self, key: String, value: Option<Vec<u8>>) {
        match value {
            Some(value) => drop(self.store.insert(key, value)),
            None => drop(self.store.remove(&key)),
        }
    }

    /// A container begins to be made.
    pub fn prepare(&mut self, container: &ContainerId, task: (String, String)) {
        self.next_pid += 1;
        let made = Container { task, stage: Stage::Preparing, pid: self.next_pid, told: false };
        self.containers.insert(container.clone(), made);
    }

    /// Its task is forked. A task that ran before must not run again.
    pub fn fork(&mut self, container: &ContainerId) -> Option<u32> {
        let found = self.containers.get_mut(container)?;
        if found.stage != Stage::Preparing {
            return None;
        }
        found.stage = Stage::Running;
        let fresh = self.launched.insert(found.task.clone());
        assert!(fresh, "task {:?} was launched twice", found.task);
        Some(found.pid)
    }

    /// The daemon is gone: what waits for it gives up, what runs goes on.
    pub fn lose_daemon(&mut self) {
        self.containers.retain(|_, container| container.stage != Stage::Preparing);
    }

    /// What a new daemon finds.
    #[must_use]
    pub fn found(&self) -> Vec<Found> {
        let found = |(id, container): (&ContainerId, &Container)| Found {
            container: id.clone(),
            running: container.stage == Stage::Running,
            pid: Some(container.pid),
            addresses: Vec::new(),
            publishing: Vec::new(),
        };
        self.containers.iter().map(found).collect()
    }

    /// The records as a new daemon reads them.
    #[must_use]
    pub fn read_records(&self) -> Vec<Record> {
        self.records.values().filter_map(|bytes| Record::from_bytes(bytes).ok()).collect()
    }

    /// Ids of the tasks that run.
    #[must_use]
    pub fn running(&self) -> Vec<&(String, String)> {
        let runs = |container: &&Container| container.stage == Stage::Running;
        self.containers.values().filter(runs).map(|container| &container.task).collect()
    }

    /// A running container, at random.
    #[must_use]
    pub fn any_running(&self, dice: &mut Dice) -> Option<ContainerId> {
        let runs = |(_, container): &(&ContainerId, &Container)| container.stage == Stage::Running;
        let ids: Vec<&ContainerId> =
            self.containers.iter().filter(runs).map(|(id, _)| id).collect();
        ids.get(dice.below(ids.len())).map(|id| (*id).clone())
    }
}
