//! Sending messages, confirmed by the broker. Many calls share one channel without waiting for
//! one another.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::time::Instant;

use super::{
    connection::Connection,
    delay,
    outlet::{Message, Outlet},
    topology,
    undeliverable::Rescue,
};
use crate::broker::{BrokerError, Publish, QueueName};

/// The wait before a publish is tried again after its channel was lost.
const RETRY_WAIT: Duration = Duration::from_millis(20);
/// The most messages that are sent together, and the most bytes of them, unless one has more.
const MOST_TOGETHER: usize = 512;
const MOST_BYTES_TOGETHER: usize = 1024 * 1024;
/// So many times that is on its way at once for one call: each message is copied for its frames.
const TIMES_UNDER_WAY: usize = 2;

/// Sends messages, again where a connection was lost meanwhile.
#[derive(Debug)]
pub(super) struct Publisher {
    connection: Arc<Connection>,
    rescue: Rescue,
}

impl Publisher {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            rescue: Rescue::default(),
        }
    }

    /// Sends on, from now on, delayed messages that did not find their queue.
    pub(super) fn rescue_delayed(&self) {
        self.rescue.begin(&self.connection);
    }

    pub(super) async fn publish(&self, publish: Publish) -> Result<(), BrokerError> {
        let answers = self.publish_together(vec![publish]).await;
        answers.into_iter().next().unwrap_or(Ok(()))
    }

    /// Answers in their order; those that fail with the connection are tried again.
    pub(super) async fn publish_many(
        &self,
        publishes: Vec<Publish>,
    ) -> Vec<Result<(), BrokerError>> {
        let mut groups = together(publishes).peekable();
        let Some(first) = groups.next() else {
            return Vec::new();
        };
        if groups.peek().is_none() {
            return self.publish_together(first).await;
        }
        let sends = std::iter::once(first).chain(groups);
        let sends = sends.map(|publishes| self.publish_together(publishes));
        let answers = futures_util::stream::iter(sends).buffered(TIMES_UNDER_WAY);
        Box::pin(answers.concat()).await
    }

    async fn publish_together(&self, publishes: Vec<Publish>) -> Vec<Result<(), BrokerError>> {
        let deadline = Instant::now() + self.connection.settings().publish_timeout;
        let mut answers = self.publish_once(&publishes, deadline).await;
        loop {
            let is_lost =
                |answer: &Result<_, _>| matches!(answer, Err(BrokerError::Unavailable { .. }));
            let lost = (0..answers.len()).filter(|place| is_lost(&answers[*place]));
            let lost: Vec<usize> = lost.collect();
            if lost.is_empty() || Instant::now() >= deadline {
                return answers;
            }
            tokio::time::sleep(RETRY_WAIT).await;
            let again: Vec<Publish> = lost.iter().map(|place| publishes[*place].clone()).collect();
            let answered = self.publish_once(&again, deadline).await;
            for (place, answer) in lost.into_iter().zip(answered) {
                answers[place] = answer;
            }
        }
    }

    async fn publish_once(
        &self,
        publishes: &[Publish],
        deadline: Instant,
    ) -> Vec<Result<(), BrokerError>> {
        let attempt = async {
            match self.connection.outlet().await {
                Ok(outlet) => self.send(publishes, &outlet).await,
                Err(error) => vec![Err(error); publishes.len()],
            }
        };
        tokio::time::timeout_at(deadline, attempt)
            .await
            .unwrap_or_else(|_| vec![Err(self.timed_out()); publishes.len()])
    }

    async fn send(&self, publishes: &[Publish], outlet: &Outlet) -> Vec<Result<(), BrokerError>> {
        let mut answers = vec![Ok(()); publishes.len()];
        let (mut messages, mut places) = (Vec::with_capacity(publishes.len()), Vec::new());
        for (place, publish) in publishes.iter().enumerate() {
            match self.route(publish, outlet).await {
                Ok(route) => {
                    messages.push(Message::of_job(publish, route, outlet.frame_max()));
                    places.push(place);
                }
                Err(error) => answers[place] = Err(error),
            }
        }
        let sent = outlet.send(messages.into()).await;
        for (place, answer) in places.into_iter().zip(sent) {
            answers[place] = answer;
        }
        answers
    }

    /// How a message comes to its queue, which is ready for it then; `None` is straight.
    async fn route(
        &self,
        publish: &Publish,
        outlet: &Outlet,
    ) -> Result<Option<delay::Route>, BrokerError> {
        if publish.delay.is_zero() {
            return Ok(None);
        }
        Box::pin(self.delayed_route(publish, outlet))
            .await
            .map(Some)
    }

    async fn delayed_route(
        &self,
        publish: &Publish,
        outlet: &Outlet,
    ) -> Result<delay::Route, BrokerError> {
        let route = delay::route(&publish.queue, publish.delay)?;
        let levels = &outlet.delay_levels;
        levels.prepare(&self.connection, &route).await?;
        self.prepare_target(&publish.queue, outlet).await?;
        Ok(route)
    }

    /// Declares on another channel: an error there would close this one, and what is under way.
    async fn prepare_target(&self, queue: &QueueName, outlet: &Outlet) -> Result<(), BrokerError> {
        let mut targets = outlet.delay_targets.lock().await;
        if targets.contains(queue) {
            // The queue may have been deleted since, and its binding with it.
            self.rescue_delayed();
            return Ok(());
        }
        let channel = self.connection.channel().await?;
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

    fn timed_out(&self) -> BrokerError {
        let settings = self.connection.settings();
        BrokerError::Unavailable {
            reason: format!(
                "{} did not confirm a message within {:?}",
                settings.url, settings.publish_timeout
            ),
        }
    }
}

/// What is sent together, in order.
fn together(publishes: Vec<Publish>) -> impl Iterator<Item = Vec<Publish>> {
    let mut rest = publishes.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut taken = vec![rest.next()?];
        let mut bytes = taken[0].body.len();
        while taken.len() < MOST_TOGETHER
            && let Some(next) = rest.next_if(|next| bytes + next.body.len() <= MOST_BYTES_TOGETHER)
        {
            bytes += next.body.len();
            taken.push(next);
        }
        Some(taken)
    })
}
