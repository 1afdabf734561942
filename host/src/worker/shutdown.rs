//! How a worker is asked to stop, twice if need be.

use tokio_util::sync::CancellationToken;

/// Stops a worker. Cheap to clone; all clones are one.
///
/// The first request is graceful: no job is started any more, running ones may finish within the
/// worker's grace time, and what was handed over but not started goes back to its queue. The
/// second ends at once: running jobs are cancelled and go back to their queues.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    graceful: CancellationToken,
    at_once: CancellationToken,
}

impl Shutdown {
    /// Nothing requested.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop: the first time gracefully, from the second time on at once.
    pub fn request(&self) {
        if self.graceful.is_cancelled() {
            self.stop_now();
        } else {
            self.stop();
        }
    }

    /// Asks to stop gracefully. Does nothing when that was asked before.
    pub fn stop(&self) {
        self.graceful.cancel();
    }

    /// Asks to stop at once.
    pub fn stop_now(&self) {
        self.graceful.cancel();
        self.at_once.cancel();
    }

    /// Whether it was asked to stop, in either way.
    pub fn is_stopping(&self) -> bool {
        self.graceful.is_cancelled()
    }

    /// Whether it was asked to stop at once, or the grace time of a graceful stop is over.
    pub fn is_stopping_now(&self) -> bool {
        self.at_once.is_cancelled()
    }

    /// Waits until it is asked to stop, in either way. Cancel safe.
    pub async fn stopping(&self) {
        self.graceful.cancelled().await;
    }

    /// Waits until it is asked to stop at once. Cancel safe.
    pub async fn stopping_now(&self) {
        self.at_once.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_request_means_at_once() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_stopping());
        shutdown.request();
        shutdown.stopping().await;
        assert!(!shutdown.at_once.is_cancelled());
        shutdown.clone().request();
        shutdown.stopping_now().await;
    }
}
