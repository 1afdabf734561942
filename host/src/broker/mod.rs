//! The message broker: RabbitMQ, or one inside this process.
//!
//! Both behave alike, so that what runs on `memory://` runs on RabbitMQ.

mod ack_ranges;
mod amqp;
mod completions;
mod connection_state;
mod control;
mod delivery;
mod error;
mod headers;
mod memory;
mod publish;
mod queue;
mod settings;

pub use completions::{Announced, CompletionReceiver, Interest};
pub use connection_state::ConnectionState;
pub use control::{AbortRequest, Control, ControlReceiver};
#[cfg(test)]
pub(crate) use delivery::SettleDelivery;
pub use delivery::{Acker, Delivery, Settle};
pub use error::BrokerError;
pub use headers::{HeaderValue, Headers};
pub use publish::Publish;
pub use queue::{InvalidQueueName, QueueInfo, QueueName};
pub use settings::{BrokerSettings, BrokerTls, BrokerUrl, QueueType};

use tokio::sync::watch;
use warren_plugin_api::Text;

use completions::Word;

/// A connection to a broker. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Broker {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Amqp(amqp::AmqpBroker),
    Memory(memory::MemoryBroker),
}

impl Broker {
    /// Connects, within the settings' time-out.
    ///
    /// # Errors
    /// An address that cannot be used, a broker that cannot be reached or refuses access.
    pub async fn connect(settings: &BrokerSettings) -> Result<Self, BrokerError> {
        let kind = match &settings.url {
            BrokerUrl::Memory(name) => Kind::Memory(memory::MemoryBroker::named(
                name,
                &settings.dead_letter_suffix,
            )),
            BrokerUrl::Amqp(_) => Kind::Amqp(amqp::AmqpBroker::connect(settings).await?),
        };
        Ok(Self { kind })
    }

    /// Whether the broker can be used now.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        match &self.kind {
            Kind::Amqp(broker) => broker.state(),
            Kind::Memory(broker) => broker.state(),
        }
    }

    /// The name of the queue that takes what failed for good in `queue`.
    pub fn dead_letter_queue(&self, queue: &QueueName) -> QueueName {
        let suffix = match &self.kind {
            Kind::Amqp(broker) => broker.dead_letter_suffix(),
            Kind::Memory(broker) => broker.dead_letter_suffix(),
        };
        queue.dead_letter_queue(suffix)
    }

    /// Makes sure that a queue and its dead-letter queue exist.
    ///
    /// # Errors
    /// [`BrokerError::QueueMismatch`] when one exists with other properties.
    pub async fn declare(&self, queue: &QueueName) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Amqp(broker) => broker.declare(queue).await,
            Kind::Memory(broker) => broker.declare(queue),
        }
    }

    /// Sends a message and waits until the broker has it.
    ///
    /// # Errors
    /// The message was not taken. After [`BrokerError::Unavailable`] it may have been taken.
    ///
    /// # Cancel safety
    /// A dropped call may have sent the message or not.
    pub async fn publish(&self, publish: Publish) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Amqp(broker) => broker.publish(publish).await,
            Kind::Memory(broker) => broker.publish(publish),
        }
    }

    /// Sends many messages, then waits until the broker has them; answers in their order.
    pub async fn publish_many(&self, publishes: Vec<Publish>) -> Vec<Result<(), BrokerError>> {
        match &self.kind {
            Kind::Amqp(broker) => broker.publish_many(publishes).await,
            Kind::Memory(broker) => publishes
                .into_iter()
                .map(|publish| broker.publish(publish))
                .collect(),
        }
    }

    /// Receives from queues that [`declare`](Self::declare) has made sure of, with at most
    /// `prefetch` unanswered deliveries per queue on RabbitMQ, in all on the in-process broker.
    ///
    /// # Errors
    /// A queue is missing, or the broker cannot be reached at all.
    pub async fn consume(
        &self,
        queues: &[QueueName],
        prefetch: u16,
    ) -> Result<Consumer, BrokerError> {
        let kind = match &self.kind {
            Kind::Amqp(broker) => ConsumerKind::Amqp(broker.consume(queues, prefetch).await?),
            Kind::Memory(broker) => ConsumerKind::Memory(broker.consume(queues, prefetch)?),
        };
        Ok(Consumer { kind })
    }

    /// Takes up to `max` messages that are ready now: for looking into a queue.
    ///
    /// # Errors
    /// The queue is missing or the broker unavailable.
    pub async fn fetch(&self, queue: &QueueName, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        match &self.kind {
            Kind::Amqp(broker) => broker.fetch(queue, max).await,
            Kind::Memory(broker) => broker.fetch(queue, max),
        }
    }

    /// What the broker says of a queue; `None` when it does not exist. Creates nothing.
    ///
    /// # Errors
    /// The broker is unavailable.
    pub async fn queue_info(&self, queue: &QueueName) -> Result<Option<QueueInfo>, BrokerError> {
        match &self.kind {
            Kind::Amqp(broker) => broker.queue_info(queue).await,
            Kind::Memory(broker) => broker.queue_info(queue),
        }
    }

    /// Deletes all ready messages of a queue; returns how many.
    ///
    /// # Errors
    /// The queue is missing or the broker unavailable.
    pub async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        match &self.kind {
            Kind::Amqp(broker) => broker.purge(queue).await,
            Kind::Memory(broker) => broker.purge(queue),
        }
    }

    /// Sends a request to every worker there is now, and waits until the broker has it.
    ///
    /// # Errors
    /// The broker is unavailable.
    pub async fn request_abort(&self, request: &AbortRequest) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Amqp(broker) => broker.request_abort(request).await,
            Kind::Memory(broker) => broker.request_abort(request),
        }
    }

    /// Receives what is sent to every worker, through lost connections.
    pub fn control(&self) -> ControlReceiver {
        match &self.kind {
            Kind::Amqp(broker) => broker.control(),
            Kind::Memory(broker) => broker.control(),
        }
    }

    /// Tells waiting clients of jobs that have ended: a hint, which may be lost. Never waits; in a
    /// program that goes on for another second, or [closes](Self::close) the broker, it is sent.
    pub fn announce_ended(&self, job_ids: impl IntoIterator<Item = Text>) {
        self.announce(job_ids.into_iter().map(Word::ended));
    }

    /// As [`announce_ended`](Self::announce_ended), of jobs whose records were deleted.
    pub fn announce_deleted(&self, job_ids: impl IntoIterator<Item = Text>) {
        self.announce(job_ids.into_iter().map(Word::deleted));
    }

    fn announce(&self, words: impl Iterator<Item = Word>) {
        match &self.kind {
            Kind::Amqp(broker) => broker.announce(words),
            Kind::Memory(broker) => broker.announce(words),
        }
    }

    /// Receives what is announced, as far as `interest` asks for it now, through lost connections.
    pub fn completions(&self, interest: watch::Receiver<Interest>) -> CompletionReceiver {
        match &self.kind {
            Kind::Amqp(broker) => broker.completions(interest),
            Kind::Memory(broker) => broker.completions(interest),
        }
    }

    /// Ends the connection for all clones. Unanswered deliveries go back to their queues.
    pub async fn close(&self) {
        match &self.kind {
            Kind::Amqp(broker) => broker.close().await,
            Kind::Memory(broker) => broker.close(),
        }
    }
}

/// Receives deliveries. Dropping it puts unanswered deliveries back into their queues.
#[derive(Debug)]
pub struct Consumer {
    kind: ConsumerKind,
}

#[derive(Debug)]
enum ConsumerKind {
    Amqp(amqp::AmqpConsumer),
    Memory(memory::MemoryConsumer),
}

impl Consumer {
    /// The next delivery. Waits through lost connections, which it mends by itself; `None` once
    /// the consumer was stopped (after what had been received already) or the broker closed.
    ///
    /// # Cancel safety
    /// Dropping the call loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        match &mut self.kind {
            ConsumerKind::Amqp(consumer) => consumer.next().await,
            ConsumerKind::Memory(consumer) => consumer.next().await,
        }
    }

    /// Asks the broker for no more. Deliveries can still be answered until this is dropped.
    pub async fn stop(&self) {
        match &self.kind {
            ConsumerKind::Amqp(consumer) => consumer.stop().await,
            ConsumerKind::Memory(consumer) => consumer.stop(),
        }
    }
}
