//! Requests for the master or its service scheduler at a node that runs neither.
//!
//! As the systems that we succeed have it: 5050 answers with a redirection to the leading
//! master, 8080 passes requests on to it and answers back. The node's own socket and port
//! pass both on, so that the command line works the same on every node.

use crate::error::HttpError;
use crate::routes::App;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, HOST, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// Who serves what needs the leading master.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leading {
    /// This node.
    #[default]
    Here,
    /// Another one.
    There {
        /// Its address.
        address: IpAddr,
        /// TCP port of its master's API.
        master: u16,
        /// TCP port of its service scheduler's API, if it has one.
        services: Option<u16>,
    },
    /// Nobody.
    Nowhere,
}

/// Set on what is passed on: who gets that must not pass it on once more.
const VIA: HeaderName = HeaderName::from_static("x-marathon-via");
/// The leader is near.
const CONNECT: Duration = Duration::from_secs(3);
/// Of one connection, not of what it carries (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// For the master's listener: to the leading master, by redirection.
pub(crate) async fn redirect(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let own = ["/", "/health", "/version", "/master/health", "/master/version"].contains(&path);
    match app.core.leading() {
        Leading::Here => next.run(request).await,
        _ if own => next.run(request).await,
        Leading::There { address, master, .. } => {
            let to = SocketAddr::new(address, master);
            // `/redirect` leads to the master itself.
            let rest = match path {
                "/redirect" | "/master/redirect" => "",
                _ => rest(request.uri()),
            };
            match HeaderValue::try_from(format!("//{to}{rest}")) {
                Ok(to) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response(),
                Err(_) => HttpError::Path.into_response(),
            }
        }
        Leading::Nowhere => HttpError::NoLeader.into_response(),
    }
}

/// For what the service scheduler serves: passed on to it.
pub(crate) async fn to_services(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.core.leading() {
        Leading::There { address, services: Some(port), .. } => {
            pass_on(&app, SocketAddr::new(address, port), request).await
        }
        leading => without_passing(leading, request, next).await,
    }
}

/// For what the master serves on the node's own listeners: passed on to it.
pub(crate) async fn to_master(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.core.leading() {
        Leading::There { address, master, .. } => {
            pass_on(&app, SocketAddr::new(address, master), request).await
        }
        leading => without_passing(leading, request, next).await,
    }
}

async fn without_passing(leading: Leading, request: Request, next: Next) -> Response {
    match leading {
        Leading::Here => next.run(request).await,
        Leading::There { .. } | Leading::Nowhere => HttpError::NoLeader.into_response(),
    }
}

async fn pass_on(app: &App, to: SocketAddr, mut request: Request) -> Response {
    if request.headers().contains_key(VIA) {
        return HttpError::Loop.into_response();
    }
    strip(request.headers_mut());
    let rest = rest(request.uri()).to_owned();
    let (Ok(host), Ok(uri)) = (HeaderValue::try_from(to.to_string()), rest.parse::<Uri>()) else {
        return HttpError::Path.into_response();
    };
    *request.uri_mut() = uri;
    request.headers_mut().insert(HOST, host.clone());
    request.headers_mut().insert(VIA, host);
    let asked = tokio::time::timeout(app.limits.reply_wait, ask(to, request)).await;
    let late = || Err(io::Error::from(io::ErrorKind::TimedOut));
    match asked.unwrap_or_else(|_| late()) {
        Ok(mut response) => {
            strip(response.headers_mut());
            response.map(Body::new)
        }
        Err(source) => HttpError::Leader { address: to, source }.into_response(),
    }
}

async fn ask(
    to: SocketAddr,
    request: Request,
) -> io::Result<hyper::Response<hyper::body::Incoming>> {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // It ends with the answer's last byte, or with whoever reads it.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn rest(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}
