//! Asking upstreams: one question, one upstream, one answer.
//!
//! [`Pool`] keeps what is known of each upstream and asks it by its [`Channel`]: UDP with
//! TCP for what does not fit, one TLS connection for many questions at once, or one
//! HTTP/2 connection.
//!
//! [`Channel`]: mizzen_dns_core::Channel

mod https;
mod line;
mod plain;
mod pool;
mod question;
mod shared;
mod tls;

pub use pool::UpstreamSnapshot;

pub(crate) use plain::Plain;
pub(crate) use pool::Pool;
pub(crate) use question::{Question, wire_name};

use mizzen_dns_core::Unfit;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The socket failed; an upstream that does not run is found out this way.
    #[error("{request} failed")]
    Socket {
        /// What was tried.
        request: &'static str,
        /// The kernel's answer, or that of TLS.
        #[source]
        source: io::Error,
    },
    /// There is no connection to ask on. Others wait for the same one, and hear the same.
    #[error("there is no connection")]
    NoConnection(#[source] Arc<UpstreamError>),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Something else came than the answer.
    #[error("answer does not fit the question")]
    Mismatch(#[source] Unfit),
    /// The connection ended before the answer came.
    #[error("connection ended before the answer came")]
    Closed,
    /// HTTP failed.
    #[error("{request} by HTTP failed")]
    Http {
        /// What was tried.
        request: &'static str,
        /// What is wrong.
        #[source]
        source: hyper::Error,
    },
    /// The server said something else than 200.
    #[error("server answered with HTTP status {0}")]
    Status(u16),
    /// The server's answer is too large or broke off.
    #[error("body of the HTTP answer is not usable")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl UpstreamError {
    /// Makes an error of what the kernel says to `request`.
    fn socket(request: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Socket { request, source }
    }
}
