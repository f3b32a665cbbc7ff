//! One connection: how it is opened, and the task that carries its messages.

use super::Shared;
use super::arrivals::{Arrival, Control, Found};
use crate::certificate::node_of;
use crate::frame;
use crate::issued::Issued;
use crate::tls::server_name;
use mizzen_types::ids::OwnerId;
use rustls::pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::{TlsConnector, TlsStream};

/// Connecting, TLS and the first words take at most this long.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// What is written has to be taken within this.
const WRITE: Duration = Duration::from_secs(15);
/// First words are at most this long, in bytes.
const MAX_HELLO: usize = 64 << 10;
/// Messages are written together up to so many bytes.
const BATCH: usize = 256 << 10;
/// A machine that is gone is noticed within about this, by the kernel.
const UNHEARD: Duration = Duration::from_secs(15);

/// A connection on which both sides said their first words.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) peer: OwnerId,
    /// The peer's, which was checked.
    pub(super) certificate: CertificateDer<'static>,
    /// Which dial it was, if it was this node's.
    pub(super) dial: Option<u64>,
    pub(super) stream: TlsStream<TcpStream>,
    /// What the peer knows of the authority's.
    pub(super) issued: Issued,
}

/// Connects to a peer, and tells how it went.
pub(super) async fn dial(peer: OwnerId, address: SocketAddr, serial: u64, shared: Arc<Shared>) {
    let opened = tokio::time::timeout(LIMIT, connect(&peer, address, &shared)).await;
    let opened = opened.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    let found = match opened {
        Ok(established) => {
            Found::Established(Box::new(Established { dial: Some(serial), ..established }))
        }
        Err(error) => Found::DialFailed { peer, serial, reason: format!("{address}: {error}") },
    };
    // Without a loop there is nobody to tell.
    let _ = shared.arrivals.send(Arrival(found)).await;
}

async fn connect(
    peer: &OwnerId,
    address: SocketAddr,
    shared: &Shared,
) -> Result<Established, Error> {
    if shared.expulsions.read().has(peer) {
        return Err(invalid("it was expelled"));
    }
    let stream = TcpStream::connect(address).await?;
    set_up(&stream)?;
    let name = server_name(peer).ok_or_else(|| invalid("its name is no name of a node"))?;
    let config = Arc::clone(&shared.tls.read().client);
    let mut stream = TlsStream::from(TlsConnector::from(config).connect(name, stream).await?);
    // Under TLS 1.3 a client learns with the first answer whether it was believed.
    let issued = greet(&mut stream, &shared.issued()).await?;
    let certificate = certificate(&stream)?;
    Ok(Established { peer: peer.clone(), certificate, dial: None, stream, issued })
}

/// The certificate of the other side.
fn certificate(stream: &TlsStream<TcpStream>) -> Result<CertificateDer<'static>, Error> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = chain.first().ok_or_else(|| invalid("no certificate"))?;
    Ok(leaf.clone().into_owned())
}

/// Goes on with a connection of a peer that TLS has accepted.
pub(super) async fn accept(
    mut stream: TlsStream<TcpStream>,
    shared: &Shared,
) -> Result<Established, Error> {
    let certificate = certificate(&stream)?;
    let peer = node_of(&certificate).map_err(|error| invalid(&error.to_string()))?;
    if peer == shared.me {
        return Err(invalid("it has this node's own name"));
    }
    let mut own = shared.issued();
    if own.expulsions.has(&peer) {
        // It is told, and no more than that.
        own.epochs.clear();
        greet(&mut stream, &own).await?;
        return Err(invalid("it was expelled"));
    }
    let issued = greet(&mut stream, &own).await?;
    Ok(Established { peer, certificate, dial: None, stream, issued })
}

/// First words, said and heard.
async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    known: &Issued,
) -> Result<Issued, Error> {
    let hello = Control::hello(known.clone());
    stream.write_all(&frame::frame(Control::WORD, &hello.write())).await?;
    stream.flush().await?;
    let (word, bytes) = frame::read(stream, MAX_HELLO).await?.ok_or(ErrorKind::UnexpectedEof)?;
    match serde_json::from_slice(&bytes) {
        Ok(Control::Hello { issued, .. }) if word == Control::WORD => Ok(issued),
        _ => Err(invalid("its first words are none")),
    }
}

/// The loop's end of a connection.
#[derive(Debug)]
pub(super) struct Writer {
    messages: mpsc::UnboundedSender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
}

impl Writer {
    /// Queues a message; how many bytes wait with it.
    pub(super) fn write(&self, message: Vec<u8>) -> usize {
        let length = message.len();
        let before = self.queued.fetch_add(length, Ordering::Relaxed);
        // A task that has ended says so by itself.
        let _ = self.messages.send(message);
        before + length
    }
}

/// Starts the task that carries a connection's messages. It ends when the connection does,
/// or when the writer is dropped; what was queued before is still written then.
pub(super) fn carry(
    stream: TlsStream<TcpStream>,
    (peer, serial): (OwnerId, u64),
    shared: Arc<Shared>,
) -> Writer {
    let (messages, outgoing) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    let writer = Writer { messages, queued: Arc::clone(&queued) };
    tokio::spawn(async move {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let ended = tokio::select! {
            ended = read_all(&mut reading, (&peer, serial), &shared) => ended,
            ended = write_all(&mut writing, outgoing, &queued) => ended,
        };
        let reason = match ended {
            Ok(()) => "closed".to_owned(),
            Err(error) => error.to_string(),
        };
        let _ = shared.arrivals.send(Arrival(Found::Ended { peer, serial, reason })).await;
    });
    writer
}

async fn read_all(
    stream: &mut (impl AsyncRead + Unpin),
    (peer, serial): (&OwnerId, u64),
    shared: &Shared,
) -> Result<(), Error> {
    while let Some((channel, bytes)) = frame::read(stream, frame::MAX_MESSAGE).await? {
        let found = Found::Message { peer: peer.clone(), serial, channel, bytes };
        if shared.arrivals.send(Arrival(found)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: &AtomicUsize,
) -> Result<(), Error> {
    while let Some(mut batch) = outgoing.recv().await {
        while batch.len() < BATCH
            && let Ok(next) = outgoing.try_recv()
        {
            batch.extend_from_slice(&next);
        }
        let write = async {
            stream.write_all(&batch).await?;
            stream.flush().await
        };
        let written = tokio::time::timeout(WRITE, write).await;
        written.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))?;
        queued.fetch_sub(batch.len(), Ordering::Relaxed);
    }
    let closed = tokio::time::timeout(WRITE, stream.shutdown()).await;
    closed.unwrap_or(Ok(()))
}

/// Messages are written together already, and a machine that is gone shall be noticed.
pub(super) fn set_up(stream: &TcpStream) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(UNHEARD / 3).with_interval(UNHEARD / 3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNHEARD))
}

fn invalid(text: &str) -> Error {
    Error::new(ErrorKind::InvalidData, text.to_owned())
}
