//! From policies and facts to what programs go by.

use super::classes::{Classes, Identity};
use super::compiled::{Compiled, rules_of};
use super::numbers::RuleNumbers;
use super::subject::{Kind, Subject, Task};
use ipnet::IpNet;
use mizzen_ebpf_core::policy::{Overlays, PolicyWanted};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::policy::{Policy, PolicyId, Selector};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the node itself is and has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ground {
    /// The overlays' networks, by name.
    pub overlays: BTreeMap<String, Vec<IpNet>>,
    /// The node's own blocks of them.
    pub blocks: Vec<IpNet>,
    /// The network of this node alone: every node may have these addresses, so they are somebody
    /// else's elsewhere.
    pub bridge: Option<IpNet>,
    /// The node's own addresses, those of its bridges and of its resolver among them.
    pub host: BTreeSet<IpAddr>,
    /// Addresses that containers of this node have, whoever made them.
    pub leases: BTreeSet<IpAddr>,
    /// What is between overlays.
    pub between: Overlays,
}

/// Another node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Its own addresses, those of its bridges among them.
    pub addresses: BTreeSet<IpAddr>,
    /// Its blocks, as far as it is believed to have them.
    pub blocks: Vec<IpNet>,
}

/// A network as the kernel's table has it.
type Network = (IpAddr, u8);
/// Who says something, and about what.
type Source = (OwnerId, Key);

/// Everything that policies follow from, and what follows from it.
#[derive(Debug)]
pub struct PolicyPlanner {
    here: OwnerId,
    policies: BTreeMap<PolicyId, Policy>,
    pub(super) numbers: RuleNumbers,
    pub(super) compiled: Compiled,
    ground: Ground,
    neighbours: BTreeMap<OwnerId, Neighbour>,
    tasks: BTreeMap<Source, Seated>,
    /// Who says that an address is that of a task.
    seats: BTreeMap<IpAddr, BTreeSet<Source>>,
    /// Whose an address of another node is said to be.
    nodes: BTreeMap<IpAddr, BTreeSet<OwnerId>>,
    pub(super) classes: Classes,
    wanted: PolicyWanted,
    changed: bool,
}

/// A task and its addresses.
#[derive(Debug, PartialEq, Eq)]
struct Seated {
    task: Task,
    /// Those that mean it here; none of one on another node's own bridge.
    addresses: BTreeSet<IpAddr>,
}

impl PolicyPlanner {
    /// Nothing is known but which node this is, and which numbers rules had on a former process.
    #[must_use]
    pub fn new(here: OwnerId, numbers: RuleNumbers) -> Self {
        Self {
            here,
            policies: BTreeMap::new(),
            numbers,
            compiled: Compiled::default(),
            ground: Ground::default(),
            neighbours: BTreeMap::new(),
            tasks: BTreeMap::new(),
            seats: BTreeMap::new(),
            nodes: BTreeMap::new(),
            classes: Classes::default(),
            wanted: PolicyWanted::default(),
            changed: false,
        }
    }

    /// What programs should go by.
    #[must_use]
    pub fn wanted(&self) -> &PolicyWanted {
        &self.wanted
    }

    /// Whether that is another thing than at the last time of asking.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The policies.
    #[must_use]
    pub fn policies(&self) -> &BTreeMap<PolicyId, Policy> {
        &self.policies
    }

    /// The rules' numbers.
    #[must_use]
    pub fn numbers(&self) -> &RuleNumbers {
        &self.numbers
    }

    /// Replaces all policies; returns numbers that other rules have from now on than before.
    pub fn set_policies(&mut self, policies: BTreeMap<PolicyId, Policy>) -> Vec<u32> {
        if policies == self.policies {
            return Vec::new();
        }
        self.policies = policies;
        let given = self.numbers.set(&rules_of(&self.policies));
        self.compiled = Compiled::new(&self.policies, &self.numbers);
        self.rebuild();
        given
    }

    /// What the node is and has, from now on.
    pub fn set_ground(&mut self, ground: Ground) {
        if ground == self.ground {
            return;
        }
        let same_networks = self.ground.overlays == ground.overlays
            && self.ground.blocks == ground.blocks
            && self.ground.bridge == ground.bridge
            && self.ground.host == ground.host
            && self.ground.between == ground.between;
        let before = std::mem::replace(&mut self.ground, ground);
        if !same_networks {
            return self.rebuild();
        }
        let leases: Vec<IpAddr> =
            before.leases.symmetric_difference(&self.ground.leases).copied().collect();
        leases.into_iter().for_each(|address| self.place(whole(address)));
    }

    /// What another node has, from now on.
    pub fn set_neighbour(&mut self, node: &OwnerId, neighbour: Option<Neighbour>) {
        if self.neighbours.get(node) == neighbour.as_ref() {
            return;
        }
        let new = neighbour.iter().flat_map(|neighbour| neighbour.addresses.iter().copied());
        let mut touched: BTreeSet<IpAddr> = new.collect();
        for address in &touched {
            self.nodes.entry(*address).or_default().insert(node.clone());
        }
        let before = match neighbour {
            Some(neighbour) => self.neighbours.insert(node.clone(), neighbour),
            None => self.neighbours.remove(node),
        };
        for address in before.into_iter().flat_map(|before| before.addresses) {
            if touched.insert(address) {
                leave(&mut self.nodes, address, node);
            }
        }
        // Whether its tasks are believed depends on its blocks.
        let of_node = self.tasks.iter().filter(|((owner, _), _)| owner == node);
        touched.extend(of_node.flat_map(|(_, seated)| &seated.addresses));
        touched.into_iter().for_each(|address| self.place(whole(address)));
    }

    /// Takes in what an owner says of a task; says nothing of others.
    pub fn apply(&mut self, owner: &OwnerId, key: &Key, fact: Option<&Fact>) {
        let Key::Task(..) = key else { return };
        let after = match fact {
            Some(Fact::Task(fact)) if !fact.container_addresses.is_empty() => {
                let addresses = match *owner == self.here {
                    true => &fact.container_addresses,
                    false => fact.reachable_addresses(),
                };
                let addresses = addresses.iter().map(IpAddr::to_canonical).collect();
                Some(Seated { task: Task::new(fact), addresses })
            }
            _ => None,
        };
        let source = (owner.clone(), key.clone());
        if self.tasks.get(&source) == after.as_ref() {
            return;
        }
        let mut touched = after.as_ref().map(|seated| seated.addresses.clone()).unwrap_or_default();
        for address in &touched {
            self.seats.entry(*address).or_default().insert(source.clone());
        }
        let before = match after {
            Some(seated) => self.tasks.insert(source.clone(), seated),
            None => self.tasks.remove(&source),
        };
        for address in before.into_iter().flat_map(|before| before.addresses) {
            if touched.insert(address) {
                leave(&mut self.seats, address, &source);
            }
        }
        touched.into_iter().for_each(|address| self.place(whole(address)));
    }

    /// Tasks that an owner said it has, for whoever takes back what it says no more.
    pub fn tasks_of(&self, owner: &OwnerId) -> impl Iterator<Item = &Key> {
        self.tasks.keys().filter(move |(of, _)| of == owner).map(|(_, key)| key)
    }

    /// Addresses of the tasks that have this id or name, or are of this app, in order.
    pub fn addresses_called(&self, name: &str) -> BTreeSet<IpAddr> {
        let called = |task: &Task| task.id == name || task.is_called(name);
        let found = self.tasks.values().filter(|seated| called(&seated.task));
        found.flat_map(|seated| seated.addresses.iter().copied()).collect()
    }

    /// Whether no task is meant.
    #[must_use]
    pub fn is_idle(&self, selector: &Selector) -> bool {
        let is_meant = |address: &IpAddr| {
            let Some(task) = self.task_at(*address) else { return false };
            let network = IpNet::from(*address);
            let (kind, overlay) = (Kind::Container, self.overlay_of(&network));
            Subject { kind, overlay, networks: &[network], task: Some(task) }.is_meant(selector)
        };
        // On another node's own bridge, where this node knows no address.
        let elsewhere = self.tasks.values().filter(|seated| seated.addresses.is_empty());
        let (kind, overlay, networks) = (Kind::Container, None, &[][..]);
        let mut elsewhere =
            elsewhere.map(|seated| Subject { kind, overlay, networks, task: Some(&seated.task) });
        !self.seats.keys().any(is_meant) && !elsewhere.any(|task| task.is_meant(selector))
    }

    /// How many classes there are.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// Everything anew.
    fn rebuild(&mut self) {
        self.changed = true;
        self.wanted = PolicyWanted { overlays: self.ground.between, ..PolicyWanted::default() };
        if self.policies.is_empty() {
            self.classes = Classes::default();
            return;
        }
        let stranger = Subject { kind: Kind::World, overlay: None, networks: &[], task: None };
        let strangers = self.compiled.meaning(&stranger);
        self.classes = Classes::new(strangers, &self.compiled, &mut self.wanted);
        let addresses = self.ground.host.iter().chain(&self.ground.leases);
        let addresses = addresses.chain(self.seats.keys()).chain(self.nodes.keys());
        let mut all: BTreeSet<Network> = addresses.map(|address| whole(*address)).collect();
        all.extend(self.networks().map(|network| (network.addr(), network.prefix_len())));
        all.into_iter().for_each(|network| self.place(network));
    }

    /// Networks that are of interest as such.
    fn networks(&self) -> impl Iterator<Item = IpNet> {
        let named = self.compiled.selectors.iter().filter_map(|selector| selector.address);
        let overlays = self.ground.overlays.values().flatten();
        overlays.chain(self.own_networks()).copied().chain(named)
    }

    /// Networks whose addresses only containers of this node have.
    fn own_networks(&self) -> impl Iterator<Item = &IpNet> {
        self.ground.blocks.iter().chain(&self.ground.bridge)
    }

    /// Whether an address is this node's, or in networks of its containers.
    pub(super) fn is_here(&self, address: IpAddr) -> bool {
        self.ground.host.contains(&address)
            || self.own_networks().any(|network| network.contains(&address))
    }

    /// Finds out whose a network is now.
    fn place(&mut self, network: Network) {
        if self.policies.is_empty() {
            return;
        }
        let identity = self.identity(network);
        let Self { classes, compiled, wanted, .. } = self;
        self.changed |= classes.assign(network, identity, compiled, wanted);
    }

    fn identity(&self, (address, length): Network) -> Option<Identity> {
        let network = IpNet::new(address, length).ok()?;
        let (kind, task) = self.kind(&network)?;
        let overlay = match kind {
            Kind::Container | Kind::Pending => self.overlay_of(&network),
            Kind::World | Kind::Host | Kind::Node => None,
        };
        let own = [network];
        let host: Vec<IpNet>;
        let networks = match kind {
            // A node is one: what is open to one of its addresses is open to all.
            Kind::Host => {
                host = self.ground.host.iter().map(|address| IpNet::from(*address)).collect();
                &host[..]
            }
            _ => &own[..],
        };
        let subject = Subject { kind, overlay, networks, task };
        let selectors = self.compiled.meaning(&subject);
        Some(Identity { kind, overlay: overlay.map(str::to_owned), selectors })
    }

    /// Whose a network is; `None` if it is of no interest any more.
    fn kind(&self, network: &IpNet) -> Option<(Kind, Option<&Task>)> {
        let address = network.addr();
        if network.prefix_len() == network.max_prefix_len() {
            if let Some(task) = self.task_at(address) {
                return Some((Kind::Container, Some(task)));
            }
            if self.ground.host.contains(&address) {
                return Some((Kind::Host, None));
            }
            if self.ground.leases.contains(&address) {
                return Some((Kind::Container, None));
            }
            if self.nodes.contains_key(&address) {
                return Some((Kind::Node, None));
            }
        }
        if !self.networks().any(|known| known == *network) {
            return None;
        }
        let is_in = |known: &IpNet| known.contains(network);
        if self.own_networks().any(is_in) {
            return Some((Kind::Pending, None));
        }
        let inside = self.overlay_of(network).is_some();
        Some((if inside { Kind::Container } else { Kind::World }, None))
    }

    /// The overlay that an address of a container is in.
    pub(super) fn overlay_at(&self, address: IpAddr) -> Option<&str> {
        let address = address.to_canonical();
        self.overlay_of(&address.into()).filter(|_| !self.ground.host.contains(&address))
    }

    /// Whether the node's firewall keeps two containers from each other: while there is no policy
    /// it does what programs do otherwise, and those know of nobody.
    pub(super) fn is_shut(&self, from: IpAddr, to: IpAddr) -> bool {
        let overlays = self.overlay_at(from).zip(self.overlay_at(to));
        let are_apart = overlays.is_some_and(|(from, to)| from != to);
        self.policies.is_empty() && self.ground.between == Overlays::Apart && are_apart
    }

    /// The task with an address, of those who have the block that it is in.
    pub(super) fn task_at(&self, address: IpAddr) -> Option<&Task> {
        let has = |owner: &OwnerId| {
            let is_in = |block: &IpNet| block.contains(&address);
            match *owner == self.here {
                true => self.own_networks().any(is_in),
                false => {
                    self.neighbours.get(owner).is_some_and(|peer| peer.blocks.iter().any(is_in))
                }
            }
        };
        let source = self.seats.get(&address)?.iter().find(|(owner, _)| has(owner))?;
        self.tasks.get(source).map(|seated| &seated.task)
    }

    fn overlay_of(&self, network: &IpNet) -> Option<&str> {
        let has = |networks: &Vec<IpNet>| networks.iter().any(|known| known.contains(network));
        let found = self.ground.overlays.iter().find(|(_, networks)| has(networks));
        found.map(|(name, _)| name.as_str())
    }
}

fn whole(address: IpAddr) -> Network {
    (address, IpNet::from(address).prefix_len())
}

fn leave<T: Ord>(places: &mut BTreeMap<IpAddr, BTreeSet<T>>, address: IpAddr, who: &T) {
    if let Some(all) = places.get_mut(&address) {
        all.remove(who);
        if all.is_empty() {
            places.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests;
