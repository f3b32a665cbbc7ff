//! Where requests come from, and what is changed from where.
//!
//! The APIs of the systems that we succeed are open to whoever reaches their ports. What is ours
//! and changes something is not. What belongs to one node is changed on its own machine; what the
//! whole cluster goes by (who is in it, who may reach whom) at a node's socket, which is root's:
//! any program of a machine reaches its loopback address, tasks in its network among them. From
//! there it goes to other nodes over the stream on which both have proven who they are.

use crate::error::HttpError;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Where a request comes from; each one carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The node's socket, to which only its own user can connect.
    Socket,
    /// A loopback address of the machine: any program on it.
    Loopback,
    /// Anybody else, also the machine itself by another of its addresses.
    Network,
}

/// Refuses changes that do not come from the machine itself.
pub(crate) async fn changes_from_here(request: Request, next: Next) -> Response {
    match request.extensions().get::<Origin>() {
        _ if reads(&request) => next.run(request).await,
        Some(Origin::Socket | Origin::Loopback) => next.run(request).await,
        Some(Origin::Network) | None => HttpError::NotFromHere.into_response(),
    }
}

/// Refuses changes that do not come by the node's socket.
pub(crate) async fn changes_by_socket(request: Request, next: Next) -> Response {
    match request.extensions().get::<Origin>() {
        _ if reads(&request) => next.run(request).await,
        Some(Origin::Socket) => next.run(request).await,
        Some(Origin::Loopback | Origin::Network) | None => HttpError::NotBySocket.into_response(),
    }
}

fn reads(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}
