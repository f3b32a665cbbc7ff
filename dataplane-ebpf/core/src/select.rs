//! The choice of a backend: a draw by weight, and the cheaper of two.
//!
//! A draw picks a slot with equal chance and then, with the chance that the slot says, goes on
//! to the slot's alias. So it costs two reads at most, however many slots there are.
//!
//! ```text
//! weights 3 1    slot 0: always stays              a draw hits 0 in 1/2 + 1/2 · 1/2 = 3/4
//!                slot 1: stays in 1/2, else → 0
//! ```

use crate::steps::Part;

/// Further backends of each class that a connect looks at if neither of its two candidates may be used.
pub const LOOKS: u32 = 8;

/// The point, of 32 random bits, for the look with this number (below [`LOOKS`]).
///
/// The looks are spread evenly over the run, so of eight backends or fewer none is missed.
#[inline(always)]
#[must_use]
pub const fn look(start: u32, number: u32) -> u32 {
    start.wrapping_add(number << 29)
}

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

/// Whether `second` costs less than `first`, which was drawn first.
///
/// The cost is latency × (in flight ÷ weight + 1). A backend is drawn in proportion to its weight, so
/// dividing the whole by it as well would starve the lighter of two idle ones. Latencies within a factor of
/// two are alike, and so are all below [`crate::ewma::FLOOR`]; and the second has to cost less even with one
/// more connection, or a single one that stays open would keep all others from its backend. Everything else is a tie and
/// stays with the first, which keeps the shares of the draw.
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
    let a_weight = a.weight as u64 & 0xffff;
    let a_cost = a_latency * (occupancy(a) + a_weight) * (b.weight as u64 & 0xffff) * handicap;
    let b_cost = b_latency * occupancy(b) * a_weight;
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

/// Whether a draw stays with the slot that it hit, rather than going on to the slot's alias.
#[inline(always)]
#[must_use]
pub const fn stays(chance: u32, threshold: u32) -> bool {
    chance < threshold || threshold == u32::MAX
}

/// Position that a draw of `part` by weight hits; the next one if that is `taken`. `seat` knows threshold and alias of a
/// position.
#[inline(always)]
#[must_use]
pub fn draw(part: Part, bits: u64, taken: u32, seat: impl Fn(u32) -> Option<(u32, u32)>) -> u32 {
    let mut position = part.start.wrapping_add(point(bits as u32, part.length));
    if let Some((threshold, alias)) = seat(position)
        && !stays((bits >> 32) as u32, threshold)
    {
        position = alias;
    }
    if position != taken {
        return position;
    }
    let next = position.wrapping_add(1);
    if next.wrapping_sub(part.start) < part.length { next } else { part.start }
}

/// Works out thresholds and aliases, so that a uniform position and [`stays`] hit each slot in proportion to its weight
/// (method: Walker; Vose's order of work).
///
/// `weights` has none that is zero. `small` and `large` are working memory, as long as `weights`. The pairs are
/// threshold and position of the alias.
pub fn aliases(
    weights: &[u32],
    small: &mut [u32],
    large: &mut [u32],
    mut put: impl FnMut(usize, u32, u32),
    left: &mut [u64],
) {
    let count = weights.len() as u64;
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let (mut smalls, mut larges) = (0, 0);
    // A slot's share in units of which a full slot has `total`.
    for (index, weight) in weights.iter().enumerate() {
        left[index] = u64::from(*weight) * count;
        let (stack, length) = if left[index] < total {
            (&mut *small, &mut smalls)
        } else {
            (&mut *large, &mut larges)
        };
        stack[*length] = index as u32;
        *length += 1;
    }
    while smalls > 0 && larges > 0 {
        smalls -= 1;
        let (giver, taker) = (large[larges - 1] as usize, small[smalls] as usize);
        put(taker, fraction(left[taker], total), giver as u32);
        left[giver] -= total - left[taker];
        if left[giver] < total {
            larges -= 1;
            small[smalls] = giver as u32;
            smalls += 1;
        }
    }
    for index in small[..smalls].iter().chain(&large[..larges]) {
        put(*index as usize, u32::MAX, *index);
    }
}

/// `part` of `whole` as a fraction of 2^32; `part` is below `whole`, which is below 2^33.
fn fraction(part: u64, whole: u64) -> u32 {
    // `part` may have 48 bits, so the 32 of the fraction are worked out in two halves.
    let high = (part << 16) / whole;
    let rest = (part << 16) % whole;
    ((high << 16) | ((rest << 16) / whole)) as u32
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// How often each slot is hit, of 2^32 for each of them.
    fn shares(weights: &[u32]) -> Vec<u64> {
        let count = weights.len();
        let (mut small, mut large) = (vec![0; count], vec![0; count]);
        let (mut left, mut shares) = (vec![0; count], vec![0; count]);
        let put = |index: usize, threshold: u32, alias: u32| {
            let own = if threshold == u32::MAX { 1 << 32 } else { u64::from(threshold) };
            shares[index] += own;
            shares[alias as usize] += (1 << 32) - own;
        };
        aliases(weights, &mut small, &mut large, put, &mut left);
        shares
    }

    #[test]
    fn a_draw_that_always_stays_is_written_as_the_largest_number() {
        assert!(stays(0, 1) && !stays(1, 1) && !stays(0, 0));
        assert!(stays(u32::MAX, u32::MAX));
    }

    #[test]
    fn the_cheaper_of_two_is_taken() {
        let load = |micros, in_flight, weight| Load { micros, in_flight, weight };
        #[rustfmt::skip]
        let table = [
            ("alike",                           load(0, 0, 1),      load(0, 0, 1),      false),
            ("one more is noise",               load(0, 1, 1),      load(0, 0, 1),      false),
            ("the first is busier",             load(0, 2, 1),      load(0, 0, 1),      true),
            ("the second is busier",            load(0, 0, 1),      load(0, 2, 1),      false),
            ("idle, whatever the weights",      load(0, 0, 1),      load(0, 0, 9),      false),
            ("busy in proportion",              load(0, 2, 1),      load(0, 18, 9),     false),
            ("less busy for its weight",        load(0, 3, 1),      load(0, 9, 9),      true),
            ("noise below the floor",           load(1_900, 0, 1),  load(10, 0, 1),     false),
            ("within a factor of two",          load(9_000, 0, 1),  load(5_000, 0, 1),  false),
            ("ten times slower",                load(50_000, 0, 1), load(5_000, 0, 1),  true),
            ("ten times slower, but less busy", load(5_000, 20, 1), load(50_000, 0, 1), true),
            ("ten times slower, no less busy",  load(5_000, 19, 1), load(50_000, 0, 1), false),
        ];
        for (name, first, second, want) in table {
            assert_eq!(second_is_better(first, second), want, "{name}");
        }
    }

    #[test]
    fn a_far_backend_has_to_be_much_cheaper() {
        let load = |in_flight| Load { micros: 0, in_flight, weight: 1 };
        assert!(!far_is_better(load(7), load(0)));
        assert!(far_is_better(load(8), load(0)));
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

    #[test]
    fn looks_miss_none_of_eight_and_spread_over_more() {
        for length in 1..=2 * LOOKS {
            for start in [0, 1, u32::MAX / 3, u32::MAX] {
                let mut seen = std::collections::BTreeSet::new();
                seen.extend((0..LOOKS).map(|number| point(look(start, number), length)));
                assert_eq!(seen.len() as u32, length.min(LOOKS), "{length} from {start}");
            }
        }
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights(weights in prop::collection::vec(1_u32..=0xffff, 1..300)) {
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let all = (weights.len() as u64) << 32;
            for (share, weight) in shares(&weights).into_iter().zip(&weights) {
                let want = (u128::from(all) * u128::from(*weight) / u128::from(total)) as u64;
                prop_assert!(share.abs_diff(want) <= weights.len() as u64 + 1, "{share} for {want}");
            }
        }
    }
}
