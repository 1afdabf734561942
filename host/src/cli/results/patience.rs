//! A store that is away for a moment does not end a copy that has run for an hour.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use warren_plugin_api::{ErrorClass, StoreResult};

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Almost eight seconds of waiting, beside what the calls take.
const TRIES_MORE: usize = 5;

/// Makes a call again while the store is unavailable. It must be one that may be made twice.
pub(super) async fn patiently<T, Answer>(call: impl FnMut() -> Answer) -> StoreResult<T>
where
    Answer: Future<Output = StoreResult<T>>,
{
    let waits = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_max_times(TRIES_MORE);
    call.retry(waits)
        .when(|error| error.class() == ErrorClass::Unavailable)
        .notify(|error, wait| tracing::warn!(%error, ?wait, "trying again"))
        .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use warren_plugin_api::StoreError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_back_is_waited_for() {
        let calls = Cell::new(0);
        let answer = patiently(|| {
            calls.set(calls.get() + 1);
            let answer = match calls.get() {
                1 | 2 => Err(StoreError::unavailable("away")),
                calls => Ok(calls),
            };
            async { answer }
        });
        assert_eq!(answer.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_time_mends_is_tried_once() {
        let calls = Cell::new(0);
        let answer: StoreResult<()> = patiently(|| {
            calls.set(calls.get() + 1);
            async { Err(StoreError::corrupt_data("not a record")) }
        })
        .await;
        assert!(answer.is_err());
        assert_eq!(calls.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_stays_away_ends_it() {
        let answer: StoreResult<()> =
            patiently(|| async { Err(StoreError::unavailable("away")) }).await;
        assert_eq!(answer.unwrap_err().class(), ErrorClass::Unavailable);
    }
}
