//! VIP traffic that arrives from elsewhere, packet by packet and in networks of namespaces.

#![allow(clippy::expect_used, reason = "a test ends where its helpers cannot go on")]
#![allow(clippy::panic, reason = "likewise")]

mod leaving;
mod lifecycle;
mod lost;
mod net;
mod offload;
mod packet;
mod paths;
mod table;
mod traffic;
