//! Whether a failed attempt is followed by another, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which errors are tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// Any error, but for those that a repetition cannot mend (wrong arguments, say).
    #[default]
    Any,
    /// No error; a function can still ask to be run again.
    Never,
    /// Errors of these kinds: the word before the colon, such as `ConnectionError`.
    Only(Vec<String>),
}

/// How often and how soon a failed job is run again.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The most repetitions: a job runs at most once more than this. Repetitions that the
    /// function asked for count too.
    pub limit: u32,
    /// The wait before the first repetition; doubled before each further one.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// Shorten each wait by a random part of up to half, so that jobs that failed together do
    /// not come back together.
    pub jitter: bool,
    /// Which errors are tried again.
    pub on: RetryOn,
}

impl Default for RetryPolicy {
    /// 3 repetitions after about 5, 10 and 20 seconds, for any error.
    fn default() -> Self {
        Self {
            limit: 3,
            base: Duration::from_secs(5),
            cap: Duration::from_secs(3_600),
            jitter: true,
            on: RetryOn::Any,
        }
    }
}

impl RetryPolicy {
    /// A policy that never repeats.
    pub fn none() -> Self {
        Self {
            limit: 0,
            ..Self::default()
        }
    }

    /// Whether an error of this kind is tried again at all.
    pub fn retries(&self, kind: &str) -> bool {
        match &self.on {
            RetryOn::Any => true,
            RetryOn::Never => false,
            RetryOn::Only(kinds) => kinds.iter().any(|listed| listed == kind),
        }
    }

    /// The wait after the attempt with this 1-based number.
    pub fn delay(&self, attempt: u32) -> Duration {
        let longest = self.longest_delay(attempt);
        if self.jitter {
            longest.mul_f64(rand::random_range(0.5..=1.0))
        } else {
            longest
        }
    }

    fn longest_delay(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(u32::BITS - 1);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let policy = RetryPolicy {
            jitter: false,
            ..RetryPolicy::default()
        };
        let waits: Vec<u64> = [1, 2, 3, 4, 10, 11, 32, 33, u32::MAX]
            .map(|n| policy.delay(n).as_secs())
            .into();
        assert_eq!(waits, [5, 10, 20, 40, 2_560, 3_600, 3_600, 3_600, 3_600]);
    }

    #[test]
    fn jitter_shortens_by_up_to_half() {
        let policy = RetryPolicy::default();
        for _ in 0..1_000 {
            let wait = policy.delay(2);
            assert!(
                (Duration::from_secs(5)..=Duration::from_secs(10)).contains(&wait),
                "{wait:?}"
            );
        }
    }

    #[test]
    fn the_kinds_that_are_tried_again_can_be_listed() {
        let only = |kinds: &[&str]| RetryPolicy {
            on: RetryOn::Only(kinds.iter().map(|kind| (*kind).to_owned()).collect()),
            ..RetryPolicy::default()
        };
        assert!(only(&["ConnectionError"]).retries("ConnectionError"));
        assert!(!only(&["ConnectionError"]).retries("ValueError"));
        assert!(
            !RetryPolicy {
                on: RetryOn::Never,
                ..RetryPolicy::default()
            }
            .retries("x")
        );
        assert!(RetryPolicy::default().retries("x"));
    }
}
