//! RabbitMQ as a foreign program sees it: raw messages in and out.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties, Channel, Connection,
    message::BasicGetMessage,
    options::{
        BasicGetOptions, BasicNackOptions, BasicPublishOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
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
        Self::connect_to(&amqp_url())
    }

    /// Connects to a server.
    ///
    /// # Panics
    /// When there is none.
    pub fn connect_to(url: &str) -> Self {
        Self::try_connect(url).unwrap_or_else(|error| {
            panic!(
                "no RabbitMQ: {error}; start one with `rabbitmq-server -detached`, or name one in \
                 WARREN_TEST_AMQP_URL"
            )
        })
    }

    /// Connects to a server, if it is there.
    ///
    /// # Errors
    /// What lapin says.
    ///
    /// # Panics
    /// When no thread can be started.
    pub fn try_connect(url: &str) -> lapin::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started");
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(url, Default::default()).await?;
            let channel = connection.create_channel().await?;
            Ok::<_, lapin::Error>((connection, channel))
        })?;
        Ok(Self {
            runtime,
            channel,
            connection,
        })
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

    fn try_get(&self, queue: &str, options: BasicGetOptions) -> Option<BasicGetMessage> {
        let got = self.channel.basic_get(queue.into(), options);
        self.runtime.block_on(got).expect("the queue can be read")
    }

    fn try_take(&self, queue: &str) -> Option<Message> {
        let got = self.try_get(queue, BasicGetOptions { no_ack: true })?;
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

    /// Takes the next message, waiting for one, and gives it back unanswered.
    ///
    /// # Panics
    /// When there is none.
    pub fn give_back(&self, queue: &str) {
        let tag = eventually(&format!("a message in {queue}"), || {
            let got = self.try_get(queue, BasicGetOptions::default());
            got.map(|message| message.delivery.delivery_tag)
                .ok_or("none")
        });
        let requeue = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        let nack = self.channel.basic_nack(tag, requeue);
        self.runtime.block_on(nack).expect("the broker takes it");
    }

    /// Deletes a queue unless messages are ready in it; whether it did.
    ///
    /// # Panics
    /// When the broker is away.
    pub fn delete_if_empty(&self, queue: &str) -> bool {
        self.runtime.block_on(async {
            // The answer "not empty" closes its channel.
            let channel = self.connection.create_channel().await.expect("it opens");
            let if_empty = QueueDeleteOptions {
                if_empty: true,
                ..QueueDeleteOptions::default()
            };
            let deleted = channel.queue_delete(queue.into(), if_empty).await.is_ok();
            let _ = channel.close(200, "done".into()).await;
            deleted
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
