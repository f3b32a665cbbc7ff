//! Bad input and faults: what a node refuses in words, and what it lives through.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod apps;
mod configuration;
mod disk;
mod garbage;
mod plugins;
mod starting;
