//! Walks over the records of a message without decoding them.

use std::collections::BTreeSet;

/// Longest name in bytes (RFC 1035, 2.3.4).
const MAX_NAME: usize = 255;
/// A pointer to the question's name (RFC 1035, 4.1.4).
const ASKED_NAME: [u8; 2] = [0xc0, 12];
/// Longest chain of CNAME records that is followed.
const MAX_CHAIN: usize = 32;
/// Type, class, TTL and length behind a record's name, in bytes.
const FIXED: usize = 10;
const A: u16 = 1;
const AAAA: u16 = 28;
const CNAME: u16 = 5;
const DNAME: u16 = 39;
const OPT: u16 = 41;
const RRSIG: u16 = 46;

/// Part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) section: Section,
    pub(super) kind: u16,
    pub(super) ttl: u32,
    /// First byte of its name.
    pub(super) start: usize,
    /// First byte of its data.
    data: usize,
    /// First byte behind it.
    end: usize,
}

/// All records of a message.
#[derive(Debug)]
pub(super) struct Walked {
    /// Without the OPT record.
    pub(super) entries: Vec<Entry>,
    pub(super) opt: Option<Entry>,
    /// First byte behind the last record.
    pub(super) end: usize,
}

/// The names that an answer may speak of.
#[derive(Debug)]
pub(super) struct Names {
    /// The asked one and those that its aliases lead to.
    all: BTreeSet<Vec<u8>>,
    last: Vec<u8>,
}

impl Entry {
    /// Where its TTL stands in the message.
    pub(super) fn ttl_at(&self) -> usize {
        self.data - 6
    }

    pub(super) fn data<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        message.get(self.data..self.end).unwrap_or_default()
    }

    /// Its TTL; one with the first bit set counts as zero (RFC 2181, 8).
    pub(super) fn lifetime(&self) -> u32 {
        if i32::try_from(self.ttl).is_ok() { self.ttl } else { 0 }
    }
}

impl Walked {
    /// Finds the records from `start` on; `None` if they are not all there.
    pub(super) fn new(message: &[u8], start: usize, counts: [u16; 3]) -> Option<Self> {
        let mut walked = Self { entries: Vec::new(), opt: None, end: start };
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        for (section, count) in sections.into_iter().zip(counts) {
            for _ in 0..count {
                let entry = entry(message, walked.end, section)?;
                walked.end = entry.end;
                if entry.kind != OPT {
                    walked.entries.push(entry);
                } else if section != Section::Additional || walked.opt.replace(entry).is_some() {
                    return None;
                }
            }
        }
        Some(walked)
    }

    /// The length of each answer if they are several addresses of the asked name, written
    /// alike, so that they may change places (RFC 1034, 3.6).
    pub(super) fn equal_answers(&self, message: &[u8]) -> Option<u16> {
        let mut answers = self.entries.iter().filter(|entry| entry.section == Section::Answer);
        let first = answers.next()?;
        let size = |entry: &Entry| entry.end - entry.start;
        let is_alike = |entry: &Entry| {
            let name = message.get(entry.start..entry.start + 2);
            entry.kind == first.kind && size(entry) == size(first) && name == Some(&ASKED_NAME)
        };
        let several = answers.clone().next().is_some();
        let alike = matches!(first.kind, A | AAAA) && is_alike(first) && answers.all(is_alike);
        (several && alike).then(|| u16::try_from(size(first)).ok()).flatten()
    }
}

impl Names {
    /// Whether the last name is that which stands at `at`, or below it.
    pub(super) fn last_is_below(&self, message: &[u8], at: usize) -> bool {
        name(message, at).is_some_and(|(zone, _)| is_at_or_below(&self.last, &zone))
    }
}

/// The names that the answer section speaks of: the asked one, then along CNAME records.
/// `None` if there is a record of any other name.
pub(super) fn names_of_answer(message: &[u8], asked: &[u8], walked: &Walked) -> Option<Names> {
    let asked = asked.to_ascii_lowercase();
    let answers: Vec<(Vec<u8>, &Entry)> = (walked.entries.iter())
        .filter(|entry| entry.section == Section::Answer)
        .map(|entry| Some((name(message, entry.start)?.0, entry)))
        .collect::<Option<_>>()?;
    let mut names = Names { all: BTreeSet::from([asked.clone()]), last: asked };
    while names.all.len() <= MAX_CHAIN {
        let alias =
            |(owner, entry): &&(Vec<u8>, &Entry)| entry.kind == CNAME && *owner == names.last;
        let Some((_, entry)) = answers.iter().find(alias) else { break };
        let (target, _) = name(message, entry.data)?;
        names.last.clone_from(&target);
        if !names.all.insert(target) {
            break;
        }
    }
    let belongs = |(owner, entry): &(Vec<u8>, &Entry)| {
        let is_above = matches!(entry.kind, DNAME | RRSIG);
        names.all.contains(owner)
            || (is_above && names.all.iter().any(|name| is_at_or_below(name, owner)))
    };
    answers.iter().all(belongs).then_some(names)
}

fn entry(message: &[u8], start: usize, section: Section) -> Option<Entry> {
    let fixed = skip_name(message, start)?;
    let bytes: &[u8; FIXED] = message.get(fixed..)?.first_chunk()?;
    let [k0, k1, _, _, t0, t1, t2, t3, l0, l1] = *bytes;
    let data = fixed + FIXED;
    let end = data + usize::from(u16::from_be_bytes([l0, l1]));
    let ttl = u32::from_be_bytes([t0, t1, t2, t3]);
    let kind = u16::from_be_bytes([k0, k1]);
    (end <= message.len()).then_some(Entry { section, kind, ttl, start, data, end })
}

/// The first byte behind a name.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..64 => at += 1 + usize::from(length),
            0xc0.. => return (pointer(message, at)? < start).then_some(at + 2),
            _ => return None,
        }
        if at - start >= MAX_NAME {
            return None;
        }
    }
}

/// A name in lower case without compression, and the first byte behind it.
fn name(message: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut lowest) = (start, start);
    let mut name = Vec::with_capacity(32);
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => break,
            1..64 => {
                let label = message.get(at..at + 1 + length)?;
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                at += 1 + length;
            }
            0xc0.. => {
                // Only ever backwards, so that it ends.
                let target = pointer(message, at)?;
                if target >= lowest {
                    return None;
                }
                (at, lowest) = (target, target);
            }
            _ => return None,
        }
        if name.len() >= MAX_NAME {
            return None;
        }
    }
    name.push(0);
    Some((name, skip_name(message, start)?))
}

fn pointer(message: &[u8], at: usize) -> Option<usize> {
    let bytes: &[u8; 2] = message.get(at..)?.first_chunk()?;
    Some(usize::from(u16::from_be_bytes(*bytes) & 0x3fff))
}

/// Whether `name` is `zone` or ends in it, both in lower case.
fn is_at_or_below(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > zone.len() {
        let Some(next) = rest.first().and_then(|length| rest.get(1 + usize::from(*length)..))
        else {
            return false;
        };
        rest = next;
    }
    rest == zone
}
