//! What survives a crash of the daemon: one record per container.
//!
//! The record is written whole, before what it describes is done, and removed when
//! the last update of the task was acknowledged. With it and with what the kernel
//! still runs, [`crate::Agent::recover`] takes up every task where it was.

use mizzen_api::v1;
use mizzen_types::ids::{AgentId, ContainerId, FrameworkId, TaskId};
use mizzen_types::record::{self, RecordError};
use mizzen_types::time::Wall;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Format of a record.
pub const FORMAT: u16 = 1;

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its container is being made.
    Launching,
    /// It runs.
    Running,
    /// It was told to end.
    Killing,
    /// It ended; only its updates are left.
    Ended,
}

/// Whether anybody wants to hear of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Its framework does.
    Framework,
    /// Its framework is gone.
    Nobody,
}

/// One task with its container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Whose task it is.
    pub framework: v1::FrameworkInfo,
    /// What was asked for.
    pub task: v1::TaskInfo,
    /// The container that was made for it.
    pub container: ContainerId,
    /// The agent's id at that time; sandboxes lie below it.
    pub agent: AgentId,
    /// When it was launched.
    pub launched: Wall,
    /// How far it has come.
    pub phase: Phase,
    /// Whether updates are sent.
    pub audience: Audience,
    /// First process of the container, seen from the host.
    pub pid: Option<u32>,
    /// Addresses of the container; empty on the host's network.
    pub addresses: Vec<IpAddr>,
    /// Its networks that lead ports of the host to it, as the task asked.
    #[serde(default)]
    pub publishing: Vec<String>,
    /// The last word of its health check.
    pub healthy: Option<bool>,
    /// One status per state that it went through, the last one of each.
    pub statuses: Vec<v1::TaskStatus>,
    /// Statuses that the framework has not acknowledged, oldest first.
    pub pending: Vec<v1::TaskStatus>,
}

impl Record {
    /// A task that was just taken on.
    #[must_use]
    pub fn new(
        framework: v1::FrameworkInfo,
        task: v1::TaskInfo,
        container: ContainerId,
        agent: AgentId,
        launched: Wall,
    ) -> Self {
        Self {
            framework,
            task,
            container,
            agent,
            launched,
            phase: Phase::Launching,
            audience: Audience::Framework,
            pid: None,
            addresses: Vec::new(),
            publishing: Vec::new(),
            healthy: None,
            statuses: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Whose task it is.
    #[must_use]
    pub fn framework_id(&self) -> FrameworkId {
        let id = self.framework.id.as_ref().map_or("", |id| id.value.as_str());
        FrameworkId::new(id)
    }

    /// Which one of them.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        TaskId::new(self.task.task_id.value.as_str())
    }

    /// Where the sandbox lies below the work directory.
    #[must_use]
    pub fn sandbox(&self) -> String {
        format!(
            "slaves/{}/frameworks/{}/executors/{}/runs/{}",
            self.agent,
            self.framework_id(),
            self.task_id(),
            self.container
        )
    }

    /// Reads a record as [`Self::to_bytes`] wrote it.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if it is none, or of another format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        record::read(FORMAT, bytes)
    }

    /// The record as a file's contents.
    ///
    /// # Errors
    ///
    /// [`RecordError::Unwritable`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        record::write(FORMAT, self)
    }
}
