//! RabbitMQ as a foreign program sees it: raw messages in and out.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties, Channel, Connection,
    options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::runtime::Runtime;

use crate::{amqp_url, eventually};

/// A connection of the test's own. Its calls block.
#[derive(Debug)]
pub struct RabbitMq {
    runtime: Runtime,
    channel: Channel,
    connection: Connection,
}

/// A message that was taken out of a queue.
#[derive(Debug)]
pub struct Message {
    /// Its body.
    pub body: Vec<u8>,
    /// Its headers; numbers as text.
    pub headers: BTreeMap<String, String>,
}

impl RabbitMq {
    /// Connects to the server of the tests.
    ///
    /// # Panics
    /// When there is none.
    pub fn connect() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started");
        let url = amqp_url();
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(&url, Default::default())
                .await
                .unwrap_or_else(|error| {
                    panic!(
                        "no RabbitMQ: {error}; start one with `rabbitmq-server -detached`, or \
                         name one in WARREN_TEST_AMQP_URL"
                    )
                });
            let channel = connection.create_channel().await.expect("a channel opens");
            (connection, channel)
        });
        Self {
            runtime,
            channel,
            connection,
        }
    }

    /// Declares a queue as everybody does: durable, without arguments.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn declare(&self, queue: &str) {
        let declared = self.channel.queue_declare(
            queue.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        );
        self.runtime
            .block_on(declared)
            .expect("the queue is declared");
    }

    /// Publishes a body with some headers.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn publish(&self, queue: &str, body: &[u8], headers: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), value.clone());
        }
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_headers(table);
        self.runtime
            .block_on(async {
                self.channel
                    .basic_publish(
                        "".into(),
                        queue.into(),
                        BasicPublishOptions::default(),
                        body,
                        properties,
                    )
                    .await?
                    .await
            })
            .expect("the message is published");
    }

    /// How many messages are ready in a queue; `None` when there is no such queue.
    pub fn ready(&self, queue: &str) -> Option<u32> {
        self.runtime.block_on(async {
            // A question about a missing queue closes its channel.
            let channel = self.connection.create_channel().await.ok()?;
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let found = channel
                .queue_declare(queue.into(), passive, FieldTable::default())
                .await
                .ok()?;
            let ready = found.message_count();
            let _ = channel.close(200, "done".into()).await;
            Some(ready)
        })
    }

    /// Waits until so many messages are ready in a queue.
    ///
    /// # Panics
    /// When there are never so many.
    pub fn awaits_ready(&self, queue: &str, count: u32) {
        eventually(&format!("{count} messages in {queue}"), || {
            match self.ready(queue) {
                Some(found) if found == count => Ok(()),
                found => Err(format!("{found:?}")),
            }
        });
    }

    /// Takes the next message out of a queue, waiting for one.
    ///
    /// # Panics
    /// When there is none.
    pub fn take(&self, queue: &str) -> Message {
        eventually(&format!("a message in {queue}"), || {
            self.try_take(queue).ok_or("none")
        })
    }

    fn try_take(&self, queue: &str) -> Option<Message> {
        let options = BasicGetOptions { no_ack: true };
        let got = self
            .runtime
            .block_on(self.channel.basic_get(queue.into(), options))
            .expect("the queue can be read")?;
        let headers = got.delivery.properties.headers().as_ref();
        let headers = headers
            .into_iter()
            .flat_map(|table| table.inner())
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        Some(Message {
            body: got.delivery.data.clone(),
            headers,
        })
    }

    /// Deletes queues, if they are there.
    pub fn delete(&self, queues: &[String]) {
        self.runtime.block_on(async {
            for queue in queues {
                let _ = self
                    .channel
                    .queue_delete(queue.as_str().into(), Default::default())
                    .await;
            }
        });
    }
}

fn text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::ShortShortInt(number) => number.to_string(),
        AMQPValue::ShortShortUInt(number) => number.to_string(),
        AMQPValue::ShortInt(number) => number.to_string(),
        AMQPValue::ShortUInt(number) => number.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        AMQPValue::LongUInt(number) => number.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let close = self.connection.close(200, "done".into());
        let _ = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(2), close).await });
    }
}
