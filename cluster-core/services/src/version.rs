//! Moments that name versions: ISO 8601, UTC, to the millisecond.

use mizzen_types::time::Wall;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const MILLIS_PER_DAY: u64 = 86_400_000;

/// A moment in whole milliseconds since the Unix epoch; as text it is the name
/// of a version of an app.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Version(u64);

/// A text that is no moment of the form `2024-05-17T08:30:00.000Z`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time like 2024-05-17T08:30:00.000Z")]
pub struct NotATime(String);

impl Version {
    /// The last moment that is not after `wall`.
    #[must_use]
    pub fn at(wall: Wall) -> Self {
        Self(wall.0 / 1_000_000)
    }

    /// The first moment after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Seconds from `earlier` to here, 0 if `earlier` is later.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an age for people")]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1000.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, millis) = (self.0 / MILLIS_PER_DAY, self.0 % MILLIS_PER_DAY);
        let (year, month, day) = civil(days);
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

impl FromStr for Version {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        parse(text).map(Self).ok_or_else(|| NotATime(text.to_owned()))
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = NotATime;

    fn try_from(text: String) -> Result<Self, NotATime> {
        text.parse()
    }
}

fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && fraction.len() <= 9
        && fraction.bytes().all(|b| b.is_ascii_digit());
    if !fits {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let seconds = (hour * 60 + minute) * 60 + second;
    Some(days(year, month, day) * MILLIS_PER_DAY + seconds * 1000 + millis)
}

/// Year, month and day of a number of days since the epoch (proleptic Gregorian
/// calendar, counted in eras of 400 years that begin in March).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_names_and_names_are_moments() {
        #[rustfmt::skip]
        let table: &[(u64, &str)] = &[
            (0,                 "1970-01-01T00:00:00.000Z"),
            (951_782_400_000,   "2000-02-29T00:00:00.000Z"),
            (1_715_934_600_250, "2024-05-17T08:30:00.250Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ];
        for (millis, text) in table {
            assert_eq!(Version(*millis).to_string(), *text);
            assert_eq!(text.parse(), Ok(Version(*millis)), "{text}");
        }
        assert_eq!("2000-02-29T00:00:00Z".parse(), Ok(Version(951_782_400_000)));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "Z",
            "2024-05-17",
            "2024-13-01T00:00:00.000Z",
            "x-1-1T0:0:0Z",
            "1969-12-31T00:00:00Z",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
