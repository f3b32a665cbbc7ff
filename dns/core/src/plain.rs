//! Questions as nearly everybody asks them, read from the bytes of a message.
//!
//! A plain question is a message with one question of class IN and nothing else but an
//! OPT record without options. Everything that this module does not understand at once
//! is left to the full road, which takes the message apart and knows what to refuse.

use crate::hash::{self, Seed};

/// Bytes of a message's header (RFC 1035, 4.1.1).
pub(crate) const HEADER: usize = 12;
/// Bytes of an OPT record without options (RFC 6891, 6.1.2).
pub(crate) const OPT: usize = 11;
/// Messages by UDP for clients that say nothing about their size (RFC 1035, 2.3.4).
const UDP_PLAIN: u16 = 512;
/// Largest message by UDP: it passes any path without fragments.
pub(crate) const UDP_PAYLOAD: u16 = 1232;
/// Flags that a question may have: recursion desired, and DNSSEC's AD and CD.
const FLAGS: u16 = RECURSION_DESIRED | 0x0020 | CHECKING_DISABLED;
pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
const CLASS_IN: u16 = 1;
const TYPE_OPT: u16 = 41;
/// QR and the opcode.
const NO_QUERY: u16 = 0xf800;
/// Flags of a request that its reply repeats.
const REPEATED: u16 = RECURSION_DESIRED | CHECKING_DISABLED;
const MAX_NAME: usize = 255;

/// A plain question, borrowed from its message.
#[derive(Debug, Clone, Copy)]
pub struct PlainQuestion<'a> {
    /// Name, type and class as they were asked.
    section: &'a [u8],
    /// Of the lower-cased name.
    hash: u64,
    id: u16,
    /// Of the request, only RD and CD.
    flags: u16,
    kind: u16,
    /// Whether a label is a lone `*`.
    wildcard: bool,
    edns: Option<PlainEdns>,
    /// Bytes that the reply may have.
    limit: u16,
}

/// As much of a request, plain or not, as a reply without records repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline<'a> {
    /// The message's id.
    pub id: u16,
    /// Of the request, only RD and CD.
    pub flags: u16,
    /// Name, type and class as they were asked.
    pub section: &'a [u8],
    /// Whether it has an OPT record, so that the reply has to have one.
    pub edns: bool,
}

impl<'a> Outline<'a> {
    /// Reads a message; `None` if it is no query with one question.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if word(2) & NO_QUERY != 0 || word(4) != 1 {
            return None;
        }
        let (name, _) = scan_name(rest)?;
        let section = rest.get(..name + 4)?;
        let next = rest.get(name + 4..).and_then(<[u8]>::first_chunk);
        let is_opt =
            |[root, high, low]: [u8; 3]| root == 0 && [high, low] == TYPE_OPT.to_be_bytes();
        let edns = word(10) > 0 && next.copied().is_some_and(is_opt);
        Some(Self { id: word(0), flags: word(2) & REPEATED, section, edns })
    }
}

impl<'a> From<&PlainQuestion<'a>> for Outline<'a> {
    fn from(question: &PlainQuestion<'a>) -> Self {
        let PlainQuestion { id, flags, section, .. } = *question;
        Self { id, flags, section, edns: question.edns.is_some() }
    }
}

/// What an OPT record without options says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainEdns {
    /// Largest message by UDP that the client takes, in bytes.
    pub udp_size: u16,
    /// Whether the client wants DNSSEC records.
    pub dnssec_ok: bool,
}

impl<'a> PlainQuestion<'a> {
    /// Reads a message; `None` if it is anything but a plain question.
    ///
    /// * `message` — the datagram, or what follows the length on TCP.
    /// * `seed` — that of the zones which are to answer.
    #[must_use]
    pub fn parse(message: &'a [u8], seed: Seed) -> Option<Self> {
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (flags, additional) = (word(2), word(10));
        if flags & !FLAGS != 0 || (word(4), word(6), word(8)) != (1, 0, 0) || additional > 1 {
            return None;
        }
        let (name, wildcard) = scan_name(rest)?;
        let (fixed, rest_after) = rest.get(name..)?.split_first_chunk::<4>()?;
        let [kind_high, kind_low, class_high, class_low] = *fixed;
        if u16::from_be_bytes([class_high, class_low]) != CLASS_IN {
            return None;
        }
        let edns = match additional {
            0 if rest_after.is_empty() => None,
            1 => Some(scan_opt(rest_after)?),
            _ => return None,
        };
        Some(Self {
            section: &rest[..name + 4],
            hash: hash::hash(seed, &rest[..name]),
            id: word(0),
            flags: flags & REPEATED,
            kind: u16::from_be_bytes([kind_high, kind_low]),
            wildcard,
            edns,
            limit: edns.map_or(UDP_PLAIN, |edns| edns.udp_size.clamp(UDP_PLAIN, UDP_PAYLOAD)),
        })
    }

    /// The same question from a client that takes messages of any size.
    #[must_use]
    pub fn by_tcp(self) -> Self {
        Self { limit: u16::MAX, ..self }
    }

    /// Number of the message.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The name as it was asked and as it is sent, the root's empty label included.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        let (name, _) = self.section.split_at(self.section.len() - 4);
        name
    }

    /// Name, type and class as they were asked.
    #[must_use]
    pub fn section(&self) -> &'a [u8] {
        self.section
    }

    /// Keyed hash of the lower-cased name, the same for any capitals.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether the name is `lower`, a lower-cased name as it is sent.
    #[must_use]
    pub fn is_named(&self, lower: &[u8]) -> bool {
        hash::same_but_for_capitals(self.name(), lower)
    }

    /// Number of the type that is asked for.
    #[must_use]
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// Whether a label of the name is a lone `*`.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether the client wants others to be asked (RD).
    #[must_use]
    pub fn recursion_desired(&self) -> bool {
        self.flags & RECURSION_DESIRED != 0
    }

    /// Whether the client does DNSSEC's checks itself (CD).
    #[must_use]
    pub fn checking_disabled(&self) -> bool {
        self.flags & CHECKING_DISABLED != 0
    }

    /// RD and CD where a message's second word has them.
    #[must_use]
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// What its OPT record says, if it has one.
    #[must_use]
    pub fn edns(&self) -> Option<PlainEdns> {
        self.edns
    }

    /// Bytes that the reply may have.
    #[must_use]
    pub fn limit(&self) -> usize {
        usize::from(self.limit)
    }
}

/// Length of the name at the start of `bytes`, and whether a label is a lone `*`.
fn scan_name(bytes: &[u8]) -> Option<(usize, bool)> {
    let (mut at, mut wildcard) = (0, false);
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => break,
            // A pointer, or a kind of label that nobody uses.
            64.. => return None,
            1 => wildcard |= bytes.get(at + 1) == Some(&b'*'),
            _ => {}
        }
        at += 1 + usize::from(bytes[at]);
    }
    (at < MAX_NAME).then_some((at + 1, wildcard))
}

/// Reads an OPT record that is all of `bytes`, of version 0 and without options.
fn scan_opt(bytes: &[u8]) -> Option<PlainEdns> {
    let bytes: &[u8; OPT] = bytes.try_into().ok()?;
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let plain = bytes[0] == 0 && word(1) == TYPE_OPT && word(5) == 0 && word(9) == 0;
    plain.then(|| PlainEdns { udp_size: word(3), dnssec_ok: bytes[7] & 0x80 != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Edns, Message, OpCode, Query};
    use hickory_proto::rr::{DNSClass, Name, RecordType};
    use proptest::prelude::*;

    fn message(labels: &[Vec<u8>], kind: u16) -> Message {
        let mut message = Message::query();
        let name = Name::from_labels(labels.iter().map(Vec::as_slice)).expect("a name");
        message.add_query(Query::query(name, RecordType::from(kind)));
        message
    }

    fn usual() -> Message {
        message(&[b"WeB".to_vec(), b"mesos".to_vec()], 1)
    }

    fn bytes(message: &Message) -> Vec<u8> {
        message.to_vec().expect("it is encoded")
    }

    #[test]
    fn what_is_plain() {
        let change = |change: fn(&mut Message)| {
            let mut message = usual();
            change(&mut message);
            bytes(&message)
        };
        let edns = |change: fn(&mut Edns)| {
            let mut message = usual();
            let mut edns = Edns::new();
            change(&mut edns);
            message.set_edns(edns);
            bytes(&message)
        };
        let mut pointer = bytes(&usual());
        pointer.splice(16..22, [0xc0, 12]);
        let mut tail = bytes(&usual());
        tail.push(0);
        let mut reserved = bytes(&usual());
        reserved[3] |= 0x40;
        #[rustfmt::skip]
        let table: &[(&str, Vec<u8>, bool)] = &[
            ("the usual",       bytes(&usual()), true),
            ("with OPT",        edns(|_| {}), true),
            ("with DO",         edns(|e| { e.set_dnssec_ok(true); }), true),
            ("CD and AD",       change(|m| { m.metadata.checking_disabled = true; m.metadata.authentic_data = true; }), true),
            ("a reply",         change(|m| m.metadata.message_type = hickory_proto::op::MessageType::Response), false),
            ("NOTIFY",          change(|m| m.metadata.op_code = OpCode::Notify), false),
            ("truncated",       change(|m| m.metadata.truncation = true), false),
            ("reserved flag",   reserved, false),
            ("class CH",        change(|m| { m.queries[0].set_query_class(DNSClass::CH); }), false),
            ("two questions",   change(|m| { let query = m.queries[0].clone(); m.add_query(query); }), false),
            ("no question",     change(|m| m.queries.clear()), false),
            ("EDNS version 1",  edns(|e| { e.set_version(1); }), false),
            ("an option",       edns(|e| e.options_mut().insert(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(10, vec![0; 8]))), false),
            ("a pointer",       pointer, false),
            ("something after", tail, false),
            ("nothing",         Vec::new(), false),
        ];
        for (what, bytes, want) in table {
            assert_eq!(PlainQuestion::parse(bytes, Seed(1, 2)).is_some(), *want, "{what}");
            for end in 0..if *want { bytes.len() } else { 0 } {
                assert!(PlainQuestion::parse(&bytes[..end], Seed(1, 2)).is_none(), "{what} cut");
            }
        }
    }

    #[test]
    fn the_client_says_how_large_a_reply_may_be() {
        let table = [(None, 512), (Some(100), 512), (Some(1000), 1000), (Some(4096), 1232)];
        for (size, want) in table {
            let mut message = usual();
            if let Some(size) = size {
                let mut edns = Edns::new();
                // hickory lifts what is below 512.
                edns.set_max_payload(size);
                message.set_edns(edns);
            }
            let bytes = bytes(&message);
            let question = PlainQuestion::parse(&bytes, Seed::default()).expect("plain");
            assert_eq!(question.limit(), want, "{size:?}");
            assert_eq!(question.by_tcp().limit(), 65_535);
        }
    }

    #[test]
    fn a_lone_star_is_seen() {
        let table: [(&[&[u8]], bool); 4] = [
            (&[b"*", b"mesos"], true),
            (&[b"a", b"*", b"mesos"], true),
            (&[b"a*", b"mesos"], false),
            (&[b"a", b"mesos"], false),
        ];
        for (labels, want) in table {
            let labels: Vec<Vec<u8>> = labels.iter().map(|label| label.to_vec()).collect();
            let bytes = bytes(&message(&labels, 1));
            let question = PlainQuestion::parse(&bytes, Seed::default()).expect("plain");
            assert_eq!(question.has_wildcard(), want, "{labels:?}");
        }
    }

    /// What is read is what hickory reads.
    fn agrees(bytes: &[u8]) -> Result<bool, TestCaseError> {
        let Some(plain) = PlainQuestion::parse(bytes, Seed(1, 2)) else { return Ok(false) };
        let message = Message::from_vec(bytes).expect("hickory takes it, too");
        prop_assert_eq!(message.queries.len(), 1);
        let query = &message.queries[0];
        prop_assert_eq!(plain.id(), message.metadata.id);
        prop_assert_eq!(plain.recursion_desired(), message.metadata.recursion_desired);
        prop_assert_eq!(plain.checking_disabled(), message.metadata.checking_disabled);
        prop_assert_eq!(plain.kind(), u16::from(query.query_type()));
        let labels: Vec<u8> = query
            .name()
            .iter()
            .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label].concat())
            .chain([0])
            .collect();
        prop_assert_eq!(plain.name(), &labels[..]);
        let lower = labels.to_ascii_lowercase();
        prop_assert!(plain.is_named(&lower));
        prop_assert_eq!(plain.hash(), hash::hash(Seed(1, 2), &lower));
        let edns = message.edns.as_ref();
        prop_assert_eq!(plain.edns().map(|e| e.dnssec_ok), edns.map(|e| e.flags().dnssec_ok));
        prop_assert_eq!(plain.edns().map(|e| e.udp_size.max(512)), edns.map(Edns::max_payload));
        Ok(true)
    }

    proptest! {
        #[test]
        fn every_plain_message_is_read(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=63), 0..=3),
            kind in any::<u16>(),
            id in any::<u16>(),
            flags in any::<(bool, bool)>(),
            payload in prop::option::of(any::<u16>()),
        ) {
            // Types that hickory takes for something else than a question.
            prop_assume!(kind != 41);
            let mut message = message(&labels, kind);
            message.metadata.id = id;
            (message.metadata.recursion_desired, message.metadata.checking_disabled) = flags;
            if let Some(payload) = payload {
                let mut edns = Edns::new();
                edns.set_max_payload(payload);
                message.set_edns(edns);
            }
            prop_assert!(agrees(&bytes(&message))?);
        }

        #[test]
        fn damaged_messages_are_read_as_hickory_reads_them(
            at in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)
        ) {
            let mut message = usual();
            message.set_edns(Edns::new());
            let mut bytes = bytes(&message);
            for (at, value) in at {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            agrees(&bytes)?;
        }
    }
}
