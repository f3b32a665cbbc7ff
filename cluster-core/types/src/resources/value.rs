//! Amounts: fixed-point scalars, ranges of numbers, sets of names.

use super::ResourceError;
use std::collections::BTreeSet;
use std::fmt;

/// A number with three decimals, kept as thousandths, so that sums are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Scalar(i64);

impl Scalar {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From thousandths.
    #[must_use]
    pub const fn from_milli(milli: i64) -> Self {
        Self(milli)
    }

    /// From a whole number, the largest one that fits if `units` does not.
    #[must_use]
    pub fn from_units(units: u64) -> Self {
        Self(i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(1000))
    }

    /// From a double, rounded half away from zero; `None` if it is no number or
    /// too large to be counted in thousandths.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        let milli = (value * 1000.0).round();
        // 2^63 itself does not fit.
        #[allow(clippy::cast_possible_truncation, reason = "the range was checked")]
        (milli.abs() < 9_223_372_036_854_775_808.0).then_some(Self(milli as i64))
    }

    /// In thousandths.
    #[must_use]
    pub const fn milli(self) -> i64 {
        self.0
    }

    /// As a double, for the wire and for people.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "the wire has doubles")]
    pub fn as_f64(self) -> f64 {
        (self.0 / 1000) as f64 + (self.0 % 1000) as f64 / 1000.0
    }

    /// Whether more than nothing is there.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// The sum, at most what can be counted.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, which may be negative.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (units, milli) = (self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        if milli == 0 {
            return write!(f, "{sign}{units}");
        }
        let decimals = format!("{milli:03}");
        write!(f, "{sign}{units}.{}", decimals.trim_end_matches('0'))
    }
}

/// Whole numbers as inclusive ranges, sorted, neither overlapping nor adjacent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Merges ranges that overlap or touch; backward ones are empty.
    pub fn new(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|(begin, end)| begin <= end).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (begin, end) in ranges {
            match merged.last_mut() {
                Some(last) if begin <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((begin, end)),
            }
        }
        Self(merged)
    }

    /// The ranges, sorted, both ends included.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.iter().fold(0, |sum, (begin, end)| sum.saturating_add(end - begin).saturating_add(1))
    }

    /// Whether all of `other` is here.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.iter().all(|(begin, end)| self.iter().any(|(b, e)| b <= begin && end <= e))
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::new(self.iter().chain(other.iter()))
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = Vec::with_capacity(self.0.len());
        for (begin, end) in self.iter() {
            let mut next = Some(begin);
            for (cut, until) in other.iter() {
                let Some(from) = next.filter(|from| cut <= end && until >= *from) else { continue };
                if cut > from {
                    left.push((from, cut - 1));
                }
                next = until.checked_add(1).filter(|next| *next <= end);
            }
            left.extend(next.map(|from| (from, end)));
        }
        Self(left)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.iter().map(|(begin, end)| format!("{begin}-{end}")).collect();
        write!(f, "[{}]", parts.join(", "))
    }
}

/// How much of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// A number: `cpus`, `gpus`, `mem` and `disk` in MB.
    Scalar(Scalar),
    /// Numbers: `ports`.
    Ranges(Ranges),
    /// Names.
    Set(BTreeSet<String>),
}

impl Value {
    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(scalar) => !scalar.is_positive(),
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(items) => items.is_empty(),
        }
    }

    /// The scalar itself, or the number of members.
    #[must_use]
    pub fn quantity(&self) -> Scalar {
        match self {
            Self::Scalar(scalar) => *scalar,
            Self::Ranges(ranges) => Scalar::from_units(ranges.count()),
            Self::Set(items) => Scalar::from_units(items.len() as u64),
        }
    }

    /// Whether both are of one kind.
    #[must_use]
    pub fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Whether all of `other` is here; never across kinds.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a >= b,
            (Self::Ranges(a), Self::Ranges(b)) => a.contains(b),
            (Self::Set(a), Self::Set(b)) => a.is_superset(b),
            _ => false,
        }
    }

    /// Adds `other`, which must be of the same kind to have any effect.
    pub fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => *a = a.plus(*b),
            (Self::Ranges(a), Self::Ranges(b)) => *a = a.union(b),
            (Self::Set(a), Self::Set(b)) => a.extend(b.iter().cloned()),
            _ => {}
        }
    }

    /// Takes `other` away, which must be of the same kind to have any effect.
    /// A scalar may become negative.
    pub fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => *a = a.minus(*b),
            (Self::Ranges(a), Self::Ranges(b)) => *a = a.difference(b),
            (Self::Set(a), Self::Set(b)) => a.retain(|item| !b.contains(item)),
            _ => {}
        }
    }

    /// Whether any part of `other` is here too; scalars have no parts.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ranges(a), Self::Ranges(b)) => {
                a.iter().any(|(b0, e0)| b.iter().any(|(b1, e1)| b0 <= e1 && b1 <= e0))
            }
            (Self::Set(a), Self::Set(b)) => !a.is_disjoint(b),
            _ => false,
        }
    }

    /// Reads `4.5`, `[1-2,5-7]` or `{a,b}`; white space does not count. `Ok(None)`
    /// is some other text.
    ///
    /// # Errors
    ///
    /// [`ResourceError`] for brackets that do not match, bad ranges, items twice,
    /// and numbers too small or too large to be counted.
    pub fn parse(text: &str) -> Result<Option<Self>, ResourceError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let bad = || ResourceError::Value(text.clone());
        let inner = |open, close| text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
        if let Some(inner) = inner('[', ']') {
            let ranges: Option<Vec<_>> = inner.split(',').map(parse_range).collect();
            return checked_ranges(ranges.ok_or_else(bad)?).map(|r| Some(Self::Ranges(r)));
        }
        if let Some(inner) = inner('{', '}') {
            let items = inner.split(',').filter(|item| !item.is_empty()).map(str::to_owned);
            return checked_set(items).map(|set| Some(Self::Set(set)));
        }
        if text.contains(['[', ']', '{', '}']) {
            return Err(bad());
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_subnormal() => Err(bad()),
            Ok(number) if number.is_finite() && number >= 0.0 => {
                Scalar::from_f64(number).map(|s| Some(Self::Scalar(s))).ok_or_else(bad)
            }
            _ => Ok(None),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => scalar.fmt(f),
            Self::Ranges(ranges) => ranges.fmt(f),
            Self::Set(items) => {
                let items: Vec<_> = items.iter().map(String::as_str).collect();
                write!(f, "{{{}}}", items.join(", "))
            }
        }
    }
}

/// Ranges as a client wrote them.
///
/// # Errors
///
/// [`ResourceError::RangeBackwards`] and [`ResourceError::RangesOverlap`].
pub fn checked_ranges(mut ranges: Vec<(u64, u64)>) -> Result<Ranges, ResourceError> {
    if let Some((begin, end)) = ranges.iter().find(|(begin, end)| begin > end) {
        return Err(ResourceError::RangeBackwards { begin: *begin, end: *end });
    }
    ranges.sort_unstable();
    if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
        return Err(ResourceError::RangesOverlap { first: pair[0], second: pair[1] });
    }
    Ok(Ranges::new(ranges))
}

/// A set as a client wrote it.
///
/// # Errors
///
/// [`ResourceError::ItemTwice`].
pub fn checked_set(
    items: impl IntoIterator<Item = String>,
) -> Result<BTreeSet<String>, ResourceError> {
    let mut set = BTreeSet::new();
    for item in items {
        if set.contains(&item) {
            return Err(ResourceError::ItemTwice(item));
        }
        set.insert(item);
    }
    Ok(set)
}

fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (begin, end) = text.split_once('-')?;
    Some((begin.parse().ok()?, end.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_round_half_away_from_zero() {
        #[rustfmt::skip]
        let table: &[(f64, Option<i64>)] = &[
            (1.0004, Some(1000)), (0.0005, Some(1)), (-0.0005, Some(-1)), (45.55, Some(45550)), (0.1, Some(100)),
            (f64::NAN, None), (f64::INFINITY, None), (1e300, None), (9.3e15, None),
        ];
        for (value, milli) in table {
            assert_eq!(Scalar::from_f64(*value).map(Scalar::milli), *milli, "{value}");
        }
        for (milli, text) in
            [(1234, "1.234"), (1500, "1.5"), (2000, "2"), (50, "0.05"), (-1, "-0.001")]
        {
            assert_eq!(Scalar::from_milli(milli).to_string(), text);
        }
    }

    #[test]
    fn ranges_merge_and_split() {
        let ranges = |list: &[(u64, u64)]| Ranges::new(list.iter().copied());
        #[rustfmt::skip]
        let minus: &[[&[(u64, u64)]; 3]] = &[
            [&[(1, 10)],         &[(3, 5)],           &[(1, 2), (6, 10)]],
            [&[(1, 10)],         &[(1, 10)],          &[]],
            [&[(1, 10)],         &[(0, 4), (9, 20)],  &[(5, 8)]],
            [&[(1, 3), (5, 9)],  &[(3, 5)],           &[(1, 2), (6, 9)]],
            [&[(0, u64::MAX)],   &[(u64::MAX, u64::MAX)], &[(0, u64::MAX - 1)]],
            [&[(1, 2)],          &[(7, 9)],           &[(1, 2)]],
        ];
        for [a, b, want] in minus {
            assert_eq!(ranges(a).difference(&ranges(b)), ranges(want), "{a:?} - {b:?}");
        }
        assert_eq!(ranges(&[(4, 6), (1, 3)]).to_string(), "[1-6]");
        assert!(!ranges(&[(1, 3), (5, 7)]).contains(&ranges(&[(2, 6)])));
        assert_eq!(ranges(&[(2, 2), (4, 5)]).count(), 3);
    }

    #[test]
    fn values_from_text() {
        #[rustfmt::skip]
        let table: &[(&str, Result<Option<&str>, ()>)] = &[
            ("45.55",        Ok(Some("45.55"))),
            ("[1-2, 3-5]",   Ok(Some("[1-5]"))),
            ("{b, a}",       Ok(Some("{a, b}"))),
            ("rack1",        Ok(None)),
            ("-1",           Ok(None)),
            ("nan",          Ok(None)),
            ("inf",          Ok(None)),
            ("1e-310",       Err(())),
            ("[1-2",         Err(())),
            ("[5-1]",        Err(())),
            ("[1-5,5-6]",    Err(())),
            ("{a,a}",        Err(())),
        ];
        for (text, want) in table {
            let got = Value::parse(text).map(|v| v.map(|v| v.to_string())).map_err(|_| ());
            assert_eq!(got, want.map(|v| v.map(str::to_owned)), "{text}");
        }
    }
}
