//! The message headers that mean something to a job.

use std::time::Duration;

/// Header names.
pub mod header {
    /// Integer: how many retries were made before this attempt.
    pub const RETRY_COUNT: &str = "x-retry-count";
    /// The string `true`: the message was delayed when it was sent, so that its `defer_until`
    /// has been kept.
    pub const CLIENT_DELAYED: &str = "x-client-delayed";
    /// Integer: how many retries this job may have, in place of its function's limit.
    pub const MAX_RETRIES: &str = "x-warren-max-retries";
    /// Integer: for how many milliseconds the job's result is kept.
    pub const RESULT_TTL_MS: &str = "x-warren-result-ttl-ms";
    /// A JSON object, [`ReplayedFrom`](crate::job::ReplayedFrom): the dead letter that this
    /// message was before it was sent again.
    pub const REPLAYED_FROM: &str = "x-warren-replayed-from";
    /// Integer, set by quorum queues: how often the message was handed over and not answered.
    pub const DELIVERY_COUNT: &str = "x-delivery-count";
    /// Integer, set by workers whose store forgets, on queues that do not count: the same.
    pub const HAND_OVERS: &str = "x-warren-hand-overs";
    /// Dead letters: the error's type.
    pub const ERROR_TYPE: &str = "x-error-type";
    /// Dead letters: the error's text, cut to a safe length.
    pub const ERROR_MESSAGE: &str = "x-error-message";
    /// Dead letters: `retriable` or `non_retriable`.
    pub const ERROR_CATEGORY: &str = "x-error-category";
    /// Dead letters: when the job failed, ISO 8601 in UTC.
    pub const FAILED_AT: &str = "x-failed-at";
    /// Dead letters: the job's id, `unknown` or `parse_failed`.
    pub const JOB_ID: &str = "x-job-id";

    /// Whether a header tells Warren something, or those who look at a dead letter. It is among
    /// the last to be left out where not all fit.
    pub fn is_known(name: &str) -> bool {
        name.starts_with("x-warren-") || (is_of_a_delivery(name) && name != "x-death")
    }

    /// Whether a header is about one delivery or one failure, so that a job that is sent again
    /// as new must not keep it. The others are its producer's.
    pub fn is_of_a_delivery(name: &str) -> bool {
        const NAMES: [&str; 11] = [
            RETRY_COUNT,
            CLIENT_DELAYED,
            DELIVERY_COUNT,
            HAND_OVERS,
            ERROR_TYPE,
            ERROR_MESSAGE,
            ERROR_CATEGORY,
            FAILED_AT,
            JOB_ID,
            "x-delay",
            "x-acquired-count",
        ];
        const PREFIXES: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];
        NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// A header's value, as far as jobs are concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeaderRef<'a> {
    /// An integer.
    Int(i64),
    /// A string.
    Text(&'a str),
    /// Anything else; means nothing here.
    Other,
}

/// What a message's headers say about its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobHeaders {
    /// Retries made so far; 0 when absent or not a number.
    pub retry_count: u32,
    /// The message was delayed when it was sent.
    pub client_delayed: bool,
    /// The retries that this job may have.
    pub max_retries: Option<u32>,
    /// How long the result is kept.
    pub result_ttl: Option<Duration>,
    /// How often the broker handed the message over in vain; quorum queues only.
    pub delivery_count: u32,
    /// The same where workers count it; not this time, if it was in vain again.
    pub hand_overs: u32,
}

impl JobHeaders {
    /// Reads the headers that `get` returns by name. A header that cannot be read counts as
    /// absent: no header can make a job unreadable.
    pub fn read<'a>(get: impl Fn(&str) -> Option<HeaderRef<'a>>) -> Self {
        let number = |name| get(name).and_then(HeaderRef::as_number);
        let count = |name| number(name).map(|number| saturate(number.max(0)));
        Self {
            retry_count: count(header::RETRY_COUNT).unwrap_or(0),
            client_delayed: get(header::CLIENT_DELAYED) == Some(HeaderRef::Text("true")),
            max_retries: count(header::MAX_RETRIES),
            result_ttl: number(header::RESULT_TTL_MS)
                .and_then(|ms| u64::try_from(ms).ok())
                .filter(|ms| *ms > 0)
                .map(Duration::from_millis),
            delivery_count: count(header::DELIVERY_COUNT).unwrap_or(0),
            hand_overs: count(header::HAND_OVERS).unwrap_or(0),
        }
    }
}

impl HeaderRef<'_> {
    /// The number that it is, or that its text spells.
    fn as_number(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Other => None,
        }
    }
}

/// The 1-based attempt of a message whose body says `job_try`. Producers and retries keep
/// `job_try == x-retry-count + 1`; of two that differ the higher one counts, so that no limit
/// can be escaped by leaving one of them out.
pub fn attempt(job_try: i64, headers: &JobHeaders) -> u32 {
    saturate(job_try.max(1)).max(headers.retry_count.saturating_add(1))
}

/// A non-negative number as `u32`, the largest one when it does not fit.
fn saturate(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(name: &str, value: HeaderRef<'static>) -> JobHeaders {
        JobHeaders::read(|asked| (asked == name).then_some(value))
    }

    #[test]
    fn a_retry_count_may_be_a_number_in_any_shape() {
        assert_eq!(read(header::RETRY_COUNT, HeaderRef::Int(2)).retry_count, 2);
        assert_eq!(
            read(header::RETRY_COUNT, HeaderRef::Text(" 2 ")).retry_count,
            2
        );
        for odd in [HeaderRef::Text("two"), HeaderRef::Other, HeaderRef::Int(-1)] {
            assert_eq!(read(header::RETRY_COUNT, odd).retry_count, 0);
        }
        assert_eq!(
            read(header::RETRY_COUNT, HeaderRef::Int(i64::MAX)).retry_count,
            u32::MAX
        );
    }

    #[test]
    fn only_the_exact_string_means_delayed() {
        assert!(read(header::CLIENT_DELAYED, HeaderRef::Text("true")).client_delayed);
        for other in [HeaderRef::Text("True"), HeaderRef::Other, HeaderRef::Int(1)] {
            assert!(!read(header::CLIENT_DELAYED, other).client_delayed);
        }
    }

    #[test]
    fn the_higher_of_two_counts_is_the_attempt() {
        let headers = |retry_count| JobHeaders {
            retry_count,
            ..JobHeaders::default()
        };
        assert_eq!(attempt(1, &headers(0)), 1);
        assert_eq!(attempt(3, &headers(0)), 3);
        assert_eq!(attempt(1, &headers(2)), 3);
        assert_eq!(attempt(0, &headers(0)), 1);
        assert_eq!(attempt(i64::MIN, &headers(u32::MAX)), u32::MAX);
        assert_eq!(attempt(i64::MAX, &headers(0)), u32::MAX);
    }

    #[test]
    fn a_time_to_live_that_is_none_is_ignored() {
        let ttl = |value| read(header::RESULT_TTL_MS, value).result_ttl;
        assert_eq!(ttl(HeaderRef::Int(500)), Some(Duration::from_millis(500)));
        assert_eq!(ttl(HeaderRef::Int(0)), None);
        assert_eq!(ttl(HeaderRef::Int(-5)), None);
    }

    proptest! {
        #[test]
        fn no_headers_make_a_job_unreadable_or_an_attempt_less_than_the_first(
            job_try: i64,
            number in prop::option::of(any::<i64>()),
            text in "\\PC{0,20}|-?[0-9]{0,25}",
        ) {
            let value = number.map_or(HeaderRef::Text(&text), HeaderRef::Int);
            let headers = JobHeaders::read(|_| Some(value));
            let attempt = attempt(job_try, &headers);
            prop_assert!(attempt >= 1 && attempt >= headers.retry_count);
            // The lack of any header, or one of another type, is no retry.
            let other = JobHeaders::read(|_| Some(HeaderRef::Other));
            prop_assert_eq!(other, JobHeaders::read(|_| None));
        }
    }
}
