//! An answer from elsewhere, in the bytes it came in.
//!
//! Types that nobody here knows, signatures and the AD bit pass untouched, because
//! nothing is decoded that need not be. [`Relayed::read`] checks that a message answers
//! the question that was asked and nothing else, finds every TTL in it and takes out the
//! sender's OPT record, which speaks of one hop only (RFC 6891, 6.1.1). [`Relayed::write`]
//! gives the rest to whoever asks the same: a copy behind his own question, whose name
//! has the same length, so that every compressed name still points where it did.

mod reply;
mod walk;

pub use reply::{Age, Asker, Opt};

pub(crate) use walk::Section;

use walk::{Entry, Walked, names_of_answer};

/// Length of a message's header in bytes.
pub(crate) const HEADER: usize = 12;
/// Type and class behind the question's name, in bytes.
const QUESTION_TAIL: usize = 4;
const SOA: u16 = 6;
const ANY: u16 = 255;
/// FORMERR, SERVFAIL, NOTIMP and REFUSED.
const UNDERSTOOD_NOTHING: [u16; 4] = [1, 2, 4, 5];
/// Extended DNS errors (RFC 8914).
const EDE_OPTION: u16 = 15;

/// What was asked of an upstream.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// The message's id.
    pub id: u16,
    /// The name in wire form, with the capitals that were sent.
    pub name: &'a [u8],
    /// Type of the records.
    pub kind: u16,
    /// Class, 1 on the Internet.
    pub class: u16,
}

/// An answer that can be given to everybody who asks the same question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// Everything behind the question, without the OPT record.
    records: Box<[u8]>,
    /// Where in `records` the TTLs stand, in order.
    ttls: Box<[u16]>,
    /// Answer, authority and additional records.
    counts: [u16; 3],
    /// The bytes of each answer, if they can be given in any order.
    turning: Option<u16>,
    code: u16,
    authoritative: bool,
    authentic: bool,
    truncated: bool,
    worth: Worth,
    notice: Option<Notice>,
}

/// How long an answer may be kept, by its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// It has records: as long as the one that ends first, in seconds.
    Positive(u32),
    /// It says that there is nothing, in seconds (RFC 2308, 5).
    Negative(u32),
    /// It must not be kept: cut, an error, or nothing that says for how long.
    Nothing,
}

/// An extended DNS error (RFC 8914): why an answer is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Its number in the registry.
    pub code: u16,
    /// For people; may be empty.
    pub text: &'static str,
}

/// Why a message is not the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another id, another question, or no answer at all.
    #[error("message does not answer the question")]
    NotTheAnswer,
    /// The answer, but the name's capitals are not those that were sent.
    #[error("message repeats the question with other capitals")]
    Capitals,
    /// The answer, but it cannot be read to its end.
    #[error("answer is malformed")]
    Malformed,
    /// Its records belong to names that were not asked for.
    #[error("answer holds records of other names")]
    Foreign,
}

impl Relayed {
    /// Reads a message if it answers exactly what was sent.
    ///
    /// # Errors
    ///
    /// [`Unfit`] says what is wrong. After [`Unfit::NotTheAnswer`] the answer may still
    /// come.
    pub fn read(message: &[u8], sent: &Sent<'_>) -> Result<Self, Unfit> {
        let Some((header, _)) = message.split_first_chunk::<HEADER>() else {
            return Err(Unfit::NotTheAnswer);
        };
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let is_answer = header[2] & 0xf8 == 0x80;
        if word(0) != sent.id || !is_answer {
            return Err(Unfit::NotTheAnswer);
        }
        let code = u16::from(header[3] & 0x0f);
        if word(4) == 0 && UNDERSTOOD_NOTHING.contains(&code) {
            // A server that understood nothing repeats nothing. That there is no such name
            // says only one that has read it, and whose capitals show that it was asked.
            return Ok(Self::bare(code, None));
        }
        if word(4) != 1 {
            return Err(Unfit::NotTheAnswer);
        }
        check_question(message, sent)?;
        let start = HEADER + sent.name.len() + QUESTION_TAIL;
        let walked = Walked::new(message, start, [word(6), word(8), word(10)]);
        let walked = walked.ok_or(Unfit::Malformed)?;
        let names = names_of_answer(message, sent.name, &walked).ok_or(Unfit::Foreign)?;
        let mut relayed = Self::of(message, start, &walked);
        relayed.code |= code;
        relayed.authentic = header[3] & 0x20 != 0;
        relayed.truncated = header[2] & 0x02 != 0;
        relayed.judge(message, sent.kind, &walked, &names, start);
        Ok(relayed)
    }

    /// An answer without records.
    #[must_use]
    pub fn bare(code: u16, notice: Option<Notice>) -> Self {
        Self {
            records: Box::default(),
            ttls: Box::default(),
            counts: [0; 3],
            turning: None,
            code,
            authoritative: false,
            authentic: false,
            truncated: false,
            worth: Worth::Nothing,
            notice,
        }
    }

    /// An answer of our own with one record.
    pub(crate) fn own(code: u16, section: Section, record: &[u8], ttl_at: u16) -> Self {
        let mut own = Self::bare(code, None);
        own.counts[section as usize] = 1;
        (own.records, own.ttls) = (record.into(), [ttl_at].into());
        own.authoritative = true;
        own
    }

    /// Its response code, with the upper bits from the OPT record.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Whether it was cut to fit a datagram.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Whether it says that there is something or nothing, and is not an excuse.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.code, 0 | 3)
    }

    /// Whether nothing better can come: it is good, and not cut.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_good() && !self.truncated
    }

    /// How long it may be kept.
    #[must_use]
    pub fn worth(&self) -> Worth {
        self.worth
    }

    /// Its size in memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.records.len() + size_of_val(&*self.ttls)
    }

    /// Copies the records that were walked over, up to the OPT record. What stands
    /// behind that one is left out: its names may point past what is taken away, and
    /// additional records are never needed (RFC 2181, 9).
    fn of(message: &[u8], start: usize, walked: &Walked) -> Self {
        let opt = walked.opt.as_ref();
        let end = opt.map_or(walked.end, |opt| opt.start);
        let kept = |entry: &&Entry| entry.start < end;
        let mut counts = [0_u16; 3];
        for entry in walked.entries.iter().filter(kept) {
            counts[entry.section as usize] += 1;
        }
        let ttls = walked.entries.iter().filter(kept);
        let ttls = ttls.map(|entry| u16::try_from(entry.ttl_at() - start).unwrap_or(u16::MAX));
        let mut relayed = Self::bare(0, None);
        relayed.records = message.get(start..end).unwrap_or_default().into();
        relayed.ttls = ttls.collect();
        relayed.counts = counts;
        relayed.turning = walked.equal_answers(message);
        if let Some(opt) = opt {
            // The upper eight bits of the code stand where other records have their TTL.
            relayed.code = (u16::try_from(opt.ttl >> 24).unwrap_or(0)) << 4;
            relayed.notice = extended_error(opt.data(message));
        }
        relayed
    }

    /// Decides how long the answer may be kept. A negative answer's SOA record gets the
    /// TTL of the answer, so that it counts down for whoever reads its minimum field.
    fn judge(
        &mut self,
        message: &[u8],
        kind: u16,
        walked: &Walked,
        names: &walk::Names,
        start: usize,
    ) {
        let answers = || walked.entries.iter().filter(|entry| entry.section == Section::Answer);
        let shortest = answers().map(Entry::lifetime).min().unwrap_or(u32::MAX);
        let found = answers().any(|entry| entry.kind == kind || kind == ANY);
        if self.truncated || !self.is_good() {
            return;
        }
        if found && self.code == 0 {
            let others = walked.entries.iter().filter(|e| e.section == Section::Authority);
            let shortest = others.map(Entry::lifetime).fold(shortest, u32::min);
            self.worth = Worth::Positive(shortest);
            return;
        }
        let is_start = |entry: &&Entry| entry.section == Section::Authority && entry.kind == SOA;
        let Some(soa) = walked.entries.iter().find(is_start) else { return };
        let Some(minimum) = soa.data(message).last_chunk::<4>() else { return };
        if !names.last_is_below(message, soa.start) {
            return;
        }
        let ttl = soa.lifetime().min(u32::from_be_bytes(*minimum));
        let place = self.records.get_mut(soa.ttl_at() - start..);
        if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
            *place = ttl.to_be_bytes();
        }
        self.worth = Worth::Negative(shortest.min(ttl));
    }
}

/// Compares the question of an answer with the one that was sent.
fn check_question(message: &[u8], sent: &Sent<'_>) -> Result<(), Unfit> {
    let end = HEADER + sent.name.len();
    let name = message.get(HEADER..end).ok_or(Unfit::NotTheAnswer)?;
    let tail = message.get(end..end + QUESTION_TAIL).ok_or(Unfit::NotTheAnswer)?;
    let [kind, class] = [sent.kind.to_be_bytes(), sent.class.to_be_bytes()];
    if tail != [kind[0], kind[1], class[0], class[1]] {
        return Err(Unfit::NotTheAnswer);
    }
    // Lengths of labels are below 64 and no letters, so they are compared exactly.
    match name == sent.name {
        true => Ok(()),
        false if name.eq_ignore_ascii_case(sent.name) => Err(Unfit::Capitals),
        false => Err(Unfit::NotTheAnswer),
    }
}

/// The first extended error among a message's options, without its text.
fn extended_error(mut options: &[u8]) -> Option<Notice> {
    while let Some(([a, b, c, d], rest)) = options.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let (data, rest) = rest.split_at_checked(length)?;
        if u16::from_be_bytes([*a, *b]) == EDE_OPTION {
            let code = u16::from_be_bytes(*data.first_chunk()?);
            return Some(Notice { code, text: "" });
        }
        options = rest;
    }
    None
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tests_support;
