//! The choice of a backend: a weighted draw from a run of slots.
//!
//! A run stores for each slot the sum of the weights up to and including it. A
//! draw is a point below the total, and the slot it hits is the first whose sum
//! exceeds the point. A backend that is not admitted adds nothing to the sums and
//! is therefore never hit, however many of them there are.
//!
//! ```text
//! weights      3        0   5                 2
//! cumulative   3        3   8                 10
//!              [0 1 2]      [3 4 5 6 7]       [8 9]      point 3 hits the third slot
//! ```

/// Steps after which [`Search`] has found its slot in any run that fits the slab
/// (2^17 slots). A program's loop has to be bounded by a constant.
pub const SEARCH_STEPS: u32 = 18;

/// Backends that a connect may draw before it gives up: a candidate falls out if a
/// change overtook the reader or if its address family cannot be used.
pub const DRAWS: u32 = 8;

/// Turns 32 random bits into a point below `total`; zero if `total` is zero.
///
/// Multiplication instead of remainder: no division in the programs, and the bias
/// (at most `total` / 2^32) is far below what anybody could count.
#[inline(always)]
#[must_use]
pub const fn point(random: u32, total: u32) -> u32 {
    ((random as u64 * total as u64) >> 32) as u32
}

/// Mixes the bits of a number, so that neighbouring numbers end far apart.
#[inline(always)]
#[must_use]
pub const fn mix(number: u64) -> u64 {
    // The finaliser of MurmurHash3: each input bit flips each output bit in half of all cases.
    let mut x = number;
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// 32 bits of [`mix`], for draws that have to be the same each time.
#[inline(always)]
#[must_use]
pub const fn spread(number: u64) -> u32 {
    mix(number) as u32
}

/// What a backend would cost the next connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Latency in microseconds; zero if nobody knows, or if it does not matter.
    pub micros: u32,
    /// Connections that it has.
    pub in_flight: u32,
    /// Its share relative to its siblings, at least 1.
    pub weight: u32,
}

impl Load {
    /// Latency × (in flight ÷ weight + 1), in microseconds times 256: for people to compare.
    #[must_use]
    pub const fn cost(self) -> u64 {
        let weight = if self.weight == 0 { 1 } else { self.weight as u64 };
        let load = ((self.in_flight as u64 + weight) << 8) / weight;
        floored(self.micros) * load
    }
}

/// Which of two candidates costs less, `first` having been drawn first.
///
/// The cost is latency × (in flight ÷ weight + 1). A backend is drawn in proportion to its weight, so
/// dividing the whole by it as well would starve the lighter of two idle ones. Latencies within a factor of
/// two are alike, and so are all below [`crate::ewma::FLOOR`]; a tie stays with the first, which keeps the shares of the draw.
#[inline(always)]
#[must_use]
pub const fn second_is_better(first: Load, second: Load) -> bool {
    is_cheaper(second, first, 1)
}

/// Whether a backend far away is worth the way: `near` costs more than [`SPILL`] times as much.
#[inline(always)]
#[must_use]
pub const fn far_is_better(near: Load, far: Load) -> bool {
    is_cheaper(far, near, SPILL)
}

/// How much dearer a near backend may be before a far one is taken.
pub const SPILL: u64 = 4;

#[inline(always)]
const fn is_cheaper(a: Load, b: Load, handicap: u64) -> bool {
    let (a_latency, b_latency) = (floored(a.micros), floored(b.micros));
    let alike = a_latency <= 2 * b_latency && b_latency <= 2 * a_latency;
    let (a_latency, b_latency) = if alike { (1, 1) } else { (a_latency, b_latency) };
    // Both sides times both weights. Latency has 24 bits, connections are cut to 20, weights have 16.
    let a_cost = a_latency * occupancy(a) * (b.weight as u64 & 0xffff) * handicap;
    let b_cost = b_latency * occupancy(b) * (a.weight as u64 & 0xffff);
    a_cost < b_cost
}

#[inline(always)]
const fn occupancy(load: Load) -> u64 {
    let in_flight = if load.in_flight > 0xf_ffff { 0xf_ffff } else { load.in_flight };
    in_flight as u64 + (load.weight as u64 & 0xffff)
}

#[inline(always)]
const fn floored(micros: u32) -> u64 {
    if micros < crate::ewma::FLOOR { crate::ewma::FLOOR as u64 } else { micros as u64 }
}

/// A binary search for the slot that a point hits, one slot read at a time.
///
/// ```
/// # use mizzen_ebpf_core::select::Search;
/// # let cumulative = [3, 3, 8, 10];
/// let mut search = Search::new(4);
/// while let Some(index) = search.next() {
///     search = search.narrow(index, cumulative[index as usize], 3);
/// }
/// assert_eq!(search.found(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    low: u32,
    high: u32,
}

impl Search {
    /// Starts with all `length` slots of a run as candidates.
    #[inline(always)]
    #[must_use]
    pub const fn new(length: u32) -> Self {
        Self { low: 0, high: length.saturating_sub(1) }
    }

    /// Index (within the run) of the slot to read next; none when the search is over.
    #[inline(always)]
    #[must_use]
    pub const fn next(self) -> Option<u32> {
        if self.low < self.high { Some(self.low + (self.high - self.low) / 2) } else { None }
    }

    /// Drops the candidates that the sum of slot `index` rules out.
    #[inline(always)]
    #[must_use]
    pub const fn narrow(self, index: u32, cumulative: u32, point: u32) -> Self {
        if cumulative > point {
            Self { low: self.low, high: index }
        } else {
            Self { low: index + 1, high: self.high }
        }
    }

    /// Index (within the run) of the slot that the point hits.
    #[inline(always)]
    #[must_use]
    pub const fn found(self) -> u32 {
        self.low
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn sums(weights: &[u32]) -> Vec<u32> {
        let mut total = 0;
        weights
            .iter()
            .map(|weight| {
                total += weight;
                total
            })
            .collect()
    }

    /// The walk of `programs/choose.rs`, over a slice in place of a map.
    fn find(cumulative: &[u32], point: u32) -> u32 {
        let mut search = Search::new(u32::try_from(cumulative.len()).expect("short"));
        for _ in 0..SEARCH_STEPS {
            let Some(index) = search.next() else { break };
            search = search.narrow(index, cumulative[index as usize], point);
        }
        search.found()
    }

    #[test]
    fn a_point_hits_the_slot_whose_share_it_lies_in() {
        #[rustfmt::skip]
        let table: &[(&str, &[u32], &[u32])] = &[
            ("one",             &[1],             &[0]),
            ("equal",           &[1, 1, 1],       &[0, 1, 2]),
            ("weighted",        &[3, 1],          &[0, 0, 0, 1]),
            ("hole in front",   &[0, 0, 2],       &[2, 2]),
            ("hole inside",     &[1, 0, 0, 1],    &[0, 3]),
            ("hole at the end", &[2, 0],          &[0, 0]),
            ("only the last",   &[0, 0, 0, 0, 1], &[4]),
        ];
        for (name, weights, hits) in table {
            let cumulative = sums(weights);
            for (point, want) in (0..).zip(*hits) {
                assert_eq!(find(&cumulative, point), *want, "{name}, point {point}");
            }
        }
    }

    #[test]
    fn the_cheaper_of_two_is_taken() {
        let load = |micros, in_flight, weight| Load { micros, in_flight, weight };
        #[rustfmt::skip]
        let table = [
            ("alike",                          load(0, 0, 1),      load(0, 0, 1),      false),
            ("the first is busier",            load(0, 1, 1),      load(0, 0, 1),      true),
            ("the second is busier",           load(0, 0, 1),      load(0, 1, 1),      false),
            ("idle, whatever the weights",     load(0, 0, 1),      load(0, 0, 9),      false),
            ("busy in proportion",             load(0, 1, 1),      load(0, 9, 9),      false),
            ("less busy for its weight",       load(0, 2, 1),      load(0, 9, 9),      true),
            ("noise below the floor",          load(900, 0, 1),    load(10, 0, 1),     false),
            ("within a factor of two",         load(9_000, 0, 1),  load(5_000, 0, 1),  false),
            ("ten times slower",               load(50_000, 0, 1), load(5_000, 0, 1),  true),
            ("ten times slower, but less busy",load(5_000, 10, 1), load(50_000, 0, 1), true),
            ("ten times slower, no less busy", load(5_000, 9, 1),  load(50_000, 0, 1), false),
        ];
        for (name, first, second, want) in table {
            assert_eq!(second_is_better(first, second), want, "{name}");
        }
    }

    #[test]
    fn a_far_backend_has_to_be_much_cheaper() {
        let load = |in_flight| Load { micros: 0, in_flight, weight: 1 };
        assert!(!far_is_better(load(3), load(0)));
        assert!(far_is_better(load(4), load(0)));
        assert!(!far_is_better(load(40), load(12)));
    }

    #[test]
    fn points_cover_the_total_and_stay_below_it() {
        #[rustfmt::skip]
        let table = [
            (0,            10, 0),
            (u32::MAX,     10, 9),
            (u32::MAX / 2, 10, 4),
            (u32::MAX,     1,  0),
            (u32::MAX,     0,  0),
            (u32::MAX,     u32::MAX, u32::MAX - 1),
        ];
        for (random, total, want) in table {
            assert_eq!(point(random, total), want, "{random} below {total}");
        }
    }

    #[test]
    fn consecutive_cookies_spread_evenly() {
        let mut hits = [0_u32; 4];
        for cookie in 0..40_000 {
            hits[point(spread(cookie), 4) as usize] += 1;
        }
        for count in hits {
            assert!((9_500..10_500).contains(&count), "{hits:?}");
        }
    }

    proptest! {
        #[test]
        fn never_hits_a_slot_without_weight(
            weights in prop::collection::vec(0_u32..1000, 1..300),
            random: u32,
        ) {
            let cumulative = sums(&weights);
            let total = cumulative[cumulative.len() - 1];
            prop_assume!(total > 0);
            let point = point(random, total);
            let index = find(&cumulative, point) as usize;
            prop_assert!(weights[index] > 0);
            prop_assert!(point < cumulative[index]);
            prop_assert!(index == 0 || point >= cumulative[index - 1]);
        }

        #[test]
        fn ends_within_the_bound(length in 0_u32..=1 << 17, goes_low: u32) {
            let mut search = Search::new(length);
            for step in 0..SEARCH_STEPS {
                let Some(index) = search.next() else { break };
                prop_assert!(index < length);
                let low = goes_low >> step & 1 == 1;
                search = search.narrow(index, u32::from(low), 0);
            }
            prop_assert_eq!(search.next(), None);
            prop_assert!(length == 0 || search.found() < length);
        }
    }
}
