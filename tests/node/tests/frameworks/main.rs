//! Foreign frameworks: HTTP and JSON, with nothing of ours but the wire.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod calls;
mod endpoints;
mod tasks;
