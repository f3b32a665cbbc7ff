//! A file as an answer, read piece by piece as the client takes it.

use crate::core::OpenFile;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use std::io;
use std::os::unix::fs::FileExt;

/// How much is read at a time, in bytes.
const PIECE: u64 = 64 << 10;

/// Answers with a file, to be saved under its name.
pub fn response(file: OpenFile) -> Response {
    let (size, name) = (file.size, disposition(&file.name));
    let pieces = stream::try_unfold((file, 0), |(file, offset)| async move {
        let length = PIECE.min(file.size.saturating_sub(offset));
        if length == 0 {
            return Ok(None);
        }
        // Disks are slow, and the loop of all listeners is one thread.
        let reading = tokio::task::spawn_blocking(move || {
            read(&file, offset, length).map(|piece| (piece, (file, offset + length)))
        });
        reading.await.unwrap_or_else(|error| Err(io::Error::other(error))).map(Some)
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, size.into());
    headers.insert(CONTENT_DISPOSITION, name);
    response
}

/// A file that was cut meanwhile breaks off, so that the client does not take the part
/// for the whole.
fn read(file: &OpenFile, offset: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
    file.file.read_exact_at(&mut piece, offset)?;
    Ok(piece.into())
}

/// A name that could end the quotes is left out.
fn disposition(name: &str) -> HeaderValue {
    let plain = |b: u8| (b.is_ascii_graphic() || b == b' ') && !matches!(b, b'"' | b'\\');
    let named = name.bytes().all(plain).then(|| format!("attachment; filename=\"{name}\""));
    named
        .and_then(|text| HeaderValue::try_from(text).ok())
        .unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::Arc;

    fn open(text: &[u8], size: u64) -> OpenFile {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stdout");
        std::fs::write(&path, text).unwrap();
        let file = Arc::new(std::fs::File::open(path).unwrap());
        OpenFile { name: "stdout".to_owned(), file, size }
    }

    #[tokio::test]
    async fn a_file_arrives_whole_or_breaks_off() {
        let long: Vec<u8> = (0..=255).cycle().take(3 * PIECE as usize + 7).collect();
        for text in [&b""[..], b"ahoy\n", &long] {
            let answer = response(open(text, text.len() as u64));
            assert_eq!(answer.headers()[CONTENT_LENGTH], text.len().to_string());
            assert_eq!(answer.headers()[CONTENT_DISPOSITION], "attachment; filename=\"stdout\"");
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), text);
        }
        let cut = response(open(b"ahoy", 9));
        assert!(cut.into_body().collect().await.is_err());
    }

    #[test]
    fn names_stay_within_their_quotes() {
        for (name, want) in [
            ("a b.log", "attachment; filename=\"a b.log\""),
            ("a\"; x=\"", "attachment"),
            ("a\nb", "attachment"),
            ("\u{fc}", "attachment"),
        ] {
            assert_eq!(disposition(name), want, "{name:?}");
        }
    }
}
