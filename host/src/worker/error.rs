//! Why a worker cannot be built, does not start or ends early.

use crate::broker::BrokerError;

/// A worker's failure. Failures of jobs, hooks and stores are none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// An option has a value that cannot work.
    #[error("worker option {option:?} is {found}: expected {expected}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What it was set to.
        found: String,
        /// What is possible.
        expected: &'static str,
    },
    /// The start-up hook failed.
    #[error("the on_startup hook failed, so the worker does not start: {reason}")]
    Startup {
        /// What it said.
        reason: String,
    },
    /// The broker could not be used, or ended the consumption for good.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The broker connection was closed while the worker was consuming.
    #[error("the broker connection was closed while the worker was running")]
    ConsumerEnded,
    /// A defect: the task that stores results ended while jobs were running.
    #[error("the result writer ended before the worker did; unanswered jobs will be run again")]
    ResultWriterEnded,
}
