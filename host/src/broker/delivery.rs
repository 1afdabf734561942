//! One hand-over of a message, and its answer.

use std::sync::Arc;

use warren_plugin_api::Payload;

use super::{BrokerError, Headers, QueueName};

/// The answer to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// Done with: the broker forgets it.
    Ack,
    /// Not done with: the broker delivers it again.
    Requeue,
}

/// A message handed over by the broker.
#[derive(Debug)]
pub struct Delivery {
    /// The queue it came from.
    pub queue: QueueName,
    /// The message.
    pub body: Payload,
    /// Its headers.
    pub headers: Headers,
    /// Its priority, which what follows from it keeps.
    pub priority: u8,
    /// See [`Publish::from_warren`](super::Publish::from_warren).
    pub from_warren: bool,
    /// The broker has handed it over before, to anyone.
    pub redelivered: bool,
    /// Takes the answer.
    pub acker: Acker,
}

/// Answers one delivery, once. Dropping it without an answer leaves the message with the broker,
/// which delivers it again when this consumer ends.
#[derive(Debug)]
pub struct Acker {
    tag: u64,
    settler: Arc<dyn SettleDelivery>,
}

/// Where a broker takes answers. Tags belong to one connection: an answer that comes after that
/// connection was lost is ignored, because the broker has put the message back already.
pub(crate) trait SettleDelivery: Send + Sync + std::fmt::Debug {
    /// Queues the answer for sending; never waits. Errors only when it can no longer matter.
    fn settle(&self, tag: u64, answer: Settle) -> Result<(), BrokerError>;
}

impl Acker {
    pub(crate) fn new(tag: u64, settler: Arc<dyn SettleDelivery>) -> Self {
        Self { tag, settler }
    }

    /// Sends the answer.
    ///
    /// # Errors
    /// The connection that delivered the message is gone: it will be delivered again.
    pub fn settle(self, answer: Settle) -> Result<(), BrokerError> {
        self.settler.settle(self.tag, answer)
    }
}
