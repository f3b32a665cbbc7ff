//! DNS over TLS (RFC 7858): one connection, kept, with many questions on it at once.
//!
//! A task of its own drives the connection: it numbers questions, writes them, and hands
//! out answers in whatever order they come. It ends when the connection does, or when
//! nothing was asked for a while; the next question makes a new one.

use super::UpstreamError;
use super::plain::read_any_capitals;
use super::question::{Extension, Padding, Question, Spelling};
use super::shared::Shared;
use super::tls::Connector;
use mizzen_dns_core::{Relayed, Sent, Unfit};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::debug;

/// How long a connection is kept without questions.
const IDLE: Duration = Duration::from_secs(30);
/// Questions that wait to be written.
const QUEUE: usize = 64;
/// Questions on one connection at once.
const MOST: usize = 4096;

/// An upstream that is asked by TLS.
#[derive(Debug)]
pub(super) struct Line {
    connector: Connector,
    connection: Shared<mpsc::Sender<Asking>>,
}

/// A question on its way.
#[derive(Debug)]
struct Asking {
    message: Vec<u8>,
    answer: oneshot::Sender<Vec<u8>>,
}

/// Who waits for the answer of which number.
type Waiting = Arc<Mutex<HashMap<u16, oneshot::Sender<Vec<u8>>>>>;

impl Line {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, connection: Shared::default() }
    }

    pub(super) async fn ask(&self, question: &Question) -> Result<Relayed, UpstreamError> {
        let message = question.message(0, Spelling::Mixed, Extension::Edns(Padding::Blocks));
        // A kept connection may have ended meanwhile, a new one has not.
        let answer = match self.exchange(&message).await {
            Err(UpstreamError::Closed) => self.exchange(&message).await?,
            answer => answer?,
        };
        let id = answer.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
        let sent = question.sent(id, Spelling::Mixed);
        read_protected(&answer, &sent)
    }

    async fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, UpstreamError> {
        let (answer, answered) = oneshot::channel();
        let asking = Asking { message: message.to_vec(), answer };
        let connector = self.connector.clone();
        let is_open = |connection: &mpsc::Sender<_>| !connection.is_closed();
        let connection = self.connection.get(is_open, || connect(connector)).await?;
        connection.send(asking).await.map_err(|_| UpstreamError::Closed)?;
        answered.await.map_err(|_| UpstreamError::Closed)
    }
}

async fn connect(connector: Connector) -> Result<mpsc::Sender<Asking>, UpstreamError> {
    let stream = connector.connect().await?;
    let (sender, questions) = mpsc::channel(QUEUE);
    tokio::spawn(drive(stream, questions));
    Ok(sender)
}

/// Reads an answer that nobody can have forged on its way.
pub(super) fn read_protected(answer: &[u8], sent: &Sent<'_>) -> Result<Relayed, UpstreamError> {
    match Relayed::read(answer, sent) {
        Err(Unfit::Capitals) => read_any_capitals(answer, sent),
        read => read.map_err(UpstreamError::Mismatch),
    }
}

/// Serves questions until the connection ends.
async fn drive(stream: impl AsyncRead + AsyncWrite, questions: mpsc::Receiver<Asking>) {
    let (reader, writer) = tokio::io::split(stream);
    let waiting = Waiting::default();
    let ended = tokio::select! {
        ended = hand_out(reader, &waiting) => ended,
        ended = write(writer, questions, &waiting) => ended,
    };
    debug!(?ended, "connection to an upstream is over");
}

async fn hand_out(mut reader: impl AsyncRead + Unpin, waiting: &Waiting) -> io::Result<()> {
    loop {
        let length = reader.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        reader.read_exact(&mut message).await?;
        let Some(id) = message.first_chunk().map(|id| u16::from_be_bytes(*id)) else { continue };
        if let Some(answer) = waiting.lock().remove(&id) {
            // Whoever asked may have given up.
            let _ = answer.send(message);
        }
    }
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut questions: mpsc::Receiver<Asking>,
    waiting: &Waiting,
) -> io::Result<()> {
    let mut next: u16 = rand::random();
    loop {
        let asking = match timeout(IDLE, questions.recv()).await {
            Ok(Some(asking)) => asking,
            Ok(None) => return Ok(()),
            Err(_) if waiting.lock().values().all(oneshot::Sender::is_closed) => return Ok(()),
            Err(_) => continue,
        };
        let Some(id) = number(asking.answer, &mut next, waiting) else { continue };
        let length = u16::try_from(asking.message.len()).unwrap_or(0).to_be_bytes();
        let rest = asking.message.get(2..).unwrap_or_default();
        let framed = [&length, &id.to_be_bytes(), rest].concat();
        writer.write_all(&framed).await?;
        writer.flush().await?;
    }
}

/// Gives a question a number that no other has; `None`, which ends it, if there are too
/// many.
fn number(answer: oneshot::Sender<Vec<u8>>, next: &mut u16, waiting: &Waiting) -> Option<u16> {
    let mut waiting = waiting.lock();
    if waiting.len() >= MOST {
        waiting.retain(|_, answer| !answer.is_closed());
    }
    if waiting.len() >= MOST {
        return None;
    }
    // There are many more numbers than questions.
    while waiting.contains_key(next) {
        *next = next.wrapping_add(1);
    }
    let id = *next;
    *next = next.wrapping_add(1);
    waiting.insert(id, answer);
    Some(id)
}
