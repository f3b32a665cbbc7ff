//! A question as it is sent upstream.

use crate::reply::UDP_PAYLOAD;
use hickory_proto::rr::Name;
use mizzen_dns_core::{Asker, Sent};

const HEADER: usize = 12;
const OPT_SIZE: usize = 11;
/// RD, and AD: whether the upstream checked the answer is asked for always, because it
/// is kept for everybody (RFC 6840, 5.7).
const RECURSION_DESIRED: u8 = 0x01;
const AUTHENTIC_DATA: u8 = 0x20;
const CHECKING_DISABLED: u8 = 0x10;
/// Option that fills a message up (RFC 7830), and to what (RFC 8467, 4.1).
const PADDING: u16 = 12;
const BLOCK: usize = 128;

/// What is asked, in capitals of our own.
///
/// Capitals drawn at random make answers harder to forge for whoever does not see the
/// question, because a resolver repeats it as it came.
#[derive(Debug)]
pub(crate) struct Question {
    spelling: Vec<u8>,
    plain: Vec<u8>,
    kind: u16,
    class: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    dnssec_ok: bool,
}

/// How the name is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// In capitals drawn at random.
    Mixed,
    /// In lower case, for those that do not repeat capitals.
    Lower,
}

/// What a question says beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    /// An OPT record.
    Edns(Padding),
    /// Nothing, for those that do not understand one (RFC 6891, 7).
    None,
}

/// Whether the length of a message shall say nothing of the name in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// It is sent in the clear.
    None,
    /// It is sent encrypted.
    Blocks,
}

impl Question {
    pub(crate) fn new(asker: &Asker<'_>) -> Self {
        let plain = asker.name.to_ascii_lowercase();
        Self {
            spelling: mixed(&plain),
            plain,
            kind: asker.kind,
            class: asker.class,
            recursion_desired: asker.recursion_desired,
            checking_disabled: asker.checking_disabled,
            dnssec_ok: asker.opt.is_some_and(|opt| opt.dnssec_ok),
        }
    }

    /// The name in the capitals that are sent.
    pub(crate) fn spelling(&self) -> &[u8] {
        &self.spelling
    }

    /// What the answer must repeat.
    pub(crate) fn sent(&self, id: u16, spelling: Spelling) -> Sent<'_> {
        Sent { id, name: self.name(spelling), kind: self.kind, class: self.class }
    }

    /// The message.
    pub(crate) fn message(&self, id: u16, spelling: Spelling, extension: Extension) -> Vec<u8> {
        let name = self.name(spelling);
        let [id, kind, class, payload] =
            [id, self.kind, self.class, UDP_PAYLOAD].map(u16::to_be_bytes);
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let first = bit(self.recursion_desired, RECURSION_DESIRED);
        let second = AUTHENTIC_DATA | bit(self.checking_disabled, CHECKING_DISABLED);
        let mut message = Vec::with_capacity(BLOCK);
        let additionals = u8::from(extension != Extension::None);
        message.extend([id[0], id[1], first, second, 0, 1, 0, 0, 0, 0, 0, additionals]);
        message.extend(name);
        message.extend([kind, class].concat());
        let options = match extension {
            Extension::None => return message,
            Extension::Edns(Padding::None) => Vec::new(),
            Extension::Edns(Padding::Blocks) => filling(message.len() + OPT_SIZE),
        };
        let length = u16::try_from(options.len()).unwrap_or(0).to_be_bytes();
        let flags = bit(self.dnssec_ok, 0x80);
        message.extend([0, 0, 41, payload[0], payload[1], 0, 0, flags, 0, length[0], length[1]]);
        message.extend(options);
        debug_assert!(message.len() >= HEADER + OPT_SIZE);
        message
    }

    fn name(&self, spelling: Spelling) -> &[u8] {
        match spelling {
            Spelling::Mixed => &self.spelling,
            Spelling::Lower => &self.plain,
        }
    }
}

/// A name as it is sent, with its capitals.
pub(crate) fn wire_name(name: &Name) -> Vec<u8> {
    let mut wire = Vec::with_capacity(name.len() + 1);
    for label in name.iter() {
        // Labels have at most 63 bytes.
        wire.push(u8::try_from(label.len()).unwrap_or(0));
        wire.extend(label);
    }
    wire.push(0);
    wire
}

/// The name with capitals drawn at random.
fn mixed(lower: &[u8]) -> Vec<u8> {
    let mut bits = 0_u64;
    let draw = |(at, byte): (usize, &u8)| {
        if at % 64 == 0 {
            bits = rand::random();
        }
        let upper = (bits >> (at % 64)) & 1 == 1;
        if upper { byte.to_ascii_uppercase() } else { *byte }
    };
    lower.iter().enumerate().map(draw).collect()
}

/// The option that fills a message of `length` bytes up to whole blocks.
fn filling(length: usize) -> Vec<u8> {
    let bytes = (length + 4).next_multiple_of(BLOCK) - length - 4;
    let [kind, length] = [PADDING, u16::try_from(bytes).unwrap_or(0)].map(u16::to_be_bytes);
    let mut option = [kind, length].concat();
    option.resize(4 + bytes, 0);
    option
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Message;
    use mizzen_dns_core::Opt;

    fn question(name: &[u8]) -> Question {
        Question::new(&Asker {
            id: 1,
            name,
            kind: 16,
            class: 1,
            recursion_desired: true,
            checking_disabled: true,
            room: 512,
            opt: Some(Opt { payload: 512, dnssec_ok: true, options: &[] }),
        })
    }

    #[test]
    fn a_question_says_what_was_asked() {
        let question = question(b"\x03WWW\x07example\x00");
        for (spelling, padding) in [Spelling::Mixed, Spelling::Lower]
            .into_iter()
            .flat_map(|spelling| [(spelling, Padding::None), (spelling, Padding::Blocks)])
        {
            let bytes = question.message(7, spelling, Extension::Edns(padding));
            assert_eq!(bytes.len().is_multiple_of(BLOCK), padding == Padding::Blocks);
            let message = Message::from_vec(&bytes).expect("a message");
            let name = wire_name(message.queries[0].name());
            assert_eq!(name, question.sent(7, spelling).name);
            assert_eq!(name.to_ascii_lowercase(), b"\x03www\x07example\x00");
            assert_eq!((message.metadata.id, message.metadata.recursion_desired), (7, true));
            assert!(message.metadata.checking_disabled && message.metadata.authentic_data);
            let edns = message.edns.expect("an OPT record");
            assert!(edns.flags().dnssec_ok);
            assert_eq!(edns.max_payload(), UDP_PAYLOAD);
        }
    }

    #[test]
    fn a_question_for_those_that_know_no_extension() {
        let bytes =
            question(b"\x03www\x07example\x00").message(7, Spelling::Lower, Extension::None);
        let message = Message::from_vec(&bytes).expect("a message");
        assert!(message.edns.is_none() && message.queries.len() == 1);
    }

    #[test]
    fn capitals_are_drawn_anew() {
        let name = [&[63][..], &[b'a'; 63], &[63], &[b'b'; 63], &[0]].concat();
        let (one, other) = (question(&name), question(&name));
        assert_ne!(one.spelling(), other.spelling());
        assert!(one.spelling().eq_ignore_ascii_case(&name));
        assert_eq!(one.sent(0, Spelling::Lower).name, name);
    }
}
