//! Virtual services from the labels of tasks and from what was registered by hand.
//!
//! [`Planner`] is fed with the changes of facts and keeps, per VIP, the backends that
//! they add up to; a change of one task touches the VIPs of that task and no others.
//! Named VIPs get an address that is claimed once: a hash of the name, probed past the
//! addresses that are claimed or that somebody spells out, then kept for good. Where nodes
//! that did not hear of each other claimed different ones, all decide alike. The claim
//! holds an IPv4 address and its IPv6 twin; a name has the one, the other or both,
//! depending on the families of its backends. Somebody may spell out an address that a
//! name holds already: both are served there, and share the backends where they meet on
//! one port.

mod claiming;
mod claims;
mod effects;
mod labels;
mod place;
mod policy;
mod preview;
mod problem;
mod source;
mod table;

use mizzen_types::fact::{Fact, Key, TaskFact};
use mizzen_types::ids::OwnerId;
use mizzen_types::place::{Moved, Places};
use mizzen_types::vip::{VipKey, VipSpec};
use mizzen_types::vip_service::{VipHost, VipServiceFact, VipServiceId};
use place::Ports;
use source::{ServiceKey, Share, Standing, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use table::{Service, Table};

pub use claims::{Claims, Range, twin};
pub use effects::{Claim, Effects, VipBackends};
pub use preview::{NameChange, Preview, VipChange};
pub use problem::{LabelError, Problem};
pub use source::Source;

/// All virtual services of the cluster, as facts ask for them.
#[derive(Debug, Clone)]
pub struct Planner {
    claims: Claims,
    places: Places,
    sources: BTreeMap<Arc<Source>, Vec<Standing>>,
    table: Table,
    problems: BTreeMap<Arc<Source>, Vec<LabelError>>,
    /// Where this node itself listens.
    listeners: BTreeSet<VipKey>,
    /// By which ports clients of this node reach its own tasks.
    own_ports: Ports,
    /// How often this node followed others to a lower address of a name.
    followed_down: BTreeMap<String, u8>,
}

impl Planner {
    /// A planner without services, for the node of that log. `claims` are the addresses
    /// that names hold.
    #[must_use]
    pub fn new(claims: Claims, here: OwnerId) -> Self {
        Self {
            claims,
            places: Places::new(here),
            sources: BTreeMap::new(),
            table: Table::default(),
            problems: BTreeMap::new(),
            listeners: BTreeSet::new(),
            own_ports: Ports::HostIfNeeded,
            followed_down: BTreeMap::new(),
        }
    }

    /// Says that nothing translates a packet once more that was sent to a VIP: tasks of
    /// this node are reached in their containers, also where a port of the host leads there.
    pub fn avoid_own_ports(&mut self) {
        self.own_ports = Ports::Container;
    }

    /// A fact came, changed (`after`) or went (`None`).
    pub fn apply(&mut self, owner: &OwnerId, key: &Key, after: Option<&Fact>) -> Effects {
        match (key, after) {
            (Key::Task(framework, task), after) => {
                let task = Arc::new((framework.clone(), task.clone()));
                let fact = match after {
                    Some(Fact::Task(fact)) => Some(fact.as_ref()),
                    _ => None,
                };
                self.apply_task(Source::Task { task, owner: owner.clone() }, fact)
            }
            (Key::VipService(service), after) => {
                let source = Source::Service { service: service.clone(), owner: owner.clone() };
                let wanted = match after {
                    Some(Fact::VipService(fact)) => vec![self.standing(owner, service, fact)],
                    _ => Vec::new(),
                };
                self.apply_source(source, wanted)
            }
            (Key::VipClaim(name), after) => self.hear_claim(owner, name, after),
            (Key::Node, after) => {
                let node = match after {
                    Some(Fact::Node(node)) => Some(node),
                    _ => None,
                };
                let changed = match self.places.apply(owner, node) {
                    Moved::Nothing => BTreeSet::new(),
                    Moved::Node | Moved::Here => self.keys().collect(),
                };
                Effects { changed, ..Effects::default() }
            }
            _ => Effects::default(),
        }
    }

    /// Whether a node does not answer: what runs there takes no new connections
    /// meanwhile. Returns the services that must be looked at again.
    pub fn set_doubt(&mut self, node: &OwnerId, doubted: bool) -> BTreeSet<VipKey> {
        if !self.places.set_doubt(node, doubted) {
            return BTreeSet::new();
        }
        let there = self.sources.iter().filter(|(source, _)| source.owner() == node);
        let services = there.flat_map(|(_, standings)| standings);
        services.flat_map(|standing| self.keys_of(&standing.service)).collect()
    }

    /// Says which addresses this machine has: what is there is near. All services should
    /// be looked at again afterwards.
    pub fn set_own_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.places.set_own(addresses);
    }

    /// Says where this node itself listens: a VIP there would keep its clients from it.
    /// Returns the services that must be looked at again.
    pub fn set_listeners(&mut self, listeners: BTreeSet<VipKey>) -> BTreeSet<VipKey> {
        let changed = self.listeners.symmetric_difference(&listeners).copied().collect();
        self.listeners = listeners;
        changed
    }

    /// Whether an address is this node's own affair, so that no VIP can be there.
    #[must_use]
    pub fn is_own(&self, vip: &VipKey) -> bool {
        vip.address.is_loopback() || self.listeners.contains(vip)
    }

    /// What a service should look like now; `None` if nothing wants it any more, or it
    /// cannot be there.
    #[must_use]
    pub fn spec(&self, vip: &VipKey) -> Option<VipSpec> {
        let services = self.services(vip);
        if services.is_empty() {
            return None;
        }
        Some(VipSpec {
            key: *vip,
            name: self.named(vip).and(self.name_of(vip)).map(str::to_owned),
            backends: table::backends(&services, vip.address, &self.places),
            policy: policy::resolve(&table::voices(&services)).policy(),
        })
    }

    /// The same of some of its backends: those that are in [`Effects::backends`].
    #[must_use]
    pub fn backends(&self, vip: &VipKey, backends: &BTreeSet<SocketAddr>) -> Option<VipBackends> {
        let services = self.services(vip);
        if services.is_empty() {
            return None;
        }
        let of_family = backends.iter().filter(|at| at.is_ipv4() == vip.address.is_ipv4());
        let backend = |at: &SocketAddr| (*at, table::backend_at(&services, *at, &self.places));
        Some(VipBackends {
            backends: of_family.map(backend).collect(),
            policy: policy::resolve(&table::voices(&services)).policy(),
        })
    }

    /// Who stands behind a VIP, if it can be there.
    fn services(&self, vip: &VipKey) -> Vec<&Service> {
        if self.is_own(vip) {
            return Vec::new();
        }
        self.literal(vip).into_iter().chain(self.named(vip)).collect()
    }

    /// Every service, in the order of addresses.
    #[must_use]
    pub fn specs(&self) -> BTreeMap<VipKey, VipSpec> {
        self.keys().filter_map(|key| Some((key, self.spec(&key)?))).collect()
    }

    /// The name that holds the address of a VIP.
    #[must_use]
    pub fn name_of(&self, vip: &VipKey) -> Option<&str> {
        self.claims.name_of(vip.address)
    }

    /// The addresses by which a name is to be found: none if no service of it is left.
    #[must_use]
    pub fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let families = self.table.families(name);
        self.claims.address_of(name).map(|held| families.addresses(held)).unwrap_or_default()
    }

    /// The VIPs of a service that was registered by hand.
    #[must_use]
    pub fn vips_of(&self, service: &VipServiceId) -> Vec<VipKey> {
        let key = service_key(service);
        if self.table.contains(&key) { self.keys_of(&key).collect() } else { Vec::new() }
    }

    /// Whether there is a VIP.
    #[must_use]
    pub fn has_vip(&self, vip: &VipKey) -> bool {
        !self.is_own(vip) && (self.literal(vip).is_some() || self.named(vip).is_some())
    }

    /// The VIPs that a service which is registered by hand has, or would have.
    #[must_use]
    pub fn vips_meant(&self, service: &VipServiceId) -> Vec<VipKey> {
        let addresses = match &service.host {
            VipHost::Address(address) => vec![*address],
            VipHost::Name(name) => {
                let held = self.claims.address_of(name);
                held.into_iter().flat_map(|held| [held.into(), twin(held).into()]).collect()
            }
        };
        let (port, protocol) = (service.port, service.protocol);
        addresses.into_iter().map(|address| VipKey { address, port, protocol }).collect()
    }

    /// Who spelled this address out.
    fn literal(&self, vip: &VipKey) -> Option<&Service> {
        self.table.get(Target::Address(vip.address), vip.port, vip.protocol)
    }

    /// Who stands behind the name that holds this address.
    fn named(&self, vip: &VipKey) -> Option<&Service> {
        let name = self.name_of(vip)?;
        let service = self.table.get(Target::Name(name.to_owned()), vip.port, vip.protocol)?;
        self.table.families(name).has(vip.address).then_some(service)
    }

    fn apply_task(&mut self, source: Source, task: Option<&TaskFact>) -> Effects {
        let ports = if self.places.is_here(source.owner()) { self.own_ports } else { Ports::Host };
        let placed = task.map(|task| place::standings(task, ports));
        let (wanted, problems) = placed.unwrap_or_default();
        let former = match problems.is_empty() {
            true => self.problems.remove(&source),
            false => self.problems.insert(Arc::new(source.clone()), problems.clone()),
        };
        let known = former.unwrap_or_default();
        let new = problems.into_iter().filter(|problem| !known.contains(problem)).collect();
        Effects { problems: new, ..self.apply_source(source, wanted) }
    }

    fn apply_source(&mut self, source: Source, wanted: Vec<Standing>) -> Effects {
        let former = self.sources.get_key_value(&source);
        if former.map_or(&[][..], |(_, standings)| standings) == wanted.as_slice() {
            return Effects::default();
        }
        let source = former.map_or_else(|| Arc::new(source), |(source, _)| source.clone());
        let before = self.sources.remove(&source).unwrap_or_default();
        let touched: BTreeSet<Arc<ServiceKey>> =
            before.iter().chain(&wanted).map(|standing| standing.service.clone()).collect();
        let former = self.families_of(&touched);

        self.table.remove(&source, &before);
        self.table.insert(&source, &wanted);
        let standings = before.iter().chain(&wanted).cloned().collect::<Vec<_>>();
        if !wanted.is_empty() {
            self.sources.insert(source, wanted);
        }
        let mut effects = Effects::default();
        for service in &touched {
            if self.table.contains(service) {
                effects.claims.extend(self.claim(service));
            }
        }
        self.note_changed(&standings, &former, &mut effects);
        effects
    }

    fn standing(&self, owner: &OwnerId, id: &VipServiceId, fact: &VipServiceFact) -> Standing {
        // A loopback address means something else on every node.
        let is_near = |address: IpAddr| !address.is_loopback() || self.places.is_here(owner);
        let share = |backend: &mizzen_types::vip_service::VipServiceBackend| {
            (backend.address, Share::new(backend.weight, None))
        };
        let near = fact.backends.iter().filter(|backend| is_near(backend.address.ip()));
        let mut shares: Vec<_> = near.map(share).collect();
        shares.sort_by_key(|(address, _)| *address);
        shares.dedup_by_key(|(address, _)| *address);
        Standing { service: Arc::new(service_key(id)), shares, policy: fact.policy }
    }

    /// Every VIP that there should be, some perhaps without a backend.
    pub fn keys(&self) -> impl Iterator<Item = VipKey> {
        self.table.keys().flat_map(|service| self.keys_of(service))
    }

    /// The VIPs that a service has now.
    fn keys_of(&self, service: &ServiceKey) -> impl Iterator<Item = VipKey> + use<> {
        let addresses = match &service.target {
            Target::Address(address) => vec![*address],
            Target::Name(name) => self.addresses_of(name),
        };
        let (port, protocol) = (service.port, service.protocol);
        addresses.into_iter().map(move |address| VipKey { address, port, protocol })
    }
}

fn service_key(id: &VipServiceId) -> ServiceKey {
    let target = match &id.host {
        VipHost::Address(address) => Target::Address(*address),
        VipHost::Name(name) => Target::Name(name.clone()),
    };
    ServiceKey { target, port: id.port, protocol: id.protocol }
}

#[cfg(test)]
mod tests;
