//! All records, a page at a time, so that nobody holds the zones for long.

use crate::name::DnsName;
use crate::record::{Data, Record};
use crate::store::node::Node;
use crate::zone::Zones;
use mizzen_types::vip::Distance;

/// Names without records are passed over, but no more than this many for each record that
/// a page may have.
const NAMES_FOR_A_RECORD: usize = 4;
const DISTANCES: [Distance; 3] = [Distance::Node, Distance::Zone, Distance::Far];

/// How far somebody has read.
#[derive(Debug, Clone)]
pub struct Cursor {
    /// Only this zone.
    zone: Option<u16>,
    serial: u32,
    segment: usize,
    /// Names of the segment whose hashes are below this were read. How many were would not do:
    /// names that were read may go, and the others move up.
    next: u32,
    done: bool,
}

impl Cursor {
    /// Whether everything was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The zones' serial when the reading began.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether nothing changed since the reading began. If something did, a name that came,
    /// went or changed meanwhile may be told once, twice or not at all; all others are told once.
    #[must_use]
    pub fn is_current(&self, zones: &Zones) -> bool {
        self.serial == zones.serial()
    }
}

impl Zones {
    /// Begins to read all records.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { zone: None, serial: self.serial(), segment: 0, next: 0, done: false }
    }

    /// Begins to read the records of a zone, without its SOA record; `None` if there is no
    /// such zone.
    #[must_use]
    pub fn transfer(&self, apex: &DnsName) -> Option<Cursor> {
        let zone = self.zone_number(apex)?;
        Some(Cursor { zone: Some(zone.0), ..self.cursor() })
    }

    /// The SOA record of a zone.
    #[must_use]
    pub fn start(&self, apex: &DnsName) -> Option<Record> {
        records_of(self.node(apex)?).find(|record| matches!(record.data, Data::Soa(_)))
    }

    /// The next records as they are served, in no order; those of one name come together,
    /// and of names that share a hash, so there may be more than `max`. A page may be empty before the end.
    pub fn page(&self, cursor: &mut Cursor, max: usize) -> Vec<Record> {
        let mut page = Vec::new();
        let mut names = max.max(1) * NAMES_FOR_A_RECORD;
        while page.len() < max.max(1) && names > 0 {
            let Some(nodes) = self.store().segment_from(cursor.segment, cursor.next) else {
                cursor.done = true;
                break;
            };
            let mut last = None;
            let mut rest = None;
            for (hash, node) in nodes {
                if (page.len() >= max.max(1) || names == 0) && last != Some(hash) {
                    rest = Some(hash);
                    break;
                }
                (last, names) = (Some(hash), names.saturating_sub(1));
                self.tell(node, cursor.zone, &mut page);
            }
            match rest {
                Some(hash) => cursor.next = hash,
                None => (cursor.segment, cursor.next) = (cursor.segment + 1, 0),
            }
        }
        page
    }

    /// Adds the records of a name, if it is of this zone.
    fn tell(&self, node: Node<'_>, zone: Option<u16>, page: &mut Vec<Record>) {
        match zone {
            None => page.extend(records_of(node)),
            Some(zone) if zone == self.zone_of(node) => {
                let records = records_of(node);
                page.extend(records.filter(|r| !matches!(r.data, Data::Soa(_))));
            }
            Some(_) => {}
        }
    }
}

/// The served records of a name.
fn records_of(node: Node<'_>) -> impl Iterator<Item = Record> {
    let name = DnsName::from_bytes(node.name()).unwrap_or_else(DnsName::root);
    node.sets().flat_map(move |set| {
        let name = name.clone();
        let classes = DISTANCES.into_iter().zip(set.counts);
        let distances = classes.flat_map(|(class, n)| std::iter::repeat_n(class, n as usize));
        set.iter().zip(distances).map(move |(sent, distance)| {
            let data = Data::from_bytes(set.kind, sent.data());
            Record { distance, ..Record::new(name.clone(), set.ttl(), data) }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::owner::OwnerKey;
    use std::collections::BTreeSet;

    fn zones(count: u16) -> (Zones, BTreeSet<Record>) {
        let mut zones = Zones::new(&Options::default());
        let mut all = BTreeSet::new();
        for number in 0..count {
            let [high, low] = number.to_be_bytes();
            let name = DnsName::parse(&format!("t{}.m.mesos", number / 2)).unwrap();
            let record = Record::new(name, 5, Data::A([10, 0, high, low].into()));
            all.insert(record.clone());
            zones.set(OwnerKey::Static(number.to_string()), vec![record]);
        }
        (zones, all)
    }

    #[test]
    fn pages_have_every_record_once() {
        let (zones, all) = zones(2000);
        for max in [0, 1, 7, 500, 10_000] {
            let mut cursor = zones.transfer(&DnsName::parse("mesos").unwrap()).expect("a zone");
            let mut seen = Vec::new();
            while !cursor.is_done() {
                let page = zones.page(&mut cursor, max);
                assert!(page.len() <= max.max(1) + 1);
                seen.extend(page);
            }
            assert!(cursor.is_current(&zones));
            assert!(!seen.iter().any(|record| matches!(record.data, Data::Soa(_))));
            seen.retain(|record| matches!(record.data, Data::A(_)) && all.contains(record));
            assert_eq!(seen.len(), all.len(), "pages of {max}");
            assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all);
        }
        assert!(zones.transfer(&DnsName::parse("m.mesos").unwrap()).is_none());
        let mut cursor = zones.cursor();
        let everything = zones.page(&mut cursor, usize::MAX / 8);
        assert!(everything.iter().any(|record| record.name.as_str() == "ready.spartan"));
        let start = zones.start(&DnsName::parse("mesos").unwrap()).expect("a zone");
        assert!(matches!(start.data, Data::Soa(_)));
    }

    #[test]
    fn names_that_stay_are_told_once_whatever_goes_meanwhile() {
        let (mut zones, all) = zones(4000);
        let mut cursor = zones.transfer(&DnsName::parse("mesos").unwrap()).expect("a zone");
        let mut told: Vec<DnsName> = Vec::new();
        let mut gone = BTreeSet::new();
        while !cursor.is_done() {
            let page = zones.page(&mut cursor, 16);
            // All that was told last goes, and makes room for others to move to.
            for record in page.iter().filter(|record| all.contains(record)) {
                let number: u16 =
                    record.name.as_str()[1..].split('.').next().unwrap().parse().unwrap();
                zones.remove(&OwnerKey::Static((2 * number).to_string()));
                zones.remove(&OwnerKey::Static((2 * number + 1).to_string()));
                gone.insert(record.name.clone());
            }
            told.extend(page.into_iter().map(|record| record.name));
        }
        let wanted: BTreeSet<DnsName> = all.into_iter().map(|record| record.name).collect();
        assert_eq!(gone, wanted, "each was told before it went");
        let served = told.iter().filter(|name| wanted.contains(*name)).count();
        assert_eq!(served, 2 * wanted.len(), "two records each, and each once");
    }

    #[test]
    fn a_change_meanwhile_is_told() {
        let (mut zones, _) = zones(10);
        let mut cursor = zones.cursor();
        zones.page(&mut cursor, 2);
        zones.remove(&OwnerKey::Static("3".into()));
        assert!(!cursor.is_current(&zones));
        while !cursor.is_done() {
            zones.page(&mut cursor, 2);
        }
    }
}
