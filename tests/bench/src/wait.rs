//! Waiting for something to happen outside, for a limited time.

use anyhow::{Context, Result};
use mizzen_tests_support::wait;
use std::time::Duration;

/// How often is looked; a part of every figure that ends with a look.
const LOOK: Duration = Duration::from_millis(2);

/// Looks until something is there, for at most `limit`.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let found = wait::until(limit, LOOK, look)?;
    found.with_context(|| format!("waited {} seconds in vain until {what}", limit.as_secs()))
}
