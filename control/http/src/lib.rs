//! Every HTTP listener and route of a node.
//!
//! [`routes`] is the page that lists them. A handler translates a request into
//! a [`core::CoreRequest`] and the reply into an answer; what is true and what
//! is allowed is known to the core loop alone. [`server`] owns the sockets and
//! the limits, [`client`] is the command line's side of the unix socket.

pub mod client;
mod closing;
pub mod core;
mod download;
mod encoding;
mod entity_tag;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
mod leader;
pub mod limits;
mod mesos_dns;
mod node;
mod operator;
mod operator_api;
mod origin;
mod overlay_agent;
pub mod probe;
mod query;
pub mod routes;
mod scheduler;
pub mod server;
mod services;
mod stall;
mod vips;

#[cfg(test)]
mod testing;
