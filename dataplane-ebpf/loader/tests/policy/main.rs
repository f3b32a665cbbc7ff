//! Network policy between the containers of two nodes in namespaces, on the fast path and on the ordinary one.

#![allow(clippy::expect_used, reason = "a test ends where its helpers cannot go on")]
#![allow(clippy::panic, reason = "likewise")]

mod changes;
#[allow(dead_code, reason = "shared with tests that need other parts of it")]
#[path = "../overlay/cluster.rs"]
mod cluster;
mod guards;
mod lifecycle;
mod stage;
