//! Agents and frameworks as the allocator sees them.

use mizzen_types::ids::FrameworkId;
use mizzen_types::resources::{Quantities, Resource, Resources, Scalar};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Whether GPU machines are kept for those who use GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuPolicy {
    /// Only frameworks with the capability are offered anything of them.
    Reserve,
    /// They are offered to all.
    Share,
}

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time between batches.
    pub interval: Duration,
    /// An offer must have at least one of these.
    pub min_allocatable: Vec<Quantities>,
    /// Names that do not count for shares.
    pub excluded: BTreeSet<Arc<str>>,
    /// See [`GpuPolicy`].
    pub gpus: GpuPolicy,
}

impl Default for Settings {
    /// A batch a second; 0.01 CPUs or 32 MB at least.
    fn default() -> Self {
        let least = |name: &str, milli| {
            let mut quantities = Quantities::new();
            quantities.add_one(&Arc::from(name), Scalar::from_milli(milli));
            quantities
        };
        Self {
            interval: Duration::from_secs(1),
            min_allocatable: vec![least("cpus", 10), least("mem", 32_000)],
            excluded: BTreeSet::new(),
            gpus: GpuPolicy::Reserve,
        }
    }
}

/// What a framework can deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameworkCapability {
    /// Resources that can be taken back.
    RevocableResources,
    /// Machines with GPUs.
    GpuResources,
    /// Volumes used by several tasks.
    SharedResources,
    /// Reservations below reservations.
    ReservationRefinement,
    /// Several roles.
    MultiRole,
    /// Machines in other regions.
    RegionAware,
}

/// What an agent can deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgentCapability {
    /// Frameworks with several roles.
    MultiRole,
    /// Roles below roles.
    HierarchicalRole,
    /// Reservations below reservations.
    ReservationRefinement,
}

impl AgentCapability {
    /// What every agent of this version announces.
    #[must_use]
    pub fn all() -> BTreeSet<Self> {
        BTreeSet::from([Self::MultiRole, Self::HierarchicalRole, Self::ReservationRefinement])
    }
}

/// Where an agent is, seen from the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Region {
    /// In the master's own region.
    #[default]
    Home,
    /// In another one.
    Remote,
}

/// Whether someone takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activity {
    /// Takes part.
    #[default]
    Active,
    /// Is known, and what it holds counts.
    Inactive,
}

/// A framework.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FrameworkSpec {
    /// Roles that it is subscribed to.
    pub roles: BTreeSet<Arc<str>>,
    /// Those of them in which it wants no offers.
    pub suppressed: BTreeSet<Arc<str>>,
    /// What it can deal with.
    pub capabilities: BTreeSet<FrameworkCapability>,
    /// By role: an offer must have at least one of these, whatever the operator
    /// decided; an empty list asks for nothing.
    pub min_allocatable: BTreeMap<Arc<str>, Vec<Quantities>>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSpec {
    /// All that it has.
    pub total: Resources,
    /// What it can deal with.
    pub capabilities: BTreeSet<AgentCapability>,
    /// See [`Region`].
    pub region: Region,
}

impl AgentSpec {
    /// An agent of this version, in the master's region.
    #[must_use]
    pub fn new(total: Resources) -> Self {
        Self { total, capabilities: AgentCapability::all(), region: Region::Home }
    }
}

/// By framework and role: what of one agent is offered or allocated.
pub type AgentAllocation = BTreeMap<FrameworkId, BTreeMap<Arc<str>, Resources>>;

#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) spec: FrameworkSpec,
    pub(crate) activity: Activity,
}

impl Framework {
    pub(crate) fn can(&self, capability: FrameworkCapability) -> bool {
        self.spec.capabilities.contains(&capability)
    }
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) spec: AgentSpec,
    pub(crate) activity: Activity,
    pub(crate) held: AgentAllocation,
    pub(crate) available: Resources,
    /// What the total counts towards the cluster's.
    pub(crate) quantities: Quantities,
    /// Which of the properties that some frameworks must not see are there at all.
    pub(crate) traits: Traits,
}

/// What is worth a second look before offering.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Traits {
    pub(crate) gpus: bool,
    pub(crate) reserved: bool,
    pub(crate) special: bool,
}

impl Agent {
    pub(crate) fn new(spec: AgentSpec, held: AgentAllocation) -> Self {
        let mut agent = Self {
            spec,
            activity: Activity::Active,
            held,
            available: Resources::new(),
            quantities: Quantities::new(),
            traits: Traits::default(),
        };
        agent.measure();
        agent
    }

    /// Computes again what follows from the total and what is held.
    pub(crate) fn measure(&mut self) {
        let total = &self.spec.total;
        let special = |r: &Resource| r.shared || r.revocable || r.reservations.len() > 1;
        self.traits = Traits {
            gpus: total.scalar("gpus").is_positive(),
            reserved: total.iter().any(|r| !r.reservations.is_empty()),
            special: total.iter().any(special),
        };
        self.quantities = total.scalar_quantities();
        let mut available = total.non_shared();
        for held in self.held.values().flat_map(BTreeMap::values) {
            available -= &held.non_shared();
        }
        available += total.shared();
        self.available = available;
    }

    /// Gives resources to a framework.
    pub(crate) fn give(&mut self, framework: &FrameworkId, role: &Arc<str>, given: &Resources) {
        let roles = self.held.entry(framework.clone()).or_default();
        *roles.entry(Arc::clone(role)).or_default() += given;
        if self.traits.special {
            self.available -= &given.non_shared();
        } else {
            self.available -= given;
        }
    }

    /// Takes back as much of `returned` as the framework holds, and says how much.
    pub(crate) fn take(
        &mut self,
        framework: &FrameworkId,
        role: &str,
        returned: &Resources,
    ) -> Resources {
        let Some(roles) = self.held.get_mut(framework) else { return Resources::new() };
        let Some(held) = roles.get_mut(role) else { return Resources::new() };
        if !held.contains(returned) {
            return Resources::new();
        }
        *held -= returned;
        if held.is_empty() {
            roles.remove(role);
        }
        if roles.is_empty() {
            self.held.remove(framework);
        }
        self.measure();
        returned.clone()
    }
}
