//! Asks the store, now and then, to remove what has expired.

use std::time::Duration;

use warren_plugin_api::Timestamp;

use crate::store::Store;

const BATCH: u32 = 1000;
const MAX_BATCHES: u32 = 100;

/// Runs until it is dropped. Each round comes after `interval`, a fifth more or less, so that
/// many workers do not ask at once.
pub(super) async fn run(store: Store, interval: Duration) {
    loop {
        tokio::time::sleep(interval.mul_f64(rand::random_range(0.8..1.2))).await;
        let removed = round(&store).await;
        if removed > 0 {
            tracing::debug!(
                store = store.name(),
                removed,
                "expired records were removed"
            );
        }
    }
}

/// One round, in short batches that leave the store time for others.
async fn round(store: &Store) -> u64 {
    let mut removed = 0;
    for _ in 0..MAX_BATCHES {
        match store.cleanup_expired(Timestamp::now(), BATCH).await {
            Ok(count) => {
                removed += count;
                if count < u64::from(BATCH) {
                    break;
                }
            }
            Err(error) => {
                // The result writer tells of a store that is down.
                tracing::debug!(store = store.name(), %error, "expired records stay for now");
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    removed
}
