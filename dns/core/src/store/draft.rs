//! A name taken apart to be changed; for large ones see [`super::splice`].
//!
//! It is a list of claims: who says which record. Records as they are sent, their order,
//! their TTL and what is withheld all follow from it, so the order of changes leaves no
//! trace. One draft is used for one name after the other and keeps its memory.

use super::claim::{self, Claim};
use super::node::{self, Node, SRV, SRV_FIXED, Set};
use crate::hash::{self, Seed};
use crate::record::Withheld;

/// A name's claims and what is needed to write them down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    /// Data of records.
    pool: Vec<u8>,
    /// Sorted by [`Draft::sort`] before they are written.
    said: Vec<Said>,
    /// Scratch: the served records of one type.
    served: Vec<Served>,
    records: Vec<u8>,
    targets: Vec<u8>,
    starts: Vec<u8>,
}

/// A claim and the record that it is about.
#[derive(Debug, Clone, Copy)]
struct Said {
    kind: u16,
    /// The first bytes of the data, to compare most of them at once.
    first: u64,
    /// Where the data are in the pool.
    start: u32,
    length: u16,
    claim: Claim,
}

/// A record with its claims, as places in the list of claims.
#[derive(Debug, Clone, Copy)]
struct Served {
    distance: u8,
    start: usize,
    end: usize,
}

/// How names are written down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) seed: Seed,
    /// TTL while something behind the name goes away, in seconds.
    pub(crate) draining_ttl: u32,
    /// Blocks of so many bytes and more are changed in their place where that can be done.
    pub(crate) splice_from: usize,
}

/// A block of this size is written anew in the time that changing it takes.
pub(crate) const SPLICE_FROM: usize = 1 << 11;

/// The hash of the target in an SRV record's data.
pub(crate) fn target_hash(seed: Seed, data: &[u8]) -> u32 {
    hash::short(hash::hash(seed, data.get(SRV_FIXED..).unwrap_or_default()))
}

impl Draft {
    /// Starts with nothing.
    pub(crate) fn clear(&mut self) {
        self.pool.clear();
        self.said.clear();
    }

    /// Adds what a node holds, without what `owner` says; returns how much that was.
    pub(crate) fn load_without(&mut self, node: Node<'_>, owner: u32) -> usize {
        let mut left_out = 0;
        let mut last: Option<(*const u8, u32)> = None;
        node.claims(|kind, data, claim| {
            if claim.owner == owner {
                left_out += 1;
                return;
            }
            // Claims of one record come together and share its data.
            let start = match last {
                Some((at, start)) if std::ptr::eq(at, data.as_ptr()) => start,
                _ => self.keep(data),
            };
            last = Some((data.as_ptr(), start));
            self.say(kind, start, data, claim);
        });
        left_out
    }

    /// Adds what somebody says about a record. Data have at most 65,535 bytes.
    pub(crate) fn add(&mut self, kind: u16, data: &[u8], claim: Claim) {
        let start = self.keep(data);
        self.say(kind, start, data, claim);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Writes the node.
    pub(crate) fn write(
        &mut self,
        out: &mut Vec<u8>,
        (name, children, zone): (&[u8], u32, u16),
        rules: Rules,
    ) {
        self.sort();
        let leaving =
            self.said.iter().any(|said| said.claim.withheld.is_some_and(Withheld::is_leaving));
        let most = if leaving { rules.draining_ttl } else { u32::MAX };
        node::begin(out, name, children, zone);
        node::set_leaving(out, leaving);
        let mut all = std::mem::take(&mut self.served);
        all.clear();
        let mut start = 0;
        while let Some(first) = self.said.get(start) {
            let kind = first.kind;
            let from = all.len();
            start = self.gather(start, kind, &mut all);
            if let [_, ..] = &mut all[from..] {
                all[from..].sort_by_key(|record| record.distance);
                self.write_set(out, kind, &all[from..], most, rules.seed);
            }
        }
        let claims = all.iter().map(|record| record.end - record.start).sum();
        node::end_sets(out, claims);
        for record in &all {
            let claims = &self.said[record.start..record.end];
            claim::push_claims(out, claims.iter().map(|said| said.claim));
        }
        self.served = all;
        self.write_withheld(out);
        node::end(out);
    }

    fn keep(&mut self, data: &[u8]) -> u32 {
        let start = self.pool.len() as u32;
        self.pool.extend_from_slice(data);
        start
    }

    fn say(&mut self, kind: u16, start: u32, data: &[u8], claim: Claim) {
        let mut first = [0; 8];
        let length = data.len().min(8);
        first[..length].copy_from_slice(&data[..length]);
        let (first, claim) = (u64::from_be_bytes(first), claim.bounded());
        self.said.push(Said { kind, first, start, length: data.len() as u16, claim });
    }

    fn data(&self, said: &Said) -> &[u8] {
        &self.pool[said.start as usize..][..usize::from(said.length)]
    }

    fn sort(&mut self) {
        let mut said = std::mem::take(&mut self.said);
        said.sort_by(|a, b| {
            (a.kind, a.first)
                .cmp(&(b.kind, b.first))
                .then_with(|| self.data(a).cmp(self.data(b)))
                .then_with(|| a.claim.cmp(&b.claim))
        });
        self.said = said;
    }

    /// Where the claims of the record at `start` end.
    fn end_of_record(&self, start: usize) -> usize {
        let first = &self.said[start];
        let same = |said: &&Said| {
            (said.kind, said.first, said.length) == (first.kind, first.first, first.length)
                && (first.length <= 8 || self.data(said) == self.data(first))
        };
        start + self.said[start..].iter().take_while(same).count()
    }

    /// Appends the served records of a type to `served`; returns where the type ends.
    fn gather(&self, mut start: usize, kind: u16, served: &mut Vec<Served>) -> usize {
        while self.said.get(start).is_some_and(|said| said.kind == kind) {
            let end = self.end_of_record(start);
            let nearest = self.said[start..end]
                .iter()
                .filter(|said| said.claim.withheld.is_none())
                .map(|said| said.claim.distance as u8)
                .min();
            served.extend(nearest.map(|distance| Served { distance, start, end }));
            start = end;
        }
        start
    }

    fn write_set(&mut self, out: &mut Vec<u8>, kind: u16, set: &[Served], most: u32, seed: Seed) {
        // One TTL for all (RFC 2181, 5.2): the smallest that anybody gave.
        let ttls = set
            .iter()
            .flat_map(|record| &self.said[record.start..record.end])
            .filter(|said| said.claim.withheld.is_none())
            .map(|said| said.claim.ttl);
        let ttl = ttls.min().unwrap_or_default().min(most);
        let (mut records, mut targets) =
            (std::mem::take(&mut self.records), std::mem::take(&mut self.targets));
        let mut starts = std::mem::take(&mut self.starts);
        records.clear();
        targets.clear();
        starts.clear();
        let mut counts = [0_u32; 3];
        for record in set {
            let data = self.data(&self.said[record.start]);
            if node::has_starts(kind, set.len()) {
                starts.extend_from_slice(&(records.len() as u32).to_le_bytes());
            }
            node::push_record(&mut records, kind, ttl, data);
            if kind == SRV {
                targets.extend_from_slice(&target_hash(seed, data).to_le_bytes());
            }
            if let Some(count) = counts.get_mut(usize::from(record.distance)) {
                *count += 1;
            }
        }
        let set = Set { kind, counts, starts: &starts, targets: &targets, records: &records };
        node::push_set(out, &set);
        (self.records, self.targets, self.starts) = (records, targets, starts);
    }

    fn write_withheld(&self, out: &mut Vec<u8>) {
        let mut start = 0;
        while start < self.said.len() {
            let end = self.end_of_record(start);
            let claims = &self.said[start..end];
            if claims.iter().all(|said| said.claim.withheld.is_some()) {
                node::push_withheld(out, claims[0].kind, self.data(&claims[0]));
                claim::push_claims(out, claims.iter().map(|said| said.claim));
            }
            start = end;
        }
    }
}
