//! Shares as exact fractions, so that equal ones are equal.

use mizzen_types::resources::{Quantities, Scalar};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

const MICRO: u64 = 1_000_000;

/// How much a role is entitled to, next to its siblings; counted in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u64);

impl Weight {
    /// What a role has that nobody gave one.
    pub const DEFAULT: Self = Self(MICRO);

    /// From a double; `None` unless it is a positive number that can be counted.
    #[must_use]
    pub fn from_f64(weight: f64) -> Option<Self> {
        let micro = (weight * 1e6).round();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked"
        )]
        ((1.0..9e18).contains(&micro)).then_some(Self(micro as u64))
    }

    /// As a double.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "for people and the wire")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

/// A fraction that can be compared without rounding.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    part: u128,
    whole: u128,
}

impl Share {
    /// Nothing.
    pub const ZERO: Self = Self { part: 0, whole: 1 };

    /// The largest fraction that `held` is of any one scalar of `total`. What the
    /// cluster has none of, or what is `excluded`, does not count.
    #[must_use]
    pub fn dominant(held: &Quantities, total: &Quantities, excluded: &BTreeSet<Arc<str>>) -> Self {
        held.iter()
            .filter(|(name, _)| !excluded.contains(*name))
            .filter_map(|(name, scalar)| {
                let whole = positive(total.get(name))?;
                Some(Self { part: positive(scalar)?, whole })
            })
            .max()
            .unwrap_or(Self::ZERO)
    }

    /// Divides by a weight.
    #[must_use]
    pub fn weighted(self, weight: Weight) -> Self {
        Self { part: self.part * u128::from(MICRO), whole: self.whole * u128::from(weight.0) }
    }

    /// As a double.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "for people and the wire")]
    pub fn as_f64(self) -> f64 {
        self.part as f64 / self.whole as f64
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Share {}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.part.checked_mul(other.whole), other.part.checked_mul(self.whole)) {
            (Some(mine), Some(theirs)) => mine.cmp(&theirs),
            _ => compare_slowly(*self, *other),
        }
    }
}

/// Compares as continued fractions, which cannot overflow.
fn compare_slowly(mut a: Share, mut b: Share) -> Ordering {
    loop {
        let order = (a.part / a.whole).cmp(&(b.part / b.whole));
        if order != Ordering::Equal {
            return order;
        }
        match (a.part % a.whole, b.part % b.whole) {
            (0, 0) => return Ordering::Equal,
            (0, _) => return Ordering::Less,
            (_, 0) => return Ordering::Greater,
            // x < y is 1/y < 1/x, so the two change places.
            (rest_a, rest_b) => {
                (a, b) = (
                    Share { part: b.whole, whole: rest_b },
                    Share { part: a.whole, whole: rest_a },
                );
            }
        }
    }
}

fn positive(scalar: Scalar) -> Option<u128> {
    u128::try_from(scalar.milli()).ok().filter(|milli| *milli > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_compare_exactly() {
        let share = |part, whole| Share { part, whole };
        let big = 1_u128 << 100;
        #[rustfmt::skip]
        let table = [
            (share(1, 3),           share(2, 6),           Ordering::Equal),
            (share(1, 3),           share(1, 2),           Ordering::Less),
            (share(0, 5),           Share::ZERO,           Ordering::Equal),
            (share(big, 3 * big),   share(1, 3),           Ordering::Equal),
            (share(big + 1, 3 * big), share(big, 3 * big), Ordering::Greater),
            (share(7 * big, 2 * big), share(10 * big, 3 * big), Ordering::Greater),
        ];
        for (a, b, want) in table {
            assert_eq!(a.cmp(&b), want, "{a:?} {b:?}");
            assert_eq!(b.cmp(&a), want.reverse(), "{b:?} {a:?}");
            assert_eq!(compare_slowly(a, b), want, "{a:?} {b:?} slowly");
        }
    }

    #[test]
    fn the_dominant_one_counts() {
        let of = |text| Quantities::parse(text).unwrap();
        let none = BTreeSet::new();
        let share = Share::dominant(&of("cpus:1;mem:4;gpus:1"), &of("cpus:9;mem:18"), &none);
        assert!((share.as_f64() - 4.0 / 18.0).abs() < 1e-12);
        let without = BTreeSet::from([Arc::from("mem")]);
        let share = Share::dominant(&of("cpus:1;mem:4"), &of("cpus:9;mem:18"), &without);
        assert_eq!(share, Share { part: 1, whole: 9 });
        assert_eq!(share.weighted(Weight::from_f64(2.0).unwrap()), Share { part: 1, whole: 18 });
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Weight::from_f64(bad), None);
        }
    }
}
