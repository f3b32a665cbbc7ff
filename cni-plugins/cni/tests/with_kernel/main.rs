//! The executables against the real kernel, in namespaces that play hosts and containers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod chains;
mod garbage;
mod host;
mod killed;
mod plugins;
mod ports;
mod wishes;
