//! HTTP/1.1 as a small client speaks it: one request on a connection of its own, or
//! a request whose answer is an endless stream of records.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a server may take for each step of an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Headers with names in lower case; the last one of a name.
    pub headers: BTreeMap<String, String>,
    /// Body, decoded.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error} in the answer {}: {}", self.status, self.text())
        })
    }
}

/// A request as a client writes it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST` …
    pub method: &'a str,
    /// Path with query.
    pub path: &'a str,
    /// Headers besides those that are always there.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body.
    pub body: &'a [u8],
}

/// Gets a document.
///
/// # Errors
///
/// What stood in the way; an answer with any status is one.
pub fn get(at: SocketAddr, path: &str) -> std::io::Result<Response> {
    send(at, &Request { method: "GET", path, headers: &[], body: &[] })
}

/// Sends JSON.
///
/// # Errors
///
/// As [`get`].
pub fn send_json(
    at: SocketAddr,
    method: &str,
    path: &str,
    body: &Value,
) -> std::io::Result<Response> {
    let headers = &[("Content-Type", "application/json")];
    send(at, &Request { method, path, headers, body: body.to_string().as_bytes() })
}

/// Sends a request and reads the whole answer.
///
/// # Errors
///
/// As [`get`].
pub fn send(at: SocketAddr, request: &Request<'_>) -> std::io::Result<Response> {
    let mut answer = open(at, request, "close")?;
    let mut body = Vec::new();
    answer.body.read_to_end(&mut body)?;
    Ok(Response { status: answer.status, headers: answer.headers, body })
}

/// An answer whose body is still to be read.
pub struct Stream {
    /// Status.
    pub status: u16,
    /// Headers with names in lower case.
    pub headers: BTreeMap<String, String>,
    body: Body,
}

impl Stream {
    /// Sends a request and reads the head of the answer.
    ///
    /// # Errors
    ///
    /// As [`get`].
    pub fn open(at: SocketAddr, request: &Request<'_>) -> std::io::Result<Self> {
        open(at, request, "keep-alive")
    }

    /// The rest of the body as text.
    #[must_use]
    pub fn text(mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.body.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The next record (RecordIO: a length, a line feed, so many bytes). `Ok(None)`
    /// is the end of the stream.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`] if there is none within `limit`; the stream may be
    /// asked again, as no record was begun. Otherwise what is wrong with the stream.
    pub fn record(&mut self, limit: Duration) -> std::io::Result<Option<Vec<u8>>> {
        self.body.set_timeout(limit)?;
        let mut first = [0];
        if self.body.read(&mut first)? == 0 {
            return Ok(None);
        }
        self.body.set_timeout(TIMEOUT)?;
        let mut length = vec![first[0]];
        while length.last() != Some(&b'\n') {
            let mut byte = [0];
            self.body.read_exact(&mut byte)?;
            length.push(byte[0]);
        }
        let text = std::str::from_utf8(&length).unwrap_or_default().trim_end_matches('\n');
        let length: usize = text.parse().map_err(|_| wrong(&format!("`{text}` is no length")))?;
        let mut record = vec![0; length];
        self.body.read_exact(&mut record)?;
        Ok(Some(record))
    }
}

/// Body of an answer: in chunks, of a known length, or until the end.
struct Body {
    stream: BufReader<TcpStream>,
    framing: Framing,
}

enum Framing {
    Chunked { left: usize, ended: bool },
    Length(usize),
    UntilEnd,
}

impl Body {
    fn set_timeout(&self, limit: Duration) -> std::io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(limit.max(Duration::from_millis(1))))
    }

    fn next_chunk(&mut self) -> std::io::Result<usize> {
        let mut line = String::new();
        while line.trim().is_empty() {
            line.clear();
            // The peek keeps a timeout from tearing a line apart.
            if self.stream.fill_buf()?.is_empty() || self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        usize::from_str_radix(line.trim(), 16).map_err(|_| wrong(&format!("chunk of {line:?}")))
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Framing::Chunked { left: 0, ended: false } = self.framing {
            let left = self.next_chunk()?;
            self.framing = Framing::Chunked { left, ended: left == 0 };
        }
        let most = match self.framing {
            Framing::Chunked { left, .. } | Framing::Length(left) => left.min(buffer.len()),
            Framing::UntilEnd => buffer.len(),
        };
        let length = self.stream.read(&mut buffer[..most])?;
        if length == 0 && most > 0 && !matches!(self.framing, Framing::UntilEnd) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match &mut self.framing {
            Framing::Chunked { left, .. } | Framing::Length(left) => *left -= length,
            Framing::UntilEnd => {}
        }
        Ok(length)
    }
}

fn open(at: SocketAddr, request: &Request<'_>, connection: &str) -> std::io::Result<Stream> {
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let Request { method, path, headers, body } = request;
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: {connection}\r\n");
    for (name, value) in *headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    // A server that has seen enough may answer before it has read everything.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    read_head(BufReader::new(stream))
}

fn read_head(mut stream: BufReader<TcpStream>) -> std::io::Result<Stream> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| wrong(&format!("status line {line:?}")))?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let framing = match length {
        _ if chunked => Framing::Chunked { left: 0, ended: false },
        Some(length) => Framing::Length(length),
        None if matches!(status, 202 | 204 | 304) => Framing::Length(0),
        None => Framing::UntilEnd,
    };
    Ok(Stream { status, headers, body: Body { stream, framing } })
}

/// Reads until there is nothing more or `limit` is over; for answers that are no
/// HTTP, and connections that a server has enough of.
#[must_use]
pub fn drain(stream: &mut impl Read, limit: Duration) -> Vec<u8> {
    let deadline = Instant::now() + limit;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while Instant::now() < deadline {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
    }
    bytes
}

fn wrong(what: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, what)
}
