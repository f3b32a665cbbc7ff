//! Tunnels to other nodes: their ends, and the routes, neighbours and forwarding entries that
//! lead into them.
//!
//! A whole pass compares what the kernel holds with what it should hold; the change of one
//! node costs a request and no look at the others. What is ours bears our mark: links by
//! their alias, routes, rules and neighbours by their protocol number.
//!
//! Where packets of tunnels are encrypted, a rule sends them to a table of routes by the link
//! that does it ([`encryption`]). Where none may be plain, that table ends with `unreachable`.

pub mod encryption;

use encryption::{Encrypting, forgotten_ways};
use ipnet::IpNet;
use mizzen_netlink::{
    Ensured, FlowFamily, IfIndex, LinkState, Netlink, NetlinkError, PrivateKey, RuleSpec, Selector,
    TABLE_MAIN, TunnelChange, TunnelEntry, TunnelKey, VxlanSpec, Wireguard, ensure_sysctl,
};
use mizzen_plan::overlay::desired::{DCOS_TABLE, ENCRYPTION_TABLE};
use mizzen_plan::overlay::{Desired, PeerChange, PeerEntries, Tunnel};
use mizzen_types::encryption::PlainPackets;
use mizzen_types::error::chain;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use mizzen_netlink::{MtuMonitor, RemovalMonitor, SeenEntry};

/// The protocol number of our routes, rules and neighbours: no program of
/// `/etc/iproute2/rt_protos` has it.
pub const PROTOCOL: u8 = 109;

/// The place of our rules among others, as DC/OS has it.
const RULE_PRIORITY: u32 = 9999;
/// The place of the rule for packets of tunnels.
const ENCRYPTION_PRIORITY: u32 = 9998;

/// How many refusals are told one by one.
const TOLD: usize = 3;

/// Whether what is not wanted is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals {
    /// It is.
    Now,
    /// Not before everything is known.
    Later,
}

/// Our side of the tunnels in the namespace of the thread that opened it.
pub struct Tunnels {
    netlink: Netlink,
    /// Written on every link that is ours.
    mark: String,
    /// Ends of tunnels that are there, by number.
    links: BTreeMap<u32, IfIndex>,
    /// The secret key of the link that encrypts, if there is to be one.
    key: Option<PrivateKey>,
    /// That link, if it is there.
    encrypting: Option<Encrypting>,
    /// The conversation about it.
    wireguard: Option<Wireguard>,
    expected: Expected,
}

/// What leads to other nodes, for those who hear of changes in the kernel: it is there before
/// the kernel is told, so that our own changes are never taken for somebody else's.
#[derive(Debug, Clone, Default)]
pub struct Expected(Arc<Mutex<BTreeMap<TunnelKey, TunnelEntry>>>);

impl Expected {
    /// Whether something else is there than should be.
    #[must_use]
    pub fn contradicts(&self, seen: &SeenEntry) -> bool {
        let expected = self.entries();
        let wanted = expected.get(&seen.entry.key());
        wanted.is_some_and(|wanted| *wanted != seen.entry || !seen.is_ours)
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<TunnelKey, TunnelEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a pass or of a change.
#[derive(Debug, Default)]
pub struct TunnelReport {
    /// Links, entries and rules that were made, mended or removed.
    pub changed: usize,
    /// What could not be done, in words.
    pub problems: Vec<String>,
    /// Nodes with which the first hands were shaken since the pass before.
    pub proven: usize,
    /// Nodes to which packets stay plain until hands were shaken.
    pub unproven: usize,
}

impl TunnelReport {
    fn fail(&mut self, what: &str, error: &NetlinkError) {
        self.problems.push(format!("{what}: {}", chain(error)));
    }
}

impl Tunnels {
    /// Opens a conversation in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open(mark: String) -> Result<Self, NetlinkError> {
        let netlink = Netlink::open()?;
        let (links, key) = (BTreeMap::new(), None);
        let expected = Expected::default();
        Ok(Self { netlink, mark, links, key, encrypting: None, wireguard: None, expected })
    }

    /// What should lead to other nodes, at any time.
    #[must_use]
    pub fn expected(&self) -> Expected {
        self.expected.clone()
    }

    /// With the secret key of the link that encrypts.
    #[must_use]
    pub fn with_key(mut self, key: PrivateKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Makes the kernel hold what it should, and nothing else of ours.
    pub fn reconcile(&mut self, desired: &Desired, removals: Removals) -> TunnelReport {
        let mut report = TunnelReport::default();
        self.reconcile_links(desired, removals, &mut report);
        self.reconcile_encryption(desired, removals, &mut report);
        self.reconcile_entries(desired, removals, &mut report);
        self.reconcile_rules(desired, removals, &mut report);
        report
    }

    /// Makes what leads to some nodes what it should be, without a look at anything else.
    /// If something is in the way, only a whole pass can tell what.
    pub fn change(&mut self, changes: &[PeerChange]) -> TunnelReport {
        let mut report = TunnelReport::default();
        self.change_peers(changes, &mut report);
        let (mut removals, mut additions) = (Vec::new(), Vec::new());
        let (mut unwanted, mut wanted) = (Vec::new(), Vec::new());
        for change in changes {
            let before = self.entries(change.before.as_ref());
            let after = self.entries(change.after.as_ref());
            let (gone, come) = difference(&before, &after);
            removals.extend(gone);
            additions.extend(come);
            unwanted.extend(before.into_keys());
            wanted.extend(after);
        }
        {
            let mut expected = self.expected.entries();
            for key in &unwanted {
                expected.remove(key);
            }
            expected.extend(wanted.iter().copied());
        }
        // A block that moves from one node to another is never nobody's.
        let replaced: BTreeSet<TunnelKey> =
            additions.iter().map(|change: &TunnelChange| change.entry().key()).collect();
        let replaces: BTreeSet<TunnelKey> =
            removals.iter().map(|change: &TunnelChange| change.entry().key()).collect();
        removals.retain(|change| !replaced.contains(&change.entry().key()));
        for change in &mut additions {
            if replaces.contains(&change.entry().key()) {
                *change = TunnelChange::Replace(*change.entry());
            }
        }
        removals.extend(additions);
        removals.extend(forgotten_ways(&removals, wanted.iter().map(|(_, entry)| entry)));
        self.apply(&removals, &mut report);
        report
    }

    fn reconcile_links(
        &mut self,
        desired: &Desired,
        removals: Removals,
        report: &mut TunnelReport,
    ) {
        let encrypting = desired.encryption.iter().map(|end| end.link.as_str());
        let tunnels = desired.tunnels.values().map(|tunnel| tunnel.link.as_str());
        let wanted: BTreeSet<&str> = tunnels.chain(encrypting).collect();
        if removals == Removals::Now {
            self.remove_links_except(&wanted, report);
        }
        self.links.clear();
        for tunnel in desired.tunnels.values() {
            match self.netlink.ensure_vxlan(&vxlan(tunnel, &self.mark)) {
                Ok(made) => {
                    report.changed += usize::from(!matches!(made, Ensured::Unchanged(_)));
                    self.links.insert(tunnel.vni, made.into_inner().index);
                }
                Err(error) if error.is_taken() => report.fail(
                    &format!("number {} with port {} is another link's", tunnel.vni, tunnel.port),
                    &error,
                ),
                Err(error) => report.fail("end of tunnels", &error),
            }
        }
        let v6 = desired.networks.iter().any(|network| network.addr().is_ipv6());
        if v6 && !self.links.is_empty() {
            match ensure_sysctl("net/ipv6/conf/all/forwarding", "1") {
                Ok(made) => report.changed += usize::from(!matches!(made, Ensured::Unchanged(()))),
                Err(error) => report.fail("forwarding of IPv6 packets", &error),
            }
        }
    }

    /// Ends of tunnels, and links that encrypt, that are ours and not wanted any more.
    fn remove_links_except(&mut self, wanted: &BTreeSet<&str>, report: &mut TunnelReport) {
        let links = match self.netlink.observe_links() {
            Ok(links) => links,
            Err(error) => return report.fail("links", &error),
        };
        let ours = |link: &&LinkState| {
            let kind = matches!(link.kind.as_deref(), Some("vxlan" | "wireguard"));
            kind && link.alias.as_deref() == Some(&self.mark)
        };
        let stale: Vec<String> = links
            .iter()
            .filter(ours)
            .filter(|link| !wanted.contains(link.name.as_str()))
            .map(|link| link.name.clone())
            .collect();
        for name in stale {
            match self.netlink.remove_link(&name) {
                Ok(_) => report.changed += 1,
                Err(error) => report.fail("end of tunnels", &error),
            }
        }
    }

    fn reconcile_entries(
        &mut self,
        desired: &Desired,
        removals: Removals,
        report: &mut TunnelReport,
    ) {
        let links: Vec<IfIndex> = self.links.values().copied().collect();
        let encrypting = self.encrypting.as_ref().map(|encrypting| encrypting.link);
        let observed = match self.netlink.observe_tunnels(&links, encrypting, PROTOCOL) {
            Ok(observed) => observed,
            Err(error) => return report.fail("entries of tunnels", &error),
        };
        let observed = by_key(observed);
        let mut wanted = BTreeMap::new();
        for entries in desired.peers.values() {
            wanted.extend(self.entries(Some(entries)));
        }
        if !self.links.is_empty() {
            wanted.extend(by_key(nowhere(desired)));
        }
        let (gone, come) = difference(&observed, &wanted);
        let gone = if removals == Removals::Now { gone } else { Vec::new() };
        let changes = [gone, come].concat();
        let forgotten = forgotten_ways(&changes, wanted.values());
        *self.expected.entries() = wanted;
        self.apply(&[changes, forgotten].concat(), report);
    }

    fn reconcile_rules(
        &mut self,
        desired: &Desired,
        removals: Removals,
        report: &mut TunnelReport,
    ) {
        let wanted = rules(desired);
        let observed = match self.netlink.observe_rules(PROTOCOL) {
            Ok(rules) => rules.into_iter().collect::<BTreeSet<_>>(),
            Err(error) => return report.fail("rules", &error),
        };
        for rule in observed.difference(&wanted).filter(|_| removals == Removals::Now) {
            match self.netlink.remove_rule(rule, PROTOCOL) {
                Ok(_) => report.changed += 1,
                Err(error) => report.fail("rules", &error),
            }
        }
        for rule in wanted.difference(&observed) {
            match self.netlink.ensure_rule(rule, PROTOCOL) {
                Ok(_) => report.changed += 1,
                Err(error) => report.fail("rules", &error),
            }
        }
    }

    fn apply(&mut self, changes: &[TunnelChange], report: &mut TunnelReport) {
        if changes.is_empty() {
            return;
        }
        match self.netlink.change_tunnels(changes, PROTOCOL) {
            Ok(refused) => {
                report.changed += changes.len() - refused.len();
                let told = refused.iter().take(TOLD).map(|(_, error)| chain(error));
                report.problems.extend(told);
                if let Some(more) = refused.len().checked_sub(TOLD).filter(|more| *more > 0) {
                    report.problems.push(format!("and {more} more entries"));
                }
            }
            Err(error) => report.fail("entries of tunnels", &error),
        }
    }

    /// What leads to a node, by key; nothing for tunnels that could not be made.
    fn entries(&self, entries: Option<&PeerEntries>) -> BTreeMap<TunnelKey, TunnelEntry> {
        let Some(entries) = entries else { return BTreeMap::new() };
        let link = |vni: &u32| self.links.get(vni).copied();
        let forwarding = entries.forwarding.iter().filter_map(|entry| {
            let (link, remote) = (link(&entry.vni)?, entry.underlay);
            Some(TunnelEntry::Forwarding { link, mac: entry.mac, remote })
        });
        let neighbours = entries.neighbours.iter().filter_map(|entry| {
            let (link, address) = (link(&entry.vni)?, entry.address);
            Some(TunnelEntry::Neighbour { link, address, mac: entry.mac })
        });
        let routes = entries.routes.iter().filter_map(|route| {
            Some(TunnelEntry::Route {
                link: link(&route.vni)?,
                destination: route.destination,
                via: Some(route.via),
                table: route.table.number(),
                source: route.source,
                mtu: route.mtu,
            })
        });
        let encrypting = self.encrypting.as_ref();
        let encrypted = entries.encryption.iter().filter_map(|peer| encrypting?.route(peer));
        by_key(forwarding.chain(neighbours).chain(routes).chain(encrypted))
    }
}

/// Largest packet of the link that has this address, in bytes.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel does not answer.
pub fn underlay_mtu(address: IpAddr) -> Result<Option<u32>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    // The link that encrypts has the address as well.
    let wire = |link: &LinkState| link.kind.as_deref() != Some("wireguard");
    for link in netlink.observe_links()?.into_iter().filter(wire) {
        let addresses = netlink.observe_addresses(link.index)?;
        if addresses.iter().any(|found| found.net.addr() == address) {
            return Ok(Some(link.mtu));
        }
    }
    Ok(None)
}

/// What leads nowhere: addresses that no node has, and nodes that packets are not encrypted for
/// where they must be.
fn nowhere(desired: &Desired) -> impl Iterator<Item = TunnelEntry> {
    let unreachable = |destination, table| TunnelEntry::Unreachable { destination, table };
    let networks = desired.networks.iter().map(move |net| unreachable(*net, TABLE_MAIN));
    let end = desired.encryption.iter().filter(|end| end.plain == PlainPackets::Refused);
    let everywhere = end.filter_map(|end| IpNet::new(end.underlay, 0).ok());
    networks.chain(everywhere.map(move |net| unreachable(net.trunc(), ENCRYPTION_TABLE)))
}

fn rules(desired: &Desired) -> BTreeSet<RuleSpec> {
    let from = |source: &IpNet| RuleSpec {
        selector: Selector::Source(*source),
        table: DCOS_TABLE,
        priority: RULE_PRIORITY,
    };
    let end = desired.encryption.iter().filter(|_| !desired.tunnels.is_empty());
    let outer = end.map(|end| RuleSpec {
        selector: Selector::UdpPort { family: FlowFamily::of(end.underlay), port: end.tunnel_port },
        table: ENCRYPTION_TABLE,
        priority: ENCRYPTION_PRIORITY,
    });
    desired.sources.iter().map(from).chain(outer).collect()
}

fn vxlan(tunnel: &Tunnel, mark: &str) -> VxlanSpec {
    VxlanSpec {
        name: tunnel.link.clone(),
        vni: tunnel.vni,
        port: tunnel.port,
        mac: tunnel.mac,
        mtu: tunnel.mtu,
        local6: match tunnel.underlay {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        },
        alias: mark.to_owned(),
        addresses: tunnel.addresses.clone(),
    }
}

fn by_key(entries: impl IntoIterator<Item = TunnelEntry>) -> BTreeMap<TunnelKey, TunnelEntry> {
    entries.into_iter().map(|entry| (entry.key(), entry)).collect()
}

/// What is to be removed, routes first, and what is to be added or replaced, routes last: no
/// route leads to a neighbour that is not there.
fn difference(
    before: &BTreeMap<TunnelKey, TunnelEntry>,
    after: &BTreeMap<TunnelKey, TunnelEntry>,
) -> (Vec<TunnelChange>, Vec<TunnelChange>) {
    let gone = before.iter().rev().filter(|(key, _)| !after.contains_key(key));
    let come = after.iter().filter_map(|(key, entry)| match before.get(key) {
        Some(present) if present == entry => None,
        Some(_) => Some(TunnelChange::Replace(*entry)),
        None => Some(TunnelChange::Add(*entry)),
    });
    (gone.map(|(_, entry)| TunnelChange::Remove(*entry)).collect(), come.collect())
}
