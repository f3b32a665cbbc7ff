//! The overlay's fast path between two nodes in namespaces, beside the ordinary path that stands in for it.

#![allow(clippy::expect_used, reason = "a test ends where its helpers cannot go on")]
#![allow(clippy::panic, reason = "likewise")]

mod cluster;
mod lifecycle;
#[path = "../arriving/offload.rs"]
mod offload;
mod traffic;
