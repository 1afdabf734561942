//! Numbers that many count at once: relaxed atomics, no lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// One number of many that are counted at once.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper ends of the buckets, in microseconds: from a call within the process to a long job.
const BOUNDS_US: [u64; 15] = [
    100,
    500,
    1_000,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    /// The last bucket has no upper end.
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_us: Counter,
}

/// What [`Durations`] has counted, as a histogram.
#[derive(Debug, PartialEq)]
pub(crate) struct Histogram {
    /// The upper end of each bucket in seconds, and how many are in it alone.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) sum_seconds: f64,
    pub(crate) count: u64,
}

impl Durations {
    pub(crate) fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.increment();
        }
        self.sum_us.add(us);
    }

    pub(crate) fn histogram(&self) -> Histogram {
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
        let buckets: Vec<(f64, u64)> = bounds
            .chain([f64::INFINITY])
            .zip(&self.buckets)
            .map(|(bound, bucket)| (bound, bucket.get()))
            .collect();
        Histogram {
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
            sum_seconds: self.sum_us.get() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_it_fits_into() {
        let durations = Durations::default();
        for us in [0, 100, 101, 300_000_001] {
            durations.record(Duration::from_micros(us));
        }
        durations.record(Duration::MAX / 1_000_000_000);
        let histogram = durations.histogram();
        assert_eq!(histogram.count, 5);
        assert_eq!(histogram.buckets[0], (0.0001, 2));
        assert_eq!(histogram.buckets[1], (0.0005, 1));
        assert_eq!(histogram.buckets[15].1, 2);
    }
}
