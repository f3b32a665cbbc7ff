//! One name as one block of bytes, in the order in which an answer needs them.
//!
//! ```text
//! length u32 · children u32 · zone u16 · flags u8 · length of the name u8 · name
//! sets, by type:  type u16 · bytes · near, same zone, elsewhere (counts)
//!                 · SRV only: hash u32 of every record's target
//!                 · records as they are sent, the nearest first
//! 0 u16
//! claims: for every served record, in their order:  count · claims
//! withheld records:  type u16 · length u16 · data · count · claims
//!
//! claim: owner u32 · distance and why withheld u8 · TTL
//! ```
//!
//! A record is sent under the name of the question, so it starts with a pointer there.
//! Types and lengths of records are in network order, the rest is little-endian; what
//! has no width here takes seven bits a byte.

use crate::plain::HEADER as MESSAGE_HEADER;
use crate::record::Withheld;
use mizzen_types::vip::Distance;

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
/// Distances by their numbers in a claim.
const DISTANCES: [Distance; 3] = [Distance::Node, Distance::Zone, Distance::Far];

/// What is at a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a>(&'a [u8]);

/// The served records of one type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set<'a> {
    pub(crate) kind: u16,
    /// How many there are of each distance.
    pub(crate) counts: [u32; 3],
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

/// What one owner says about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    /// Number of the owner.
    pub(crate) owner: u32,
    /// How far away it is.
    pub(crate) distance: Distance,
    /// Why it is not answered.
    pub(crate) withheld: Option<Withheld>,
    /// In seconds.
    pub(crate) ttl: u32,
}

impl<'a> Node<'a> {
    /// The node at the start of `bytes`, which may go on behind it.
    #[inline]
    pub(crate) fn at(bytes: &'a [u8]) -> Self {
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Self(&bytes[..length as usize])
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
        self.0.len() == HEADER + self.name().len() + 2
    }

    /// What can be answered: the sets.
    pub(crate) fn answers(self) -> &'a [u8] {
        let mut sets = self.sets();
        sets.by_ref().for_each(drop);
        &self.0[HEADER + self.name().len()..sets.at]
    }

    pub(crate) fn sets(self) -> Sets<'a> {
        Sets { bytes: self.0, at: HEADER + self.name().len() }
    }

    #[inline]
    pub(crate) fn set(self, kind: u16) -> Option<Set<'a>> {
        // By type, so that a search may end early.
        self.sets().find(|set| set.kind >= kind).filter(|set| set.kind == kind)
    }

    /// Every claim of every record, withheld ones included: type, data, claim.
    pub(crate) fn claims(self, mut tell: impl FnMut(u16, &'a [u8], Claim)) {
        let mut sets = self.sets();
        sets.by_ref().for_each(drop);
        let mut rest = Reader { bytes: self.0, at: sets.at + 2 };
        for set in self.sets() {
            for record in set.iter() {
                rest.claims(|claim| tell(set.kind, record.data(), claim));
            }
        }
        while rest.at < self.0.len() {
            let (kind, length) = (rest.word(), usize::from(rest.word()));
            let data = &self.0[rest.at..rest.at + length];
            rest.at += length;
            rest.claims(|claim| tell(kind, data, claim));
        }
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
    out.extend_from_slice(&set.kind.to_be_bytes());
    push_number(out, set.targets.len() + set.records.len());
    for count in set.counts {
        push_number(out, count as usize);
    }
    out.extend_from_slice(set.targets);
    out.extend_from_slice(set.records);
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
pub(crate) fn end_sets(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 2]);
}

/// Appends the claims of one record.
pub(crate) fn push_claims(out: &mut Vec<u8>, claims: impl ExactSizeIterator<Item = Claim>) {
    push_number(out, claims.len());
    for claim in claims {
        let reason = claim.withheld.map_or(0, |reason| reason as u8 + 1);
        out.extend_from_slice(&claim.owner.to_le_bytes());
        out.push(claim.distance as u8 | (reason << 2));
        push_number(out, claim.ttl as usize);
    }
}

/// Appends a record that is not served; its claims follow.
pub(crate) fn push_withheld(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
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
        let hashes = if kind == SRV { 4 * (counts[0] + counts[1] + counts[2]) as usize } else { 0 };
        let (targets, records) = data.split_at(hashes);
        Some(Set { kind, counts, targets, records })
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

    fn claims(&mut self, mut tell: impl FnMut(Claim)) {
        for _ in 0..self.number() {
            let bytes = &self.bytes[self.at..self.at + 5];
            self.at += 5;
            let owner = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let (distance, reason) = (usize::from(bytes[4] & 3), usize::from(bytes[4] >> 2));
            tell(Claim {
                owner,
                distance: DISTANCES.get(distance).copied().unwrap_or_default(),
                withheld: reason.checked_sub(1).and_then(|at| Withheld::ALL.get(at)).copied(),
                ttl: self.number(),
            });
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
