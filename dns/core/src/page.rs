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
    /// Names of the segment that were read.
    read: usize,
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
    /// went or changed meanwhile may be told once, twice or not at all.
    #[must_use]
    pub fn is_current(&self, zones: &Zones) -> bool {
        self.serial == zones.serial()
    }
}

impl Zones {
    /// Begins to read all records.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { zone: None, serial: self.serial(), segment: 0, read: 0, done: false }
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
    /// so there may be more than `max`. A page may be empty before the end.
    pub fn page(&self, cursor: &mut Cursor, max: usize) -> Vec<Record> {
        let mut page = Vec::new();
        let mut names = max.max(1) * NAMES_FOR_A_RECORD;
        while page.len() < max.max(1) && names > 0 {
            let Some(nodes) = self.store().segment(cursor.segment) else {
                cursor.done = true;
                break;
            };
            let mut whole = true;
            for node in nodes.skip(cursor.read) {
                if page.len() >= max.max(1) || names == 0 {
                    whole = false;
                    break;
                }
                (cursor.read, names) = (cursor.read + 1, names - 1);
                match cursor.zone {
                    None => page.extend(records_of(node)),
                    Some(zone) if zone == self.zone_of(node) => {
                        let records = records_of(node);
                        page.extend(records.filter(|r| !matches!(r.data, Data::Soa(_))));
                    }
                    Some(_) => {}
                }
            }
            if whole {
                (cursor.segment, cursor.read) = (cursor.segment + 1, 0);
            }
        }
        page
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
