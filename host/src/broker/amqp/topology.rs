//! Queues as Warren declares them: exactly as rabbitmq-arq does, unless told otherwise, so that
//! either side may come first.

use lapin::{
    Channel,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};

use super::error::on_queue;
use crate::broker::{BrokerError, BrokerSettings, QueueInfo, QueueName, QueueType};

/// Declares a queue and its dead-letter queue.
pub(super) async fn declare_with_dead_letters(
    channel: &Channel,
    queue: &QueueName,
    settings: &BrokerSettings,
) -> Result<(), BrokerError> {
    declare(channel, queue, queue_arguments(settings)).await?;
    let dead_letters = queue.dead_letter_queue(&settings.dead_letter_suffix);
    declare(channel, &dead_letters, FieldTable::default()).await
}

fn queue_arguments(settings: &BrokerSettings) -> FieldTable {
    let mut arguments = FieldTable::default();
    if settings.queue_type == QueueType::Quorum {
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
    }
    if let Some(max) = settings.max_priority {
        arguments.insert(
            "x-max-priority".into(),
            AMQPValue::ShortShortInt(max.min(127) as i8),
        );
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
