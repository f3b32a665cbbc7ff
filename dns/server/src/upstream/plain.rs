//! UDP, and TCP for what does not fit or cannot be trusted.
//!
//! Each question has a socket of its own, connected to the upstream: the kernel draws its
//! port, and what comes from elsewhere is not heard.

use super::UpstreamError;
use super::question::{Extension, Padding, Question, Spelling};
use mizzen_dns_core::{Relayed, Sent, Unfit};
use mizzen_types::error::chain;
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tracing::debug;

/// Room for an upstream's datagram, in bytes: more than we ask for, some do not listen.
const UDP_BUFFER: usize = 4096;

/// How long an upstream that does not understand EDNS is asked without.
const SIMPLE: Duration = Duration::from_secs(900);
const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;

/// An upstream that is asked by UDP and TCP.
#[derive(Debug)]
pub(crate) struct Plain {
    address: SocketAddr,
    /// Whether it answers with other capitals than it was asked with.
    changes_capitals: AtomicBool,
    /// Until when it is asked without EDNS.
    simple_until: Mutex<Option<Instant>>,
}

/// What came by UDP.
enum Datagram {
    Answer(Relayed),
    /// It was cut.
    Cut(Relayed),
    /// It may be a forgery, or it cannot be read.
    Doubtful(Unfit),
}

impl Plain {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, changes_capitals: AtomicBool::new(false), simple_until: Mutex::new(None) }
    }

    /// Asks by UDP, and by TCP if need be; once more without EDNS if that may be what the
    /// upstream does not understand.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Relayed, UpstreamError> {
        if self.simple_until.lock().is_some_and(|until| Instant::now() < until) {
            return self.ask_with(question, Extension::None).await;
        }
        let answer = self.ask_with(question, Extension::Edns(Padding::None)).await?;
        if !is_complaint(&answer) {
            return Ok(answer);
        }
        match self.ask_with(question, Extension::None).await {
            Ok(simple) if !is_complaint(&simple) => {
                debug!(upstream = %self.address, "upstream does not understand EDNS");
                *self.simple_until.lock() = Some(Instant::now() + SIMPLE);
                Ok(simple)
            }
            // So it was not for EDNS.
            _ => Ok(answer),
        }
    }

    async fn ask_with(
        &self,
        question: &Question,
        extension: Extension,
    ) -> Result<Relayed, UpstreamError> {
        let spelling = match self.changes_capitals.load(Ordering::Relaxed) {
            true => Spelling::Lower,
            false => Spelling::Mixed,
        };
        let id = rand::random();
        let sent = question.sent(id, spelling);
        let bytes = question.message(id, spelling, extension);
        match self.by_udp(&bytes, &sent).await? {
            Datagram::Answer(answer) => Ok(answer),
            Datagram::Cut(answer) => match self.by_tcp(&bytes, &sent).await {
                Ok(whole) => Ok(whole),
                Err(error) => {
                    debug!(upstream = %self.address, error = chain(&error), "cut answer could not be completed");
                    Ok(answer)
                }
            },
            Datagram::Doubtful(why) => {
                debug!(upstream = %self.address, %why, "answer by UDP is fetched again by TCP");
                self.by_tcp(&bytes, &sent).await
            }
        }
    }

    async fn by_udp(&self, bytes: &[u8], sent: &Sent<'_>) -> Result<Datagram, UpstreamError> {
        let any: IpAddr = match self.address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let failed = UpstreamError::socket;
        let socket = UdpSocket::bind((any, 0)).await.map_err(failed("binding a UDP socket"))?;
        socket.connect(self.address).await.map_err(failed("connecting a UDP socket"))?;
        socket.send(bytes).await.map_err(failed("sending by UDP"))?;
        let mut buffer = vec![0; UDP_BUFFER];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(failed("receiving by UDP"))?;
            match Relayed::read(buffer.get(..length).unwrap_or_default(), sent) {
                Ok(answer) if answer.is_truncated() => return Ok(Datagram::Cut(answer)),
                Ok(answer) => return Ok(Datagram::Answer(answer)),
                // Noise, a late answer or an attack: the answer may still come.
                Err(Unfit::NotTheAnswer) => {}
                Err(why) => return Ok(Datagram::Doubtful(why)),
            }
        }
    }

    async fn by_tcp(&self, bytes: &[u8], sent: &Sent<'_>) -> Result<Relayed, UpstreamError> {
        let failed = UpstreamError::socket;
        let stream = TcpStream::connect(self.address).await;
        let mut stream = stream.map_err(failed("connecting by TCP"))?;
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let framed = [&length.to_be_bytes(), bytes].concat();
        stream.write_all(&framed).await.map_err(failed("sending by TCP"))?;
        let length = stream.read_u16().await.map_err(failed("receiving by TCP"))?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(failed("receiving by TCP"))?;
        match Relayed::read(&answer, sent) {
            Err(Unfit::Capitals) => {
                // Nobody forges a connection, so it is the upstream's way.
                self.changes_capitals.store(true, Ordering::Relaxed);
                read_any_capitals(&answer, sent)
            }
            read => read.map_err(UpstreamError::Mismatch),
        }
    }
}

/// Whether it says that the question was not understood.
fn is_complaint(answer: &Relayed) -> bool {
    matches!(answer.code(), FORMERR | NOTIMP)
}

/// Reads an answer that was found to repeat the question in other capitals.
pub(super) fn read_any_capitals(answer: &[u8], sent: &Sent<'_>) -> Result<Relayed, UpstreamError> {
    let name = answer.get(12..12 + sent.name.len()).unwrap_or_default();
    Relayed::read(answer, &Sent { name, ..*sent }).map_err(UpstreamError::Mismatch)
}
