//! Netlink messages of the netfilter family, as bytes.
//!
//! The packets that pass here are written and read at the rate of connects, many to
//! a system call, so they are put together in place: no value is built that has to be
//! turned into bytes later.

/// Set on an attribute that holds attributes.
const NESTED: u16 = 0x8000;

/// Bits of an attribute's kind that say what it is.
const KIND: u16 = 0x3fff;

/// Length of a message's own header, and of netfilter's behind it.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;

/// Any number of messages, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
}

/// What stands at the beginning of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Subsystem and message type.
    pub kind: u16,
    /// `NLM_F_…`; `NLM_F_REQUEST` is added.
    pub flags: u16,
    /// Comes back in the answer.
    pub sequence: u32,
    /// `AF_…` or `NFPROTO_…`.
    pub family: u8,
    /// Number of the queue, the group or the subsystem, where there is one.
    pub resource: u16,
}

impl Messages {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds messages that were put together elsewhere.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// Adds one message.
    pub fn message(&mut self, head: Head, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        let flags = head.flags | libc::NLM_F_REQUEST as u16;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&head.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&head.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[head.family, 0]);
        self.bytes.extend_from_slice(&head.resource.to_be_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds an attribute of attributes. Its content must stay below 64 KiB.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    pub fn be16(&mut self, kind: u16, value: u16) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// A text with the zero byte that the kernel wants.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attribute(kind, &bytes);
    }
}

/// A message as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub kind: u16,
    pub sequence: u32,
    /// Everything behind netlink's header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The error number if this answers a request as a whole; zero is consent.
    pub fn verdict(&self) -> Option<i32> {
        let kind = libc::c_int::from(self.kind);
        if kind != libc::NLMSG_ERROR && kind != libc::NLMSG_DONE {
            return None;
        }
        Some(self.payload.first_chunk().map_or(0, |code| -i32::from_ne_bytes(*code)))
    }

    /// The queue, group or subsystem that netfilter's header names.
    pub fn resource(&self) -> u16 {
        self.payload.get(2..4).map_or(0, read_be16)
    }

    /// The attributes behind netfilter's header.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(FAMILY_HEADER..).unwrap_or_default())
    }
}

/// The messages of a datagram; ends at the first that claims more than is there.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let message = rest.get(..length).filter(|_| length >= HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            sequence: u32::from_ne_bytes([message[8], message[9], message[10], message[11]]),
            payload: &message[HEADER..],
        })
    })
}

/// Attributes, one behind the other, with their kinds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of this kind.
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The attributes in the first attribute of this kind.
    pub fn inside(self, kind: u16) -> Self {
        Self(self.find(kind).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let attribute = self.0.get(..length).filter(|_| length >= 4)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([attribute[2], attribute[3]]) & KIND, &attribute[4..]))
    }
}

/// A number in network order; zero if there are too few bytes.
pub(crate) fn read_be16(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

/// A number in network order; zero if there are too few bytes.
pub(crate) fn read_be32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u16, sequence: u32) -> Head {
        Head { kind, flags: 0, sequence, family: 2, resource: 50 }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut written = Messages::default();
        written.message(head(7, 1), |m| {
            m.nest(1, |m| m.be16(2, 0x1234));
            m.text(3, "abc");
        });
        written.message(head(8, 2), |m| m.be32(4, 5));
        let read: Vec<Message> = messages(written.bytes()).collect();
        let kinds: Vec<(u16, u32, u16)> =
            read.iter().map(|m| (m.kind, m.sequence, m.resource())).collect();
        assert_eq!(kinds, [(7, 1, 50), (8, 2, 50)]);
        let first = read[0].attributes();
        assert_eq!(first.inside(1).find(2).map(read_be16), Some(0x1234));
        assert_eq!(first.find(3), Some(&b"abc\0"[..]));
        assert_eq!(first.find(9), None);
        assert_eq!(read[1].attributes().find(4).map(read_be32), Some(5));
    }

    #[test]
    fn lies_about_lengths_end_the_reading() {
        let mut written = Messages::default();
        written.message(head(7, 1), |m| m.be32(4, 5));
        let good = written.bytes();
        for cut in 0..good.len() {
            assert_eq!(messages(&good[..cut]).count(), 0, "cut at {cut}");
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(Attributes(&[0; 64]).count(), 0);
        assert_eq!(Attributes(&[200, 0, 1, 0, 9, 9]).count(), 0);
    }
}
