//! The engine in a real kernel, between a client and a backend in namespaces of their own.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends where its helpers cannot go on")]

mod lifecycle;
mod net;
mod traffic;
