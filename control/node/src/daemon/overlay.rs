//! The node's part in the overlays: its share, as the leading master gives it, is kept on the
//! disk; what other nodes say of theirs becomes tunnels. The kernel's side of the tunnels has
//! a thread of its own ([`driver`]), which puts back what others remove.

pub(crate) mod calls;
mod driver;
pub(crate) mod encryption;
pub(crate) mod fast_path;
mod metrics;
mod passes;
mod ping;
mod prober;
mod share;
mod view;

use super::build::{self, narrow_links, overlay_specs};
use super::core::{Core, Input};
use crate::config::{Config, Role};
use crate::several::several;
use calls::Calls;
use driver::Order;
use encryption::EncryptionPart;
use fast_path::{FastPathPart, Look};
use mizzen_http::core::ServicesReply;
use mizzen_kernel::published::published_monitors;
use mizzen_kernel::tunnels::{
    Expected, MtuMonitor, PROTOCOL, RemovalMonitor, SeenEntry, TunnelReport, Tunnels, underlay_mtu,
};
use mizzen_membership::identity::node_of;
use mizzen_membership::view::Change;
use mizzen_plan::overlay::{
    Desired, Healing, Own, PeerChange, PeerEntries, Peers, foreign_peer, turn,
};
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::overlay::OverlayGrant;
use mizzen_types::time::{Mono, Now};
use passes::Passes;
use prober::{Prober, Purpose, Question};
pub(crate) use share::kept_grant;
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// What is removed or changed at once is looked at together, after this.
const TOGETHER: Duration = Duration::from_millis(50);
/// The part's name in problems.
const TUNNELS: &str = "overlay";
const PEERS: &str = "overlay peers";
const NETWORK: &str = "overlay network";
const ADDRESSES: &str = "overlay addresses";

/// The node's part in the overlays.
pub(crate) struct Overlay {
    /// What the master gave the node.
    pub(crate) grant: Option<OverlayGrant>,
    /// The other nodes.
    pub(crate) peers: Peers,
    /// Orders to the thread that makes tunnels.
    orders: Option<mpsc::Sender<Order>>,
    /// What that thread makes.
    expected_entries: Expected,
    /// What probes paths.
    prober: Option<Prober>,
    /// Grows with each minute, in each of which some paths are probed.
    turn: usize,
    /// Whether all others were checked in this minute because one path had become narrower.
    checked_all: bool,
    /// Largest packet of the link with the node's address, in bytes.
    underlay_mtu: Option<u32>,
    /// When the kernel is looked at because something of ours may have been removed or changed.
    look_at: Option<Mono>,
    /// Links behind which some paths are narrower than others, as the kernel knows it.
    narrow: Vec<String>,
    /// When more blocks of an overlay were asked for.
    asked: BTreeMap<String, Mono>,
    /// Plugins that wait for them.
    short: Vec<oneshot::Sender<ServicesReply>>,
    /// Entries of tunnels that were made, mended or removed since the start.
    changed: u64,
    /// Ports of this host that were published again since the start.
    pub(crate) published_again: u64,
    /// Passes over the node's network.
    passes: Passes,
    /// Of bridges and rules; the thread has one of its own for tunnels.
    healing: Healing,
    /// What passes by bridges and routes.
    pub(crate) fast_path: FastPathPart,
    /// Encryption between nodes.
    pub(crate) encryption: EncryptionPart,
    /// Calls of the CNI plugins.
    pub(crate) calls: Calls,
}

impl Overlay {
    /// The part of a node of this name, with what a former process kept.
    pub(crate) fn open(here: OwnerId, store: &Store, config: &Config) -> anyhow::Result<Self> {
        let grant = if config.has(Role::Overlay) { kept_grant(store)? } else { None };
        Ok(Self {
            grant,
            peers: Peers::new(here),
            orders: None,
            expected_entries: Expected::default(),
            prober: None,
            turn: 0,
            checked_all: false,
            underlay_mtu: None,
            look_at: None,
            narrow: Vec::new(),
            asked: BTreeMap::new(),
            short: Vec::new(),
            changed: 0,
            published_again: 0,
            passes: Passes::default(),
            healing: Healing::default(),
            fast_path: FastPathPart::default(),
            encryption: EncryptionPart::open(store, config)?,
            calls: Calls::default(),
        })
    }

    /// When it wants to be looked at.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.look_at
    }

    /// Finds out how large packets to a node may be, or whether they still may be as large as
    /// they were.
    fn probe(&self, peer: &OwnerId, purpose: Purpose) {
        let entries = self.peers.entries().find(|(other, _)| *other == peer);
        let at = entries.and_then(|(_, entries)| entries.forwarding.first());
        let size = match purpose {
            Purpose::Search => self.underlay_mtu,
            Purpose::Check => self.peers.answered_mtu(peer),
        };
        if let (Some(prober), Some(size), Some(at)) = (&self.prober, size, at) {
            prober.ask(Question { peer: peer.clone(), address: at.underlay, size, purpose });
        }
    }

    /// Probes paths that lead elsewhere than before.
    fn probe_moved(&self, changes: &[PeerChange]) {
        let at = |entries: &Option<PeerEntries>| {
            entries.as_ref().and_then(|e| e.forwarding.first()).map(|entry| entry.underlay)
        };
        for change in changes.iter().filter(|change| at(&change.before) != at(&change.after)) {
            self.probe(&change.peer, Purpose::Search);
        }
    }

    /// Probes the minute's share of the paths: routes between nodes change, too.
    fn probe_some(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.checked_all = false;
        let all: Vec<&OwnerId> = self.peers.entries().map(|(peer, _)| peer).collect();
        let turn = turn(all.len(), self.turn);
        for (purpose, places) in [(Purpose::Search, turn.search), (Purpose::Check, turn.check)] {
            for peer in places.into_iter().filter_map(|at| all.get(at)) {
                self.probe(peer, purpose);
            }
        }
    }

    fn probe_all(&self, purpose: Purpose) {
        for (peer, _) in self.peers.entries() {
            self.probe(peer, purpose);
        }
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread ends with the process only.
            let _ = orders.send(order);
        }
    }
}

/// Removes all tunnels of this node; names what would not go.
pub(super) fn teardown_tunnels(config: &Config) -> Vec<String> {
    match Tunnels::open(build::mark(config)) {
        Ok(mut tunnels) => tunnels.reconcile(&Desired::default(), driver::Removals::Now).problems,
        Err(error) => vec![chain(&error)],
    }
}

impl Core {
    /// Starts what makes tunnels.
    pub(crate) fn start_overlay(&mut self) {
        if !self.config.has(Role::Overlay) {
            return;
        }
        self.overlay.underlay_mtu = underlay_mtu(self.config.address).unwrap_or_default();
        self.prepare_encryption();
        let key = self.overlay.encryption.key();
        match driver::start(build::mark(&self.config), key, self.inputs.clone()) {
            Ok((orders, expected)) => {
                self.overlay.orders = Some(orders);
                self.overlay.expected_entries = expected;
            }
            Err(error) => return self.problems.report(TUNNELS, format!("{error:#}")),
        }
        match Prober::start(&self.inputs) {
            Ok(prober) => self.overlay.prober = Some(prober),
            Err(error) => warn!(error = format!("{error:#}"), "paths are not probed"),
        }
        if let Err(error) = self.listen_for_sizes() {
            let error = format!("{error:#}");
            warn!(error, "another MTU of the node's link is noticed within a minute only");
        }
        self.start_fast_path();
        self.follow_grant();
    }

    /// Starts what listens for removals and changes, for roles that have something in the kernel
    /// that a pass over the network puts back.
    pub(crate) fn listen_for_removals(&self) {
        let spec = self.network_spec();
        let listening = || -> anyhow::Result<()> {
            if spec.names.is_some() || self.config.has(Role::Overlay) {
                let expected = self.overlay.expected_entries.clone();
                let are_wrong = move |seen: &SeenEntry| expected.contradicts(seen);
                self.watch_removals("removals", RemovalMonitor::open(PROTOCOL, are_wrong)?)?;
            }
            if self.config.has(Role::Overlay) {
                // Packet filters are restarted by flushing all tables, ours as well.
                self.watch_removals(
                    "filter removals",
                    RemovalMonitor::open_table(&spec.filter_table)?,
                )?;
                for monitor in published_monitors(&spec.leases, &spec.port_table)? {
                    self.watch_removals("port removals", monitor)?;
                }
            }
            Ok(())
        };
        if let Err(error) = listening() {
            warn!(error = format!("{error:#}"), "what is removed is put back after a minute only");
        }
    }

    fn watch_removals(&self, name: &str, mut monitor: RemovalMonitor) -> anyhow::Result<()> {
        self.watch(name, move || monitor.wait().is_ok(), || Input::OverlayTouched)
    }

    fn listen_for_sizes(&self) -> anyhow::Result<()> {
        let mut monitor = MtuMonitor::open()?;
        self.watch("link sizes", move || monitor.wait().is_ok(), || Input::LinkResized)
    }

    /// Tells the loop each time that a wait is over, on a thread of its own.
    fn watch(
        &self,
        name: &str,
        mut wait: impl FnMut() -> bool + Send + 'static,
        input: fn() -> Input,
    ) -> anyhow::Result<()> {
        let inputs = self.inputs.clone();
        // The loop has ended if nobody listens.
        let watch = move || while wait() && inputs.send(input()).is_ok() {};
        thread::Builder::new().name(name.to_owned()).spawn(watch)?;
        Ok(())
    }

    /// Takes over what another node says of its share, or a master of those of DC/OS' agents.
    pub(crate) fn follow_overlay(&mut self, change: &Change) {
        let hidden = self.view.is_hidden(&change.owner);
        let changes = match (&change.key, &change.after) {
            (Key::Node, Some(Fact::Node(node))) => {
                self.overlay.peers.apply(&change.owner, node.overlay.as_ref())
            }
            // A node that nobody hears may be one whose daemon is down: its containers run on.
            (Key::Node, _) if hidden => self.overlay.peers.set_dead(&change.owner),
            (Key::Node, _) => self.overlay.peers.apply(&change.owner, None),
            (Key::ForeignAgent(address), Some(Fact::ForeignAgent(fact)))
                if node_of(&change.owner) != change.owner =>
            {
                self.overlay.peers.apply(&foreign_peer(*address), Some(fact))
            }
            // While no master is heard, what it said holds.
            (Key::ForeignAgent(address), None) if !hidden => {
                self.overlay.peers.apply(&foreign_peer(*address), None)
            }
            _ => return,
        };
        self.overlay.probe_moved(&changes);
        self.make_tunnels(changes);
    }

    /// A node is gone for good.
    pub(crate) fn forget_overlay(&mut self, node: &OwnerId) {
        let changes = self.overlay.peers.apply(node, None);
        self.make_tunnels(changes);
    }

    /// A probe of the path to a node was answered.
    pub(crate) fn note_path(&mut self, peer: &OwnerId, mtu: u32) {
        let before = self.overlay.peers.answered_mtu(peer);
        let changes = self.overlay.peers.probed(peer, Some(mtu));
        // What is in its way may be in the way of others.
        if before.is_some_and(|before| mtu < before) && !self.overlay.checked_all {
            self.overlay.checked_all = true;
            self.overlay.probe_all(Purpose::Check);
        }
        if !changes.is_empty() {
            info!(%peer, mtu, "the path to a node takes packets of another size");
        }
        self.make_tunnels(changes);
    }

    /// Something of ours may have been removed or changed.
    pub(crate) fn note_removal(&mut self, now: Mono) {
        self.overlay.look_at.get_or_insert(now + TOGETHER);
    }

    /// Looks at the kernel, because something may be missing.
    pub(crate) fn look_at_overlay(&mut self, now: Mono) {
        self.overlay.look_at = None;
        self.overlay.order(Order::Look);
        if self.overlay.healing.may_repair(now) {
            self.ensure_network();
        }
    }

    /// The minute's look at everything.
    pub(crate) fn resync_overlay(&mut self, now: Now) {
        self.overlay.order(Order::Look);
        self.overlay.probe_some();
        self.follow_fast_path(Look::Everything);
        self.want_addresses(now.mono);
        if !self.config.has(Role::Overlay) {
            return;
        }
        let missing = self.overlay.encryption.is_missing();
        self.prepare_encryption();
        if missing && !self.overlay.encryption.is_missing() {
            self.follow_grant();
            self.introduce();
        }
        self.follow_underlay();
        let problems = self.master.as_ref().and_then(mizzen_master::Master::overlays);
        let problems = problems.map(|overlays| overlays.problems(now.wall)).unwrap_or_default();
        self.tell_of(ADDRESSES, &problems);
    }

    /// The link with the node's address may take packets of another size than before.
    pub(crate) fn follow_underlay(&mut self) {
        let before = self.overlay.underlay_mtu;
        let mtu = underlay_mtu(self.config.address).unwrap_or(before);
        if mtu != before {
            info!(?before, now = ?mtu, "the node's link takes packets of another size");
            self.overlay.underlay_mtu = mtu;
            self.follow_grant();
            self.introduce();
            // Of what was as wide as the link, nobody knows how wide it is now.
            self.overlay.probe_all(Purpose::Search);
        }
    }

    /// What came of a pass over the tunnels.
    pub(crate) fn note_tunnels(&mut self, report: &TunnelReport) {
        self.overlay.changed += report.changed as u64;
        if report.changed > 0 {
            info!(changed = report.changed, "tunnels were brought into shape");
        }
        self.tell_of(TUNNELS, &report.problems);
    }

    /// Plans anew with what this node has.
    fn follow_grant(&mut self) {
        let held_back = self.overlay.encryption.holds_back();
        let own = self.overlay.grant.as_ref().filter(|_| !held_back).map(|grant| {
            let specs = overlay_specs(&self.config, grant);
            let gateways = specs.iter().map(|spec| (spec.name.clone(), spec.gateways()));
            let vnis = grant.shares.iter().map(|share| share.overlay.vni);
            Own {
                grant: grant.clone(),
                underlay: self.config.address,
                underlay_mtu: self.overlay.underlay_mtu,
                links: vnis.map(|vni| (vni, self.config.instance.tunnel(vni))).collect(),
                gateways: gateways.collect::<BTreeMap<_, _>>(),
                encryption: self.overlay.encryption.own(&self.config),
            }
        });
        let changes = self.overlay.peers.set_own(own);
        self.overlay.probe_moved(&changes);
        self.follow_policy_ground();
        self.follow_policy_peers(&changes);
        self.overlay.order(Order::Desired(Box::new(self.overlay.peers.desired())));
        self.note_fast_path();
        self.tell_of_peers();
    }

    fn make_tunnels(&mut self, changes: Vec<PeerChange>) {
        self.tell_of_peers();
        self.follow_policy_peers(&changes);
        if changes.is_empty() {
            return;
        }
        let come = changes.iter().filter(|change| change.before.is_none()).count();
        let known = self.overlay.peers.entries().count();
        // The first node brings the tunnels, and the last one takes them along.
        let order = match known == 0 || known == come {
            true => Order::Desired(Box::new(self.overlay.peers.desired())),
            false => Order::Changes(changes),
        };
        self.overlay.order(order);
        self.note_fast_path();
        if narrow_links(&self.config, &self.overlay.peers) != self.overlay.narrow {
            self.overlay.expect_pass();
            self.ensure_network();
        }
    }

    fn tell_of_peers(&mut self) {
        let mut by_cause: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (peer, problem) in self.overlay.peers.problems() {
            by_cause.entry(problem.to_string()).or_default().push(self.name_of(peer));
        }
        let told = by_cause.iter().map(|(problem, names)| match names.len() {
            1 => format!("node {} {problem}", several(names)),
            _ => format!("nodes {}: each {problem}", several(names)),
        });
        let told: Vec<String> = told.collect();
        self.tell_of(PEERS, &told);
    }

    /// A part has these problems, or none.
    pub(crate) fn tell_of(&mut self, part: &'static str, problems: &[String]) {
        match problems {
            [] => self.problems.solve(part),
            [one] => self.problems.report(part, one.clone()),
            [first, rest @ ..] => {
                self.problems.report(part, format!("{first}; and {} more", rest.len()));
            }
        }
    }
}
