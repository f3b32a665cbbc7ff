//! DNS over HTTPS (RFC 8484): questions are posted on one HTTP/2 connection.

use super::UpstreamError;
use super::line::read_protected;
use super::question::{Extension, Padding, Question, Spelling};
use super::shared::Shared;
use super::tls::Connector;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mizzen_dns_core::Relayed;
use std::time::Duration;
use tracing::debug;

const MESSAGE: &str = "application/dns-message";
/// What every message fits in, in bytes.
const MOST: usize = 65_535;
/// How often a silent connection is asked whether it lives, and for how long.
const PING: Duration = Duration::from_secs(10);
const PING_ANSWER: Duration = Duration::from_secs(3);

type Sender = SendRequest<Full<Bytes>>;

/// An upstream that is asked by HTTPS.
#[derive(Debug)]
pub(super) struct Https {
    connector: Connector,
    url: String,
    connection: Shared<Sender>,
}

impl Https {
    /// * `path` — where questions are posted.
    pub(super) fn new(connector: Connector, path: &str) -> Self {
        let url = format!("https://{}{path}", connector.authority());
        Self { connector, url, connection: Shared::default() }
    }

    pub(super) async fn ask(&self, question: &Question) -> Result<Relayed, UpstreamError> {
        // Number 0 lets caches on the way do their work (RFC 8484, 4.1).
        let message =
            Bytes::from(question.message(0, Spelling::Mixed, Extension::Edns(Padding::Blocks)));
        // A kept connection may have ended meanwhile, a new one has not.
        let answer = match self.exchange(message.clone()).await {
            Err(UpstreamError::Http { .. }) => self.exchange(message).await?,
            answer => answer?,
        };
        read_protected(&answer, &question.sent(0, Spelling::Mixed))
    }

    async fn exchange(&self, message: Bytes) -> Result<Bytes, UpstreamError> {
        let connector = self.connector.clone();
        let is_open = |connection: &Sender| !connection.is_closed();
        let mut connection = self.connection.get(is_open, || connect(connector)).await?;
        let failed = |request| move |source| UpstreamError::Http { request, source };
        connection.ready().await.map_err(failed("posting a question"))?;
        let request = Request::post(&self.url)
            .header(CONTENT_TYPE, MESSAGE)
            .header(ACCEPT, MESSAGE)
            .body(Full::new(message))
            .map_err(|error| UpstreamError::Body(error.into()))?;
        let response = connection.send_request(request).await;
        body(response.map_err(failed("posting a question"))?).await
    }
}

async fn connect(connector: Connector) -> Result<Sender, UpstreamError> {
    let stream = TokioIo::new(connector.connect().await?);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING_ANSWER);
    let failed = |source| UpstreamError::Http { request: "setting up HTTP/2", source };
    let (sender, connection) = builder.handshake(stream).await.map_err(failed)?;
    tokio::spawn(async move {
        let ended = connection.await;
        debug!(?ended, "connection to an upstream is over");
    });
    Ok(sender)
}

async fn body(response: Response<Incoming>) -> Result<Bytes, UpstreamError> {
    if response.status() != StatusCode::OK {
        return Err(UpstreamError::Status(response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), MOST).collect().await;
    Ok(body.map_err(UpstreamError::Body)?.to_bytes())
}
