//! DNS over TCP (RFC 7766): several questions per connection, each behind its length.

use crate::handler::Handler;
use crate::reply::Reply;
use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, ResponseCode};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// How long to wait when no connection can be accepted, for example for want of file
/// descriptors: they come back when others end.
const BREATH: Duration = Duration::from_millis(50);

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpLimits {
    /// How many at once; more wait in the kernel.
    pub(crate) connections: usize,
    /// How long one message may take, and how long a client may be silent.
    pub(crate) idle: Duration,
}

/// Accepts connections for ever.
pub(crate) async fn serve(listener: TcpListener, handler: Arc<Handler>, limits: TcpLimits) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, client)) => {
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    let ended = converse(stream, client, &handler, limits.idle).await;
                    debug!(%client, ?ended, "connection over");
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a DNS connection");
                sleep(BREATH).await;
            }
        }
    }
}

/// Answers one client until it leaves, is silent for too long or talks nonsense.
async fn converse(
    mut stream: TcpStream,
    client: SocketAddr,
    handler: &Handler,
    idle: Duration,
) -> io::Result<()> {
    loop {
        let message = timeout(idle, read_message(&mut stream)).await??;
        let Some(reply) = respond(message, client, handler).await else { return Ok(()) };
        timeout(idle, write_message(&mut stream, &reply)).await??;
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    // One write, so that one segment carries a short answer.
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await
}

/// The bytes to send back; `None` for what deserves no answer.
async fn respond(message: Vec<u8>, client: SocketAddr, handler: &Handler) -> Option<Vec<u8>> {
    let header = Header::read(&mut BinDecoder::new(&message)).ok()?;
    if header.metadata.message_type == MessageType::Response {
        return None;
    }
    let Ok(request) = Request::from_bytes(message, client, Protocol::Tcp) else {
        return bare(&header.metadata, ResponseCode::FormErr);
    };
    let reply = handler.respond(&request).await;
    encode(&reply, &request).or_else(|| bare(&header.metadata, ResponseCode::ServFail))
}

fn encode(reply: &Reply, request: &Request) -> Option<Vec<u8>> {
    let encoded = reply.encode(request.queries.queries());
    encoded.inspect_err(|error| warn!(%error, "reply cannot be encoded")).ok()
}

/// A header that says what went wrong.
fn bare(asked: &Metadata, code: ResponseCode) -> Option<Vec<u8>> {
    let mut metadata = Metadata::response_from_request(asked);
    metadata.response_code = code;
    let mut bytes = Vec::new();
    let header = Header { metadata, counts: HeaderCounts::default() };
    header.emit(&mut BinEncoder::new(&mut bytes)).ok()?;
    Some(bytes)
}
