//! Numbers, bytes and texts as they travel between nodes.
//!
//! Numbers are LEB128, because most of them are small; everything with a length is
//! preceded by it. A [`Reader`] never trusts a length: it is compared with what is
//! there before anything is taken.

/// What was read is not what a node of this version or the previous one writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// It ends in the middle of something.
    #[error("the message is cut short")]
    Short,
    /// Something follows that does not belong to it.
    #[error("the message has bytes to spare")]
    Long,
    /// A number stands where this version knows no meaning for it.
    #[error("the message has an unknown {0}")]
    Unknown(&'static str),
    /// A text is not UTF-8, or is longer than such a text may be.
    #[error("the message has a malformed {0}")]
    Malformed(&'static str),
}

/// Writes one message.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn byte(&mut self, byte: u8) -> &mut Self {
        self.bytes.push(byte);
        self
    }

    pub(crate) fn number(&mut self, mut number: u64) -> &mut Self {
        while number >= 0x80 {
            self.bytes.push((number as u8) | 0x80);
            number >>= 7;
        }
        self.byte(number as u8)
    }

    pub(crate) fn length(&mut self, length: usize) -> &mut Self {
        self.number(length as u64)
    }

    /// Eight bytes as they are: for hashes, which are never small.
    pub(crate) fn hash(&mut self, hash: u64) -> &mut Self {
        self.raw(&hash.to_le_bytes())
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len()).raw(bytes)
    }

    pub(crate) fn written(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Garbage> {
        self.raw(1).map(|bytes| bytes[0])
    }

    pub(crate) fn number(&mut self) -> Result<u64, Garbage> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte holds one bit; more would be lost.
                let fits = shift < 63 || byte < 2;
                return if fits { Ok(number) } else { Err(Garbage::Malformed("number")) };
            }
        }
        Err(Garbage::Malformed("number"))
    }

    /// A count of things that take at least `least` bytes each.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, Garbage> {
        let count = usize::try_from(self.number()?).map_err(|_| Garbage::Short)?;
        match count.checked_mul(least.max(1)) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(Garbage::Short),
        }
    }

    pub(crate) fn hash(&mut self) -> Result<u64, Garbage> {
        self.array::<8>().map(u64::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbage> {
        self.raw(N)?.try_into().map_err(|_| Garbage::Short)
    }

    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], Garbage> {
        if length > self.rest.len() {
            return Err(Garbage::Short);
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn blob(&mut self) -> Result<&'a [u8], Garbage> {
        let length = self.count(1)?;
        self.raw(length)
    }

    pub(crate) fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, Garbage> {
        let bytes = self.blob()?;
        if bytes.len() > limit {
            return Err(Garbage::Malformed(what));
        }
        std::str::from_utf8(bytes).map_err(|_| Garbage::Malformed(what))
    }

    pub(crate) fn end(self) -> Result<(), Garbage> {
        if self.rest.is_empty() { Ok(()) } else { Err(Garbage::Long) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut writer = Writer::default();
            writer.number(number);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.number(), Ok(number));
            assert_eq!(reader.end(), Ok(()));
        }
        assert_eq!(Reader::new(&[0xff; 10]).number(), Err(Garbage::Malformed("number")));
        assert_eq!(Reader::new(&[0x80]).number(), Err(Garbage::Short));
    }

    #[test]
    fn a_length_beyond_the_end_is_no_length() {
        let mut writer = Writer::default();
        writer.number(u64::MAX).raw(b"abc");
        let bytes = writer.finish();
        assert_eq!(Reader::new(&bytes).blob(), Err(Garbage::Short));
        assert_eq!(Reader::new(&[3, b'a', b'b']).text("name", 9), Err(Garbage::Short));
        assert_eq!(Reader::new(&[2, b'a', b'b']).text("name", 1), Err(Garbage::Malformed("name")));
    }
}
