//! Medians, and ratios of what was measured in pairs.

/// What is shown of a list of figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// Of a list that is not empty.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self { median: median(&sorted)?, min: *sorted.first()?, max: *sorted.last()? })
    }
}

/// The median of paired ratios, and where it lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// Of each value to the base that was measured in the same round.
    ///
    /// The interval is between two order statistics, so nothing is assumed about
    /// how the ratios are spread: a disturbed round counts once, however disturbed
    /// it was. With fewer than six rounds no such interval has 95 %, and it is all
    /// of them.
    pub(crate) fn paired(values: &[f64], bases: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = values.iter().zip(bases).map(|(value, base)| value / base).collect();
        let sorted = sorted(&ratios);
        let cut = cut_at_each_end(sorted.len());
        let (low, high) = (*sorted.get(cut)?, *sorted.get(sorted.len() - 1 - cut)?);
        Some(Self { median: median(&sorted)?, low, high })
    }
}

/// The largest ratio that is left when the highest twentieth of them is not looked at.
pub(crate) fn usual_high(values: &[f64], bases: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = values.iter().zip(bases).map(|(value, base)| value / base).collect();
    let sorted = sorted(&ratios);
    sorted.get(sorted.len().checked_sub(1)? * 95 / 100).copied()
}

/// Of `count` sorted values, how many at each end can be left out so that the rest
/// encloses the median with a probability of at least 95 %.
fn cut_at_each_end(count: usize) -> usize {
    // How many values are below the median has a binomial distribution of 1/2.
    let mut probability = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut tail = probability;
    let mut cut = 0;
    while cut < count / 2 && 2.0 * tail <= 0.05 {
        cut += 1;
        probability *= (count + 1 - cut) as f64 / cut as f64;
        tail += probability;
    }
    cut.saturating_sub(1)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(sorted.get(middle.checked_sub(1)?)?.midpoint(upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        assert_eq!(Summary::of(&[]), None);
        let three = Summary { median: 2.0, min: 1.0, max: 9.0 };
        assert_eq!(Summary::of(&[9.0, 1.0, 2.0]), Some(three));
        let four = Summary { median: 2.5, min: 1.0, max: 9.0 };
        assert_eq!(Summary::of(&[9.0, 3.0, 1.0, 2.0]), Some(four));
    }

    /// Against the table of the sign test at 5 %, two-sided.
    #[test]
    fn ends_that_can_be_left_out() {
        #[rustfmt::skip]
        let table = [
            (0, 0), (1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (10, 1), (12, 2), (15, 3),
            (20, 5), (25, 7), (30, 9), (40, 13), (60, 21),
        ];
        for (count, cut) in table {
            assert_eq!(cut_at_each_end(count), cut, "{count} values");
        }
    }

    #[test]
    fn an_outlier_is_not_usual() {
        let mut values = vec![1.0; 20];
        values[3] = 9.0;
        values[5] = 2.0;
        assert_eq!(usual_high(&values, &[1.0; 20]), Some(2.0));
        assert_eq!(usual_high(&[], &[]), None);
    }

    #[test]
    fn a_pair_shares_its_disturbance() {
        // Every round is slower than the one before, and one was hit alone.
        let bases: Vec<f64> = (1..=12).map(f64::from).collect();
        let mut values: Vec<f64> = bases.iter().map(|base| base * 1.05).collect();
        values[4] = 1000.0;
        let ratio = Ratio::paired(&values, &bases).unwrap();
        for figure in [ratio.median, ratio.low, ratio.high] {
            assert!((figure - 1.05).abs() < 1e-9, "{ratio:?}");
        }
        assert_eq!(Ratio::paired(&[], &[]), None);
    }
}
