//! What is sent: body, headers, delay.

use std::time::Duration;

use warren_plugin_api::Payload;

use super::{Headers, QueueName};

/// A message to be sent. Always persistent, always confirmed.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// Where to.
    pub queue: QueueName,
    /// The message.
    pub body: Payload,
    /// Its headers.
    pub headers: Headers,
    /// Deliver no earlier than this from now; zero delivers at once. At most 10 years.
    pub delay: Duration,
    /// 0 to 255; counts only on queues declared with priorities.
    pub priority: u8,
    /// A Warren client made the job, so that its `queued` record obeys the store's contract. That of
    /// another client may come after the job's end and replace it.
    pub from_warren: bool,
}
