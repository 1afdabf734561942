//! Sends a message that a job depends on, with patience.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::broker::{Broker, BrokerError, Publish, QueueName};

/// Sends `publish`, which followed from a message of `queue`, and waits for the broker's
/// confirmation. Tries for about three seconds, so that a message which then goes back to its
/// queue does not come round in a hot loop. `false` when the broker did not take it.
pub(super) async fn hand_over(broker: &Broker, queue: &QueueName, publish: Publish) -> bool {
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(5)
        .with_jitter()
        .build();
    let target = publish.queue.clone();
    let mut waits = waits.into_iter();
    loop {
        let Err(error) = broker.publish(publish.clone()).await else {
            return true;
        };
        let Some(wait) = waits.next() else {
            tracing::error!(%target, %error, "cannot send a message; its job goes back to its queue");
            return false;
        };
        tracing::warn!(%target, %error, ?wait, "cannot send a message; trying again");
        tokio::time::sleep(wait).await;
        if let BrokerError::NoSuchQueue { .. } | BrokerError::Unroutable { .. } = error {
            // Somebody has deleted the queue, or the dead-letter queue beside it.
            if let Err(error) = broker.declare(queue).await {
                tracing::warn!(%queue, %error, "cannot declare the queue again");
            }
        }
    }
}
