//! One name as one block of bytes, in the order in which an answer needs them.
//!
//! ```text
//! length u32 · children u32 · zone u16 · flags u8 · length of the name u8 · name
//! sets, by type:  type u16 · bytes · near, same zone, elsewhere (counts)
//!                 · large sets of unlike records: start u32 of every record
//!                 · SRV only: hash u32 of every record's target
//!                 · records as they are sent, the nearest first
//! 0 u16 · how many claims served records have
//! claims of served records, in their order
//! withheld records:  type u16 · length u16 · data · claims
//! ```
//!
//! A record is sent under the name of the question, so it starts with a pointer there.
//! Types and lengths of records are in network order, the rest is little-endian; what
//! has no width here takes seven bits a byte.

use super::claim::{CLAIM, Claim, is_last, until_last};
use crate::plain::HEADER as MESSAGE_HEADER;

/// Bytes in front of the name.
const HEADER: usize = 12;
/// Bytes of a record in front of its data: pointer, type, class, TTL, length.
pub(crate) const RECORD: usize = 12;
/// A name in none of our zones.
pub(crate) const NO_ZONE: u16 = u16::MAX;
/// A pointer to the question's name.
pub(crate) const POINTER: [u8; 2] = [0xc0, MESSAGE_HEADER as u8];
pub(crate) const CLASS_IN: [u8; 2] = [0, 1];
/// Numbers of types that are handled in their own way.
pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
/// Bytes of SRV data in front of the target.
pub(crate) const SRV_FIXED: usize = 6;
/// Flag of a name behind which something goes away.
const LEAVING: u8 = 1;
/// From so many records on their starts are kept, unless their length is known.
const MANY: usize = 64;

/// What is at a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a>(&'a [u8]);

/// The served records of one type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set<'a> {
    pub(crate) kind: u16,
    /// How many there are of each distance.
    pub(crate) counts: [u32; 3],
    /// Where each record starts, four bytes each; see [`has_starts`].
    pub(crate) starts: &'a [u8],
    /// Hashes of targets, four bytes each; SRV only.
    pub(crate) targets: &'a [u8],
    /// As they are sent.
    pub(crate) records: &'a [u8],
}

/// A record of a set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent<'a> {
    /// As it is sent.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Node<'a> {
    /// The node at the start of `bytes`, which may go on behind it.
    #[inline]
    pub(crate) fn at(bytes: &'a [u8]) -> Self {
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Self(&bytes[..length as usize])
    }

    /// The whole block.
    #[cfg(test)]
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn length(self) -> usize {
        self.0.len()
    }

    /// How many names are directly below.
    pub(crate) fn children(self) -> u32 {
        u32::from_le_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// Number of its zone.
    pub(crate) fn zone(self) -> u16 {
        u16::from_le_bytes([self.0[8], self.0[9]])
    }

    /// In lower case, as it is sent.
    #[inline]
    pub(crate) fn name(self) -> &'a [u8] {
        &self.0[HEADER..][..usize::from(self.0[11])]
    }

    /// Whether nobody says anything about it.
    pub(crate) fn is_bare(self) -> bool {
        self.0.len() == HEADER + self.name().len() + 3
    }

    /// Whether something behind it goes away, so that clients should soon ask again.
    pub(crate) fn is_leaving(self) -> bool {
        self.0[10] & LEAVING != 0
    }

    /// What can be answered: the sets.
    pub(crate) fn answers(self) -> &'a [u8] {
        let mut sets = self.sets();
        sets.by_ref().for_each(drop);
        &self.0[HEADER + self.name().len()..sets.at]
    }

    pub(crate) fn sets(self) -> Sets<'a> {
        Sets { bytes: self.0, at: self.sets_at() }
    }

    /// Where the sets start.
    pub(crate) fn sets_at(self) -> usize {
        HEADER + self.name().len()
    }

    #[inline]
    pub(crate) fn set(self, kind: u16) -> Option<Set<'a>> {
        // By type, so that a search may end early.
        self.sets().find(|set| set.kind >= kind).filter(|set| set.kind == kind)
    }

    /// Every claim of every record, withheld ones included: type, data, claim.
    pub(crate) fn claims(self, mut tell: impl FnMut(u16, &'a [u8], Claim)) {
        let behind = self.behind_sets();
        let mut claims = behind.claims.iter();
        for set in self.sets() {
            for record in set.iter() {
                for claim in until_last(&mut claims) {
                    tell(set.kind, record.data(), claim);
                }
            }
        }
        for record in self.withheld() {
            for claim in record.claims {
                tell(record.kind, record.data, Claim::from_bytes(claim));
            }
        }
    }

    /// What lies behind the sets.
    pub(crate) fn behind_sets(self) -> Behind<'a> {
        let mut sets = self.sets();
        sets.by_ref().for_each(drop);
        let mut reader = Reader { bytes: self.0, at: sets.at + 2 };
        let bytes = reader.number() as usize * CLAIM;
        let (claims, _) = self.0[reader.at..reader.at + bytes].as_chunks();
        Behind { end_of_sets: sets.at, claims_at: reader.at, claims }
    }

    /// The records that are not served.
    pub(crate) fn withheld(self) -> impl Iterator<Item = Hidden<'a>> {
        let behind = self.behind_sets();
        let mut at = behind.claims_at + behind.claims.len() * CLAIM;
        std::iter::from_fn(move || {
            let mut reader = Reader { bytes: self.0, at };
            if at == self.0.len() {
                return None;
            }
            let (start, kind, length) = (at, reader.word(), usize::from(reader.word()));
            let data = &self.0[reader.at..reader.at + length];
            let (rest, _) = self.0[reader.at + length..].as_chunks();
            let count = rest.iter().position(is_last).map_or(rest.len(), |at| at + 1);
            at = reader.at + length + count * CLAIM;
            Some(Hidden { place: start..at, kind, data, claims: &rest[..count] })
        })
    }

    /// Where in the block a part of it is.
    pub(crate) fn place_of(self, part: &[u8]) -> usize {
        part.as_ptr().addr() - self.0.as_ptr().addr()
    }
}

/// Whether a set keeps where its records start.
pub(crate) fn has_starts(kind: u16, count: usize) -> bool {
    count >= MANY && stride(kind).is_none()
}

/// The bytes of each record of a type whose data are always of one length.
fn stride(kind: u16) -> Option<usize> {
    match kind {
        A => Some(RECORD + 4),
        AAAA => Some(RECORD + 16),
        _ => None,
    }
}

/// Changes the count of names below, in place.
pub(crate) fn set_children(node: &mut [u8], children: u32) {
    node[4..8].copy_from_slice(&children.to_le_bytes());
}

/// Changes the zone, in place.
pub(crate) fn set_zone(node: &mut [u8], zone: u16) {
    node[8..10].copy_from_slice(&zone.to_le_bytes());
}

/// Changes whether something behind the name goes away, in place.
pub(crate) fn set_leaving(node: &mut [u8], leaving: bool) {
    node[10] = if leaving { LEAVING } else { 0 };
}

/// Changes the TTL of records as they are sent, in place.
pub(crate) fn set_ttls(records: &mut [u8], ttl: u32) {
    let mut rest = records;
    while let Some((head, more)) = rest.split_at_mut_checked(RECORD) {
        head[6..10].copy_from_slice(&ttl.to_be_bytes());
        let length = usize::from(u16::from_be_bytes([head[10], head[11]]));
        rest = more.get_mut(length..).unwrap_or_default();
    }
}

/// Starts a node's bytes; [`end`] completes them.
pub(crate) fn begin(out: &mut Vec<u8>, name: &[u8], children: u32, zone: u16) {
    out.clear();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&children.to_le_bytes());
    out.extend_from_slice(&zone.to_le_bytes());
    out.push(0);
    // A name has at most 255 bytes.
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

/// Appends a type's records.
pub(crate) fn push_set(out: &mut Vec<u8>, set: &Set<'_>) {
    push_set_head(
        out,
        set.kind,
        set.starts.len() + set.targets.len() + set.records.len(),
        set.counts,
    );
    out.extend_from_slice(set.starts);
    out.extend_from_slice(set.targets);
    out.extend_from_slice(set.records);
}

/// Appends what stands in front of a type's records.
pub(crate) fn push_set_head(out: &mut Vec<u8>, kind: u16, bytes: usize, counts: [u32; 3]) {
    out.extend_from_slice(&kind.to_be_bytes());
    push_number(out, bytes);
    for count in counts {
        push_number(out, count as usize);
    }
}

/// Appends a record as it is sent. Its data have at most 65,535 bytes.
pub(crate) fn push_record(out: &mut Vec<u8>, kind: u16, ttl: u32, data: &[u8]) {
    out.extend_from_slice(&POINTER);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN);
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

/// Ends the sets.
///
/// * `claims` — how many claims of served records follow.
pub(crate) fn end_sets(out: &mut Vec<u8>, claims: usize) {
    out.extend_from_slice(&[0; 2]);
    push_number(out, claims);
}

/// Appends a record that is not served; its claims follow.
pub(crate) fn push_withheld(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

/// What lies behind the sets of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behind<'a> {
    /// Where the sets end.
    pub(crate) end_of_sets: usize,
    pub(crate) claims_at: usize,
    /// Claims of served records.
    pub(crate) claims: &'a [[u8; CLAIM]],
}

/// A record that is not served.
#[derive(Debug, Clone)]
pub(crate) struct Hidden<'a> {
    /// Where it is in the block, its claims included.
    pub(crate) place: std::ops::Range<usize>,
    pub(crate) kind: u16,
    pub(crate) data: &'a [u8],
    pub(crate) claims: &'a [[u8; CLAIM]],
}

/// Writes the length of a node that is complete.
pub(crate) fn end(out: &mut [u8]) {
    let length = out.len() as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
}

/// The sets of a node.
#[derive(Debug, Clone)]
pub(crate) struct Sets<'a> {
    bytes: &'a [u8],
    /// Where the next one starts.
    at: usize,
}

impl<'a> Iterator for Sets<'a> {
    type Item = Set<'a>;

    #[inline]
    fn next(&mut self) -> Option<Set<'a>> {
        let mut reader = Reader { bytes: self.bytes, at: self.at };
        let kind = reader.word();
        if kind == 0 {
            return None;
        }
        let length = reader.number() as usize;
        let counts = [reader.number(), reader.number(), reader.number()];
        self.at = reader.at + length;
        let data = &self.bytes[reader.at..self.at];
        let count = (counts[0] + counts[1] + counts[2]) as usize;
        let (starts, data) = data.split_at(if has_starts(kind, count) { 4 * count } else { 0 });
        let (targets, records) = data.split_at(if kind == SRV { 4 * count } else { 0 });
        Some(Set { kind, counts, starts, targets, records })
    }
}

impl<'a> Set<'a> {
    pub(crate) fn len(&self) -> usize {
        self.counts.iter().map(|count| *count as usize).sum()
    }

    /// Its records, the nearest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Sent<'a>> + use<'a> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let length = usize::from(u16::from_be_bytes([*rest.get(10)?, *rest.get(11)?]));
            let (bytes, after) = rest.split_at(RECORD + length);
            rest = after;
            Some(Sent { bytes })
        })
    }

    /// Where the record of this place starts, or the records end.
    pub(crate) fn start(&self, place: usize) -> usize {
        if let Some(stride) = stride(self.kind) {
            return place * stride;
        }
        if !self.starts.is_empty() {
            let (starts, _) = self.starts.as_chunks::<4>();
            let start = starts.get(place).map(|start| u32::from_le_bytes(*start) as usize);
            return start.unwrap_or(self.records.len());
        }
        self.iter().take(place).map(|sent| sent.bytes.len()).sum()
    }

    /// The seconds that a client may keep it.
    pub(crate) fn ttl(&self) -> u32 {
        let at = |place: usize| self.records.get(place).copied().unwrap_or_default();
        u32::from_be_bytes([at(6), at(7), at(8), at(9)])
    }
}

impl<'a> Sent<'a> {
    pub(crate) fn data(self) -> &'a [u8] {
        &self.bytes[RECORD..]
    }
}

/// Reads numbers one after the other.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> u16 {
        let word = u16::from_be_bytes([self.bytes[self.at], self.bytes[self.at + 1]]);
        self.at += 2;
        word
    }

    #[inline]
    fn number(&mut self) -> u32 {
        // Nearly all are small.
        let first = self.bytes[self.at];
        self.at += 1;
        if first < 0x80 { u32::from(first) } else { self.rest_of_number(first) }
    }

    fn rest_of_number(&mut self, first: u8) -> u32 {
        let (mut value, mut shift) = (u32::from(first & 0x7f), 7);
        loop {
            let byte = self.bytes[self.at];
            self.at += 1;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 || shift == 28 {
                return value;
            }
            shift += 7;
        }
    }
}

/// Appends a number, seven bits a byte, the lowest first.
fn push_number(out: &mut Vec<u8>, number: usize) {
    let mut rest = number as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
