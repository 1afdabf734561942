//! Burst mode: work until there is nothing left, then end.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::shared::Shared;
use crate::broker::{Broker, BrokerError, QueueName};

/// How often an idle worker looks whether its queues are empty.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// How many looks in a row must find nothing. More than one, because a message may be on its way
/// from the queue to this worker.
const QUIET_CHECKS: u32 = 3;

/// When a burst ends.
///
/// It ends when the queues are empty and no job is running. Retries that this worker has sent are
/// waited for; jobs that were delayed by a client are not, nor are retries of other workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// The longest that a burst may last. Running jobs then get the grace time of a graceful stop.
    pub timeout: Duration,
    /// Wait for the retries of this burst's own jobs.
    pub wait_for_retries: bool,
}

impl Default for Burst {
    /// 300 seconds, waiting for retries.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            wait_for_retries: true,
        }
    }
}

/// Watches for the end of a burst.
#[derive(Debug)]
pub(super) struct BurstWatch {
    deadline: Instant,
    checks: Interval,
    quiet: u32,
    wait_for_retries: bool,
}

impl BurstWatch {
    pub(super) fn start(burst: Burst) -> Self {
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A timeout beyond all clocks is none.
        let far = Duration::from_secs(365 * 24 * 3600);
        let deadline = Instant::now() + burst.timeout.min(far);
        Self {
            deadline,
            checks,
            quiet: 0,
            wait_for_retries: burst.wait_for_retries,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits until it is time to look. Cancel safe.
    pub(super) async fn tick(&mut self) {
        self.checks.tick().await;
    }

    /// A job has come in.
    pub(super) fn busy(&mut self) {
        self.quiet = 0;
    }

    /// Looks once; `true` when the burst is over.
    pub(super) async fn is_over(&mut self, shared: &Shared) -> bool {
        if self.wait_for_retries && shared.awaits_retries() {
            self.quiet = 0;
            return false;
        }
        match ready(&shared.broker, &shared.options.queues).await {
            Ok(0) => self.quiet += 1,
            Ok(_) => self.quiet = 0,
            Err(error) => {
                tracing::debug!(%error, "cannot see whether the queues are empty");
                self.quiet = 0;
            }
        }
        self.quiet >= QUIET_CHECKS
    }
}

/// Messages ready in all `queues`.
async fn ready(broker: &Broker, queues: &[QueueName]) -> Result<u64, BrokerError> {
    let mut ready = 0;
    for queue in queues {
        ready += broker.queue_info(queue).await?.map_or(0, |info| info.ready);
    }
    Ok(ready)
}
