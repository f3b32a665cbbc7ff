//! Whole resolvers on 127.0.0.x, asked by real packets.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "clippy takes only functions marked as tests for tests"
)]

mod common;
mod fake;
mod forwarding;
mod forwarding_alias;
mod forwarding_cache;
mod forwarding_liars;
mod forwarding_secure;
mod serving;
mod serving_dig;
mod serving_fair;
mod serving_handover;
mod serving_tcp;
