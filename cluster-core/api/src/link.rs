//! What an agent and the master say to each other.
//!
//! On one machine both live in one process and pass these values; between
//! machines they travel in frames, see [`frame`].

pub mod frame;

use crate::v1;
use mizzen_types::overlay::{OverlayClaim, OverlayGrant};
use serde::{Deserialize, Serialize};

/// What the operator wants of an agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// It runs tasks.
    #[default]
    Serve,
    /// Its machine is being maintained: tasks run on, and take no new clients.
    Maintain,
    /// Its tasks end.
    Drain(v1::DrainConfig),
}

/// From an agent to the master.
#[derive(Debug, Clone, PartialEq)]
pub enum ToMaster {
    /// First contact (`agent.id` unset), or again after either side restarted.
    Register {
        /// What the agent is and has.
        agent: v1::AgentInfo,
        /// Frameworks of the tasks below.
        frameworks: Vec<v1::FrameworkInfo>,
        /// Every task it has that is not acknowledged to its end.
        tasks: Vec<v1::Task>,
        /// What it had of the overlays before.
        overlay: OverlayClaim,
    },
    /// Repeated until [`ToAgent::Acknowledge`] with its uuid comes.
    StatusUpdate {
        /// Whose task it is.
        framework_id: v1::FrameworkId,
        /// What happened, with its uuid.
        status: v1::TaskStatus,
        /// The newest state that the agent knows; resources follow this one.
        latest_state: v1::TaskState,
    },
    /// Its blocks of an overlay are nearly used up.
    MoreAddresses {
        /// The overlay's name.
        overlay: String,
    },
    /// The answer to [`ToAgent::Ping`].
    Pong,
}

/// From the master to an agent.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and boxed where it waits")]
pub enum ToAgent {
    /// Welcome, under this id.
    Registered {
        /// The agent's id, new or its old one.
        agent_id: v1::AgentId,
        /// What is wanted of it.
        duty: Duty,
        /// Its share of the overlays, if the cluster has any and something is left of them.
        overlay: Option<OverlayGrant>,
    },
    /// Its share of the overlays is another one now.
    Overlay(OverlayGrant),
    /// Something else than before is wanted.
    Duty(Duty),
    /// It has no part in the cluster: all of its tasks end, and nothing is said of them.
    ShutOut {
        /// Why.
        message: String,
    },
    /// It is not, or no longer, known: register.
    Introduce,
    /// Are you there? Whoever hears none of these for long looks for the master anew.
    Ping,
    /// Run a task of this framework.
    RunTask {
        /// Whose task it is.
        framework: v1::FrameworkInfo,
        /// What to run; its resources are allocated to the framework's role.
        task: v1::TaskInfo,
    },
    /// End a task.
    KillTask {
        /// Whose task it is.
        framework_id: v1::FrameworkId,
        /// Which one.
        task_id: v1::TaskId,
        /// Overrides the task's own policy.
        kill_policy: Option<v1::KillPolicy>,
    },
    /// The framework listens again: send what it has not acknowledged, at once.
    FrameworkSubscribed {
        /// Which one.
        framework_id: v1::FrameworkId,
    },
    /// The framework has seen an update.
    Acknowledge {
        /// Whose task it is.
        framework_id: v1::FrameworkId,
        /// Which one.
        task_id: v1::TaskId,
        /// Of the update.
        uuid: Vec<u8>,
    },
    /// The framework is gone: end all of its tasks and say nothing about them.
    ShutdownFramework {
        /// Which one.
        framework_id: v1::FrameworkId,
    },
}
