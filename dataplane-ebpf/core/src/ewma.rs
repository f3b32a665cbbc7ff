//! A latency average that follows bad news faster than good news, and outliers not at all.
//!
//! ```text
//! sample above the average   up to it, by a quarter at most
//! sample below               an eighth of the way down
//! no sample                  halves every HALF_LIFE, so that a slow backend is tried again
//! ```
//!
//! A machine that hesitates for some milliseconds now and then must not turn a balancer over: an average needs
//! four slow samples in a row to leave what [`crate::select::second_is_better`] takes for noise, and a backend that is
//! ten times slower has shown so after ten.

/// The clock of averages, from nanoseconds: a tick is 1.05 ms. A shift, because a division costs as much
/// as everything else that is done with the result.
#[inline(always)]
#[must_use]
pub const fn ticks(nanos: u64) -> u32 {
    (nanos >> 20) as u32
}

/// Nanoseconds in whole microseconds, right to one in a million; half a minute and more are 34 s.
#[inline(always)]
#[must_use]
pub const fn micros(nanos: u64) -> u32 {
    // 2^38 / 1000, for the same reason. The product stays below 2^64.
    let limited = if nanos >> 35 != 0 { (1 << 35) - 1 } else { nanos };
    ((limited * 274_877_907) >> 38) as u32
}

/// After so many ticks without a sample an average is worth half.
pub const HALF_LIFE: u32 = 1_024;

/// Microseconds below which latencies are alike: they differ by luck.
pub const FLOOR: u32 = 2_000;

/// Samples are cut at this many microseconds (16 s).
pub const CEILING: u32 = 1 << 24;

/// An average in microseconds, and when it was right. Never sampled if zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Average {
    micros: u32,
    /// [`ticks`].
    stamp: u32,
}

impl Average {
    /// Takes apart what [`Average::pack`] put together.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        Self { micros: word as u32, stamp: (word >> 32) as u32 }
    }

    /// One word, so that a reader never sees the halves of two averages.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        self.micros as u64 | (self.stamp as u64) << 32
    }

    /// Microseconds at `now` ([`ticks`]); zero if there never was a sample.
    #[inline(always)]
    #[must_use]
    pub const fn at(self, now: u32) -> u32 {
        let age = now.wrapping_sub(self.stamp);
        // A clock that seems to run backwards was read on another CPU.
        if age > i32::MAX as u32 {
            return self.micros;
        }
        let halvings = age / HALF_LIFE;
        if halvings > 24 {
            return 0;
        }
        let whole = self.micros >> halvings;
        // Between two halvings a straight line is close enough to the curve.
        whole - ((whole as u64 * (age % HALF_LIFE) as u64 / HALF_LIFE as u64) >> 1) as u32
    }

    /// Whether a sample of `micros` at `now` ([`ticks`]) says nothing new: the average was moved in this very tick, and
    /// both are so short that they count as alike.
    ///
    /// A fast backend that is asked by many would otherwise have its average written, and its cache line sent from CPU to
    /// CPU, several times for each of its connections.
    #[inline(always)]
    #[must_use]
    pub const fn knows(self, micros: u32, now: u32) -> bool {
        self.stamp == now && self.micros != 0 && self.micros <= FLOOR && micros <= FLOOR
    }

    /// The average after a sample of `micros` at `now` ([`ticks`]).
    #[inline(always)]
    #[must_use]
    pub const fn step(self, micros: u32, now: u32) -> Self {
        let sample = clamp(micros);
        let present = self.at(now);
        // Nobody knows whether the first sample is an outlier, so it may not be one.
        let micros = if self.micros == 0 || sample > present {
            let known = if present > FLOOR { present } else { FLOOR };
            let limit = known + known / 4;
            if sample < limit { sample } else { limit }
        } else {
            // Rounded towards the sample, or the last few steps would never be taken.
            present - (present - sample).div_ceil(8)
        };
        Self { micros: clamp(micros), stamp: now }
    }
}

/// Between one microsecond and [`CEILING`]: zero means that there is no sample.
#[inline(always)]
const fn clamp(micros: u32) -> u32 {
    if micros == 0 {
        1
    } else if micros > CEILING {
        CEILING
    } else {
        micros
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fed(samples: &[(u32, u32)]) -> Average {
        samples
            .iter()
            .fold(Average::default(), |average, (micros, now)| average.step(*micros, *now))
    }

    /// Name, samples with their times, and what the average is when.
    type Row<'a> = (&'a str, &'a [(u32, u32)], u32, u32);

    #[test]
    fn an_average_follows_its_samples() {
        #[rustfmt::skip]
        let table: &[Row<'_>] = &[
            ("never sampled",               &[],                                  5,             0),
            ("the first sample is it",      &[(1_000, 0)],                        0,         1_000),
            ("unless it is an outlier",     &[(90_000, 0)],                       0,         2_500),
            ("an outlier adds a quarter",   &[(2_000, 0), (90_000, 0)],           0,         2_500),
            ("the next one another",        &[(2_000, 0), (90_000, 0), (90_000, 0)], 0,      3_125),
            ("below the floor it is noise", &[(50, 0), (90_000, 0)],              0,         2_500),
            ("down by an eighth",           &[(800, 0), (0, 0)],                  0,           700),
            ("half after the half-life",    &[(800, 0)],                  HALF_LIFE,           400),
            ("nothing after a long time",   &[(800, 0)],             60 * HALF_LIFE,             0),
            ("a clock that steps back",     &[(800, 10)],                         5,           800),
            ("a clock that wraps",          &[(800, u32::MAX)],       HALF_LIFE - 1,           400),
        ];
        for (name, samples, now, want) in table {
            assert_eq!(fed(samples).at(*now), *want, "{name}");
        }
    }

    #[test]
    fn only_what_is_alike_within_one_tick_says_nothing_new() {
        #[rustfmt::skip]
        let table = [
            ("again in the same tick",      Average { micros: 50,    stamp: 7 },    90, 7, true),
            ("in the next one",             Average { micros: 50,    stamp: 7 },    90, 8, false),
            ("the first sample",            Average { micros: 0,     stamp: 0 },    90, 0, false),
            ("slow for once",               Average { micros: 50,    stamp: 7 }, 9_000, 7, false),
            ("fast again",                  Average { micros: 9_000, stamp: 7 },    90, 7, false),
        ];
        for (name, average, micros, now, want) in table {
            assert_eq!(average.knows(micros, now), want, "{name}");
        }
    }

    #[test]
    fn times_are_converted_without_a_division() {
        for nanos in [0, 999, 1_000, 1_999, 45_000, 2_000_000_000, 16_000_000_000] {
            assert_eq!(u64::from(micros(nanos)), nanos / 1_000, "{nanos} ns");
        }
        assert!(micros(u64::MAX) > CEILING);
        assert_eq!(ticks(10 << 20), 10);
    }

    proptest! {
        #[test]
        fn stays_between_what_it_saw(samples in prop::collection::vec((1_u32..CEILING, 0_u32..50), 1..50)) {
            let mut now = 0;
            let mut average = Average::default();
            let highest = samples.iter().map(|(micros, _)| *micros).max().unwrap_or_default();
            for (micros, pause) in samples {
                now += pause;
                average = average.step(micros, now);
                prop_assert!(average.at(now) >= 1);
                prop_assert!(average.at(now) <= highest);
                prop_assert_eq!(Average::unpack(average.pack()), average);
            }
        }
    }
}
