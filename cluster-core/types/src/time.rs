//! Time as two types, because they answer two questions.
//!
//! [`Mono`] says *when next*: nanoseconds since boot, for deadlines. [`Wall`] says
//! *when it was*: what people and disks see. Pure code gets both as a [`Now`].

use serde::{Deserialize, Serialize};
use std::ops::{Add, RangeInclusive, Sub};
use std::time::Duration;

/// Nanoseconds since boot. Never goes back, means nothing after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// Time from `earlier` to here, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Nanoseconds since the Unix epoch, UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Wall(pub u64);

impl Wall {
    /// Seconds since the epoch with a fraction, as Mesos writes times.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "Mesos writes times as doubles")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines.
    pub mono: Mono,
    /// For people and disks.
    pub wall: Wall,
}

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// Reads a time as people write it: a whole number with its unit (`ms`, `s`, `m`, `h`, `d`),
/// or `0`. None if it is none, or lies outside of `range`.
#[must_use]
pub fn parse(text: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        _ => return None,
    };
    let time = Duration::from_millis(number.checked_mul(millis)?);
    range.contains(&time).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let millis = |millis| Some(Duration::from_millis(millis));
        #[rustfmt::skip]
        let table = [
            ("0",   millis(0)),       ("250ms", millis(250)),       ("10s", millis(10_000)),
            ("2m",  millis(120_000)), ("1h",    millis(3_600_000)), ("1d",  millis(86_400_000)),
            ("25h", None),            ("10",    None),              ("s",   None),
            ("",    None),            ("-1s",   None),              ("1 s", None),
            ("1.5s", None),           ("1w",    None),              ("99999999999999999999d", None),
            ("9999999999999999d", None),
        ];
        for (text, want) in table {
            assert_eq!(parse(text, Duration::ZERO..=DAY), want, "{text}");
        }
        let some = Duration::from_millis(1)..=DAY;
        assert_eq!((parse("0", some.clone()), parse("0s", some)), (None, None), "nothing");
    }

    #[test]
    fn spans_saturate() {
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
        assert_eq!(Mono(u64::MAX) + Duration::from_secs(1), Mono(u64::MAX));
        assert_eq!(Mono(3) - Duration::from_secs(1), Mono(0));
    }
}
