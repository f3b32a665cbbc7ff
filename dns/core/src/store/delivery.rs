//! What an owner brings, sorted by name and ready to be compared and written.

use super::claim::Claim;
use super::names::Saying;
use super::owners::Row;
use crate::hash::{self, Seed};
use crate::record::{Data, Record, Withheld};
use mizzen_types::vip::Distance;
use std::ops::Range;

/// Records in wire form.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Names and data.
    pool: Vec<u8>,
    /// Sorted by hash, name, type and data; one for each name and data.
    items: Vec<Item>,
}

#[derive(Debug, Clone)]
struct Item {
    hash: u64,
    name: Range<usize>,
    kind: u16,
    data: Range<usize>,
    withheld: Option<Withheld>,
    ttl: u32,
    distance: Distance,
}

/// All that is brought for one name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parcel<'a> {
    pool: &'a [u8],
    items: &'a [Item],
}

impl Delivery {
    /// Of several records that say the same the served one counts, then the one with the
    /// smallest TTL. Raw data of a known type are left out, and those beyond 65,535 bytes.
    pub(crate) fn new(seed: Seed, records: &[Record]) -> Self {
        let mut delivery = Self::default();
        delivery.items.reserve(records.len());
        for record in records {
            delivery.push(seed, record);
        }
        let pool = &delivery.pool;
        let what = |item: &Item| {
            let (name, data) = (&pool[item.name.clone()], &pool[item.data.clone()]);
            (hash::short(item.hash), name, item.kind, data)
        };
        let how = |item: &Item| (item.withheld, item.ttl, item.distance);
        let mut items = std::mem::take(&mut delivery.items);
        items.sort_by(|a, b| what(a).cmp(&what(b)).then_with(|| how(a).cmp(&how(b))));
        items.dedup_by(|later, first| what(later) == what(first));
        delivery.items = items;
        delivery
    }

    /// What is brought, name by name.
    pub(crate) fn parcels(&self) -> impl Iterator<Item = Parcel<'_>> {
        let same = |a: &Item, b: &Item| {
            a.hash == b.hash && self.pool[a.name.clone()] == self.pool[b.name.clone()]
        };
        self.items.chunk_by(same).map(|items| Parcel { pool: &self.pool, items })
    }

    fn push(&mut self, seed: Seed, record: &Record) {
        let start = self.pool.len();
        record.name.push_wire(&mut self.pool);
        let name = start..self.pool.len();
        record.data.push_bytes(&mut self.pool);
        let data = name.end..self.pool.len();
        let kind = record.data.number();
        let odd = matches!(&record.data, Data::Raw { .. }) && (kind == 0 || Data::is_known(kind));
        if odd || data.len() > usize::from(u16::MAX) {
            self.pool.truncate(start);
            return;
        }
        self.items.push(Item {
            hash: hash::hash(seed, &self.pool[name.clone()]),
            name,
            kind,
            data,
            withheld: record.withheld,
            ttl: record.ttl,
            distance: record.distance,
        });
    }
}

impl<'a> Parcel<'a> {
    /// In lower case, as it is sent.
    pub(crate) fn name(self) -> &'a [u8] {
        &self.pool[self.items[0].name.clone()]
    }

    pub(crate) fn hash(self) -> u32 {
        hash::short(self.items[0].hash)
    }

    /// What `owner` says by it.
    pub(crate) fn sayings(self, owner: u32) -> impl Iterator<Item = Saying<'a>> {
        self.items.iter().map(move |item| {
            let Item { withheld, ttl, distance, kind, .. } = *item;
            let claim = Claim { owner, distance, withheld, ttl };
            Saying { kind, data: &self.pool[item.data.clone()], claim }
        })
    }

    /// Says in twelve bytes what is brought.
    pub(crate) fn row(self, seed: Seed) -> Row {
        let mut digest = self.items[0].hash;
        for item in self.items {
            let how = u64::from(item.ttl)
                | (u64::from(item.kind) << 32)
                | ((item.distance as u64) << 48)
                | (item.withheld.map_or(0, |reason| reason as u64 + 1) << 56);
            digest = hash::exact(seed, digest.rotate_left(1), &how.to_le_bytes());
            digest = hash::exact(seed, digest, &self.pool[item.data.clone()]);
        }
        Row { name: self.hash(), digest }
    }
}
