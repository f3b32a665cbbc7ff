//! Virtual services from task labels.
//!
//! [`Planner`] is fed with the changes of task facts and keeps, per VIP, the
//! backends that they add up to; a change of one task touches the VIPs of that task
//! and no others. Named VIPs get an address that is claimed once: a hash of the
//! name, probed past the addresses that are claimed or that a label spells out, then
//! kept for good. A label may spell out an address that a name holds already: both
//! are served there, and share the backends where they meet on one port.

mod claims;
mod labels;

use labels::{Target, Wish};
use mizzen_types::fact::{PortFact, TaskFact};
use mizzen_types::ids::{FrameworkId, TaskId};
use mizzen_types::vip::{BackendSpec, Distance, Protocol, VipKey, VipPolicy, VipSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

pub use claims::{Claims, Range};
pub use labels::LabelError;

/// Who stands behind a backend.
pub type TaskKey = (FrameworkId, TaskId);

/// All virtual services of the cluster, as tasks ask for them.
#[derive(Debug)]
pub struct Planner {
    claims: Claims,
    tasks: BTreeMap<TaskKey, Vec<(ServiceKey, BackendSpec)>>,
    services: Services,
    problems: BTreeMap<TaskKey, Vec<LabelError>>,
}

/// The backends of each service, by the task behind them.
type Services = BTreeMap<ServiceKey, BTreeMap<TaskKey, BackendSpec>>;

/// What a label names: an address or a name, with port and transport.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ServiceKey {
    target: Target,
    port: u16,
    protocol: Protocol,
}

/// A named VIP that needs its address written into the owner log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `label.framework`, mangled.
    pub name: String,
    /// Its address from now on.
    pub address: IpAddr,
}

/// What a changed task changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Services that must be looked at again with [`Planner::spec`].
    pub changed: BTreeSet<VipKey>,
    /// Addresses that were claimed just now.
    pub claims: Vec<Claim>,
}

impl Planner {
    /// A planner without services. `claims` are the addresses that names hold.
    #[must_use]
    pub fn new(claims: Claims) -> Self {
        let (tasks, services, problems) = Default::default();
        Self { claims, tasks, services, problems }
    }

    /// Takes in the claim of a former process or of another node.
    pub fn adopt(&mut self, name: &str, address: IpAddr) {
        self.claims.adopt(name, address);
    }

    /// A task came, changed (`after`) or went (`None`).
    pub fn apply(&mut self, key: &TaskKey, after: Option<&TaskFact>) -> Effects {
        let (wanted, problems) = after.map(backends_of).unwrap_or_default();
        if problems.is_empty() {
            self.problems.remove(key);
        } else {
            self.problems.insert(key.clone(), problems);
        }
        let before = match wanted.is_empty() {
            true => self.tasks.remove(key),
            false => self.tasks.insert(key.clone(), wanted.clone()),
        }
        .unwrap_or_default();
        if before == wanted {
            return Effects::default();
        }

        let mut effects = Effects::default();
        for (service, _) in &before {
            if let Some(backends) = self.services.get_mut(service) {
                backends.remove(key);
            }
        }
        for (service, backend) in &wanted {
            self.services.entry(service.clone()).or_default().insert(key.clone(), backend.clone());
        }
        for (service, _) in before.iter().chain(&wanted) {
            if let Some(vip) = self.address(service, &mut effects.claims) {
                effects.changed.insert(vip);
            }
            if self.services.get(service).is_some_and(BTreeMap::is_empty) {
                self.services.remove(service);
            }
        }
        effects
    }

    /// What a service should look like now; `None` if nothing wants it any more.
    #[must_use]
    pub fn spec(&self, vip: &VipKey) -> Option<VipSpec> {
        let literal = self.backends(Target::Address(vip.address), vip);
        let name = self.claims.name_of(vip.address).map(str::to_owned);
        let named = name.clone().and_then(|name| self.backends(Target::Name(name), vip));
        let name = name.filter(|_| named.is_some());
        if literal.is_none() && named.is_none() {
            return None;
        }
        let both = literal.into_iter().chain(named);
        let mut backends: Vec<BackendSpec> = both.flat_map(BTreeMap::values).cloned().collect();
        backends.sort();
        backends.dedup_by_key(|backend| backend.address);
        Some(VipSpec { key: *vip, name, backends, policy: VipPolicy::default() })
    }

    /// Every service, in the order of addresses.
    #[must_use]
    pub fn specs(&self) -> BTreeMap<VipKey, VipSpec> {
        self.services
            .keys()
            .filter_map(|service| {
                let address = match &service.target {
                    Target::Address(address) => *address,
                    Target::Name(name) => self.claims.address_of(name)?,
                };
                let key = VipKey { address, port: service.port, protocol: service.protocol };
                Some((key, self.spec(&key)?))
            })
            .collect()
    }

    /// The name whose VIP has this address.
    #[must_use]
    pub fn name_of(&self, vip: &VipKey) -> Option<&str> {
        self.claims.name_of(vip.address)
    }

    /// Whether any service of this name is left, on whichever port.
    #[must_use]
    pub fn is_used(&self, name: &str) -> bool {
        is_wanted(&self.services, Target::Name(name.to_owned()))
    }

    /// Labels that make no VIP, and why, by task.
    pub fn problems(&self) -> impl Iterator<Item = (&TaskKey, &LabelError)> {
        self.problems.iter().flat_map(|(task, all)| all.iter().map(move |problem| (task, problem)))
    }

    fn backends(&self, target: Target, vip: &VipKey) -> Option<&BTreeMap<TaskKey, BackendSpec>> {
        let (port, protocol) = (vip.port, vip.protocol);
        self.services.get(&ServiceKey { target, port, protocol })
    }

    fn address(&mut self, service: &ServiceKey, claimed: &mut Vec<Claim>) -> Option<VipKey> {
        let address = match &service.target {
            Target::Address(address) => *address,
            Target::Name(name) => match self.claims.address_of(name) {
                Some(address) => address,
                None => {
                    let services = &self.services;
                    let spelled_out = |address| is_wanted(services, Target::Address(address));
                    let address = self.claims.claim(name, spelled_out)?;
                    claimed.push(Claim { name: name.clone(), address });
                    address
                }
            },
        };
        Some(VipKey { address, port: service.port, protocol: service.protocol })
    }
}

/// Whether there is a service of this target, on whichever port.
fn is_wanted(services: &Services, target: Target) -> bool {
    let first = ServiceKey { target, port: 0, protocol: Protocol::Tcp };
    let next = services.range(&first..).next();
    next.is_some_and(|(service, _)| service.target == first.target)
}

/// The services that a task stands behind, and what is wrong with its labels.
fn backends_of(task: &TaskFact) -> (Vec<(ServiceKey, BackendSpec)>, Vec<LabelError>) {
    let (mut backends, mut problems) = (Vec::new(), Vec::new());
    for wish in labels::wishes(task) {
        match wish.and_then(|wish| backend_of(task, wish)) {
            Ok(backend) => backends.push(backend),
            Err(problem) => problems.push(problem),
        }
    }
    backends.sort();
    (backends, problems)
}

fn backend_of(task: &TaskFact, wish: Wish) -> Result<(ServiceKey, BackendSpec), LabelError> {
    let address = match wish.port {
        labels::TaskPort::Announced(port) => address_of(task, port),
        labels::TaskPort::Host(port) => Some(SocketAddr::new(task.host_address, port)),
    };
    let same_family = |address: &SocketAddr| !matches!(wish.target, Target::Address(vip) if vip.is_ipv4() != address.is_ipv4());
    let address = address
        .filter(same_family)
        .ok_or_else(|| LabelError::NoAddress { label: wish.label.clone() })?;
    let service = ServiceKey { target: wish.target, port: wish.vip_port, protocol: wish.protocol };
    let backend = BackendSpec {
        address,
        weight: wish.weight,
        admitted: task.takes_clients(),
        distance: Distance::default(),
        task: Some((task.framework_id.clone(), task.task_id.clone())),
    };
    Ok((service, backend))
}

/// Where clients reach a port: at the container's own address where it has one,
/// unless the port says that it is meant for the host's.
fn address_of(task: &TaskFact, port: &PortFact) -> Option<SocketAddr> {
    let host = port.host_port.map(|number| SocketAddr::new(task.host_address, number));
    let container =
        task.container_addresses.first().map(|address| SocketAddr::new(*address, port.number));
    match port.labels.get("network-scope").map(String::as_str) {
        Some("host") => host.or(container),
        _ => container.or(host),
    }
}

/// One change of the balancer's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make or change a service.
    Set(VipSpec),
    /// Remove a service.
    Remove(VipKey),
}

/// What must be done so that `observed` becomes `desired`. Backends are compared
/// by address, weight and admission; which task is behind one does not matter to
/// the kernel.
#[must_use]
pub fn difference(
    desired: &BTreeMap<VipKey, VipSpec>,
    observed: &BTreeMap<VipKey, Vec<BackendSpec>>,
) -> Vec<Action> {
    let removed = observed.keys().filter(|vip| !desired.contains_key(vip));
    let changed = desired.iter().filter(|(vip, spec)| match observed.get(vip) {
        Some(backends) => !same(&spec.backends, backends),
        None => true,
    });
    removed
        .map(|vip| Action::Remove(*vip))
        .chain(changed.map(|(_, spec)| Action::Set(spec.clone())))
        .collect()
}

fn same(wanted: &[BackendSpec], observed: &[BackendSpec]) -> bool {
    let essence = |backend: &BackendSpec| (backend.address, backend.weight, backend.admitted);
    let mut observed: Vec<_> = observed.iter().map(essence).collect();
    observed.sort_unstable();
    wanted.iter().map(essence).eq(observed)
}

#[cfg(test)]
mod tests;
