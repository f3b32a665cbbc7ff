//! VIP traffic that arrives from elsewhere, packet by packet and in networks of namespaces.

#![allow(clippy::expect_used, reason = "a test ends where its helpers cannot go on")]
#![allow(clippy::panic, reason = "likewise")]

mod leaving;
mod lifecycle;
mod lost;
mod net;
mod packet;
mod paths;
#[allow(dead_code, reason = "shared with tests that need other parts of it")]
#[path = "../kernel/room.rs"]
mod room;
mod table;
mod traffic;
