//! Where requests come from, and what is changed from the machine itself only.
//!
//! The APIs of the systems that we succeed are open to whoever reaches their ports. What is ours
//! and changes something is not: it is asked for at a node's socket or over its loopback address,
//! and goes from there to other nodes over the stream on which both have proven who they are.

use crate::error::HttpError;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Where a request comes from; each one carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The machine itself: by the node's socket, or over a loopback address.
    Machine,
    /// Anybody else, also the machine itself by another of its addresses.
    Network,
}

/// Refuses changes that do not come from the machine itself.
pub(crate) async fn changes_from_here(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match request.extensions().get::<Origin>() {
        _ if reads => next.run(request).await,
        Some(Origin::Machine) => next.run(request).await,
        Some(Origin::Network) | None => HttpError::NotFromHere.into_response(),
    }
}
