//! Why a message cannot be read, and what of it could be read all the same.

use warren_plugin_api::Text;

use super::{JobId, json::SyntaxError};

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It is longer than a job message may be.
    #[error("the message has {found} bytes, at most {limit} are read")]
    TooLarge {
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It is not UTF-8.
    #[error("the message is not UTF-8: byte {offset} is wrong")]
    NotUtf8 {
        /// The first byte that is wrong.
        offset: usize,
    },
    /// It is not JSON, or not an object.
    #[error("the message is not a job: {0}")]
    Syntax(#[from] SyntaxError),
    /// A key that every job has is missing.
    #[error("the message has no {key:?}")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key has a value of the wrong kind.
    #[error("the message's {key:?} is {found}: expected {expected}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What was expected.
        expected: &'static str,
        /// The value found, or its kind.
        found: String,
    },
}

impl MessageError {
    /// The error type that records and dead letters name.
    pub const ERROR_TYPE: &str = "UnreadableMessage";

    /// Whether not even the JSON could be read.
    pub const fn is_syntax(&self) -> bool {
        matches!(self, Self::NotUtf8 { .. } | Self::Syntax(_))
    }
}

/// A message that cannot be run, with what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct UnreadableMessage {
    /// What is wrong.
    #[source]
    pub error: MessageError,
    /// The job's id, if it could be read.
    pub job_id: Option<JobId>,
    /// The function's name, if it could be read.
    pub function: Option<Text>,
    /// The queue that the message names, if it could be read.
    pub queue_name: Option<Text>,
}
