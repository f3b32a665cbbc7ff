//! All records by name, and by whose they are.
//!
//! An owner's records are replaced as a whole and only what differs is touched, so a
//! change costs what changed, whatever the zones hold. A record that several owners
//! bring (three tasks on one agent: one address) is held once and counted.

use crate::name::{DnsName, parent};
use crate::options::Options;
use crate::owner::OwnerKey;
use crate::record::{Data, Record};
use crate::route::{Aliases, Place};
use crate::statics::static_records;
use hickory_proto::rr::RecordType;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The zones of a node.
#[derive(Debug, Clone)]
pub struct Zones {
    /// Every name, those included that only have names below them.
    nodes: HashMap<DnsName, Node>,
    /// What each owner brought, sorted.
    owners: BTreeMap<OwnerKey, Vec<Record>>,
    /// Names with an SOA record.
    apexes: BTreeSet<DnsName>,
    aliases: Aliases,
    domain: DnsName,
    serial: u32,
}

/// What is at a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    /// Sorted by data, which sorts by type first.
    entries: Vec<Entry>,
    /// How many names are directly below.
    children: usize,
}

/// One record of a name.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What the name leads to.
    pub(crate) data: Data,
    /// TTL that its first owner gave it, in seconds.
    pub(crate) ttl: u32,
    /// How many owners bring it.
    owners: u32,
}

impl Zones {
    /// Zones with nothing but what every node answers.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let mut zones = Self {
            nodes: HashMap::new(),
            owners: BTreeMap::new(),
            apexes: BTreeSet::new(),
            aliases: Aliases::new(options),
            domain: options.domain.clone(),
            serial: options.first_serial,
        };
        zones.set(OwnerKey::built_in(), static_records(options));
        zones.serial = options.first_serial;
        zones
    }

    /// Replaces what `owner` brings. Returns whether an answer can differ from now on.
    pub fn set(&mut self, owner: OwnerKey, mut records: Vec<Record>) -> bool {
        records.sort();
        records.dedup_by(|a, b| (&a.name, &a.data) == (&b.name, &b.data));
        let before = self.owners.remove(&owner).unwrap_or_default();
        let mut changed = false;
        // First what comes, so that a name which stays is never taken down.
        for record in &mut records {
            changed |= match same(&before, record) {
                Some(old) if record.withheld.is_none() => self.keep(record, old.ttl),
                _ => self.acquire(record),
            };
        }
        for record in &before {
            if same(&records, record).is_none() {
                changed |= self.release(record);
            }
        }
        if !records.is_empty() {
            records.shrink_to_fit();
            self.owners.insert(owner, records);
        }
        if changed {
            // Serial numbers live on a circle (RFC 1982); 0 is left out, some take it for none.
            self.serial = self.serial.wrapping_add(1).max(1);
        }
        changed
    }

    /// Takes away all that `owner` brought. Returns whether an answer can differ.
    pub fn remove(&mut self, owner: &OwnerKey) -> bool {
        if self.owners.contains_key(owner) { self.set(owner.clone(), Vec::new()) } else { false }
    }

    /// Grows with every change of an answer.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// The names of all zones, sorted.
    pub fn apexes(&self) -> impl Iterator<Item = &DnsName> {
        self.apexes.iter()
    }

    /// What every owner brings, withheld records included, sorted by owner.
    pub fn owners(&self) -> impl Iterator<Item = (&OwnerKey, &[Record])> {
        self.owners.iter().map(|(owner, records)| (owner, records.as_slice()))
    }

    /// The served data of a name as the zones hold it, of one type or of all.
    pub fn lookup(&self, name: &str, kind: Option<RecordType>) -> impl Iterator<Item = &Data> {
        let entries = self.node(name).map(|node| node.entries(kind)).unwrap_or_default();
        entries.iter().map(|entry| &entry.data)
    }

    /// The zone of tasks.
    pub(crate) fn domain(&self) -> &DnsName {
        &self.domain
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// The nearest zone that holds `name`. A name with an SOA record and no NS record is
    /// ours alone, and what is below it is not.
    pub(crate) fn apex_of(&self, name: &DnsName) -> Option<DnsName> {
        let holds = |apex: &&DnsName| {
            let node = (*apex != name).then(|| self.node(apex.as_str())).flatten();
            node.is_none_or(|node| !node.entries(Some(RecordType::NS)).is_empty())
        };
        name.lineage().filter_map(|ancestor| self.apexes.get(ancestor)).find(holds).cloned()
    }

    pub(crate) fn locate(&self, asked: &DnsName) -> Option<Place> {
        self.aliases.locate(asked, self)
    }

    /// Adds a served record; `record`'s name becomes the one that is held already.
    fn acquire(&mut self, record: &mut Record) -> bool {
        if record.withheld.is_some() {
            return false;
        }
        self.ensure_node(&record.name);
        if let Some((held, _)) = self.nodes.get_key_value(&record.name) {
            record.name = held.clone();
        }
        if matches!(record.data, Data::Soa(_)) {
            self.apexes.insert(record.name.clone());
        }
        let Some(node) = self.nodes.get_mut(&record.name) else { return false };
        match node.position(&record.data) {
            Ok(at) => {
                node.entries[at].owners += 1;
                false
            }
            Err(at) => {
                let entry = Entry { data: record.data.clone(), ttl: record.ttl, owners: 1 };
                node.entries.insert(at, entry);
                true
            }
        }
    }

    /// Goes on with a record that was there; its TTL may be another one.
    fn keep(&mut self, record: &Record, ttl_before: u32) -> bool {
        if record.ttl == ttl_before {
            return false;
        }
        let Some(node) = self.nodes.get_mut(&record.name) else { return false };
        let Ok(at) = node.position(&record.data) else { return false };
        node.entries[at].ttl = record.ttl;
        true
    }

    fn release(&mut self, record: &Record) -> bool {
        if record.withheld.is_some() {
            return false;
        }
        let Some(node) = self.nodes.get_mut(&record.name) else { return false };
        let Ok(at) = node.position(&record.data) else { return false };
        node.entries[at].owners -= 1;
        if node.entries[at].owners > 0 {
            return false;
        }
        node.entries.remove(at);
        if matches!(record.data, Data::Soa(_)) && node.entries(Some(RecordType::SOA)).is_empty() {
            self.apexes.remove(&record.name);
        }
        self.drop_empty(record.name.as_str());
        true
    }

    /// Makes the node of a name and those of the names above it.
    fn ensure_node(&mut self, name: &DnsName) {
        if self.nodes.contains_key(name) {
            return;
        }
        self.nodes.insert(name.clone(), Node::default());
        let mut above = parent(name.as_str());
        while let Some(ancestor) = above {
            if let Some(node) = self.nodes.get_mut(ancestor) {
                node.children += 1;
                return;
            }
            let node = Node { children: 1, ..Node::default() };
            self.nodes.insert(DnsName::root().under(ancestor), node);
            above = parent(ancestor);
        }
    }

    /// Removes the node of a name, and those above it, as far as they hold nothing.
    fn drop_empty(&mut self, name: &str) {
        let mut here = Some(name);
        while let Some(name) = here {
            let empty = self.nodes.get(name).is_some_and(Node::is_empty);
            if !empty {
                return;
            }
            self.nodes.remove(name);
            here = parent(name);
            if let Some(node) = here.and_then(|above| self.nodes.get_mut(above)) {
                node.children -= 1;
            }
        }
    }
}

impl Node {
    /// Its entries of one type, or all of them.
    pub(crate) fn entries(&self, kind: Option<RecordType>) -> &[Entry] {
        let Some(kind) = kind else { return &self.entries };
        let Some(wanted) = rank(kind) else { return &[] };
        let before = |entry: &Entry| rank(entry.data.kind()) < Some(wanted);
        let upto = |entry: &Entry| rank(entry.data.kind()) <= Some(wanted);
        let (start, end) =
            (self.entries.partition_point(before), self.entries.partition_point(upto));
        self.entries.get(start..end).unwrap_or_default()
    }

    fn position(&self, data: &Data) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.data.cmp(data))
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.children == 0
    }
}

/// The served record among `records`, which are sorted, that says what `record` says.
fn same<'a>(records: &'a [Record], record: &Record) -> Option<&'a Record> {
    let at =
        records.binary_search_by(|r| (&r.name, &r.data).cmp(&(&record.name, &record.data))).ok()?;
    records.get(at).filter(|found| found.withheld.is_none())
}

/// Where a type stands in the order of [`Data`]; `None` if no record can have it.
fn rank(kind: RecordType) -> Option<usize> {
    use RecordType as T;
    [T::A, T::AAAA, T::CNAME, T::NS, T::SOA, T::SRV, T::PTR, T::TXT, T::MX, T::SVCB, T::HTTPS]
        .iter()
        .position(|known| *known == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, address: &str) -> Record {
        let name = DnsName::parse(name).unwrap();
        Record::new(name, 5, Data::address(address.parse().unwrap()))
    }

    fn owner(name: &str) -> OwnerKey {
        OwnerKey::Static(name.into())
    }

    fn addresses(zones: &Zones, name: &str) -> Vec<String> {
        zones.lookup(name, Some(RecordType::A)).map(ToString::to_string).collect()
    }

    #[test]
    fn a_shared_record_stays_until_its_last_owner_goes() {
        let mut zones = Zones::new(&Options::default());
        assert!(zones.set(owner("a"), vec![record("w.m.mesos", "10.0.0.1")]));
        let serial = zones.serial();
        assert!(!zones.set(owner("b"), vec![record("w.m.mesos", "10.0.0.1")]), "nothing new");
        assert!(zones.set(
            owner("c"),
            vec![record("w.m.mesos", "10.0.0.2"), record("w.m.mesos", "10.0.0.2")]
        ));
        assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.1", "10.0.0.2"]);
        assert!(!zones.remove(&owner("a")), "b still brings it");
        assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.1", "10.0.0.2"]);
        assert!(zones.remove(&owner("b")));
        assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.2"]);
        assert!(zones.remove(&owner("c")));
        assert!(!zones.remove(&owner("c")), "gone already");
        assert!(zones.node("w.m.mesos").is_none() && zones.node("m.mesos").is_none());
        assert!(zones.node("mesos").is_some());
        assert_eq!(zones.serial(), serial + 3, "one step for each change of an answer");
    }

    #[test]
    fn an_owner_is_replaced_as_a_whole() {
        let mut zones = Zones::new(&Options::default());
        zones.set(
            owner("a"),
            vec![record("w.m.mesos", "10.0.0.1"), record("x.m.mesos", "10.0.0.1")],
        );
        assert!(!zones.set(
            owner("a"),
            vec![record("x.m.mesos", "10.0.0.1"), record("w.m.mesos", "10.0.0.1")]
        ));
        assert!(zones.set(owner("a"), vec![record("w.m.mesos", "10.0.0.3")]));
        assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.3"]);
        assert!(zones.node("x.m.mesos").is_none());
        let longer = Record { ttl: 60, ..record("w.m.mesos", "10.0.0.3") };
        assert!(zones.set(owner("a"), vec![longer]), "another TTL is another answer");
    }

    #[test]
    fn withheld_records_are_kept_and_not_served() {
        use crate::record::Withheld;
        let mut zones = Zones::new(&Options::default());
        let shown = record("w.m.mesos", "10.0.0.1");
        let hidden = Record { withheld: Some(Withheld::Unhealthy), ..shown.clone() };
        assert!(!zones.set(owner("a"), vec![hidden.clone()]));
        assert!(zones.node("w.m.mesos").is_none());
        assert!(zones.set(owner("a"), vec![shown]));
        assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.1"]);
        assert!(zones.set(owner("a"), vec![hidden]));
        assert!(zones.node("w.m.mesos").is_none());
        assert_eq!(zones.owners().filter(|(key, _)| **key == owner("a")).count(), 1);
        assert!(!zones.remove(&owner("a")));
    }

    #[test]
    fn names_above_a_record_exist_as_long_as_it_does() {
        let mut zones = Zones::new(&Options::default());
        zones.set(owner("a"), vec![record("a.b.c.mesos", "10.0.0.1")]);
        zones.set(owner("b"), vec![record("x.c.mesos", "10.0.0.1"), record("c.mesos", "10.0.0.9")]);
        zones.remove(&owner("b"));
        assert!(zones.node("c.mesos").is_some_and(|node| node.entries.is_empty()));
        assert!(zones.node("x.c.mesos").is_none());
        zones.remove(&owner("a"));
        assert!(zones.node("c.mesos").is_none());
        assert_eq!(zones.nodes.len(), Zones::new(&Options::default()).nodes.len());
    }

    #[test]
    fn the_serial_never_is_zero() {
        let options = Options { first_serial: u32::MAX, ..Options::default() };
        let mut zones = Zones::new(&options);
        zones.set(owner("a"), vec![record("a.mesos", "10.0.0.1")]);
        assert_eq!(zones.serial(), 1);
    }

    /// Whatever happened before, the zones hold what their owners bring now.
    #[test]
    fn any_order_of_changes_ends_at_the_same_zones() {
        use proptest::prelude::*;
        let step = (0..6_u8, prop::collection::vec((0..4_u8, 0..3_u8, any::<bool>()), 0..5));
        proptest!(|(steps in prop::collection::vec(step, 0..40))| {
            let mut zones = Zones::new(&Options::default());
            let mut last = BTreeMap::new();
            for (who, what) in steps {
                let records: Vec<Record> = what.iter().map(|(name, address, hidden)| {
                    let names = ["mesos", "a.mesos", "b.a.mesos", "c.b.a.mesos"];
                    let mut record = record(names[usize::from(*name)], &format!("10.0.0.{address}"));
                    record.withheld = hidden.then_some(crate::record::Withheld::Killing);
                    record
                }).collect();
                zones.set(owner(&who.to_string()), records.clone());
                last.insert(who, records);
            }
            let mut fresh = Zones::new(&Options::default());
            for (who, records) in last {
                fresh.set(owner(&who.to_string()), records);
            }
            let dump = |zones: &Zones| -> BTreeMap<String, String> {
                zones.nodes.iter().map(|(name, node)| (name.to_string(), format!("{node:?}"))).collect()
            };
            prop_assert_eq!(dump(&zones), dump(&fresh));
        });
    }
}
