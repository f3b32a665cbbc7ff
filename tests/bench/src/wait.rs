//! Waiting for something to happen outside, for a limited time.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often is looked; a part of every figure that ends with a look.
const LOOK: Duration = Duration::from_millis(2);

/// Looks until something is there, for at most `limit`.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if started.elapsed() > limit {
            bail!("waited {} seconds in vain until {what}", limit.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}
