//! Names of queues, and what is known about one.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The name of a queue: 1 to 160 bytes, so that names and routing keys that are
/// made from it fit AMQP's 255. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(Arc<str>);

/// Text that cannot name a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} cannot name a queue: {reason}")]
pub struct InvalidQueueName {
    found: String,
    reason: &'static str,
}

impl QueueName {
    /// The longest name that is taken, in bytes.
    pub const MAX_BYTES: usize = 160;

    /// Checks and takes `name`.
    ///
    /// # Errors
    /// A name that is empty, too long, or starts with the reserved `amq.`.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidQueueName> {
        let name = name.as_ref();
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > Self::MAX_BYTES {
            "it is longer than 160 bytes"
        } else if name.starts_with("amq.") {
            "names that start with \"amq.\" are RabbitMQ's own"
        } else {
            return Ok(Self(name.into()));
        };
        Err(InvalidQueueName {
            found: name.chars().take(64).collect(),
            reason,
        })
    }

    /// The name of this queue's dead-letter queue.
    pub(crate) fn dead_letter_queue(&self, suffix: &str) -> Self {
        Self::dead_letters_of(self.as_str(), suffix)
    }

    pub(crate) fn dead_letters_of(queue: &str, suffix: &str) -> Self {
        Self(format!("{queue}{suffix}").into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for QueueName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for QueueName {
    type Error = InvalidQueueName;

    fn try_from(name: String) -> Result<Self, InvalidQueueName> {
        Self::new(name)
    }
}

impl std::str::FromStr for QueueName {
    type Err = InvalidQueueName;

    fn from_str(name: &str) -> Result<Self, InvalidQueueName> {
        Self::new(name)
    }
}

impl From<QueueName> for String {
    fn from(name: QueueName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// What the broker says of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct QueueInfo {
    /// Messages ready for delivery.
    pub ready: u64,
    /// Consumers attached.
    pub consumers: u64,
}
