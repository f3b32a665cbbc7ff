//! Latencies in buckets, two to each doubling.
//!
//! The bounds are those of a Prometheus native histogram of schema 1 (each is √2
//! times the one before), beginning at one microsecond.

/// Buckets of one histogram: up to 2^24 µs (16 s), and one for all beyond.
pub const BUCKETS: u32 = 49;

/// √2 as a fraction of 2^16, rounded up: a latency of a whole power of two belongs below it.
const ROOT: u64 = 92_682;

/// The bucket of a latency in microseconds: the first whose upper bound is not below it.
#[inline(always)]
#[must_use]
pub const fn bucket(micros: u32) -> u32 {
    if micros <= 1 {
        return 0;
    }
    // Bounds are inclusive, so whole powers of two belong to the bucket that ends there.
    let below = micros - 1;
    let exponent = log2(below);
    let upper_half = (micros as u64) << 16 > ROOT << exponent;
    let index = 2 * exponent + 1 + upper_half as u32;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// Upper bound of a bucket in microseconds times 2^16; none for the last one.
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
        let table = [(0, 0), (1, 0), (2, 2), (3, 4), (4, 4), (5, 5), (6, 6), (8, 6), (1 << 24, 48), (u32::MAX, 48)];
        for (micros, want) in table {
            assert_eq!(bucket(micros), want, "{micros} µs");
        }
    }

    proptest! {
        #[test]
        fn a_latency_lies_within_its_bucket(micros in 1_u32..1 << 25) {
            let index = bucket(micros);
            let scaled = u64::from(micros) << 16;
            prop_assert!(bound(index).is_none_or(|upper| scaled <= upper));
            prop_assert!(index == 0 || bound(index - 1).is_some_and(|lower| scaled > lower));
        }
    }
}
