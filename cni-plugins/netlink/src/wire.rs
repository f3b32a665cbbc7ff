//! Netlink messages as bytes: a writer and a reader of attributes.
//!
//! Integers are in the byte order of the machine, except where a name ends in
//! `_be` (netfilter and addresses). Every attribute starts on a multiple of 4.

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// A message, or the inside of an attribute, while it is being written.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Starts a message of `kind`; `fixed` is the structure that precedes the attributes.
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// Adds bytes as they are: a structure at the start of a nested attribute.
    pub(crate) fn fixed(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Adds an attribute.
    pub(crate) fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
        self
    }

    /// Adds a 32 bit attribute in the machine's order.
    pub(crate) fn attr_u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Adds a 32 bit attribute in network order.
    pub(crate) fn attr_u32_be(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Adds a text attribute, terminated by a zero byte.
    pub(crate) fn attr_str(mut self, kind: u16, value: &str) -> Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    /// Adds an attribute that holds what `inside` writes.
    pub(crate) fn nest(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.open(kind | libc::NLA_F_NESTED as u16);
        let mut nested = inside(self);
        nested.close(start);
        nested
    }

    /// Adds what `add` writes if there is a value.
    pub(crate) fn maybe<T>(self, value: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }

    /// Adds flags to the header.
    pub(crate) fn with_flags(mut self, flags: i32) -> Self {
        let present = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        self.bytes[6..8].copy_from_slice(&(present | flags as u16).to_ne_bytes());
        self
    }

    /// The bytes to send, with length and `sequence` filled in.
    pub(crate) fn finish(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        // An attribute longer than 64 KiB cannot be said; the kernel refuses what this makes of it.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages of a datagram; ends at the first that claims more than is there.
pub(crate) struct Answers<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let length = u32_at(self.0, 0)? as usize;
        let message = self.0.get(..length)?;
        let payload = message.get(HEADER..)?;
        let kind = u16_at(message, 4)?;
        let flags = u16_at(message, 6)?;
        let sequence = u32_at(message, 8)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(Answer { kind, flags, sequence, payload })
    }
}

/// The attributes in some bytes; ends at the first that claims more than is there.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes after the first `fixed` bytes of `payload`.
    pub(crate) fn after(payload: &'a [u8], fixed: usize) -> Self {
        Self(payload.get(fixed..).unwrap_or_default())
    }

    /// The value of the first attribute of `kind`.
    pub(crate) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self, |(found, _)| *found == kind).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A 16 bit integer in the machine's order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A 32 bit integer in the machine's order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A text that may end in a zero byte.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = Message::new(16, libc::NLM_F_ACK, &[7; 4])
            .attr_str(3, "eth0")
            .nest(18, |inside| inside.attr_u32(1, 5).attr(2, &[9]))
            .finish(77);
        let answers: Vec<_> = Answers(&bytes).collect();
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].kind, answers[0].sequence), (16, 77));
        assert_eq!(answers[0].payload[..4], [7; 4]);

        let outer: Vec<_> = Attributes::after(answers[0].payload, 4).collect();
        assert_eq!(outer[0], (3, &b"eth0\0"[..]));
        assert_eq!(outer[1].0, 18);
        let inner: Vec<_> = Attributes(outer[1].1).collect();
        assert_eq!(inner, [(1, &5u32.to_ne_bytes()[..]), (2, &[9][..])]);
    }

    #[test]
    fn lies_about_lengths_end_the_reading_without_a_panic() {
        let good = Message::new(16, 0, &[]).attr_u32(1, 5).finish(1);
        for cut in 0..good.len() {
            assert_eq!(Answers(&good[..cut]).count(), 0, "cut at {cut}");
        }
        for (name, bytes) in [
            ("zero length", &[0, 0, 1, 0][..]),
            ("shorter than its own header", &[3, 0, 1, 0]),
            ("longer than the buffer", &[200, 0, 1, 0, 1]),
            ("half a header", &[8, 0, 1]),
        ] {
            assert_eq!(Attributes(bytes).count(), 0, "{name}");
        }
        assert_eq!(Answers(&[0; 64]).count(), 0);
    }
}
