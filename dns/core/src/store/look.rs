//! Looking things up in the block of a name with many records.

use super::claim::{self, CLAIM, Claim};
use super::node::{Behind, Node, RECORD, Set};
use std::ops::Range;

/// How many claims are compared before the outcome is looked at.
const AT_ONCE: usize = 64;

/// A node and where its parts are.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    pub(crate) node: Node<'a>,
    pub(crate) sets: Vec<Held<'a>>,
    pub(crate) behind: Behind<'a>,
    /// How many records are served.
    total: usize,
}

/// A set and where it is.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) set: Set<'a>,
    /// Where it starts in the block.
    pub(crate) head: usize,
    /// How many served records there are before it.
    pub(crate) first: usize,
}

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Nowhere,
    /// Among the withheld records, at these bytes.
    Hidden(Range<usize>),
    Served {
        /// Place of the set.
        set: usize,
        /// Place in the set.
        place: usize,
        distance: u8,
        /// Places of its claims.
        claims: Range<usize>,
    },
}

impl<'a> Look<'a> {
    pub(crate) fn new(node: Node<'a>) -> Self {
        let (mut head, mut total) = (node.sets_at(), 0);
        let sets = node.sets().map(|set| {
            let held = Held { head, first: total, set };
            head = node.place_of(set.records) + set.records.len();
            total += set.len();
            held
        });
        Self { node, sets: sets.collect(), behind: node.behind_sets(), total }
    }

    pub(crate) fn set_of(&self, kind: u16) -> Option<usize> {
        self.sets.iter().position(|held| held.set.kind == kind)
    }

    /// Where the records of a set are.
    pub(crate) fn records_of(&self, set: usize) -> Range<usize> {
        let records = self.sets[set].set.records;
        let start = self.node.place_of(records);
        start..start + records.len()
    }

    /// Where the claim of this place is; the one behind the last is where they end.
    pub(crate) fn claim_at(&self, place: usize) -> usize {
        self.behind.claims_at + place * CLAIM
    }

    /// The places of what `owner` claims of served records.
    pub(crate) fn claims_by(&self, owner: u32) -> impl Iterator<Item = usize> + '_ {
        let is_his = move |claim: &[u8; CLAIM]| claim::owner_of(claim) == owner;
        let (parts, rest) = self.behind.claims.as_chunks::<AT_ONCE>();
        // All of a part without a branch: several claims are compared at a time.
        let with_his = parts.iter().enumerate().filter(move |(_, part)| {
            part.iter().fold(0, |any, claim| any | u32::from(is_his(claim))) != 0
        });
        let first_of_rest = parts.len() * AT_ONCE;
        let parts = with_his.map(|(number, part)| (number * AT_ONCE, part.as_slice()));
        parts.chain([(first_of_rest, rest)]).flat_map(move |(first, part)| {
            let places = part.iter().enumerate().filter(move |(_, claim)| is_his(claim));
            places.map(move |(at, _)| first + at)
        })
    }

    /// The served record with the claim of this place: type, data, where, claims.
    pub(crate) fn record_with(&self, claim: usize) -> Option<(u16, &'a [u8], Place, Vec<Claim>)> {
        let claims = self.behind.claims;
        let start = claims[..claim].iter().rposition(claim::is_last).map_or(0, |at| at + 1);
        let end = claim + claims[claim..].iter().position(claim::is_last)? + 1;
        let record = if self.is_one_each() { start } else { lasts(&claims[..start]) };
        let at = self.sets.iter().rposition(|held| held.first <= record)?;
        let (set, place) = (&self.sets[at].set, record - self.sets[at].first);
        let place_in_block =
            Place::Served { set: at, place, distance: distance_of(set, place), claims: start..end };
        let told = claims[start..end].iter().map(Claim::from_bytes).collect();
        Some((set.kind, data(set, place), place_in_block, told))
    }

    /// Where a record is, and what is claimed of it.
    pub(crate) fn locate(&self, kind: u16, data: &[u8]) -> (Place, Vec<Claim>) {
        let told = |claims: &[[u8; CLAIM]]| claims.iter().map(Claim::from_bytes).collect();
        if let Some(set) = self.set_of(kind) {
            for distance in 0..3 {
                if let Ok(place) = self.search(set, distance, data) {
                    let claims = self.claims_of(self.sets[set].first + place);
                    let before = told(&self.behind.claims[claims.clone()]);
                    return (Place::Served { set, place, distance, claims }, before);
                }
            }
        }
        let hidden = self.node.withheld().find(|record| (record.kind, record.data) == (kind, data));
        match hidden {
            Some(record) => (Place::Hidden(record.place), told(record.claims)),
            None => (Place::Nowhere, Vec::new()),
        }
    }

    /// The place of data among the records of one distance, or where they would be.
    pub(crate) fn search(&self, set: usize, distance: u8, wanted: &[u8]) -> Result<usize, usize> {
        let set = &self.sets[set].set;
        let nearer = set.counts.iter().take(usize::from(distance));
        let mut from = nearer.map(|count| *count as usize).sum::<usize>();
        let mut to =
            from + set.counts.get(usize::from(distance)).map_or(0, |count| *count as usize);
        while from < to {
            let middle = from.midpoint(to);
            match data(set, middle).cmp(wanted) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }

    /// The places of the claims of a served record; behind the last record none.
    pub(crate) fn claims_of(&self, record: usize) -> Range<usize> {
        let claims = self.behind.claims;
        if record >= self.total {
            return claims.len()..claims.len();
        }
        if self.is_one_each() {
            return record..record + 1;
        }
        let start = behind_lasts(claims, record);
        let more = claims[start..].iter().position(claim::is_last);
        start..more.map_or(claims.len(), |more| start + more + 1)
    }

    /// The claims of all records of a set.
    pub(crate) fn claims_of_set(&self, set: usize) -> &'a [[u8; CLAIM]] {
        let held = &self.sets[set];
        let end = self.claims_of(held.first + held.set.len()).start;
        &self.behind.claims[self.claims_of(held.first).start..end]
    }

    /// Where among the withheld records one belongs.
    pub(crate) fn hidden_place(&self, kind: u16, data: &[u8]) -> usize {
        let mut records = self.node.withheld();
        let behind = records.find(|record| (record.kind, record.data) > (kind, data));
        behind.map_or(self.node.length(), |record| record.place.start)
    }

    /// Whether every served record has one claim.
    fn is_one_each(&self) -> bool {
        self.behind.claims.len() == self.total
    }
}

fn data<'a>(set: &Set<'a>, place: usize) -> &'a [u8] {
    let records = set.records;
    &records[set.start(place) + RECORD..set.start(place + 1)]
}

fn distance_of(set: &Set<'_>, place: usize) -> u8 {
    let [near, zone, _] = set.counts.map(|count| count as usize);
    u8::from(place >= near) + u8::from(place >= near + zone)
}

/// How many records end among these claims.
fn lasts(claims: &[[u8; CLAIM]]) -> usize {
    claims.iter().map(|claim| usize::from(claim::is_last(claim))).sum()
}

/// The place behind the claims of so many records.
fn behind_lasts(claims: &[[u8; CLAIM]], records: usize) -> usize {
    let (mut rest, mut at) = (records, 0);
    for part in claims.chunks(AT_ONCE) {
        let ends = lasts(part);
        if ends >= rest {
            break;
        }
        (rest, at) = (rest - ends, at + part.len());
    }
    while rest > 0 && at < claims.len() {
        rest -= usize::from(claim::is_last(&claims[at]));
        at += 1;
    }
    at
}
