//! Latencies in buckets, two to each doubling.
//!
//! The bounds are those of a Prometheus native histogram of schema 1 in seconds: bucket `b` ends at
//! 2^((b - 40) / 2) s, so the first one at 0.95 µs and every second one at a power of two.

/// Buckets of one histogram: up to 16 s, and one for all beyond.
pub const BUCKETS: u32 = 49;

/// Index that a native histogram of schema 1 gives the first bucket.
pub const FIRST_INDEX: i32 = -40;

/// √2 as a fraction of 2^16, rounded up: a latency of a whole power of two belongs below it.
const ROOT: u64 = 92_682;

/// A microsecond in units of 2^-20 s, as a fraction of 2^30, rounded down: a whole second belongs below it.
const MICRO: u64 = 1_125_899_906;

/// The last bound in microseconds; beyond, the arithmetic would not fit.
const LONGEST: u32 = 16_000_000;

/// The bucket of a latency in microseconds: the first whose upper bound is not below it.
#[inline(always)]
#[must_use]
pub const fn bucket(micros: u32) -> u32 {
    // Units of 2^-20 s, times 2^16.
    let scaled = (micros as u64 * MICRO) >> 14;
    if scaled <= 1 << 16 {
        return 0;
    }
    if micros > LONGEST {
        return BUCKETS - 1;
    }
    // Bounds are inclusive, so whole powers of two belong to the bucket that ends there.
    let exponent = log2(((scaled - 1) >> 16) as u32);
    let upper_half = scaled > ROOT << exponent;
    let index = 2 * exponent + 1 + upper_half as u32;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// Upper bound of a bucket in units of 2^-36 s; none for the last one.
#[must_use]
pub const fn bound(bucket: u32) -> Option<u64> {
    if bucket + 1 >= BUCKETS {
        return None;
    }
    let whole = 1_u64 << (bucket / 2);
    Some(if bucket.is_multiple_of(2) { whole << 16 } else { whole * ROOT })
}

/// Position of the highest bit; the target has no instruction for it that every kernel knows.
#[inline(always)]
const fn log2(value: u32) -> u32 {
    let mut rest = value;
    let mut exponent = 0;
    let mut step = 16;
    while step > 0 {
        if rest >> step != 0 {
            rest >>= step;
            exponent += step;
        }
        step /= 2;
    }
    exponent
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        #[rustfmt::skip]
        let table = [
            (0, 0), (1, 1), (2, 3), (3, 4), (4, 5), (5, 5), (6, 6), (7, 6), (8, 7),
            (976, 20), (977, 21), (1_000_000, 40), (1_000_001, 41),
            (16_000_000, 48), (16_000_001, 48), (u32::MAX, 48),
        ];
        for (micros, want) in table {
            assert_eq!(bucket(micros), want, "{micros} µs");
        }
        assert_eq!(bound(40), Some(1 << 36), "a second");
        assert_eq!(bound(48), None);
    }

    proptest! {
        #[test]
        fn a_latency_lies_within_its_bucket(micros in 1_u32..1 << 25) {
            let index = bucket(micros);
            let scaled = (u128::from(micros) * (1 << 36) / 1_000_000) as u64;
            prop_assert!(bound(index).is_none_or(|upper| scaled <= upper));
            prop_assert!(index == 0 || bound(index - 1).is_some_and(|lower| scaled > lower));
        }
    }
}
