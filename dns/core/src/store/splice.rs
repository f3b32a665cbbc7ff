//! A change at a name with many records: what differs is put into its block.
//!
//! A [`super::draft::Draft`] takes a name apart and writes it anew, which costs what the
//! name holds. Here the few records that one owner says something about are looked up,
//! and bytes are taken out and put in. Both ways end at the same block, by test.

use super::claim::{self, CLAIM, Claim};
use super::draft::{Rules, target_hash};
use super::edits::{Edits, Region};
use super::look::{Look, Place};
use super::names::{Former, Saying};
use super::node::{self, Node, SOA, SRV, Set};
use crate::hash::Seed;
use crate::record::Withheld;

/// An owner that says more than this at one name is left to the draft.
const MOST: usize = 16;

/// What one owner changes at a name, ready to be carried out.
#[derive(Debug, Default)]
pub(crate) struct Splice {
    edits: Edits,
    /// How many claims of the owner go.
    pub(crate) gone: usize,
    /// Served records come, go or change places.
    answers: bool,
    /// A claim on something that goes away comes; such a one goes.
    leaving: (bool, bool),
    /// For each set the smallest TTL that comes.
    least: Vec<(u16, u32)>,
}

/// A record about which the owner says something, or did.
#[derive(Debug)]
struct Change<'a> {
    kind: u16,
    data: &'a [u8],
    place: Place,
    before: Vec<Claim>,
    /// Everybody's from now on, sorted.
    now: Vec<Claim>,
}

/// A set whose records change.
#[derive(Debug)]
struct Altered {
    set: usize,
    counts: [u32; 3],
    /// Bytes of its records.
    bytes: usize,
    /// Records that come or go: place before which, length, whether it comes.
    steps: Vec<(usize, usize, bool)>,
}

impl Splice {
    /// What follows from `owner` saying `sayings` and nothing else; `None` where the name
    /// has to be written anew: types come or go, a zone starts here, or it is too much.
    pub(crate) fn new(
        node: Node<'_>,
        owner: u32,
        former: Former,
        sayings: &[Saying<'_>],
        seed: Seed,
    ) -> Option<Self> {
        let look = Look::new(node);
        if sayings.len() > MOST || look.sets.is_empty() || node.set(SOA).is_some() {
            return None;
        }
        let mut changes = changes(&look, owner, former, sayings)?;
        // As records are sorted, so that those which come to one place come in their order.
        changes.sort_by_key(|change| (change.kind, nearest(&change.now), change.data));
        let before = changes.iter().flat_map(|change| &change.before);
        let gone = before.filter(|claim| claim.owner == owner).count();
        let mut splice = Self { gone, ..Self::default() };
        let mut altered: Vec<Altered> = Vec::new();
        let mut claims = look.behind.claims.len();
        for change in &changes {
            splice.note(change, owner);
            splice.move_record(&look, change, &mut altered, &mut claims, seed)?;
        }
        for altered in &altered {
            splice.alter_set(&look, altered)?;
        }
        splice.answers = !altered.is_empty();
        splice.count_claims(&look, claims);
        splice.edits.sort();
        Some(splice)
    }

    /// The length of the block afterwards.
    pub(crate) fn length(&self, before: usize) -> usize {
        self.edits.length(before)
    }

    /// Carries it out; tells whether an answer can differ.
    ///
    /// * `block` — has room for the longer one of the block before and after.
    pub(crate) fn apply(&self, block: &mut [u8], before: usize, rules: Rules) -> bool {
        self.edits.apply(block, before);
        let block = &mut block[..self.length(before)];
        node::end(block);
        let node = Node::at(block);
        let (comes, goes) = self.leaving;
        let was = node.is_leaving();
        let leaving = comes || was && (!goes || is_anything_leaving(node));
        let look = Look::new(node);
        let times: Vec<_> = (0..look.sets.len())
            .filter_map(|at| Some((look.records_of(at), self.ttl(&look, at, leaving, rules)?)))
            .collect();
        node::set_leaving(block, leaving);
        for (place, ttl) in &times {
            node::set_ttls(&mut block[place.clone()], *ttl);
        }
        self.answers || !times.is_empty()
    }

    /// Remembers what decides about TTLs.
    fn note(&mut self, change: &Change<'_>, owner: u32) {
        let own = |claims: &[Claim]| claims.iter().copied().find(|claim| claim.owner == owner);
        let leaves = |claim: Claim| claim.withheld.is_some_and(Withheld::is_leaving);
        let (before, now) = (own(&change.before), own(&change.now));
        self.leaving.0 |= now.is_some_and(leaves);
        self.leaving.1 |= before.is_some_and(leaves);
        if let Some(claim) = now.filter(|claim| claim.withheld.is_none()) {
            self.least.push((change.kind, claim.ttl));
        }
    }

    fn move_record(
        &mut self,
        look: &Look<'_>,
        change: &Change<'_>,
        altered: &mut Vec<Altered>,
        claims: &mut usize,
        seed: Seed,
    ) -> Option<()> {
        if change.before == change.now {
            return Some(());
        }
        let distance = nearest(&change.now);
        if let Place::Served { distance: old, claims: range, .. } = &change.place
            && distance == Some(*old)
        {
            *claims = *claims + change.now.len() - range.len();
            let at = look.claim_at(range.start);
            let come = |out: &mut Vec<u8>| claim::push_claims(out, change.now.iter().copied());
            self.edits.push(at, range.len() * CLAIM, Region::Claims, come);
            return Some(());
        }
        match &change.place {
            Place::Nowhere => {}
            Place::Hidden(range) => {
                self.edits.push(range.start, range.len(), Region::Hidden, |_| {});
            }
            Place::Served { set, place, distance, claims: range } => {
                *claims -= range.len();
                self.edits.push(
                    look.claim_at(range.start),
                    range.len() * CLAIM,
                    Region::Claims,
                    |_| {},
                );
                let altered = altered_set(altered, look, *set);
                altered.counts[usize::from(*distance)] -= 1;
                self.take_record(look, altered, *place);
            }
        }
        match distance {
            None if change.now.is_empty() => {}
            None => {
                let at = look.hidden_place(change.kind, change.data);
                self.edits.push(at, 0, Region::Hidden, |out| {
                    node::push_withheld(out, change.kind, change.data);
                    claim::push_claims(out, change.now.iter().copied());
                });
            }
            Some(distance) => {
                *claims += change.now.len();
                let set = look.set_of(change.kind)?;
                let altered = altered_set(altered, look, set);
                *altered.counts.get_mut(usize::from(distance))? += 1;
                self.put_record(look, altered, change, distance, seed);
            }
        }
        Some(())
    }

    fn take_record(&mut self, look: &Look<'_>, altered: &mut Altered, place: usize) {
        let set = &look.sets[altered.set].set;
        let (start, end) = (set.start(place), set.start(place + 1));
        self.edits.push(
            look.node.place_of(set.records) + start,
            end - start,
            Region::Records,
            |_| {},
        );
        if set.kind == SRV {
            let at = look.node.place_of(set.targets) + 4 * place;
            self.edits.push(at, 4, Region::Targets, |_| {});
        }
        altered.bytes -= end - start;
        altered.steps.push((place, end - start, false));
    }

    fn put_record(
        &mut self,
        look: &Look<'_>,
        altered: &mut Altered,
        change: &Change<'_>,
        distance: u8,
        seed: Seed,
    ) {
        let held = &look.sets[altered.set];
        let set = &held.set;
        let place = look.search(altered.set, distance, change.data).unwrap_or_else(|place| place);
        let at = look.node.place_of(set.records) + set.start(place);
        let length = self.edits.push(at, 0, Region::Records, |out| {
            node::push_record(out, set.kind, set.ttl(), change.data);
        });
        if set.kind == SRV {
            let at = look.node.place_of(set.targets) + 4 * place;
            self.edits.push(at, 0, Region::Targets, |out| {
                out.extend_from_slice(&target_hash(seed, change.data).to_le_bytes());
            });
        }
        let at = look.claim_at(look.claims_of(held.first + place).start);
        self.edits.push(at, 0, Region::Claims, |out| {
            claim::push_claims(out, change.now.iter().copied());
        });
        altered.bytes += length;
        altered.steps.push((place, length, true));
    }

    /// Writes what stands in front of a set's records.
    fn alter_set(&mut self, look: &Look<'_>, altered: &Altered) -> Option<()> {
        let held = &look.sets[altered.set];
        let set = &held.set;
        let count = altered.counts.iter().map(|count| *count as usize).sum::<usize>();
        let has_starts = node::has_starts(set.kind, count);
        if count == 0 || has_starts == set.starts.is_empty() {
            return None;
        }
        let body = look.node.place_of(set.starts);
        let columns = usize::from(has_starts) + usize::from(set.kind == SRV);
        self.edits.push(held.head, body - held.head, Region::Head, |out| {
            node::push_set_head(out, set.kind, altered.bytes + 4 * columns * count, altered.counts);
        });
        if let Some(first) = altered.steps.iter().map(|(place, ..)| *place).min()
            && has_starts
        {
            let behind = set.starts.len() - 4 * first;
            self.edits.push(body + 4 * first, behind, Region::Starts, |out| {
                push_starts(out, set, first, &altered.steps);
            });
        }
        Some(())
    }

    fn count_claims(&mut self, look: &Look<'_>, claims: usize) {
        let mut tail = Vec::new();
        node::end_sets(&mut tail, claims);
        let at = look.behind.end_of_sets;
        self.edits.push(at, look.behind.claims_at - at, Region::Head, |out| {
            out.extend_from_slice(&tail);
        });
    }

    /// The TTL that the records of a set have to get, if it is another one.
    fn ttl(&self, look: &Look<'_>, at: usize, leaving: bool, rules: Rules) -> Option<u32> {
        let held = &look.sets[at];
        let current = held.set.ttl();
        let coming = self.least.iter().filter(|(kind, _)| *kind == held.set.kind);
        let coming = coming.map(|(_, ttl)| *ttl).min().unwrap_or(u32::MAX);
        // Nobody says less than the smaller one of these two.
        let least = if coming <= current {
            coming
        } else if leaving && current == rules.draining_ttl {
            current
        } else {
            smallest(look.claims_of_set(at), current)
        };
        let most = if leaving { rules.draining_ttl } else { u32::MAX };
        Some(least.min(most)).filter(|ttl| *ttl != current)
    }
}

/// The records that `owner` speaks of, or did; `None` if they are too many.
fn changes<'a>(
    look: &Look<'a>,
    owner: u32,
    former: Former,
    sayings: &[Saying<'a>],
) -> Option<Vec<Change<'a>>> {
    let mut changes = match former {
        Former::Nothing => Vec::new(),
        Former::Something => withdrawn(look, owner)?,
    };
    for saying in sayings {
        let same = |c: &&mut Change<'_>| c.kind == saying.kind && c.data == saying.data;
        let change = match changes.iter_mut().find(same) {
            Some(change) => change,
            None => {
                let (kind, data) = (saying.kind, saying.data);
                let (place, before) = look.locate(kind, data);
                changes.push(Change { kind, data, place, now: before.clone(), before });
                changes.last_mut()?
            }
        };
        change.now.push(saying.claim.bounded());
        change.now.sort_unstable();
    }
    Some(changes)
}

/// What becomes of the records that `owner` spoke of when it says nothing any more.
fn withdrawn<'a>(look: &Look<'a>, owner: u32) -> Option<Vec<Change<'a>>> {
    let mut changes = Vec::new();
    for at in look.claims_by(owner) {
        let (kind, data, place, before) = look.record_with(at)?;
        changes.push(Change { kind, data, place, now: others(&before, owner), before });
        if changes.len() > MOST {
            return None;
        }
    }
    for record in look.node.withheld() {
        if record.claims.iter().any(|claim| claim::owner_of(claim) == owner) {
            let before: Vec<Claim> = record.claims.iter().map(Claim::from_bytes).collect();
            let (kind, data, place) = (record.kind, record.data, Place::Hidden(record.place));
            changes.push(Change { kind, data, place, now: others(&before, owner), before });
        }
    }
    (changes.len() <= MOST).then_some(changes)
}

fn others(claims: &[Claim], owner: u32) -> Vec<Claim> {
    claims.iter().copied().filter(|claim| claim.owner != owner).collect()
}

/// The distance at which a record is served, if it is.
fn nearest(claims: &[Claim]) -> Option<u8> {
    let served = claims.iter().filter(|claim| claim.withheld.is_none());
    served.map(|claim| claim.distance as u8).min()
}

fn altered_set<'m>(altered: &'m mut Vec<Altered>, look: &Look<'_>, set: usize) -> &'m mut Altered {
    let at = altered.iter().position(|altered| altered.set == set).unwrap_or_else(|| {
        let Set { counts, records, .. } = look.sets[set].set;
        altered.push(Altered { set, counts, bytes: records.len(), steps: Vec::new() });
        altered.len() - 1
    });
    &mut altered[at]
}

/// Appends where the records of a set from `first` on start after some came and others
/// went, none of them before it.
fn push_starts(out: &mut Vec<u8>, set: &Set<'_>, first: usize, steps: &[(usize, usize, bool)]) {
    let mut steps = steps.to_vec();
    // What comes at a place comes before the record there goes.
    steps.sort_by_key(|(place, _, comes)| (*place, !*comes));
    let (starts, _) = set.starts.as_chunks::<4>();
    let (mut copied, mut shift) = (first, 0_u32);
    let copy = |out: &mut Vec<u8>, range: std::ops::Range<usize>, shift: u32| {
        let moved =
            starts[range].iter().map(|start| u32::from_le_bytes(*start).wrapping_add(shift));
        out.extend(moved.flat_map(u32::to_le_bytes));
    };
    for (place, length, comes) in steps {
        copy(out, copied..place, shift);
        copied = place;
        if comes {
            let start = (set.start(place) as u32).wrapping_add(shift);
            out.extend_from_slice(&start.to_le_bytes());
            shift = shift.wrapping_add(length as u32);
        } else {
            copied += 1;
            shift = shift.wrapping_sub(length as u32);
        }
    }
    copy(out, copied..starts.len(), shift);
}

/// The smallest TTL of served claims; none is smaller than `floor`.
fn smallest(claims: &[[u8; CLAIM]], floor: u32) -> u32 {
    let mut least = u32::MAX;
    for claim in claims.iter().map(Claim::from_bytes).filter(|claim| claim.withheld.is_none()) {
        least = least.min(claim.ttl);
        if least <= floor {
            break;
        }
    }
    least
}

fn is_anything_leaving(node: Node<'_>) -> bool {
    let leaves =
        |claim: &[u8; CLAIM]| Claim::from_bytes(claim).withheld.is_some_and(Withheld::is_leaving);
    node.withheld().any(|record| record.claims.iter().any(leaves))
        || node.behind_sets().claims.iter().any(leaves)
}

#[cfg(test)]
mod tests;
