//! Messages on a stream: length (4 bytes), channel (1 byte), contents.

use std::io::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A message is at most this long, in bytes.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;
const HEADER: usize = 5;

/// A message with its header.
pub(crate) fn frame(channel: u8, contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + contents.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(channel);
    bytes.extend_from_slice(contents);
    bytes
}

/// The next message and its channel; `None` where the stream ends between two.
///
/// # Errors
///
/// What the stream says, or that a message is longer than `limit`.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<(u8, Vec<u8>)>, Error> {
    let mut header = [0; HEADER];
    if stream.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[1..]).await?;
    let [a, b, c, d, channel] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > limit {
        let text = format!("a message of {length} bytes, {limit} are allowed");
        return Err(Error::new(ErrorKind::InvalidData, text));
    }
    // Not all of it at once: who announces much has to send it first.
    let mut contents = Vec::with_capacity(length.min(64 << 10));
    let read = stream.take(length as u64).read_to_end(&mut contents).await?;
    match read == length {
        true => Ok(Some((channel, contents))),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> Result<Option<(u8, Vec<u8>)>, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read(&mut &bytes[..], 10))
    }

    #[test]
    fn messages_come_back() {
        assert_eq!(read_all(&frame(2, b"hello")).unwrap(), Some((2, b"hello".to_vec())));
        assert_eq!(read_all(&frame(0, b"")).unwrap(), Some((0, Vec::new())));
        assert_eq!(read_all(b"").unwrap(), None);
    }

    #[test]
    fn what_is_cut_or_too_long_is_an_error() {
        let whole = frame(1, b"hello");
        for length in 1..whole.len() {
            assert!(read_all(&whole[..length]).is_err(), "{length}");
        }
        assert!(read_all(&frame(1, &[0; 11])).is_err());
        assert!(read_all(&[0xff; 9]).is_err());
    }
}
