//! The overlay's fast path between two nodes in namespaces, beside the ordinary path that stands in for it.

#![allow(clippy::expect_used, reason = "a test ends where its helpers cannot go on")]
#![allow(clippy::panic, reason = "likewise")]

mod cluster;
mod lifecycle;
#[allow(dead_code, reason = "shared with tests that need other parts of it")]
#[path = "../arriving/net.rs"]
mod net;
#[allow(dead_code, reason = "likewise")]
#[path = "../kernel/room.rs"]
mod room;
mod traffic;
