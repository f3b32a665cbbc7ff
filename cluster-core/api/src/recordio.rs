//! RecordIO, the framing of event streams.
//!
//! A record is its length in bytes as decimal ASCII, one line feed, and the
//! bytes. Records and the chunks they arrive in have nothing to do with each
//! other, so the [`Decoder`] takes chunks of any size.

/// Digits of the longest length that is read: enough for 64 bits.
const MAX_DIGITS: usize = 20;

/// Why a stream is no RecordIO. The stream cannot go on after any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Something else than a digit where a length was expected.
    #[error("the length of a record contains the byte {byte:#04x}")]
    NotADigit {
        /// What was there.
        byte: u8,
    },
    /// A line feed where the digits of a length were expected.
    #[error("the length of a record is empty")]
    NoLength,
    /// The length is above the limit.
    #[error("a record is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The stream ended within a record.
    #[error("the stream ended within a record, {missing} bytes before its end")]
    Truncated {
        /// Bytes that did not come; 1 if not even the length was complete.
        missing: usize,
    },
}

/// Frames one record.
#[must_use]
pub fn encode(record: &[u8]) -> Vec<u8> {
    let length = record.len().to_string();
    let mut out = Vec::with_capacity(length.len() + 1 + record.len());
    out.extend_from_slice(length.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(record);
    out
}

/// Takes chunks, gives records.
#[derive(Debug)]
pub struct Decoder {
    /// Longest record in bytes.
    limit: usize,
    /// What came and was not given out yet.
    buffer: Vec<u8>,
    /// Start of that in `buffer`.
    start: usize,
}

impl Decoder {
    /// A decoder that refuses records longer than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), start: 0 }
    }

    /// Adds what arrived.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete record, or nothing until more is pushed.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the stream is broken; it stays so.
    pub fn next_record(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        let pending = self.buffer.get(self.start..).unwrap_or_default();
        let Some((length, header)) = self.header(pending)? else { return Ok(None) };
        let Some(record) = pending.get(header..header + length) else { return Ok(None) };
        let record = record.to_vec();
        self.start += header + length;
        Ok(Some(record))
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    ///
    /// [`RecordError::Truncated`] if a record was begun.
    pub fn finish(&self) -> Result<(), RecordError> {
        let pending = self.buffer.get(self.start..).unwrap_or_default();
        if pending.is_empty() {
            return Ok(());
        }
        let missing = match self.header(pending)? {
            None => 1,
            Some((length, header)) => (header + length).saturating_sub(pending.len()),
        };
        Err(RecordError::Truncated { missing })
    }

    /// Length of the record at the start of `pending` and of its header, if complete.
    fn header(&self, pending: &[u8]) -> Result<Option<(usize, usize)>, RecordError> {
        let mut length = 0_usize;
        for (index, byte) in pending.iter().enumerate() {
            match byte {
                b'\n' if index == 0 => return Err(RecordError::NoLength),
                b'\n' => return Ok(Some((length, index + 1))),
                b'0'..=b'9' => {
                    length = length.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
                }
                byte => return Err(RecordError::NotADigit { byte: *byte }),
            }
            if length > self.limit || index >= MAX_DIGITS {
                return Err(RecordError::TooLong { limit: self.limit });
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, RecordError> {
        let mut decoder = Decoder::new(100);
        let mut found = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(record) = decoder.next_record()? {
                found.push(record);
            }
        }
        decoder.finish()?;
        Ok(found)
    }

    #[test]
    fn what_is_encoded_is_decoded_at_any_split() {
        let stream = [encode(b"{\"a\":1}"), encode(b""), encode("ü\n7\n".as_bytes())].concat();
        let want = vec![b"{\"a\":1}".to_vec(), Vec::new(), "ü\n7\n".as_bytes().to_vec()];
        assert_eq!(encode(b"abc"), b"3\nabc");
        for split in 0..stream.len() {
            let (a, b) = stream.split_at(split);
            assert_eq!(records(&[a, b]), Ok(want.clone()), "split at {split}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(records(&bytes), Ok(want));
    }

    #[test]
    fn broken_streams_say_why() {
        #[rustfmt::skip]
        let table: &[(&[u8], RecordError)] = &[
            (b"x\n",                         RecordError::NotADigit { byte: b'x' }),
            (b"-1\n",                        RecordError::NotADigit { byte: b'-' }),
            (b"5\r\nhello",                  RecordError::NotADigit { byte: b'\r' }),
            (b"\nhello",                     RecordError::NoLength),
            (b"101\n",                       RecordError::TooLong { limit: 100 }),
            (b"99999999999999999999999999",  RecordError::TooLong { limit: 100 }),
            (b"000000000000000000000000001", RecordError::TooLong { limit: 100 }),
            (b"5\nhe",                       RecordError::Truncated { missing: 3 }),
            (b"5",                           RecordError::Truncated { missing: 1 }),
        ];
        for (stream, want) in table {
            assert_eq!(records(&[stream]), Err(want.clone()), "{stream:?}");
        }
    }
}
