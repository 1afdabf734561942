//! Sending messages, confirmed by the broker. Many calls share one channel without waiting for
//! one another.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{sync::Mutex, time::Instant};

use super::{
    connection::Connection, convert, delay, error::on_connection, topology, undeliverable::Rescue,
};
use crate::broker::{BrokerError, Publish, QueueName};

/// The wait before a publish is tried again after its channel was lost.
const RETRY_WAIT: Duration = Duration::from_millis(20);
/// Messages of one call that are sent and not confirmed yet: each is copied for its frames.
const MOST_UNDER_WAY: usize = 1_024;

/// Sends messages on a channel of its own, which it opens again when it is lost.
#[derive(Debug)]
pub(super) struct Publisher {
    connection: Arc<Connection>,
    current: Mutex<Option<Arc<Outlet>>>,
    rescue: Rescue,
}

/// A channel with confirms, and what has been declared through it.
#[derive(Debug)]
struct Outlet {
    channel: Channel,
    delay_levels: delay::Levels,
    /// Queues that delayed messages find. Held while declaring.
    delay_targets: Mutex<HashSet<QueueName>>,
}

impl Publisher {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            current: Mutex::new(None),
            rescue: Rescue::default(),
        }
    }

    /// Sends on, from now on, delayed messages that did not find their queue.
    pub(super) fn rescue_delayed(&self) {
        self.rescue.begin(&self.connection);
    }

    pub(super) async fn publish(&self, publish: Publish) -> Result<(), BrokerError> {
        let deadline = Instant::now() + self.connection.settings().publish_timeout;
        loop {
            let error = match self.publish_once(&publish, deadline).await {
                Ok(()) => return Ok(()),
                Err(error @ BrokerError::Unavailable { .. }) => error,
                Err(error) => return Err(error),
            };
            if Instant::now() + RETRY_WAIT >= deadline {
                return Err(error);
            }
            tokio::time::sleep(RETRY_WAIT).await;
        }
    }

    async fn publish_once(&self, publish: &Publish, deadline: Instant) -> Result<(), BrokerError> {
        let attempt = async {
            let outlet = self.outlet().await?;
            confirmed(outlet.send(publish, self).await?, &publish.queue).await
        };
        tokio::time::timeout_at(deadline, attempt)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
    }

    /// Has many under way at once: lapin answers a send only when its connection's thread has
    /// written it, so that one send after the other would cost a switch of threads each. They are
    /// sent in their order; those that fail with the connection are tried again.
    pub(super) async fn publish_many(
        &self,
        publishes: Vec<Publish>,
    ) -> Vec<Result<(), BrokerError>> {
        let deadline = Instant::now() + self.connection.settings().publish_timeout;
        let sends = publishes
            .into_iter()
            .map(|publish| self.publish_by(publish, deadline));
        futures_util::stream::iter(sends)
            .buffered(MOST_UNDER_WAY)
            .collect()
            .await
    }

    async fn publish_by(&self, publish: Publish, deadline: Instant) -> Result<(), BrokerError> {
        match self.publish_once(&publish, deadline).await {
            Err(BrokerError::Unavailable { .. }) if Instant::now() < deadline => {
                self.publish(publish).await
            }
            answer => answer,
        }
    }

    fn timed_out(&self) -> BrokerError {
        let settings = self.connection.settings();
        BrokerError::Unavailable {
            reason: format!(
                "{} did not confirm a message within {:?}",
                settings.url, settings.publish_timeout
            ),
        }
    }

    /// The live channel, or a new one.
    async fn outlet(&self) -> Result<Arc<Outlet>, BrokerError> {
        let mut current = self.current.lock().await;
        if let Some(outlet) = current
            .as_ref()
            .filter(|it| it.channel.status().connected())
        {
            return Ok(Arc::clone(outlet));
        }
        let channel = self.connection.channel_when_connected().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(|error| on_connection(&error))?;
        let outlet = Arc::new(Outlet {
            channel,
            delay_levels: delay::Levels::default(),
            delay_targets: Mutex::default(),
        });
        *current = Some(Arc::clone(&outlet));
        Ok(outlet)
    }
}

impl Outlet {
    async fn send(
        &self,
        publish: &Publish,
        publisher: &Publisher,
    ) -> Result<PublisherConfirm, BrokerError> {
        let (exchange, routing_key) = if publish.delay.is_zero() {
            (String::new(), publish.queue.to_string())
        } else {
            let route = delay::route(&publish.queue, publish.delay)?;
            self.delay_levels
                .prepare(&publisher.connection, &route)
                .await?;
            self.prepare_delay(&publish.queue, publisher).await?;
            (route.exchange, route.routing_key)
        };
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        self.channel
            .basic_publish(
                exchange.as_str().into(),
                routing_key.as_str().into(),
                options,
                &publish.body,
                convert::properties(publish, publisher.connection.frame_max()),
            )
            .await
            .map_err(|error| on_connection(&error))
    }

    /// Declares on another channel: an error there would close this one, and what is under way.
    async fn prepare_delay(
        &self,
        queue: &QueueName,
        publisher: &Publisher,
    ) -> Result<(), BrokerError> {
        let mut targets = self.delay_targets.lock().await;
        if targets.contains(queue) {
            // The queue may have been deleted since, and its binding with it.
            publisher.rescue_delayed();
            return Ok(());
        }
        let channel = publisher.connection.channel().await?;
        topology::look_up(&channel, queue)
            .await
            .map_err(|error| match error {
                BrokerError::NoSuchQueue { queue } => BrokerError::Unroutable {
                    queue,
                    reason: "no such queue".to_owned(),
                },
                other => other,
            })?;
        delay::bind_target(&channel, queue).await?;
        super::close(&channel).await;
        targets.insert(queue.clone());
        Ok(())
    }
}

async fn confirmed(confirm: PublisherConfirm, queue: &QueueName) -> Result<(), BrokerError> {
    match confirm.await.map_err(|error| on_connection(&error))? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) => Err(BrokerError::Unroutable {
            queue: queue.to_string(),
            reason: returned.reply_text.to_string(),
        }),
        Confirmation::Nack(_) | Confirmation::NotRequested => Err(BrokerError::NotConfirmed {
            queue: queue.to_string(),
        }),
    }
}
