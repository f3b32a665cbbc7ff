//! The command line's side of the node's unix socket.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// Longer than the node waits for its own core, so that its words arrive.
const WAIT: Duration = Duration::from_secs(45);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no node is running here: nobody listens on {}", socket.display())]
    NoNode {
        /// The socket.
        socket: PathBuf,
        /// Missing, or refused.
        source: io::Error,
    },
    /// The socket is another user's.
    #[error("not allowed to talk to the node on {}", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The connection could not be made for another reason.
    #[error("cannot connect to {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The request is no HTTP.
    #[error("cannot ask for {method} {path}")]
    Request {
        /// Its method.
        method: String,
        /// Its path.
        path: String,
        /// What is wrong with it.
        source: hyper::http::Error,
    },
    /// The conversation broke off.
    #[error("the node broke off while answering {method} {path}")]
    Broken {
        /// Of the request.
        method: String,
        /// Of the request.
        path: String,
        /// What happened.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("the node did not answer {method} {path} within {} seconds", WAIT.as_secs())]
    Late {
        /// Of the request.
        method: String,
        /// Of the request.
        path: String,
    },
    /// The node refused.
    #[error("{text}")]
    Status {
        /// Its status.
        status: u16,
        /// Its words.
        text: String,
    },
    /// The answer is not what was expected.
    #[error("cannot understand the node's answer to {path}")]
    Answer {
        /// Of the request.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A way to one node.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The node that listens on `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Gets a document.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; an answer other than 2xx is [`ClientError::Status`].
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let (status, body) = self.request("GET", path, None).await?;
        if !(200..300).contains(&status) {
            let text = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(ClientError::Status { status, text });
        }
        serde_json::from_slice(&body)
            .map_err(|source| ClientError::Answer { path: path.to_owned(), source })
    }

    /// Sends a request, a body being JSON; returns status and body.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if there is no answer; whatever its status, an answer is one.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let names = || (method.to_owned(), path.to_owned());
        let request = build(method, path, body).map_err(|source| {
            let (method, path) = names();
            ClientError::Request { method, path, source }
        })?;
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(e))?;
        match tokio::time::timeout(WAIT, exchange(stream, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => {
                let (method, path) = names();
                Err(ClientError::Broken { method, path, source })
            }
            Err(_) => {
                let (method, path) = names();
                Err(ClientError::Late { method, path })
            }
        }
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoNode { socket, source }
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket, source },
            _ => ClientError::Connect { socket, source },
        }
    }
}

fn build(
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes())?)
        .uri(path)
        .header(HOST, "localhost");
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    request.body(Full::from(body.unwrap_or_default()))
}

async fn exchange(
    stream: UnixStream,
    request: Request<Full<Bytes>>,
) -> Result<(u16, Vec<u8>), hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, body.into()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        broken = connection => {
            // The connection may end in the same moment as its last answer.
            broken?;
            answer.await
        }
    }
}
