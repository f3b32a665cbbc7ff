//! The answer to a client for whom there is no room.
//!
//! It is told so at once: left in the kernel's queue it would wait for nothing, and hold
//! that queue against those who come later.

use super::Address;
use super::socket::Stream;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

/// What it is told.
const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: text/plain\r\ncontent-length: 46\r\nretry-after: 5\r\nconnection: close\r\n\r\n\
    This node has as many connections as it takes\n";

/// How long it may take to read that.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many are told at a time; the connections of others are closed without a word.
const MOST: usize = 32;

/// How much of a request is taken off it meanwhile, in bytes.
const SKIP: u64 = 64 << 10;

/// Between two complaints in the log.
const QUIET: Duration = Duration::from_secs(60);

/// The refusals of one listener that are under way.
#[derive(Debug, Default)]
pub struct Refusals {
    open: JoinSet<()>,
    complained: Option<Instant>,
}

impl Refusals {
    /// Refuses one client.
    pub fn refuse(&mut self, stream: Stream, address: &Address) {
        if self.complained.is_none_or(|at| at.elapsed() >= QUIET) {
            self.complained = Some(Instant::now());
            warn!(%address, "no room for more connections, refusing clients");
        }
        while self.open.try_join_next().is_some() {}
        if self.open.len() < MOST {
            self.open.spawn(async move {
                // A client that does not listen is not waited for.
                let _ = timeout(PATIENCE, tell(stream)).await;
            });
        }
    }
}

/// Answers, and reads what the client says until it closes: closing before that would
/// take the answer away from it.
async fn tell(mut stream: Stream) -> std::io::Result<()> {
    stream.write_all(ANSWER).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(SKIP), &mut tokio::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::ANSWER;
    use crate::core;
    use crate::limits::Limits;
    use crate::server::{Address, Listeners, Part, Settings};
    use std::net::SocketAddr;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixStream};

    /// A path that nobody has is answered without a core.
    const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n";

    async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
        // One that was refused may have closed.
        let _ = stream.write_all(REQUEST).await;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        String::from_utf8_lossy(&status).into_owned()
    }

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }

    #[tokio::test]
    async fn idle_connections_use_up_the_ports_but_not_the_unix_socket() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("mizzen.sock");
        let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let listeners = vec![
            (Part::Master, any.clone()),
            (Part::Agent, any),
            (Part::Node, Address::Unix(socket.clone())),
        ];
        let limits = Limits { connections: 4, ..Limits::default() };
        let listeners = Listeners::bind(Settings { listeners, limits }).await.unwrap();
        let ports: Vec<SocketAddr> = listeners
            .addresses()
            .into_iter()
            .filter_map(|(_, address)| match address {
                Address::Tcp(at) => Some(at),
                Address::Unix(_) => None,
            })
            .collect();
        let (handle, _requests) = core::channel(1);
        let serving = tokio::spawn(listeners.serve(handle, std::future::pending()));

        let (mut idle, mut answers) = (Vec::new(), Vec::new());
        for port in [ports[0], ports[0], ports[0], ports[0], ports[1], ports[1]] {
            let mut stream = TcpStream::connect(port).await.unwrap();
            answers.push(ask(&mut stream).await);
            idle.push(stream);
        }
        let (served, refused) = ("HTTP/1.1 200", "HTTP/1.1 503");
        assert_eq!(answers, [served, served, served, refused, served, refused]);
        // Those that were refused are closed, not reset.
        let mut rest = Vec::new();
        idle.remove(3).read_to_end(&mut rest).await.unwrap();
        assert!(String::from_utf8_lossy(&rest).ends_with("as it takes\n"));

        let mut admin = UnixStream::connect(&socket).await.unwrap();
        // It has no such route, which is an answer too.
        assert_eq!(ask(&mut admin).await, "HTTP/1.1 404");

        // What closes makes room.
        drop(idle.remove(0));
        loop {
            let mut stream = TcpStream::connect(ports[1]).await.unwrap();
            if ask(&mut stream).await == served {
                break;
            }
        }
        serving.abort();
    }
}
