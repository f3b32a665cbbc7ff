//! What tests share. Each feature adds a layer, so that nobody compiles what he does not use:
//! waiting and load need nothing, `kernel` has network namespaces and rooms, `dataplane` what
//! tests of VIPs say.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends where its helpers cannot go on")]

#[cfg(feature = "dataplane")]
pub mod dataplane;
#[cfg(feature = "kernel")]
pub mod greeting;
pub mod load;
#[cfg(feature = "kernel")]
pub mod namespace;
#[cfg(feature = "kernel")]
pub mod room;
pub mod wait;
