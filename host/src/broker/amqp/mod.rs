//! RabbitMQ, through lapin. Nothing outside this folder names lapin's types but the URL.

mod completions;
mod connection;
mod consumer;
mod control;
mod convert;
mod delay;
mod error;
mod frame;
mod header_room;
mod outlet;
mod publisher;
mod readable;
mod runtime;
mod tls;
mod topology;
mod transport;
mod undeliverable;

use std::{sync::Arc, time::Duration};

use lapin::options::{BasicGetOptions, QueuePurgeOptions};
use tokio::sync::watch;

pub(crate) use consumer::AmqpConsumer;

use super::{
    AbortRequest, BrokerError, BrokerSettings, CompletionReceiver, ConnectionState,
    ControlReceiver, Delivery, Interest, Publish, QueueInfo, QueueName, completions::Word,
};
use completions::Announcer;
use connection::Connection;
use consumer::{ChannelSettler, into_delivery};
use publisher::Publisher;

/// How long closing waits for the last words to be sent.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the broker has to answer that a channel or the connection is closed.
const GOODBYE: Duration = Duration::from_secs(3);

/// A connection to RabbitMQ that mends itself. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct AmqpBroker {
    connection: Arc<Connection>,
    publisher: Arc<Publisher>,
    announcer: Arc<Announcer>,
}

impl AmqpBroker {
    pub(crate) async fn connect(settings: &BrokerSettings) -> Result<Self, BrokerError> {
        let connection = Arc::new(Connection::open(settings.clone()).await?);
        let publisher = Arc::new(Publisher::new(Arc::clone(&connection)));
        let announcer = Arc::new(Announcer::new(Arc::clone(&connection)));
        Ok(Self {
            connection,
            publisher,
            announcer,
        })
    }

    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.connection.state()
    }

    pub(crate) fn dead_letter_suffix(&self) -> &str {
        &self.connection.settings().dead_letter_suffix
    }

    pub(crate) async fn declare(&self, queue: &QueueName) -> Result<(), BrokerError> {
        let channel = self.connection.channel().await?;
        topology::declare_with_dead_letters(&channel, queue, self.connection.settings()).await?;
        close(&channel).await;
        Ok(())
    }

    pub(crate) async fn publish(&self, publish: Publish) -> Result<(), BrokerError> {
        self.publisher.publish(publish).await
    }

    pub(crate) async fn publish_many(
        &self,
        publishes: Vec<Publish>,
    ) -> Vec<Result<(), BrokerError>> {
        self.publisher.publish_many(publishes).await
    }

    pub(crate) async fn consume(
        &self,
        queues: &[QueueName],
        prefetch: u16,
    ) -> Result<AmqpConsumer, BrokerError> {
        self.publisher.rescue_delayed();
        AmqpConsumer::start(Arc::clone(&self.connection), queues.to_vec(), prefetch).await
    }

    pub(crate) async fn fetch(
        &self,
        queue: &QueueName,
        max: usize,
    ) -> Result<Vec<Delivery>, BrokerError> {
        let channel = self.connection.channel().await?;
        let settler = Arc::new(ChannelSettler::start(channel.clone(), &self.connection));
        let mut deliveries = Vec::new();
        while deliveries.len() < max {
            let got = channel
                .basic_get(queue.as_str().into(), BasicGetOptions::default())
                .await
                .map_err(|error| error::on_queue(&error, queue))?;
            let Some(message) = got else { break };
            deliveries.push(into_delivery(queue.clone(), message.delivery, &settler));
        }
        Ok(deliveries)
    }

    pub(crate) async fn queue_info(
        &self,
        queue: &QueueName,
    ) -> Result<Option<QueueInfo>, BrokerError> {
        let channel = self.connection.channel().await?;
        let info = match topology::look_up(&channel, queue).await {
            Ok(info) => Some(info),
            Err(BrokerError::NoSuchQueue { .. }) => None,
            Err(error) => return Err(error),
        };
        close(&channel).await;
        Ok(info)
    }

    pub(crate) async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let channel = self.connection.channel().await?;
        let purged = channel
            .queue_purge(queue.as_str().into(), QueuePurgeOptions::default())
            .await
            .map_err(|error| error::on_queue(&error, queue))?;
        close(&channel).await;
        Ok(u64::from(purged))
    }

    pub(crate) async fn request_abort(&self, request: &AbortRequest) -> Result<(), BrokerError> {
        control::send(&self.connection, request).await
    }

    pub(crate) fn control(&self) -> ControlReceiver {
        control::receive(Arc::clone(&self.connection))
    }

    pub(crate) fn announce(&self, words: impl Iterator<Item = Word>) {
        self.announcer.announce(words);
    }

    pub(crate) fn completions(&self, interest: watch::Receiver<Interest>) -> CompletionReceiver {
        completions::receive(Arc::clone(&self.connection), interest)
    }

    pub(crate) async fn close(&self) {
        let _ = tokio::time::timeout(LAST_WORDS, self.announcer.flush()).await;
        self.connection.close().await;
    }
}

/// Gives a channel back, and waits a moment for the broker to take it. It may be gone already, by
/// an error of the server's: all the better.
async fn close(channel: &lapin::Channel) {
    if channel.status().connected() {
        let closing = channel.close(200, "done".into());
        let _ = tokio::time::timeout(GOODBYE, closing).await;
    }
}
