//! What a worker has done so far.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::Serialize;

/// Declares the counters once: the live ones and the report of their values.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a worker has done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        #[non_exhaustive]
        pub struct WorkerReport {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            fn report(&self) -> WorkerReport {
                WorkerReport { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Jobs that ran and returned a value.
    completed,
    /// Jobs that failed for good.
    failed,
    /// Attempts that failed and will be followed by another one.
    retried,
    /// Jobs that expired or were cancelled.
    aborted,
    /// Messages given back to their queue, not run or not finished.
    requeued,
    /// Messages sent again because their time had not come.
    deferred,
    /// Messages sent to a dead-letter queue.
    dead_lettered,
    /// Messages that were answered without a run, because the store says that their job has ended.
    already_ended,
    /// Jobs that are running now.
    running,
    /// Records that the result store failed to take when they were offered.
    store_failures,
    /// Records that the store refused for good, replaced by one without payload.
    results_refused,
    /// Records that had to wait until the store took results again.
    results_spooled,
    /// Records that no store has taken.
    results_lost,
    /// Hooks that failed, panicked or took too long.
    hook_failures,
}

/// One number of many that are counted at once.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn increment(&self) {
        self.add(1);
    }

    pub(super) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The live counts of a running worker. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct WorkerStats(pub(super) Arc<Counters>);

impl WorkerStats {
    /// The counts now.
    pub fn report(&self) -> WorkerReport {
        self.0.report()
    }
}
