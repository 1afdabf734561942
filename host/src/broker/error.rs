//! What can go wrong with a broker.

/// A broker's failure. Its text never carries a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The address is not one that can be used.
    #[error("broker URL: {reason}")]
    InvalidUrl {
        /// What is wrong with it, without the password.
        reason: String,
    },
    /// The connection cannot be encrypted as it is configured.
    #[error("broker TLS: {reason}")]
    InvalidTls {
        /// Which file or option is wrong.
        reason: String,
    },
    /// The broker cannot be reached or the connection was lost. May pass.
    #[error("broker unavailable: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// The broker refused user, password or virtual host.
    #[error("broker refused access: {reason}")]
    AccessRefused {
        /// What the broker said.
        reason: String,
    },
    /// A queue exists with other properties than asked for.
    #[error("queue {queue:?} exists with other properties: {reason}")]
    QueueMismatch {
        /// The queue.
        queue: String,
        /// What the broker said.
        reason: String,
    },
    /// The queue is not there.
    #[error("queue {queue:?} does not exist")]
    NoSuchQueue {
        /// The queue.
        queue: String,
    },
    /// No queue took the message.
    #[error("message to {queue:?} was returned: {reason}")]
    Unroutable {
        /// Where it was sent.
        queue: String,
        /// What the broker said.
        reason: String,
    },
    /// The broker did not take the message (a negative confirm).
    #[error("the broker refused a message to {queue:?}")]
    NotConfirmed {
        /// Where it was sent.
        queue: String,
    },
    /// A delay that cannot be kept.
    #[error("delay of {seconds} s is out of range: 0 to 10 years")]
    DelayOutOfRange {
        /// The delay asked for, in seconds.
        seconds: u64,
    },
    /// The broker is too old to hold delayed messages safely.
    #[error(
        "the broker cannot hold delayed jobs: {reason}; they need RabbitMQ 3.10 or newer with the \
         feature flags quorum_queue and stream_queue"
    )]
    DelaysUnsupported {
        /// What the broker said.
        reason: String,
    },
    /// This end was closed.
    #[error("the broker connection was closed by this program")]
    Closed,
}
