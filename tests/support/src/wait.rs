//! Waiting for something that happens elsewhere, for a limited time.

use std::thread;
use std::time::{Duration, Instant};

/// For what happens at once unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often [`eventually`] looks.
const LOOK: Duration = Duration::from_millis(1);

/// Looks every so often until something is there, for at most `limit`; `None` if it was in vain.
///
/// # Errors
///
/// The first one of `look`.
pub fn until<T, E>(
    limit: Duration,
    every: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if started.elapsed() > limit {
            return Ok(None);
        }
        thread::sleep(every);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
///
/// If it does not within [`PATIENCE`]; `what` says in the message what was awaited.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let look = || Ok::<_, std::convert::Infallible>(condition().then_some(()));
    let Ok(held) = until(PATIENCE, LOOK, look);
    assert!(held.is_some(), "not in time: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_found_and_what_fails_is_told() {
        let mut left = 3;
        let mut look = || {
            left -= 1;
            Ok::<_, &str>((left == 0).then_some("there"))
        };
        assert_eq!(until(PATIENCE, Duration::ZERO, &mut look), Ok(Some("there")));
        let never = || Ok::<Option<()>, &str>(None);
        assert_eq!(until(Duration::ZERO, Duration::ZERO, never), Ok(None));
        let fails = || Err::<Option<()>, _>("broken");
        assert_eq!(until(PATIENCE, Duration::ZERO, fails), Err("broken"));
    }
}
