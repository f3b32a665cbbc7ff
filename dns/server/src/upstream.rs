//! One question to one upstream, by UDP and, if its answer was cut, by TCP.

use crate::reply::UDP_PAYLOAD;
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_server::server::Request;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tracing::debug;

/// Room for an upstream's datagram, in bytes: more than we ask for, some do not listen.
const UDP_BUFFER: usize = 4096;

/// A question and the bytes that ask it.
#[derive(Debug)]
pub(crate) struct Exchange {
    question: Query,
    message: Message,
}

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The question cannot be written.
    #[error("question cannot be encoded")]
    Encode(#[source] hickory_proto::ProtoError),
    /// The socket failed; an upstream that does not run is found out this way.
    #[error("{request} failed")]
    Socket {
        /// What was tried.
        request: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// By TCP came something else than the answer.
    #[error("answer does not fit the question")]
    Mismatch,
}

impl Exchange {
    pub(crate) fn new(request: &Request, question: &Query) -> Self {
        // The id is drawn by `query`.
        let mut message = Message::query();
        message.add_query(question.clone());
        message.metadata.recursion_desired = request.metadata.recursion_desired;
        message.metadata.checking_disabled = request.metadata.checking_disabled;
        message.metadata.authentic_data = request.metadata.authentic_data;
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        let dnssec_ok = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        edns.set_dnssec_ok(dnssec_ok);
        message.set_edns(edns);
        Self { question: question.clone(), message }
    }

    /// A question of our own.
    pub(crate) fn of_ours(question: Query) -> Self {
        let mut message = Message::query();
        message.add_query(question.clone());
        message.metadata.recursion_desired = true;
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        message.set_edns(edns);
        Self { question, message }
    }

    /// Asks `upstream` and waits for its answer, `limit` for each transport.
    pub(crate) async fn run(
        &self,
        upstream: SocketAddr,
        limit: Duration,
    ) -> Result<Message, UpstreamError> {
        let bytes = self.message.to_vec().map_err(UpstreamError::Encode)?;
        let timed_out = |_| UpstreamError::TimedOut(limit);
        let answer = timeout(limit, self.by_udp(upstream, &bytes)).await.map_err(timed_out)??;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        let whole = timeout(limit, self.by_tcp(upstream, &bytes)).await.map_err(timed_out);
        match whole.and_then(|whole| whole) {
            Ok(whole) => Ok(whole),
            Err(error) => {
                debug!(%upstream, %error, "truncated answer could not be completed");
                Ok(answer)
            }
        }
    }

    async fn by_udp(&self, upstream: SocketAddr, bytes: &[u8]) -> Result<Message, UpstreamError> {
        let any: IpAddr = match upstream {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await.map_err(failed("binding a UDP socket"))?;
        socket.connect(upstream).await.map_err(failed("connecting a UDP socket"))?;
        socket.send(bytes).await.map_err(failed("sending by UDP"))?;
        let mut buffer = vec![0; UDP_BUFFER];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(failed("receiving by UDP"))?;
            let received = buffer.get(..length).unwrap_or_default();
            // Whatever else arrives is noise or an attack: the answer may still come.
            if let Some(answer) = self.accept(received) {
                return Ok(answer);
            }
        }
    }

    async fn by_tcp(&self, upstream: SocketAddr, bytes: &[u8]) -> Result<Message, UpstreamError> {
        let mut stream = TcpStream::connect(upstream).await.map_err(failed("connecting by TCP"))?;
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let framed = [&length.to_be_bytes(), bytes].concat();
        stream.write_all(&framed).await.map_err(failed("sending by TCP"))?;
        let length = stream.read_u16().await.map_err(failed("receiving by TCP"))?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(failed("receiving by TCP"))?;
        self.accept(&answer).ok_or(UpstreamError::Mismatch)
    }

    /// Reads a message if it answers this very question.
    fn accept(&self, bytes: &[u8]) -> Option<Message> {
        let answer = Message::from_vec(bytes).ok()?;
        let ours = answer.metadata.id == self.message.metadata.id
            && answer.metadata.message_type == MessageType::Response;
        let same = match answer.queries.as_slice() {
            // `Name` compares without regard to case: some upstreams answer in lower case.
            [question] => *question == self.question,
            // A server that understood nothing repeats nothing.
            [] => answer.metadata.response_code != ResponseCode::NoError,
            _ => false,
        };
        (ours && same).then_some(answer)
    }
}

fn failed(request: &'static str) -> impl Fn(io::Error) -> UpstreamError {
    move |source| UpstreamError::Socket { request, source }
}
