//! Network policy on this node: what the leading master says is kept, worked out against the
//! facts of the whole cluster, and given to the kernel.
//!
//! Fail closed: whatever is away – the master, another node, this daemon – what was known last
//! holds on. Policies are in this node's store, programs and maps are pinned.

mod api;
mod attached;
mod driver;
mod drops;
mod exposed;
mod records;
mod views;

pub(crate) use driver::PolicyReport;

use super::build::{node_bridge, overlay_specs};
use super::clock;
use super::core::Core;
use super::saves::Saves;
use crate::config::{Config, Role};
use attached::Attached;
use driver::{Driver, Look};
use drops::Drops;
use ipnet::IpNet;
use mizzen_kernel::network::{Isolation, own_addresses};
use mizzen_kernel::policy::{PolicySpec, is_pinned};
use mizzen_membership::view::Change;
use mizzen_plan::overlay::{OverlaySpec, PeerChange, RouteTable};
use mizzen_plan::policy::{Ground, Neighbour, Overlays, PolicyPlanner};
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::fact::{Fact, Key, NodeFact};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tracing::debug;

/// What changes at once is given to the kernel together.
const TOGETHER: Duration = Duration::from_millis(10);
/// After a start, other nodes' facts come within this time; until then the kernel goes by what it
/// was given before.
const WARM_UP: Duration = Duration::from_secs(3);

/// The part's name in problems.
const ENFORCED: &str = "policy";
/// Whoever says policies that nobody believes, in problems.
const BELIEVED: &str = "policy of others";

/// Network policy, as the loop sees it.
#[derive(Debug)]
pub(crate) struct PolicyPart {
    planner: PolicyPlanner,
    saves: Saves,
    /// What gives it to the kernel, unless the kernel cannot.
    driver: Option<Driver>,
    /// Why policies are not in force here.
    unenforced: Option<String>,
    /// What was refused lately.
    drops: Drops,
    /// Nodes that nobody hears: what they said of their tasks holds on.
    silent: BTreeSet<OwnerId>,
    /// Whose addresses are in use here: containers by their addresses.
    leases: BTreeMap<IpAddr, String>,
    /// Who waits until links of containers are judged.
    attached: Attached,
    /// When the kernel is given what has changed.
    at: Option<Mono>,
    /// Not before this.
    hold: Mono,
    /// Whether some way between overlays is open.
    opens_ways: bool,
    /// Whether the kernel was told of any policy.
    is_active: bool,
    /// Whether the kernel goes by what a former process gave it.
    is_resumed: bool,
}

impl PolicyPart {
    /// The part of a node of this name, with what a former process kept. To be made before
    /// anything else goes to the kernel.
    pub(crate) fn open(here: OwnerId, store: &Store, config: &Config) -> anyhow::Result<Self> {
        let numbers = records::kept_numbers(store)?;
        let is_resumed = is_pinned(&config.instance.pin_dir(&config.vip.bpffs));
        Ok(Self {
            planner: PolicyPlanner::new(here, numbers),
            saves: Saves::new(records::PREFIX),
            driver: None,
            unenforced: None,
            drops: Drops::default(),
            silent: BTreeSet::new(),
            leases: BTreeMap::new(),
            attached: Attached::default(),
            at: None,
            hold: Mono(0),
            // It may be; what it was is known when policies have met the facts again.
            opens_ways: is_resumed && !store.scan(records::PREFIX)?.is_empty(),
            is_active: false,
            is_resumed,
        })
    }

    /// When it wants to be looked at.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let parts = [self.at, self.saves.deadline()];
        parts.into_iter().flatten().min()
    }

    /// What packets between overlays have to be.
    pub(crate) fn isolation(&self, config: &Config) -> Isolation {
        match (config.overlay.isolation, self.opens_ways) {
            (false, _) => Isolation::Together,
            (true, false) => Isolation::Apart,
            (true, true) => Isolation::Judged,
        }
    }
}

impl Core {
    /// Loads what judges, if this node has containers with addresses of their own.
    pub(crate) fn start_policy(&mut self) {
        if !self.config.has(Role::Overlay) {
            return;
        }
        match driver::start(&self.config, self.inputs.clone()) {
            Ok(driver) => self.policy.driver = Some(driver),
            Err(error) => self.policy.unenforced = Some(format!("{error:#}")),
        }
        self.policy.at = Some(clock::now().mono);
    }

    /// Takes over what is said of tasks and of nodes.
    pub(crate) fn follow_policy_facts(&mut self, change: &Change) {
        if change.after.is_none() && self.view.is_hidden(&change.owner) {
            // Its daemon may be down while its containers run on.
            self.policy.silent.insert(change.owner.clone());
            return;
        }
        match &change.key {
            Key::Node => self.follow_neighbour(&change.owner),
            key => self.policy.planner.apply(&change.owner, key, change.after.as_ref()),
        }
    }

    /// A node that nobody heard is back: what it says no more is gone.
    pub(crate) fn forget_silent_tasks(&mut self, node: &OwnerId) {
        if !self.policy.silent.remove(node) {
            return;
        }
        let said: BTreeSet<Key> =
            self.view.facts_from(node, &Key::Node).map(|(key, _)| key.clone()).collect();
        let all = self.policy.planner.tasks_of(node);
        let gone: Vec<Key> = all.filter(|key| !said.contains(key)).cloned().collect();
        for key in gone {
            self.policy.planner.apply(node, &key, None);
        }
    }

    /// A node is gone for good.
    pub(crate) fn forget_policy_facts(&mut self, node: &OwnerId) {
        self.policy.silent.remove(node);
        let all: Vec<Key> = self.policy.planner.tasks_of(node).cloned().collect();
        for key in all {
            self.policy.planner.apply(node, &key, None);
        }
        self.policy.planner.set_neighbour(node, None);
    }

    /// What other nodes are believed to have of the overlays is another.
    pub(crate) fn follow_policy_peers(&mut self, changes: &[PeerChange]) {
        for change in changes {
            self.follow_neighbour(&change.peer);
        }
    }

    fn follow_neighbour(&mut self, node: &OwnerId) {
        if node == self.node_log.owner() {
            return;
        }
        let fact = match self.view.facts_from(node, &Key::Node).next() {
            Some((Key::Node, Fact::Node(fact))) => fact,
            // One that nobody hears has what it had; one that is gone was forgotten.
            _ => return,
        };
        let entries = self.overlay.peers.entries().find(|(peer, _)| *peer == node);
        let routes = entries.into_iter().flat_map(|(_, entries)| &entries.routes);
        let blocks = routes.filter(|route| route.table == RouteTable::Main);
        let blocks: Vec<_> = blocks.map(|route| route.destination).collect();
        let addresses = addresses_of(fact).collect();
        self.policy.planner.set_neighbour(node, Some(Neighbour { addresses, blocks }));
    }

    /// What this node is and has may be another.
    pub(crate) fn follow_policy_ground(&mut self) {
        if !self.config.has(Role::Overlay) {
            return;
        }
        let ground = self.policy_ground();
        self.policy.planner.set_ground(ground);
    }

    fn policy_ground(&self) -> Ground {
        let specs = self.overlay.grant.as_ref().map(|grant| overlay_specs(&self.config, grant));
        let specs = specs.unwrap_or_default();
        let mut host = own_addresses().unwrap_or_else(|error| {
            debug!(error = chain(&error), "own addresses cannot be listed");
            BTreeSet::new()
        });
        host.extend(specs.iter().flat_map(OverlaySpec::gateways));
        host.extend(self.config.dns.addresses.iter().copied());
        host.insert(self.config.address);
        let grant = self.overlay.grant.iter();
        host.extend(grant.flat_map(|grant| grant.vtep.addresses.iter().map(IpNet::addr)));
        // Tasks of this node are known by their facts, with more than their addresses.
        let own = self.own_containers();
        let others = self.policy.leases.iter().filter(|(_, container)| !own.contains(*container));
        Ground {
            blocks: specs.iter().flat_map(|spec| spec.blocks.iter().copied()).collect(),
            bridge: node_bridge(&self.config).map(|bridge| bridge.network),
            leases: others.map(|(address, _)| *address).collect(),
            overlays: specs.into_iter().map(|spec| (spec.name, spec.networks)).collect(),
            host,
            between: match self.config.overlay.isolation {
                true => Overlays::Apart,
                false => Overlays::Together,
            },
        }
    }

    fn own_containers(&self) -> BTreeSet<String> {
        let records = self.containers.as_ref().map(|containers| containers.checkpoints.list());
        let records = records.and_then(Result::ok).unwrap_or_default();
        records.into_iter().map(|(id, _)| id.to_string()).collect()
    }

    /// Links or leases of containers may be others.
    pub(crate) fn note_policy_links(&mut self) {
        if self.policy.is_active {
            self.policy.at.get_or_insert(clock::now().mono + TOGETHER);
        }
    }

    /// The minute's look at everything.
    pub(crate) fn resync_policy(&mut self) {
        self.follow_policy_ground();
        if self.policy.is_active {
            let _ = self.give_policy(Look::Everything);
        }
    }

    /// Has the kernel told of what changed. It comes after everything else that happened at one
    /// moment.
    pub(crate) fn flush_policy(&mut self) {
        if self.policy.planner.take_changed() {
            self.policy.at.get_or_insert(clock::now().mono + TOGETHER);
        }
    }

    /// The time of [`PolicyPart::deadline`] may have come.
    pub(crate) fn handle_policy_timeout(&mut self, now: Mono) {
        if self.policy.saves.deadline().is_some_and(|at| at <= now) {
            self.flush_policy_records(now);
        }
        if self.policy.at.is_some_and(|at| at <= now) {
            self.policy.at = None;
            let _ = self.give_policy(Look::Changes);
        }
    }

    /// Gives the kernel what it is to go by; returns the number under which that is reported.
    fn give_policy(&mut self, look: Look) -> Option<u64> {
        let now = clock::now().mono;
        let wanted = self.policy.planner.wanted();
        if now < self.policy.hold && !wanted.is_idle() {
            self.policy.at = Some(self.policy.hold);
            return None;
        }
        self.policy.is_active = !self.policy.planner.policies().is_empty();
        let opens_ways = wanted.opens_ways();
        let spec = self.policy_spec();
        let number = self.policy.driver.as_mut().map(|driver| driver.give(spec, look));
        self.tell_of_enforcement();
        // The filter lets pass what was judged.
        if self.policy.opens_ways != opens_ways {
            self.policy.opens_ways = opens_ways;
            self.overlay.expect_pass();
            self.ensure_network();
        }
        number
    }

    fn policy_spec(&self) -> PolicySpec {
        let grant = self.overlay.grant.as_ref();
        let specs = grant.map(|grant| overlay_specs(&self.config, grant)).unwrap_or_default();
        let processes = self.agent.iter().flat_map(mizzen_agent::Agent::processes);
        let namespaces = processes
            .map(|(container, pid)| (container.to_string(), format!("/proc/{pid}/ns/net").into()));
        PolicySpec {
            wanted: self.policy.planner.wanted().clone(),
            overlays: specs,
            bridge: node_bridge(&self.config),
            namespaces: namespaces.collect(),
        }
    }

    /// What came of giving it to the kernel.
    pub(crate) fn note_policy_pass(&mut self, report: PolicyReport) {
        self.policy.attached.answer(report.number, report.problem.as_deref());
        self.policy.unenforced = report.problem;
        self.tell_of_enforcement();
        if let Some(leases) = report.leases.filter(|leases| *leases != self.policy.leases) {
            self.policy.leases = leases;
            self.follow_policy_ground();
            self.flush_policy();
        }
    }

    /// Policies that nobody enforces are a problem; without a policy nothing is missing.
    fn tell_of_enforcement(&mut self) {
        let guards = !self.policy.planner.policies().is_empty();
        match self.policy.unenforced.clone().filter(|_| guards) {
            Some(why) => {
                let text = format!("policies are NOT in force on this node: {why}");
                self.problems.report(ENFORCED, text);
            }
            None => self.problems.solve(ENFORCED),
        }
    }
}

/// Addresses by which a node itself speaks.
fn addresses_of(fact: &NodeFact) -> impl Iterator<Item = IpAddr> + '_ {
    let overlay = fact.overlay.iter();
    let blocks = fact.overlay.iter().flat_map(|overlay| &overlay.shares).flat_map(|s| &s.blocks);
    let gateways = blocks.map(mizzen_plan::overlay::local::gateway);
    let own = overlay.flat_map(|overlay| overlay.underlay.iter().chain(&overlay.vtep).copied());
    own.chain(gateways).chain([fact.address])
}

/// Removes programs and maps of this node; names what would not go.
pub(super) fn teardown_policy(config: &Config) -> Vec<String> {
    let removed = mizzen_kernel::policy::teardown(&config.instance.pin_dir(&config.vip.bpffs));
    removed.err().map(|error| chain(&error)).into_iter().collect()
}
