//! Bounds of the histograms and the distributions over them.
//!
//! Observations are whole numbers (nanoseconds, bytes), so sums are exact in whatever
//! order they come: a call and a summary of calls end in the same figures.

/// Most buckets that a histogram has, `+Inf` included.
pub const BUCKETS: usize = 20;

/// Buckets of [`DURATION`], `+Inf` included.
pub const DURATION_BUCKETS: usize = 15;

/// Buckets of [`SIZE`], `+Inf` included.
pub const SIZE_BUCKETS: usize = 9;

/// Upper bounds (inclusive) of a histogram's buckets, `+Inf` implied.
#[derive(Debug)]
pub struct Bounds {
    /// In the unit of observations.
    pub exact: &'static [u64],
    /// The same in the unit that is exposed.
    pub exposed: &'static [f64],
    /// Observations per exposed unit.
    pub per_unit: f64,
}

const SECOND: f64 = 1e9;

/// Request durations: the bounds that OpenTelemetry's HTTP convention advises.
pub static DURATION: Bounds = Bounds {
    exact: &[
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        75_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        750_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        7_500_000_000,
        10_000_000_000,
    ],
    exposed: &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0],
    per_unit: SECOND,
};

/// The same for the deprecated RPC metrics, which have milliseconds and no bounds advised.
pub static MILLISECONDS: Bounds = Bounds {
    exact: DURATION.exact,
    exposed: &[
        5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1_000.0, 2_500.0, 5_000.0,
        7_500.0, 10_000.0,
    ],
    per_unit: 1e6,
};

/// Body sizes: none, then factors of eight from 128 B to 32 MiB. No convention advises
/// bounds; eight buckets tell an empty body, a message, a page, an asset and a download apart.
pub static SIZE: Bounds = Bounds {
    exact: &[0, 128, 1_024, 8_192, 65_536, 524_288, 4_194_304, 33_554_432],
    exposed: &[0.0, 128.0, 1_024.0, 8_192.0, 65_536.0, 524_288.0, 4_194_304.0, 33_554_432.0],
    per_unit: 1.0,
};

/// Istio's durations, in whole milliseconds: Envoy's default bounds.
pub static ISTIO_MILLISECONDS: Bounds = Bounds {
    exact: &[
        500_000,
        1_000_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
        30_000_000_000,
        60_000_000_000,
        300_000_000_000,
        600_000_000_000,
        1_800_000_000_000,
        3_600_000_000_000,
    ],
    exposed: ISTIO,
    per_unit: 1e6,
};

/// Istio's sizes: the same bounds.
pub static ISTIO_BYTES: Bounds = Bounds {
    exact: &[
        0, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000,
        600_000, 1_800_000, 3_600_000,
    ],
    exposed: ISTIO,
    per_unit: 1.0,
};

const ISTIO: &[f64] = &[
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Connect and round-trip times: from a loopback's to beyond the first two retransmitted SYN.
pub static LATENCY: Bounds = Bounds {
    exact: &[
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        1_000_000_000,
        3_000_000_000,
    ],
    exposed: &[
        0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
        1.0, 3.0,
    ],
    per_unit: SECOND,
};

impl Bounds {
    /// The bucket that an observation falls into.
    #[inline]
    #[must_use]
    pub fn bucket(&self, observation: u64) -> usize {
        // Most answers are fast and most requests have no body: one branch, nearly always taken.
        if self.exact.first().is_some_and(|first| observation <= *first) {
            return 0;
        }
        // Counting beats searching: no branch depends on the observation.
        self.exact.iter().map(|bound| usize::from(observation > *bound)).sum()
    }

    /// How many buckets there are, `+Inf` included.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.exact.len() + 1
    }
}

/// Observations over `N` buckets, added up elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally<const N: usize> {
    /// Observations per bucket, not cumulative.
    pub buckets: [u64; N],
    /// Their sum.
    pub sum: u64,
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self { buckets: [0; N], sum: 0 }
    }
}

impl<const N: usize> Tally<N> {
    /// Adds one observation.
    pub fn add(&mut self, bounds: &Bounds, observation: u64) {
        if let Some(bucket) = self.buckets.get_mut(bounds.bucket(observation)) {
            *bucket += 1;
        }
        self.sum = self.sum.saturating_add(observation);
    }

    /// How many observations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// A histogram's state.
#[derive(Clone, Debug)]
pub(super) struct Distribution {
    bounds: &'static Bounds,
    buckets: [u64; BUCKETS],
    // 64 bits of nanoseconds last two days at 100,000 calls of one second each second.
    sum: u128,
}

impl Distribution {
    pub(super) fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, buckets: [0; BUCKETS], sum: 0 }
    }

    #[inline]
    pub(super) fn observe(&mut self, observation: u64, weight: u64) {
        if let Some(count) = self.buckets.get_mut(self.bounds.bucket(observation)) {
            *count += weight;
        }
        self.sum += u128::from(observation) * u128::from(weight);
    }

    pub(super) fn merge(&mut self, buckets: &[u64], sum: u64) {
        for (mine, theirs) in self.buckets.iter_mut().zip(buckets) {
            *mine += theirs;
        }
        self.sum += u128::from(sum);
    }

    pub(super) fn buckets(&self) -> &[u64] {
        &self.buckets[..self.bounds.buckets()]
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum is exposed as a float")]
    pub(super) fn sum(&self) -> f64 {
        self.sum as f64 / self.bounds.per_unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
    fn exact_and_exposed_bounds_agree_and_grow() {
        let all = [&DURATION, &MILLISECONDS, &SIZE, &LATENCY, &ISTIO_MILLISECONDS, &ISTIO_BYTES];
        for bounds in all {
            assert!(bounds.buckets() <= BUCKETS);
            assert!(bounds.exact.is_sorted_by(|a, b| a < b));
            // No observation lies between a bound that is no whole number and the one below.
            let scaled: Vec<_> =
                bounds.exposed.iter().map(|bound| (bound * bounds.per_unit).floor()).collect();
            let exact: Vec<_> = bounds.exact.iter().map(|bound| *bound as f64).collect();
            assert_eq!(scaled, exact);
        }
        assert_eq!(DURATION.buckets(), DURATION_BUCKETS);
        assert_eq!(SIZE.buckets(), SIZE_BUCKETS);
    }

    /// Whoever adds up buckets of both, or takes quantiles over them, needs the same bounds:
    /// `HistogramSettingsImpl::defaultBuckets` of Envoy (`source/common/stats/histogram_impl.cc`).
    #[test]
    fn istios_bounds_are_envoys() {
        const ENVOY: &str = "0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, \
                             30000, 60000, 300000, 600000, 1800000, 3600000";
        let envoys: Vec<f64> =
            ENVOY.split(',').map(|bound| bound.trim().parse().expect("a number")).collect();
        assert_eq!(envoys.len(), 19);
        assert_eq!(ISTIO_MILLISECONDS.exposed, envoys);
        assert_eq!(ISTIO_BYTES.exposed, envoys);
        // Whole milliseconds and bytes: 0 is below a half, 1 is not.
        for (bounds, unit) in [(&ISTIO_MILLISECONDS, 1_000_000), (&ISTIO_BYTES, 1)] {
            let buckets = [0, 1, 2, 5, 6, 3_600_000, 3_600_001].map(|n| bounds.bucket(n * unit));
            assert_eq!(buckets, [0, 1, 2, 2, 3, 18, 19]);
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        assert_eq!(DURATION.bucket(0), 0);
        assert_eq!(DURATION.bucket(5_000_000), 0);
        assert_eq!(DURATION.bucket(5_000_001), 1);
        assert_eq!(DURATION.bucket(10_000_000_000), 13);
        assert_eq!(DURATION.bucket(10_000_000_001), 14);
        assert_eq!(DURATION.bucket(u64::MAX), 14);
        assert_eq!(SIZE.bucket(0), 0);
        assert_eq!(SIZE.bucket(1), 1);
    }

    #[test]
    fn sums_do_not_wrap() {
        let mut distribution = Distribution::new(&DURATION);
        distribution.observe(u64::MAX, 1);
        distribution.observe(u64::MAX, 1);
        assert_eq!(distribution.buckets()[14], 2);
        assert!(distribution.sum() > 3.6e10);
    }
}
