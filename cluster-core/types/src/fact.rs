//! Facts: what one owner says about the things that it owns.
//!
//! A node writes its tasks here, the leading master writes itself and its
//! frameworks. Names, VIPs and routes are computed from these facts and from
//! nothing else, so they keep working while every master is down.
//!
//! An [`Entry`] is what travels and what is stored. A `None` value is a tombstone:
//! the key was removed at that version.

use crate::ids::{AgentId, ContainerId, FrameworkId, OwnerId, TaskId};
use crate::overlay::NodeOverlay;
use crate::policy::{Policy, PolicyId};
use crate::time::Wall;
use crate::vip::Withheld;
use crate::vip_service::{VipServiceFact, VipServiceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where a fact stands in its owner's log. Only the owner writes a key, so a
/// larger version of the same generation is newer, and nothing has to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Version {
    /// Grows with each start of the owner (for a master: the leader's epoch).
    pub generation: u64,
    /// Grows with each entry.
    pub sequence: u64,
}

/// What a fact is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The node itself.
    Node,
    /// The leading master, written by it.
    Leader,
    /// A framework, written by the leading master.
    Framework(FrameworkId),
    /// A task, written by the agent that runs it.
    Task(FrameworkId, TaskId),
    /// The address of a named VIP: `label.framework`, mangled.
    VipClaim(String),
    /// A virtual service that was registered by hand on the owner.
    VipService(VipServiceId),
    /// A name and a type of record (`A`, `SRV`, …) that were set by hand on the owner.
    DnsRecord(String, String),
    /// A network policy, written by the leading master.
    Policy(PolicyId),
    /// What is wrong with the node; nothing is said while nothing is.
    NodeProblems,
    /// A DC/OS agent with this address that is no node of this cluster yet, written by the
    /// leading master.
    ForeignAgent(IpAddr),
    /// An agent that an operator took out for good, written by the leading master.
    GoneAgent(AgentId),
}

/// What the owner says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// See [`NodeFact`].
    Node(NodeFact),
    /// See [`LeaderFact`].
    Leader(LeaderFact),
    /// See [`FrameworkFact`].
    Framework(FrameworkFact),
    /// See [`TaskFact`].
    Task(Box<TaskFact>),
    /// The IPv4 address claimed for a named VIP; its IPv6 twin is derived.
    VipClaim(IpAddr),
    /// See [`VipServiceFact`].
    VipService(VipServiceFact),
    /// See [`DnsRecordFact`].
    DnsRecord(DnsRecordFact),
    /// See [`Policy`].
    Policy(Box<Policy>),
    /// See [`NodeProblem`].
    NodeProblems(Vec<NodeProblem>),
    /// How the containers of a DC/OS agent are reached.
    ForeignAgent(NodeOverlay),
    /// Since when an agent is out for good. Its tasks are over, whatever its node says.
    GoneAgent(Wall),
}

/// One line of an owner log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Who says it.
    pub owner: OwnerId,
    /// Where it stands in that owner's log.
    pub version: Version,
    /// What it is about.
    pub key: Key,
    /// What is said; `None` removes the key.
    pub value: Option<Fact>,
}

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeFact {
    /// As the machine calls itself.
    pub hostname: String,
    /// The address that its host-mode tasks listen on.
    pub address: IpAddr,
    /// Its agent, if it runs one and that has registered.
    pub agent_id: Option<AgentId>,
    /// Where it stands, such as a rack or a data centre: nodes that say the same are
    /// near each other.
    #[serde(default)]
    pub zone: Option<String>,
    /// Whether it has the cluster's authority: lets nodes join and renews certificates.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub authority: bool,
    /// How its containers are reached, if it has a share of an overlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<NodeOverlay>,
}

/// Something that is wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProblem {
    /// In words, the part of the node first: `vip: …`.
    pub text: String,
    /// Since when, by the node's own clock.
    pub since: Wall,
}

/// The leading master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaderFact {
    /// As the machine calls itself.
    pub hostname: String,
    /// Where the master's API listens.
    pub address: IpAddr,
    /// TCP port of that API.
    pub port: u16,
    /// TCP port of the service scheduler's API, if that runs beside the master.
    #[serde(default)]
    pub services: Option<u16>,
}

/// A framework that the leading master knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameworkFact {
    /// Its name, which is part of its tasks' names.
    pub name: String,
    /// Where its scheduler runs, if it said so.
    pub hostname: Option<String>,
    /// TCP port that the scheduler says people find it at, if it does.
    #[serde(default)]
    pub port: Option<u16>,
}

/// What a name leads to, for a host that is no task; set by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecordFact {
    /// Data of each record, as zone files write it.
    pub values: Vec<String>,
    /// How long clients may keep them, in seconds; as long as anything else if not said.
    #[serde(default)]
    pub ttl: Option<u32>,
}

/// How far a task has come. Terminal tasks have no fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPhase {
    /// Its container is being made.
    Staging,
    /// Forked, not yet reported running.
    Starting,
    /// Running.
    Running,
    /// Running on a machine that is being maintained: takes no new connections.
    Draining,
    /// Told to stop: takes no new connections.
    Killing,
}

/// What the task's health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It has no health check, so running is all that can be asked.
    Unchecked,
    /// It has one, and no result came yet.
    Unknown,
    /// The last results were good.
    Healthy,
    /// The last results were bad.
    Unhealthy,
}

/// A task on an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskFact {
    /// Its id.
    pub task_id: TaskId,
    /// Whose task it is.
    pub framework_id: FrameworkId,
    /// That framework's name, so that a reader needs no other fact.
    pub framework_name: String,
    /// Where it runs.
    pub agent_id: AgentId,
    /// Its container.
    pub container_id: ContainerId,
    /// Its name; several tasks may share one.
    pub name: String,
    /// The name that its `DiscoveryInfo` asks for instead.
    pub discovery_name: Option<String>,
    /// How far it has come.
    pub phase: TaskPhase,
    /// What its health check says.
    pub health: Health,
    /// The agent's address.
    pub host_address: IpAddr,
    /// Addresses of its container; empty on the host's network.
    pub container_addresses: Vec<IpAddr>,
    /// Who can use those addresses.
    #[serde(default, skip_serializing_if = "Reach::is_cluster")]
    pub container_reach: Reach,
    /// Host ports that it holds, in the order of its resources.
    pub host_ports: Vec<u16>,
    /// Ports of its `DiscoveryInfo`, in order.
    pub ports: Vec<PortFact>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was launched.
    pub launched: Wall,
}

/// Who can use the addresses of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Every node.
    #[default]
    Cluster,
    /// The node that it runs on: others have containers of their own at these addresses.
    Node,
}

impl Reach {
    /// Whether every node can use them.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    pub fn is_cluster(&self) -> bool {
        *self == Self::Cluster
    }
}

/// A port that a task announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortFact {
    /// The number that clients of the task's own address use: the container port
    /// where it has a network of its own, the host port otherwise.
    pub number: u16,
    /// The port of the agent that leads there, if any.
    pub host_port: Option<u16>,
    /// Its name.
    pub name: Option<String>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its labels; `VIP_<n>` makes a VIP, `network-scope` picks the address.
    pub labels: BTreeMap<String, String>,
}

impl TaskFact {
    /// The addresses of its container that every node can use.
    #[must_use]
    pub fn reachable_addresses(&self) -> &[IpAddr] {
        match self.container_reach {
            Reach::Cluster => &self.container_addresses,
            Reach::Node => &[],
        }
    }

    /// Whether names and VIPs lead new clients here.
    #[must_use]
    pub fn takes_clients(&self) -> bool {
        self.withheld().is_none()
    }

    /// Why VIPs lead no new clients here, if they do not.
    #[must_use]
    pub fn withheld(&self) -> Option<Withheld> {
        match (self.phase, self.health) {
            (TaskPhase::Staging | TaskPhase::Starting, _) => Some(Withheld::Starting),
            (TaskPhase::Draining, _) => Some(Withheld::Drained),
            (TaskPhase::Killing, _) => Some(Withheld::Stopping),
            (TaskPhase::Running, Health::Unknown) => Some(Withheld::Unchecked),
            (TaskPhase::Running, Health::Unhealthy) => Some(Withheld::Unhealthy),
            (TaskPhase::Running, Health::Unchecked | Health::Healthy) => None,
        }
    }
}
