//! What an agent has done for it.

#[cfg(doc)]
use crate::{Agent, Orders};
use crate::{Order, Probe, Record};
use mizzen_api::link::ToMaster;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::{AgentId, ContainerId};
use mizzen_types::overlay::OverlayGrant;

/// What is to be done, in order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Tell the master.
    ToMaster(Box<ToMaster>),
    /// Write a record so that it survives a crash, before anything that follows.
    /// If that fails, say so with [`Agent::checkpoint_failed`].
    Checkpoint(Box<Record>),
    /// All has been said of a container: its record is needed for no restart any more.
    /// Whoever keeps its sandbox says so with [`Agent::adopt_ended`] at the next start.
    Forget(ContainerId),
    /// This is the node's share of the overlays from now on.
    Overlay(Box<OverlayGrant>),
    /// Keep this as the agent's id.
    SaveId(AgentId),
    /// Keep this for [`Orders::from_bytes`] at the next start; `None` removes it.
    SaveOrders(Option<Vec<u8>>),
    /// Make a container; answer with [`Agent::launched`] or
    /// [`Agent::launch_failed`], then watch it.
    Launch(Box<Order>),
    /// Tell when a container of a former process ends, with [`Agent::ended`].
    Watch(ContainerId),
    /// Send a signal to everything in a container.
    Signal(ContainerId, i32),
    /// Remove all that is left of a container.
    Destroy(ContainerId),
    /// Ask a task how it is; answer with [`Agent::probed`].
    Probe(Box<Probe>),
    /// Say this in the owner log.
    Fact(Key, Option<Box<Fact>>),
}

/// Why a container could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchFailure {
    /// The launcher, a cgroup or a mount refused.
    Container,
    /// A CNI plugin refused or did not answer.
    Network,
}
