//! All records by name, and by whose they are.
//!
//! An owner's records are replaced as a whole and only what differs is touched, so a
//! change costs what changed, whatever the zones hold. A record that several owners
//! bring (three tasks on one agent: one address) is held once. A name all of whose
//! records are withheld exists and has nothing to answer.

mod start;

pub use start::ZoneNumber;
pub(crate) use start::{Extent, Zone};

use crate::hash::{self, Seed};
use crate::name::DnsName;
use crate::options::{Mode, Options};
use crate::owner::OwnerKey;
use crate::prepared::Prepared;
use crate::record::{Data, Record};
use crate::route::{Aliases, Place};
use crate::statics::static_records;
use crate::store::delivery::Delivery;
use crate::store::draft::{Rules, SPLICE_FROM};
use crate::store::names::{Effect, Former, Names};
use crate::store::node::{CNAME, NO_ZONE, NS, Node, SOA};
use crate::store::owners::{Owner, Owners, Row};
use crate::store::suffixes::{Belongs, Suffixes};
use crate::wire::SOA_NUMBERS;
use hickory_proto::rr::RecordType;
use mizzen_types::time::Wall;
use std::collections::BTreeMap;

/// With fewer names all are marked at once.
const FEW: usize = 4096;
/// Of 256 parts of the names, how many are marked at one change: 0.2 ms of 300,000 names.
const MARKED_AT_ONCE: usize = 2;

/// The zones of a node.
#[derive(Debug, Clone)]
pub struct Zones {
    names: Names,
    owners: Owners,
    /// Zones by number.
    zones: Vec<Option<Zone>>,
    numbers: BTreeMap<DnsName, u16>,
    suffixes: Suffixes,
    aliases: Aliases,
    domain: DnsName,
    mode: Mode,
    serial: u32,
    /// How many records all owners bring.
    records: usize,
}

impl Zones {
    /// Zones with nothing but what every node answers.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let aliases = Aliases::new(options);
        let rules = Rules {
            seed: options.seed,
            draining_ttl: options.draining_ttl,
            splice_from: SPLICE_FROM,
        };
        let mut zones = Self {
            names: Names::new(rules),
            owners: Owners::new(options.seed),
            zones: Vec::new(),
            numbers: BTreeMap::new(),
            suffixes: Suffixes::default(),
            aliases,
            domain: options.domain.clone(),
            mode: options.mode,
            serial: options.first_serial,
            records: 0,
        };
        zones.set(OwnerKey::built_in(), static_records(options));
        zones.begin_at(options.first_serial);
        zones
    }

    /// Replaces what `owner` brings. Returns whether an answer can differ from now on.
    #[expect(clippy::needless_pass_by_value, reason = "they are made to be given away")]
    pub fn set(&mut self, owner: OwnerKey, records: Vec<Record>) -> bool {
        self.set_since(&owner, &records, None)
    }

    /// The same, with the time since when it is so: that of the task's start, or of the
    /// change.
    pub fn set_since(&mut self, owner: &OwnerKey, records: &[Record], since: Option<Wall>) -> bool {
        self.put(&Prepared::new(self.seed(), owner, records, since))
    }

    /// The same with records that were made ready by the zones' key.
    pub fn put(&mut self, prepared: &Prepared) -> bool {
        let answers = self.replace_all(prepared);
        if answers {
            // Serial numbers live on a circle (RFC 1982); 0 is left out, some take it for none.
            self.serial = self.serial.wrapping_add(1).max(1);
        }
        answers
    }

    /// Brings in what the zones held when they were seen last: their serial stays.
    pub fn fill(&mut self, prepared: &Prepared) {
        self.replace_all(prepared);
    }

    fn replace_all(&mut self, Prepared { key, delivery, rows: now, since }: &Prepared) -> bool {
        let before: Vec<Row> =
            self.owners.find(key).map(|o| o.rows().collect()).unwrap_or_default();
        if before.is_empty() && now.is_empty() {
            return false;
        }
        let number = self.owners.number(key);
        let effect = self.deliver(delivery, number, &before, now);
        match now.is_empty() {
            true => self.owners.remove(key),
            false => self.owners.update(key, *since, now),
        }
        let starts = self.names.take_starts();
        if !starts.is_empty() {
            self.follow(&starts);
        }
        self.mark();
        effect.answers
    }

    /// Takes away all that `owner` brought. Returns whether an answer can differ.
    pub fn remove(&mut self, owner: &OwnerKey) -> bool {
        self.set_since(owner, &[], None)
    }

    /// Grows with every change of an answer.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Gives zones that nobody has seen yet the serial that they are seen with first: what
    /// they were filled with is one change and not many.
    pub fn begin_at(&mut self, serial: u32) {
        self.serial = serial.max(1);
    }

    /// The names of all zones, sorted.
    pub fn apexes(&self) -> impl Iterator<Item = &DnsName> {
        self.numbers.keys()
    }

    /// The name of a zone; `None` once it is gone.
    #[must_use]
    pub fn zone_name(&self, zone: ZoneNumber) -> Option<&DnsName> {
        self.zone(zone.0).map(|zone| &zone.name)
    }

    /// How many records all owners bring, withheld ones included.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// How many names there are, those included that only have names below them.
    #[must_use]
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// How many owners there are.
    #[must_use]
    pub fn owners(&self) -> usize {
        self.owners.len()
    }

    /// The served data of a name as the zones hold it, of one type or of all.
    pub fn lookup(&self, name: &str, kind: Option<RecordType>) -> impl Iterator<Item = Data> {
        let name = DnsName::parse(name).ok();
        let wanted = kind.map(u16::from);
        let node = name.and_then(|name| self.node(&name));
        let sets = node.into_iter().flat_map(Node::sets);
        let sets = sets.filter(move |set| wanted.is_none_or(|wanted| wanted == set.kind));
        sets.flat_map(|set| set.iter().map(move |sent| Data::from_bytes(set.kind, sent.data())))
    }

    /// The key by which questions to these zones are read.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.names.rules().seed
    }

    /// The zone of tasks.
    pub(crate) fn domain(&self) -> &DnsName {
        &self.domain
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn node(&self, name: &DnsName) -> Option<Node<'_>> {
        self.note(name);
        self.names.find(&name.to_bytes())
    }

    /// The names as they are kept.
    pub(crate) fn store(&self) -> &Names {
        &self.names
    }

    pub(crate) fn store_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// Notes that somebody looks for a name.
    fn note(&self, name: &DnsName) {
        if self.names.notes().are_taken() {
            self.names.notes().note(hash::short(hash::hash(self.seed(), &name.to_bytes())));
        }
    }

    pub(crate) fn suffixes(&self) -> &Suffixes {
        &self.suffixes
    }

    pub(crate) fn owner(&self, number: u32) -> Option<Owner<'_>> {
        self.owners.numbered(number)
    }

    /// The number of a name's zone.
    #[inline]
    pub(crate) fn zone_of(&self, node: Node<'_>) -> u16 {
        if self.names.is_marked() { node.zone() } else { derived(&self.suffixes, node) }
    }

    pub(crate) fn zone(&self, number: u16) -> Option<&Zone> {
        self.zones.get(usize::from(number))?.as_ref()
    }

    pub(crate) fn zone_number(&self, apex: &DnsName) -> Option<ZoneNumber> {
        self.numbers.get(apex).copied().map(ZoneNumber)
    }

    /// The nearest zone that holds `name`.
    #[must_use]
    pub fn zone_holding(&self, name: &DnsName) -> Option<ZoneNumber> {
        // The name may be a zone of its own.
        self.note(name);
        let numbers = name.lineage().filter_map(|ancestor| self.numbers.get(ancestor));
        let holds = |number: &u16| {
            self.zone(*number).is_some_and(|zone| zone.extent == Extent::Tree || zone.name == *name)
        };
        numbers.copied().find(holds).map(ZoneNumber)
    }

    /// Where that zone starts.
    pub(crate) fn apex_of(&self, name: &DnsName) -> Option<DnsName> {
        self.zone_name(self.zone_holding(name)?).cloned()
    }

    pub(crate) fn locate(&self, asked: &DnsName) -> Option<Place> {
        self.aliases.locate(asked, self)
    }

    /// Brings the names from what an owner said to what it says.
    fn deliver(&mut self, delivery: &Delivery, owner: u32, before: &[Row], now: &[Row]) -> Effect {
        let mut sum = Effect::default();
        // First what comes, so that names above one which goes are not made anew.
        for (parcel, row) in delivery.parcels().zip(now) {
            if before.binary_search(row).is_err() {
                let known = before.binary_search_by_key(&row.name, |row| row.name).is_ok();
                let former = if known { Former::Something } else { Former::Nothing };
                let (name, sayings) = (parcel.name(), parcel.sayings(owner));
                self.replace(name, (owner, former), sayings, &mut sum);
            }
        }
        let mut gone = Vec::new();
        for row in before {
            if now.binary_search(row).is_ok() {
                continue;
            }
            let stays = |name: &[u8]| {
                delivery.parcels().filter(|p| p.hash() == row.name).any(|p| p.name() == name)
            };
            let here = self.names.candidates(row.name).map(Node::name);
            gone.extend(here.filter(|name| !stays(name)).map(<[u8]>::to_vec));
        }
        for name in gone {
            self.replace(&name, (owner, Former::Something), std::iter::empty(), &mut sum);
        }
        sum
    }

    fn replace<'a>(
        &mut self,
        name: &[u8],
        (owner, former): (u32, Former),
        sayings: impl Iterator<Item = crate::store::names::Saying<'a>>,
        sum: &mut Effect,
    ) {
        let suffixes = &self.suffixes;
        let effect =
            self.names.replace(name, owner, former, sayings, &|name| suffixes.zone_of(name));
        sum.answers |= effect.answers;
        let (before, now) = effect.records;
        self.records = self.records + now - before;
    }

    /// Looks again at names where a zone may start. Where a zone with names below its start
    /// comes or goes, all names are marked anew, some at each change from now on.
    fn follow(&mut self, names: &[Vec<u8>]) {
        let mut trees = false;
        for bytes in names {
            let Some(name) = DnsName::from_bytes(bytes) else { continue };
            let zone = self.names.find(bytes).and_then(Zone::of);
            let held = self.numbers.get(&name).copied();
            let old = held.and_then(|number| self.zones[usize::from(number)].take());
            let is_tree = |zone: &Option<Zone>| zone.as_ref().map(|zone| zone.extent);
            trees |= [is_tree(&old), is_tree(&zone)].contains(&Some(Extent::Tree))
                && is_tree(&old) != is_tree(&zone);
            self.numbers.remove(&name);
            let Some(zone) = zone else {
                self.names.set_zone(bytes, self.suffixes.zone_of(bytes));
                continue;
            };
            let number = held.filter(|number| zone.extent.numbers().contains(number));
            let Some(number) = number.or_else(|| self.free_number(zone.extent)) else { continue };
            if zone.extent == Extent::Name && self.suffixes.find(bytes) != Belongs::Alias {
                self.names.set_zone(bytes, number);
            }
            self.zones[usize::from(number)] = Some(zone);
            self.numbers.insert(name, number);
        }
        if trees {
            self.collect_suffixes();
            self.names.unmark();
        }
    }

    /// A number that no zone has; `None` if there are too many of the extent.
    fn free_number(&mut self, extent: Extent) -> Option<u16> {
        let number = extent.numbers().find(|number| self.zone(*number).is_none())?;
        let least = usize::from(number) + 1;
        self.zones.resize_with(self.zones.len().max(least), || None);
        Some(number)
    }

    /// Goes on with giving names the numbers of their zones.
    fn mark(&mut self) {
        if !self.names.is_marked() {
            let segments = if self.names.len() < FEW { usize::MAX } else { MARKED_AT_ONCE };
            let suffixes = &self.suffixes;
            self.names.mark(segments, |node| derived(suffixes, node));
        }
    }

    fn collect_suffixes(&mut self) {
        let trees = self.numbers.iter().filter(|(_, number)| {
            let zone = self.zones[usize::from(**number)].as_ref();
            zone.is_some_and(|zone| zone.extent == Extent::Tree)
        });
        let starts = trees.map(|(name, number)| (name, Belongs::Zone(*number)));
        let aliases = self.aliases.forms().map(|name| (name, Belongs::Alias));
        let all = starts.chain(aliases).map(|(name, to)| (name.to_bytes().into(), to));
        self.suffixes = Suffixes::new(all.collect());
    }
}

/// The number of a name's zone by its end. One that holds a single name is in the block.
fn derived(suffixes: &Suffixes, node: Node<'_>) -> u16 {
    let is_alone = node.set(SOA).is_some() && node.set(NS).is_none();
    match suffixes.find(node.name()) {
        Belongs::Alias => NO_ZONE,
        _ if is_alone => node.zone(),
        Belongs::Zone(number) => number,
        Belongs::Elsewhere => NO_ZONE,
    }
}

/// Where the serial stands in an SOA record, from its end.
pub(crate) const SERIAL_FROM_END: usize = SOA_NUMBERS;

/// Whether a node says that it is another one.
pub(crate) fn is_alias(node: Node<'_>) -> bool {
    node.set(CNAME).is_some()
}

#[cfg(test)]
mod tests;
