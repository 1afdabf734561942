//! Queues as Warren declares them: exactly as rabbitmq-arq does, unless told otherwise, so that
//! either side may come first.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::error::{on_connection, on_queue};
use crate::broker::{BrokerError, BrokerSettings, QueueInfo, QueueName, QueueType};

/// Declares a queue and its dead-letter queue.
pub(super) async fn declare_with_dead_letters(
    channel: &Channel,
    queue: &QueueName,
    settings: &BrokerSettings,
) -> Result<(), BrokerError> {
    let dead_letters = queue.dead_letter_queue(&settings.dead_letter_suffix);
    let arguments = queue_arguments(settings, &dead_letters);
    declare(channel, queue, arguments).await?;
    declare(channel, &dead_letters, FieldTable::default()).await
}

fn queue_arguments(settings: &BrokerSettings, dead_letters: &QueueName) -> FieldTable {
    let mut arguments = FieldTable::default();
    if settings.queue_type == QueueType::Quorum {
        // From RabbitMQ 4.0 on, a message that was handed over more than 20 times would be dropped.
        arguments = quorum_that_loses_nothing("");
        let dead_letters = AMQPValue::LongString(dead_letters.as_str().into());
        arguments.insert("x-dead-letter-routing-key".into(), dead_letters);
    }
    if let Some(max) = settings.max_priority {
        arguments.insert("x-max-priority".into(), AMQPValue::ShortInt(max.into()));
    }
    arguments
}

/// The arguments of a quorum queue that gives a message up only once `dead_letter_exchange` has it.
pub(super) fn quorum_that_loses_nothing(dead_letter_exchange: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-exchange", dead_letter_exchange),
        ("x-dead-letter-strategy", "at-least-once"),
        // Which that strategy needs. A limit that a policy sets refuses then, and drops nothing.
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments
}

async fn declare(
    channel: &Channel,
    queue: &QueueName,
    arguments: FieldTable,
) -> Result<(), BrokerError> {
    channel
        .queue_declare(
            queue.as_str().into(),
            QueueDeclareOptions::durable(),
            arguments,
        )
        .await
        .map(drop)
        .map_err(|error| on_queue(&error, queue))
}

/// Declares a durable exchange of Warren's own.
pub(super) async fn declare_exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
) -> Result<(), BrokerError> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, durable, FieldTable::default())
        .await
        .map_err(|error| on_connection(&error))
}

/// What the broker says of a queue. Creates nothing.
pub(super) async fn look_up(
    channel: &Channel,
    queue: &QueueName,
) -> Result<QueueInfo, BrokerError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let found = channel
        .queue_declare(queue.as_str().into(), passive, FieldTable::default())
        .await
        .map_err(|error| on_queue(&error, queue))?;
    Ok(QueueInfo {
        ready: u64::from(found.message_count()),
        consumers: u64::from(found.consumer_count()),
    })
}
