//! What all jobs of a running worker share.

use std::{
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warren_plugin_api::Timestamp;

use super::{
    Shutdown, aborts::Aborts, builder::Options, hooks::HookRunner, in_hand::InHand, live::Live,
    results::ResultSender, stats::WorkerStats,
};
use crate::{broker::Broker, job::HEARTBEAT_INTERVAL, store::Store};

/// One for each run of a worker. The result writer ends when the last clone is gone.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) broker: Broker,
    /// Behind the breaker: what it fails on waits for no deadline while the store is down.
    pub(super) store: Store,
    pub(super) options: Options,
    pub(super) hooks: HookRunner,
    pub(super) results: ResultSender,
    pub(super) stats: WorkerStats,
    pub(super) live: Arc<Live>,
    pub(super) shutdown: Shutdown,
    pub(super) in_hand: InHand,
    pub(super) aborts: Arc<Aborts>,
    /// Cancels every running job.
    pub(super) cancel_jobs: CancellationToken,
    /// When this run began: an attempt that this worker's id started earlier was lost.
    pub(super) began_at: Timestamp,
    /// When the first heartbeat was due.
    heartbeats_from: Instant,
    /// When the last retry that was sent becomes due, in microseconds since 1970.
    last_retry_due: AtomicI64,
}

impl Shared {
    pub(super) fn new(
        broker: Broker,
        options: Options,
        results: ResultSender,
        live: Arc<Live>,
        shutdown: Shutdown,
    ) -> Self {
        let (store, stats) = (live.store.clone(), live.stats.clone());
        let hooks = HookRunner::new(options.hooks.clone(), options.hook_timeout, stats.clone());
        Self {
            aborts: Arc::new(Aborts::new(store.clone())),
            broker,
            store,
            options,
            hooks,
            results,
            stats,
            live,
            shutdown,
            in_hand: InHand::default(),
            cancel_jobs: CancellationToken::new(),
            began_at: Timestamp::now(),
            heartbeats_from: Instant::now(),
            last_retry_due: AtomicI64::new(i64::MIN),
        }
    }

    /// When a job that runs now shows again that its worker is alive. The same moment for all jobs
    /// that run, so that their records go to the store together.
    pub(super) fn next_heartbeat(&self) -> Instant {
        let interval = HEARTBEAT_INTERVAL.as_micros();
        // Not for what has only begun.
        let past = self.heartbeats_from.elapsed() + HEARTBEAT_INTERVAL / 2;
        let count = past.as_micros().div_ceil(interval).max(1);
        let next = u64::try_from(count * interval).unwrap_or(u64::MAX);
        self.heartbeats_from + Duration::from_micros(next)
    }

    /// A retry was sent that comes back after `delay`.
    pub(super) fn retry_sent(&self, delay: Duration) {
        let due = Timestamp::now().saturating_add(delay);
        self.last_retry_due
            .fetch_max(due.unix_us(), Ordering::Relaxed);
    }

    /// Whether a retry that was sent may not have come back yet.
    pub(super) fn awaits_retries(&self) -> bool {
        // Brokers deliver a delayed message a little late.
        const SLACK: Duration = Duration::from_millis(500);
        let due = Timestamp::from_unix_us(self.last_retry_due.load(Ordering::Relaxed));
        due != Timestamp::MIN && Timestamp::now() < due.saturating_add(SLACK)
    }
}
