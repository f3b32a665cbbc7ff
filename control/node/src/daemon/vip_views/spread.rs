//! How latencies of a histogram are spread.
//!
//! Bucket `b` of the kernel ends at 2^((b - 40) / 2) seconds, the last one nowhere. Within a bucket
//! samples are taken to be spread evenly on a logarithmic scale.

use mizzen_ebpf_core::bucket::{BUCKETS, FIRST_INDEX};
use mizzen_kernel::vips::Latencies;

/// Upper bound of a bucket in seconds; that of the last one is only what it would be if it had any.
pub(crate) fn upper(bucket: u32) -> f64 {
    let halves = i64::from(bucket) + i64::from(FIRST_INDEX);
    let whole = 2.0_f64.powi(i32::try_from(halves.div_euclid(2)).unwrap_or(0));
    if halves.rem_euclid(2) == 0 { whole } else { whole * std::f64::consts::SQRT_2 }
}

/// Number of samples.
pub(crate) fn samples(latencies: &Latencies) -> u64 {
    latencies.buckets.iter().sum()
}

/// Arithmetic mean in seconds.
pub(crate) fn mean(latencies: &Latencies) -> Option<f64> {
    match samples(latencies) {
        0 => None,
        count => Some(latencies.sum as f64 / 1e6 / count as f64),
    }
}

/// The latency in seconds that the share `quantile` of all samples does not exceed.
pub(crate) fn quantile(latencies: &Latencies, quantile: f64) -> Option<f64> {
    let rank = quantile.clamp(0.0, 1.0) * samples(latencies) as f64;
    let mut below = 0.0;
    for (bucket, count) in filled(latencies) {
        let count = count as f64;
        if below + count >= rank {
            let within = ((rank - below) / count).clamp(0.0, 1.0);
            return Some(lower(bucket) * (upper(bucket) / lower(bucket)).powf(within));
        }
        below += count;
    }
    None
}

/// Bounds of the shortest and the longest sample in seconds.
pub(crate) fn range(latencies: &Latencies) -> Option<(f64, f64)> {
    let (first, _) = filled(latencies).next()?;
    let (last, _) = filled(latencies).last()?;
    Some((lower(first), upper(last)))
}

/// The buckets that are not empty.
pub(crate) fn filled(latencies: &Latencies) -> impl Iterator<Item = (u32, u64)> {
    let buckets = (0..BUCKETS).zip(latencies.buckets.iter().copied());
    buckets.filter(|(_, count)| *count != 0)
}

/// The first bucket begins at zero; half of its end is as good.
fn lower(bucket: u32) -> f64 {
    if bucket == 0 { upper(0) / 2.0 } else { upper(bucket - 1) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use mizzen_ebpf_core::bucket::{bound, bucket};

    /// A histogram of samples in microseconds.
    pub(crate) fn of(micros: impl IntoIterator<Item = u32>) -> Latencies {
        let mut latencies = Latencies { buckets: vec![0; BUCKETS as usize], sum: 0 };
        for sample in micros {
            latencies.buckets[bucket(sample) as usize] += 1;
            latencies.sum += u64::from(sample);
        }
        latencies
    }

    #[test]
    fn bounds_are_those_of_the_kernel() {
        for bucket in 0..BUCKETS - 1 {
            let kernel = bound(bucket).unwrap() as f64 / 2_f64.powi(36);
            assert!((upper(bucket) / kernel - 1.0).abs() < 1e-5, "{bucket}");
        }
        assert_eq!((upper(40), upper(38), upper(42)), (1.0, 0.5, 2.0));
    }

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_sample() {
        let latencies = of((1..=1_000).map(|n| n * 100));
        for (share, want) in [(0.5, 0.05), (0.9, 0.09), (0.99, 0.099)] {
            let found = quantile(&latencies, share).unwrap();
            assert!((found / want).log2().abs() <= 0.5, "{share}: {found}");
        }
        assert!((mean(&latencies).unwrap() - 0.050_05).abs() < 1e-9);
        let (least, most) = range(&latencies).unwrap();
        assert!((0.00005..=0.0001).contains(&least) && (0.1..0.15).contains(&most));
    }

    #[test]
    fn nothing_has_no_spread() {
        let none = of([]);
        assert_eq!((quantile(&none, 0.5), mean(&none), range(&none)), (None, None, None));
        assert_eq!(quantile(&Latencies::default(), 0.5), None);
    }
}
