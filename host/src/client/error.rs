//! What can go wrong for a client.

use warren_plugin_api::StoreError;

use super::{InvalidRequest, WaitError};
use crate::broker::BrokerError;

/// Why a job was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// The request itself cannot be sent.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// A job with this id exists.
    #[error("a job with the id {job_id:?} exists; choose another id, or say what to do with it")]
    Duplicate {
        /// The id.
        job_id: String,
    },
    /// The broker did not take it. Its record has been removed again.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store could not say whether a job with this id exists.
    #[error("the job was not sent: whether its id is free cannot be told: {0}")]
    Store(StoreError),
}

/// Why a job that was to be run has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// It was not sent.
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
    /// It was sent, and its end is not known.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// Why a question about a job has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The job went on faster than it could be aborted.
    #[error("job {job_id:?} changes too fast to be aborted; try again")]
    Busy {
        /// The id.
        job_id: String,
    },
}
