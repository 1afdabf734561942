//! What a worker has done so far.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    figures::Counter,
    store::{Store, StoreReport},
};

/// Declares the counters once: the live ones and the report of their values.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a worker has done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        #[non_exhaustive]
        pub struct WorkerReport {
            $($(#[$doc])* pub $name: u64,)*
            /// How often the result store was found to be failing, and left alone.
            pub store_opened: u64,
            /// Calls of the store that were not made meanwhile.
            pub store_calls_refused: u64,
            /// Calls of the store that gave no answer within the deadline.
            pub store_calls_timed_out: u64,
            /// Calls of the store whose turn did not come within the deadline.
            pub store_calls_busy: u64,
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            fn report(&self) -> WorkerReport {
                WorkerReport { $($name: self.$name.get(),)* ..WorkerReport::default() }
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
    /// Messages that had been handed over before.
    redelivered,
    /// Messages that were answered without a run, because the store says that their job has ended.
    already_ended,
    /// Jobs that are running now.
    running,
    /// Records that the result store failed to take when they were offered.
    store_failures,
    /// Ends of attempts that the result store has taken.
    results_stored,
    /// Records that the store refused for good, replaced by one without payload.
    results_refused,
    /// Records that had to wait until the store took results again.
    results_spooled,
    /// Records that had to wait and that the store has taken since.
    results_replayed,
    /// Records that neither the store nor the spool takes now: their messages are unanswered.
    results_waiting,
    /// Records that no store has taken.
    results_lost,
    /// Hooks that failed, panicked or took too long.
    hook_failures,
}

/// The live counts of a running worker. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct WorkerStats(pub(super) Arc<Counters>, Option<Store>);

impl WorkerStats {
    /// Of a worker whose store is behind a breaker.
    pub(super) fn with_store(store: Store) -> Self {
        Self(Arc::default(), Some(store))
    }

    /// The counts now.
    pub fn report(&self) -> WorkerReport {
        let report = self.0.report();
        let Some(store) = self.store() else {
            return report;
        };
        let breaker = store.breaker.as_ref();
        WorkerReport {
            store_opened: breaker.map_or(0, |breaker| breaker.opened),
            store_calls_refused: breaker.map_or(0, |breaker| breaker.refused),
            store_calls_timed_out: store.calls_timed_out,
            store_calls_busy: store.calls_busy,
            ..report
        }
    }

    /// The result store: whether it is used, what became of its calls, and the same of the stores
    /// that it is made of.
    pub fn store(&self) -> Option<StoreReport> {
        self.1.as_ref().map(Store::report)
    }
}
