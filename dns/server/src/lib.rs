//! The resolver's sockets: UDP, TCP and forwarding.
//!
//! ```text
//! UDP ── hickory-server ──┐                      ┌── mizzen-dns-core::answer ── zones
//!                         ├──▶ Handler::respond ─┤
//! TCP ── accept loop ─────┘                      └── Forwarder ── upstreams
//! ```
//!
//! What a question deserves is decided in `mizzen-dns-core`. This crate makes messages
//! of it that fit their transport, and asks upstreams about names that are not ours.
//! Every thread has a runtime and sockets of its own; sockets belong to the network
//! namespace of the thread that calls [`Sockets::bind`], questions to upstreams to that
//! of the thread that calls [`Server::start`].
//!
//! TCP has an accept loop of its own because hickory's takes any number of connections
//! and gives up compressing names after 120, so that 1,000 SRV records would not fit.

mod ask;
mod forward;
mod handler;
mod reply;
mod server;
mod shared;
mod sockets;
mod tcp;
mod upstream;

pub use ask::{Answered, AnsweredRecord, AskError, ask};
pub use forward::{CacheSnapshot, ForwardError, ForwardSettings, ForwardSnapshot};
pub use server::{Server, Settings, StartError};
pub use shared::SharedZones;
pub use sockets::{BindError, Sockets, Transport};
pub use upstream::{UpstreamError, UpstreamSnapshot};
