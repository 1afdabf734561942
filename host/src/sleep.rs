//! Sleeping until a moment that there may not be.

use tokio::time::Instant;

/// Waits until then; for ever where there is no such moment. Cancel safe.
pub(crate) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
