//! The message for one client, made of an answer that was kept.

use super::{EDE_OPTION, HEADER, Notice, QUESTION_TAIL, Relayed};
use crate::plain::{PlainEdns, PlainQuestion, UDP_PAYLOAD};

/// TTL of what is given although it is too old, in seconds (RFC 8767, 4).
const STALE_TTL: u32 = 30;
/// An OPT record without options, in bytes.
const OPT_SIZE: usize = 11;
/// Code, length and number of an extended error, in bytes.
const NOTICE_SIZE: usize = 6;
const OPT_TYPE: u16 = 41;
/// The Internet, the only class of plain questions.
const CLASS_IN: u16 = 1;
/// From a record's TTL to its data, in bytes.
const TTL_TO_DATA: usize = 6;
/// The name does not exist.
const NXDOMAIN: u16 = 3;
/// Extended errors of answers that are too old (RFC 8914, 4.4 and 4.20).
const STALE: Notice = Notice { code: 3, text: "" };
const STALE_NXDOMAIN: Notice = Notice { code: 19, text: "" };

/// Who wants an answer, and what it must look like for him.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The id of his message.
    pub id: u16,
    /// The name in wire form, with his capitals.
    pub name: &'a [u8],
    /// Type of the records.
    pub kind: u16,
    /// Class, 1 on the Internet.
    pub class: u16,
    /// His RD bit, which is repeated.
    pub recursion_desired: bool,
    /// His CD bit, which is repeated.
    pub checking_disabled: bool,
    /// The largest message that he takes, in bytes.
    pub room: usize,
    /// The OPT record for his reply, if he sent one.
    pub opt: Option<Opt<'a>>,
}

/// An OPT record of a reply (RFC 6891).
#[derive(Debug, Clone, Copy)]
pub struct Opt<'a> {
    /// The largest datagram that we take, in bytes.
    pub payload: u16,
    /// His DO bit, which is repeated.
    pub dnssec_ok: bool,
    /// Options in wire form.
    pub options: &'a [u8],
}

/// How old an answer is when it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It came so many seconds ago, less than it may be kept.
    Fresh(u32),
    /// It may not be kept any more, and nobody can be asked.
    Stale,
}

impl<'a> From<&PlainQuestion<'a>> for Asker<'a> {
    fn from(question: &PlainQuestion<'a>) -> Self {
        let opt =
            |edns: PlainEdns| Opt { payload: UDP_PAYLOAD, dnssec_ok: edns.dnssec_ok, options: &[] };
        Self {
            id: question.id(),
            name: question.name(),
            kind: question.kind(),
            class: CLASS_IN,
            recursion_desired: question.recursion_desired(),
            checking_disabled: question.checking_disabled(),
            room: question.limit(),
            opt: question.edns().map(opt),
        }
    }
}

impl Relayed {
    /// Writes the message for `asker` and returns its length; `None` if `out` has no room
    /// even for the question.
    ///
    /// TTLs count down with the age. What he does not take is left out: additional
    /// records silently, others with the TC bit, which makes him ask by TCP.
    ///
    /// * `turn` — counts answers: several addresses begin with another one each time.
    pub fn write(&self, asker: &Asker<'_>, age: Age, turn: u32, out: &mut [u8]) -> Option<usize> {
        let limit = asker.room.min(out.len());
        let out = out.get_mut(..limit)?;
        let notice = asker.opt.and(self.notice_at(age));
        let start = HEADER + asker.name.len() + QUESTION_TAIL;
        let room = limit.checked_sub(start + opt_size(asker, notice))?;
        let (length, counts, cut) = self.fitting(room);
        let (head, rest) = out.split_at_mut_checked(start)?;
        self.write_head(asker, counts, cut, head)?;
        let (records, rest) = rest.split_at_mut_checked(length)?;
        self.copy_records(turn, records);
        self.write_ttls(age, records);
        let mut end = start + length;
        if let Some(opt) = &asker.opt {
            end += write_opt(opt, notice, self.code, rest)?;
        }
        Some(end)
    }

    /// Bytes that the whole message for `asker` needs; it never is longer.
    #[must_use]
    pub fn room_for(&self, asker: &Asker<'_>) -> usize {
        let notice = [self.notice, Some(STALE)]
            .into_iter()
            .max_by_key(|notice| notice.map_or(0, |notice| notice.text.len() + 1));
        let question = HEADER + asker.name.len() + QUESTION_TAIL;
        let whole = question + self.records.len() + opt_size(asker, notice.flatten());
        whole.min(asker.room)
    }

    /// Copies the records as far as they fit into `out`, which ends between two of them.
    fn copy_records(&self, turn: u32, mut out: &mut [u8]) {
        let count = u32::from(self.counts[0]);
        let size = self.turning.map_or(0, usize::from);
        let first = turn.checked_rem(count).map_or(0, |first| size * first as usize);
        let answers = size * count as usize;
        let (answers, others) = self.records.split_at_checked(answers).unwrap_or_default();
        let (tail, head) = answers.split_at_checked(first).unwrap_or_default();
        for part in [head, tail, others] {
            let Some((place, rest)) = out.split_at_mut_checked(part.len().min(out.len())) else {
                return;
            };
            place.copy_from_slice(part.get(..place.len()).unwrap_or_default());
            out = rest;
        }
    }

    fn notice_at(&self, age: Age) -> Option<Notice> {
        match age {
            Age::Fresh(_) => self.notice,
            Age::Stale if self.code == NXDOMAIN => Some(STALE_NXDOMAIN),
            Age::Stale => Some(STALE),
        }
    }

    /// How many bytes of the records fit, how many records of each section that is, and
    /// whether something was cut that is missed.
    fn fitting(&self, room: usize) -> (usize, [u16; 3], bool) {
        if self.records.len() <= room {
            return (self.records.len(), self.counts, self.truncated);
        }
        let (mut length, mut counts) = (0, [0; 3]);
        let mut ends = self.ttls.iter().map(|at| self.end_of(usize::from(*at)));
        for (count, whole) in counts.iter_mut().zip(self.counts) {
            while *count < whole {
                match ends.next() {
                    Some(end) if end <= room => (length, *count) = (end, *count + 1),
                    _ => {
                        let missed = counts[0] < self.counts[0] || counts[1] < self.counts[1];
                        return (length, counts, self.truncated || missed);
                    }
                }
            }
        }
        (length, counts, self.truncated)
    }

    /// Where the record ends whose TTL stands at `ttl`.
    fn end_of(&self, ttl: usize) -> usize {
        let data = ttl + TTL_TO_DATA;
        let length = self.records.get(data - 2..).and_then(<[u8]>::first_chunk);
        length.map_or(usize::MAX, |length| data + usize::from(u16::from_be_bytes(*length)))
    }

    fn write_head(
        &self,
        asker: &Asker<'_>,
        counts: [u16; 3],
        cut: bool,
        out: &mut [u8],
    ) -> Option<()> {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let first = 0x80
            | bit(self.authoritative, 0x04)
            | bit(cut, 0x02)
            | bit(asker.recursion_desired, 0x01);
        let code = u8::try_from(self.code & 0x0f).unwrap_or(0);
        let second = 0x80 | bit(self.authentic, 0x20) | bit(asker.checking_disabled, 0x10) | code;
        let additional = counts[2] + u16::from(asker.opt.is_some());
        let (header, question) = out.split_first_chunk_mut::<HEADER>()?;
        let [id, an, ns, ar] = [asker.id, counts[0], counts[1], additional].map(u16::to_be_bytes);
        *header = [id[0], id[1], first, second, 0, 1, an[0], an[1], ns[0], ns[1], ar[0], ar[1]];
        let (name, tail) = question.split_at_mut_checked(asker.name.len())?;
        name.copy_from_slice(asker.name);
        let [kind, class] = [asker.kind, asker.class].map(u16::to_be_bytes);
        tail.copy_from_slice(&[kind[0], kind[1], class[0], class[1]]);
        Some(())
    }

    fn write_ttls(&self, age: Age, records: &mut [u8]) {
        if age == Age::Fresh(0) {
            return;
        }
        for at in &self.ttls {
            let place = records.get_mut(usize::from(*at)..).and_then(<[u8]>::first_chunk_mut);
            let Some(place) = place else { return };
            let ttl = match age {
                Age::Fresh(age) => u32::from_be_bytes(*place).saturating_sub(age),
                Age::Stale => STALE_TTL,
            };
            *place = ttl.to_be_bytes();
        }
    }
}

fn opt_size(asker: &Asker<'_>, notice: Option<Notice>) -> usize {
    let notice = notice.map_or(0, |notice| NOTICE_SIZE + notice.text.len());
    asker.opt.map_or(0, |opt| OPT_SIZE + opt.options.len() + notice)
}

/// Writes the OPT record at the start of `out` and returns its length.
fn write_opt(opt: &Opt<'_>, notice: Option<Notice>, code: u16, out: &mut [u8]) -> Option<usize> {
    let notice_size = notice.map_or(0, |notice| NOTICE_SIZE + notice.text.len());
    let options = u16::try_from(opt.options.len() + notice_size).ok()?;
    let (fixed, rest) = out.split_first_chunk_mut::<OPT_SIZE>()?;
    let [kind, payload, length] = [OPT_TYPE, opt.payload, options].map(u16::to_be_bytes);
    let high = u8::try_from(code >> 4).unwrap_or(0);
    let flags = if opt.dnssec_ok { 0x80 } else { 0 };
    *fixed = [0, kind[0], kind[1], payload[0], payload[1], high, 0, flags, 0, length[0], length[1]];
    let (place, rest) = rest.split_at_mut_checked(opt.options.len())?;
    place.copy_from_slice(opt.options);
    if let Some(notice) = notice {
        let (fixed, rest) = rest.split_first_chunk_mut::<NOTICE_SIZE>()?;
        let length = u16::try_from(2 + notice.text.len()).ok()?;
        let [kind, length, code] = [EDE_OPTION, length, notice.code].map(u16::to_be_bytes);
        *fixed = [kind[0], kind[1], length[0], length[1], code[0], code[1]];
        rest.get_mut(..notice.text.len())?.copy_from_slice(notice.text.as_bytes());
    }
    Some(OPT_SIZE + usize::from(options))
}
