//! Asking a task how it is: one `GET`, or one connection.
//!
//! The agent decides when to ask and what an answer means for the task; this only
//! asks. A body is not read further than the connection brings it.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Why an answer is a bad one, or none.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens, or nobody can be reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where the task should listen.
        address: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It listens and does not speak HTTP, or stopped in the middle.
    #[error("no HTTP answer from {address}")]
    Http {
        /// Where the task listens.
        address: SocketAddr,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The path cannot stand in a request.
    #[error("`{path}` is no path")]
    Path {
        /// What stands there.
        path: String,
    },
    /// No answer in time.
    #[error("no answer from {address} within {} ms", after.as_millis())]
    Late {
        /// Where the task should listen.
        address: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
}

/// Status of the answer to `GET path`.
///
/// # Errors
///
/// [`ProbeError`] if there is none within `timeout`.
pub async fn http_status(
    address: SocketAddr,
    path: &str,
    timeout: Duration,
) -> Result<u16, ProbeError> {
    let ask = async {
        let stream = connect(address).await?;
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(HOST, address.to_string())
            .header(USER_AGENT, "mizzen-health-check")
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|_| ProbeError::Path { path: path.to_owned() })?;
        let failed = |source| ProbeError::Http { address, source };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let answer = sender.send_request(request);
        let mut answer = std::pin::pin!(answer);
        let response = tokio::select! {
            response = &mut answer => response,
            // The connection may end in the same moment as its answer comes.
            _ = connection => answer.await,
        };
        response.map(|response| response.status().as_u16()).map_err(failed)
    };
    within(address, timeout, ask).await
}

/// Opens a connection and closes it.
///
/// # Errors
///
/// [`ProbeError`] if it does not open within `timeout`.
pub async fn tcp(address: SocketAddr, timeout: Duration) -> Result<(), ProbeError> {
    within(address, timeout, async { connect(address).await.map(drop) }).await
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ProbeError> {
    TcpStream::connect(address).await.map_err(|source| ProbeError::Connect { address, source })
}

async fn within<T>(
    address: SocketAddr,
    timeout: Duration,
    ask: impl Future<Output = Result<T, ProbeError>>,
) -> Result<T, ProbeError> {
    let late = || ProbeError::Late { address, after: timeout };
    tokio::time::timeout(timeout, ask).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn the_status_is_what_the_task_says() {
        let address = answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(http_status(address, "/health?x=1", PATIENCE).await.unwrap(), 503);
    }

    #[tokio::test]
    async fn what_is_no_answer_has_a_reason() {
        let garbage = answering(b"\0\0\0").await;
        let error = http_status(garbage, "/", PATIENCE).await.unwrap_err();
        assert!(matches!(error, ProbeError::Http { .. }), "{error}");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let error = http_status(silent, "/", Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, ProbeError::Late { .. }), "{error}");
        drop(listener);
        // A port that is taken, so that no other test gets it, and at which nobody listens.
        let taken = tokio::net::TcpSocket::new_v4().unwrap();
        taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = tcp(taken.local_addr().unwrap(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, ProbeError::Connect { .. }), "{error}");
    }
}
