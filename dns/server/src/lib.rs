//! The resolver's sockets: UDP, TCP and forwarding.
//!
//! ```text
//! UDP, by the batch ──┐   plain, ours   ┌── Zones::answer_plain ── bytes
//!                     ├──▶ thread.rs ───┤
//! TCP, pipelined ─────┘   all else      └── handler.rs ── mizzen-dns-core::answer, Forwarder,
//!                                           a whole zone ── encode.rs ── bytes
//! ```
//!
//! What a question deserves is decided in `mizzen-dns-core`. This crate makes messages
//! of it that fit their transport, and asks upstreams about names that are not ours.
//! Every thread has a runtime and sockets of its own; sockets belong to the network
//! namespace of the thread that calls [`Sockets::bind`], questions to upstreams to that
//! of the thread that calls [`Server::start`].
//!
//! The sockets' loops are our own: hickory-server makes a task of every datagram without
//! a bound, takes any number of connections, and gives up compressing names after 120,
//! so that 1,000 SRV records would not fit.

mod access;
mod alias;
mod ask;
mod edns;
mod encode;
mod fair;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod handler;
pub mod handover;
mod metrics;
mod query_log;
mod reply;
mod rules;
mod server;
mod shared;
mod sockets;
mod tcp;
mod thread;
mod transfer;
mod udp;
mod upstream;

pub use access::Access;
pub use ask::{Answered, AnsweredRecord, AskError, ask};
pub use forward::{CacheSnapshot, ForwardError, ForwardSettings, ForwardSnapshot, Whom};
pub use metrics::{Durations, Metrics, Road};
pub use query_log::QueryLog;
pub use reply::ExtendedError;
pub use server::{Server, Settings, StartError};
pub use shared::{SharedZones, Source};
pub use sockets::{BindError, Sockets, Transport};
pub use upstream::{UpstreamError, UpstreamSnapshot};
