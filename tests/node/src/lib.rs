//! Tests of a whole node: what they need to start one, to talk to it as its users
//! do, and to look at what it made.
//!
//! Each test runs in a `mizzen lab` of its own ([`in_lab`]), so any number of them
//! can run at a time with the same ports, and none touches the machine. Inside, a
//! test starts a [`node::Node`], runs [`apps`] and speaks to it by [`http`],
//! [`dns`], as a [`framework`], and with its command line. Waiting is [`eventually`]:
//! looking until something is there, and failing if it does not come.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod apps;
pub mod dns;
pub mod framework;
pub mod http;
pub mod kernel;
pub mod lab;
pub mod load;
pub mod manager;
pub mod node;

pub use lab::{in_lab, in_lab_of};

use mizzen_tests_support::wait::until;
use std::convert::Infallible;
use std::time::Duration;

/// How long most things may take that have to happen: on a machine that does much else at the
/// same time, and less than until the node compares everything with the kernel anyway (60 s).
pub const SOON: Duration = Duration::from_secs(30);

/// How often is looked while something is awaited.
const LOOK: Duration = Duration::from_millis(15);

/// Looks until something is there.
///
/// # Panics
///
/// If it is not there after `limit`; `what` says in the message what was awaited.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let Ok(found) = until(limit, LOOK, || Ok::<_, Infallible>(look()));
    found.unwrap_or_else(|| panic!("waited {limit:?} in vain until {what}"))
}

/// Looks until nothing is there any more.
///
/// # Panics
///
/// If something still is after `limit`; the message has what it is.
pub fn until_none<T: std::fmt::Debug>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Vec<T>,
) {
    let mut left = Vec::new();
    let none = || {
        left = look();
        Ok::<_, Infallible>(left.is_empty().then_some(()))
    };
    let Ok(gone) = until(limit, LOOK, none);
    assert!(gone.is_some(), "after {limit:?} there still are {what}: {left:#?}");
}
