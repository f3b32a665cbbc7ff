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

/// Spreads the bits of a socket cookie, so that neighbouring sockets draw apart.
///
/// Used where the draw has to be the same each time, as for the datagrams of one
/// unconnected socket.
#[inline(always)]
#[must_use]
pub const fn spread(cookie: u64) -> u32 {
    // The finaliser of MurmurHash3: each input bit flips each output bit in half of all cases.
    let mut x = cookie;
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (x ^ (x >> 33)) as u32
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
