//! The short road: plain questions answered from bytes to bytes.
//!
//! A batch goes through in stages, each of which reads memory of all its questions, so
//! that the processor waits for all of them together: slots of the table, blocks of the
//! names, blocks of the targets of SRV records; then the replies are written from what is
//! near by now. Everything that needs thought is left to the full road.

use crate::options::Mode;
use crate::plain::{HEADER, OPT, PlainEdns, PlainQuestion, UDP_PAYLOAD};
use crate::query::first_of;
use crate::store::arena::Handle;
use crate::store::names::Names;
use crate::store::node::{A, AAAA, NO_ZONE, NS, Node, RECORD, SOA, SRV, SRV_FIXED, Set, TXT};
use crate::store::suffixes::Belongs;
use crate::zone::{SERIAL_FROM_END, ZoneNumber, Zones, is_alias};

/// How many questions go through the stages together.
const TOGETHER: usize = 32;
/// How many targets of each question are read ahead.
const AHEAD: usize = 2;
/// A set with more SRV records is left to the full road.
const MAX_TARGETS: usize = 64;
const REPLY: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const RECURSION_AVAILABLE: u16 = 0x0080;
const NO_ERROR: u8 = 0;
const NX_DOMAIN: u8 = 3;
/// Pointers reach this far (RFC 1035, 4.1.4).
const POINTER_LIMIT: usize = 0x4000;

/// What all questions of one batch have in common.
#[derive(Debug, Clone, Copy)]
pub struct PlainTurn {
    /// Counts questions: this is the number of the batch's first one.
    pub number: u64,
    /// Whether this server asks others (RA).
    pub recursion_available: bool,
}

/// What the short road made of a question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlainAnswer {
    /// A name of ours, and the full road has to answer.
    #[default]
    NotPlain,
    /// The name is somebody else's.
    Forward,
    /// The reply is written.
    Done {
        /// Its bytes, from the buffer's start.
        length: usize,
        /// The zone of the name.
        zone: ZoneNumber,
        /// Response code: 0 or 3.
        code: u8,
    },
}

impl Zones {
    /// Answers a batch of questions. Questions, buffers and answers go by place; what is
    /// beyond the shortest of the three stays as it was.
    ///
    /// A reply is never longer than its question's limit or its buffer.
    pub fn answer_plain<B: AsMut<[u8]>>(
        &self,
        questions: &[PlainQuestion<'_>],
        turn: PlainTurn,
        replies: &mut [B],
        answers: &mut [PlainAnswer],
    ) {
        let mut number = turn.number;
        let batches = questions.chunks(TOGETHER).zip(replies.chunks_mut(TOGETHER));
        for ((questions, replies), answers) in batches.zip(answers.chunks_mut(TOGETHER)) {
            let places = self.read_ahead(questions);
            for (at, question) in questions.iter().enumerate() {
                let (Some(reply), Some(answer)) = (replies.get_mut(at), answers.get_mut(at)) else {
                    break;
                };
                let bytes = reply.as_mut();
                let limit = question.limit().min(bytes.len());
                let out = Out { bytes: &mut bytes[..limit], at: 0 };
                let road = Road { zones: self, question, turn: PlainTurn { number, ..turn } };
                *answer = road.answer(places[at], out);
                number = number.wrapping_add(1);
            }
        }
    }

    /// Brings near what the replies are written from; returns where each question's name
    /// probably is.
    fn read_ahead(&self, questions: &[PlainQuestion<'_>]) -> [Option<Handle>; TOGETHER] {
        let names = self.store();
        let mut places = [None; TOGETHER];
        let hash = |question: &PlainQuestion<'_>| crate::hash::short(question.hash());
        for (place, question) in places.iter_mut().zip(questions) {
            *place = names.guess(hash(question));
        }
        let near = places.iter().flatten().fold(0, |near, place| near ^ names.touch(*place));
        let mut targets = [[None; AHEAD]; TOGETHER];
        let services = places.iter().zip(questions).zip(&mut targets);
        for ((place, _), targets) in services.filter(|((_, question), _)| question.kind() == SRV) {
            let Some(set) = place.and_then(|place| names.node(place).set(SRV)) else { continue };
            for (target, hash) in targets.iter_mut().zip(hashes(&set)) {
                *target = names.guess(hash);
            }
        }
        let found = targets.iter().flatten().flatten();
        // Without a use of what was read the compiler would leave out the reading.
        std::hint::black_box(found.fold(near, |near, place| near ^ names.touch(*place)));
        places
    }
}

/// One question on its way.
struct Road<'a> {
    zones: &'a Zones,
    question: &'a PlainQuestion<'a>,
    turn: PlainTurn,
}

impl Road<'_> {
    fn answer(&self, place: Option<Handle>, mut out: Out<'_>) -> PlainAnswer {
        let node = place.and_then(|place| self.find(place));
        let (zone, written) = match node.map(|node| (node, self.zones.zone_of(node))) {
            Some((node, zone)) if zone != NO_ZONE => (zone, self.named(node, zone, &mut out)),
            _ => match self.zones.suffixes().find(self.question.name()) {
                Belongs::Zone(zone) => (zone, self.negative(zone, NX_DOMAIN, &mut out)),
                Belongs::Alias => return PlainAnswer::NotPlain,
                Belongs::Elsewhere => return PlainAnswer::Forward,
            },
        };
        match written {
            Some(code) => PlainAnswer::Done { length: out.at, zone: ZoneNumber(zone), code },
            None => PlainAnswer::NotPlain,
        }
    }

    /// The node of the question's name; mostly the first one of its hash.
    fn find(&self, place: Handle) -> Option<Node<'_>> {
        let names = self.zones.store();
        let first = names.node(place);
        if self.question.is_named(first.name()) {
            return Some(first);
        }
        let hash = crate::hash::short(self.question.hash());
        names.candidates(hash).find(|node| self.question.is_named(node.name()))
    }

    /// Answers about a name that exists; gives the response code.
    fn named(&self, node: Node<'_>, zone: u16, out: &mut Out<'_>) -> Option<u8> {
        let kind = self.question.kind();
        if self.question.has_wildcard() || !is_plain_type(kind) {
            return None;
        }
        let Some(set) = node.set(kind) else {
            return if is_alias(node) { None } else { self.negative(zone, NO_ERROR, out) };
        };
        if matches!(kind, SOA | NS) && self.is_legacy(zone) {
            return None;
        }
        let count = u16::try_from(set.len()).ok()?;
        self.head(out, NO_ERROR, [count, 0, 0])?;
        let start = out.at;
        let turn = self.turn.number;
        copy_in_turn(&set, turn, out)?;
        let mut additional = 0;
        match kind {
            SRV => additional = copy_addresses(self.zones.store(), &set, start, out)?,
            SOA => self.stamp(out),
            _ => {}
        }
        self.tail(out, additional)?;
        Some(NO_ERROR)
    }

    /// Answers that there is nothing; gives the response code.
    fn negative(&self, zone: u16, code: u8, out: &mut Out<'_>) -> Option<u8> {
        if self.question.has_wildcard()
            || !is_plain_type(self.question.kind())
            || self.is_legacy(zone)
        {
            return None;
        }
        let zone = self.zones.zone(zone)?;
        self.head(out, code, [0, 1, 0])?;
        let apex = HEADER + self.question.name().len() - zone.length;
        out.put(&pointer(apex)?)?;
        out.put(&zone.authority)?;
        self.stamp(out);
        self.tail(out, 0)?;
        Some(code)
    }

    /// Writes the serial into the SOA record that was written last.
    fn stamp(&self, out: &mut Out<'_>) {
        let at = out.at - SERIAL_FROM_END;
        out.bytes[at..at + 4].copy_from_slice(&self.zones.serial().to_be_bytes());
    }

    /// Writes header and question.
    fn head(&self, out: &mut Out<'_>, code: u8, [answers, authorities, _]: [u16; 3]) -> Option<()> {
        let mut flags = REPLY | AUTHORITATIVE | self.question.flags() | u16::from(code);
        if self.turn.recursion_available {
            flags |= RECURSION_AVAILABLE;
        }
        let mut header = [0; HEADER];
        let words = [self.question.id(), flags, 1, answers, authorities];
        for (place, word) in header.chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        out.put(&header)?;
        out.put(self.question.section())
    }

    /// Writes the OPT record, if one was asked with, and the count of the additional
    /// records.
    fn tail(&self, out: &mut Out<'_>, additional: u16) -> Option<()> {
        let mut count = additional;
        if let Some(edns) = self.question.edns() {
            out.put(&opt(edns))?;
            count += 1;
        }
        out.bytes[HEADER - 2..HEADER].copy_from_slice(&count.to_be_bytes());
        Some(())
    }

    /// Whether Mesos-DNS' ways count in this zone.
    fn is_legacy(&self, zone: u16) -> bool {
        self.zones.mode() == Mode::Legacy
            && self.zones.zone(zone).is_some_and(|zone| zone.name == *self.zones.domain())
    }
}

/// A reply that is written.
struct Out<'b> {
    bytes: &'b mut [u8],
    at: usize,
}

impl Out<'_> {
    /// Appends bytes; `None` if they do not fit.
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at + bytes.len();
        self.bytes.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }
}

/// Types whose records are answered as they are kept. Texts are made by the full road,
/// and types from 128 to 255 ask for something else than data.
fn is_plain_type(kind: u16) -> bool {
    const OPT_TYPE: u16 = 41;
    !matches!(kind, 0 | TXT | OPT_TYPE | 128..=255)
}

/// Copies a set: the nearest records first, and among those of one distance another one
/// first each time.
fn copy_in_turn(set: &Set<'_>, turn: u64, out: &mut Out<'_>) -> Option<()> {
    if let [0, 0, 1] | [0, 1, 0] | [1, 0, 0] = set.counts {
        return out.put(set.records);
    }
    if set.records.len() > out.bytes.len() - out.at {
        return None;
    }
    let (mut place, mut start) = (0, 0);
    for count in set.counts.iter().map(|count| *count as usize).filter(|count| *count > 0) {
        let middle = set.start(place + first_of(count, turn));
        let end = set.start(place + count);
        out.put(&set.records[middle..end])?;
        out.put(&set.records[start..middle])?;
        (place, start) = (place + count, end);
    }
    Some(())
}

/// Appends the addresses of the targets of the SRV records that were written from `start`
/// on; gives their number. Their names are pointers to the targets.
fn copy_addresses(names: &Names, set: &Set<'_>, start: usize, out: &mut Out<'_>) -> Option<u16> {
    if set.len() > MAX_TARGETS {
        return None;
    }
    let mut seen = [(0_usize, 0_usize); MAX_TARGETS];
    let (mut known, mut count, mut at) = (0, 0, start);
    for _ in 0..set.len() {
        let length = u16::from_be_bytes([out.bytes[at + 10], out.bytes[at + 11]]);
        let (from, to) = (at + RECORD + SRV_FIXED, at + RECORD + usize::from(length));
        at = to;
        let target = &out.bytes[from..to];
        if seen[..known].iter().any(|(a, b)| out.bytes[*a..*b] == *target) {
            continue;
        }
        seen[known] = (from, to);
        known += 1;
    }
    for (from, to) in &seen[..known] {
        let hash = match known {
            // One target: its hash stands beside its record.
            1 => hashes(set).next(),
            _ => hashes_of(set, &out.bytes[*from..*to]),
        };
        let target = &out.bytes[*from..*to];
        let node = hash.and_then(|hash| names.candidates(hash).find(|node| node.name() == target));
        let Some(node) = node else { continue };
        for set in [A, AAAA].iter().filter_map(|kind| node.set(*kind)) {
            count += copy_named(&set, pointer(*from)?, out)?;
        }
    }
    Some(count)
}

/// Appends a set under another name; gives the number of records.
fn copy_named(set: &Set<'_>, name: [u8; 2], out: &mut Out<'_>) -> Option<u16> {
    let mut count = 0;
    for sent in set.iter() {
        let at = out.at;
        out.put(sent.bytes)?;
        out.bytes[at..at + 2].copy_from_slice(&name);
        count += 1;
    }
    Some(count)
}

/// The hashes of a set's targets, in the order of its records.
fn hashes(set: &Set<'_>) -> impl Iterator<Item = u32> {
    let (hashes, _) = set.targets.as_chunks::<4>();
    hashes.iter().map(|hash| u32::from_le_bytes(*hash))
}

/// The hash of the target that is written so.
fn hashes_of(set: &Set<'_>, target: &[u8]) -> Option<u32> {
    let same = |data: &[u8]| data.get(SRV_FIXED..) == Some(target);
    set.iter().zip(hashes(set)).find(|(sent, _)| same(sent.data())).map(|(_, hash)| hash)
}

fn pointer(offset: usize) -> Option<[u8; 2]> {
    (offset < POINTER_LIMIT).then(|| (0xc000 | offset as u16).to_be_bytes())
}

fn opt(edns: PlainEdns) -> [u8; OPT] {
    let [high, low] = UDP_PAYLOAD.to_be_bytes();
    [0, 0, 41, high, low, 0, 0, u8::from(edns.dnssec_ok) << 7, 0, 0, 0]
}

#[cfg(test)]
mod tests;
