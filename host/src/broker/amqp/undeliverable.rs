//! Delayed messages that did not find their queue: when a queue is deleted, the broker removes
//! its binding to the delay levels too, tells nobody, and does not bring it back when the queue
//! is declared again.
//!
//! The levels send such messages to one queue. Every process that consumes, and every one that
//! relies on a binding it made earlier, takes from there: it binds the queue again and sends the
//! message on. While the queue is missing the message goes round through the levels, with growing
//! pauses, so that it is never lost and holds nothing up.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{StreamExt, future::try_join_all};
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio_util::task::AbortOnDropHandle;
use warren_plugin_api::Payload;

use super::{
    connection::Connection,
    delay::{self, Route, UNDELIVERABLE},
    error::on_connection,
    header_room::{Table, fitted},
    outlet::{Message, Outlet},
    topology,
};
use crate::broker::{BrokerError, QueueName};

/// Messages that are taken, and sent on, together.
const AT_ONCE: u16 = 64;
/// How often a message has found its queue missing. Removed when it is delivered.
const ROUNDS: &str = "x-warren-delay-rounds";
/// Where the broker notes through which queues a message has gone.
const DEATHS: &str = "x-death";
/// How long a message stays away before it looks for its queue again; doubled in each round.
const FIRST_ROUND: Duration = Duration::from_secs(1);
const LONGEST_ROUND: Duration = Duration::from_secs(60 * 60);
/// The wait before a lost subscription is tried again; doubled after each, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Queues whose state is remembered, so that a change of it is logged and not each message.
const MOST_REMEMBERED: usize = 1_024;

/// Looks after such messages from the first time that it is asked to until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    task: OnceLock<AbortOnDropHandle<()>>,
}

impl Rescue {
    /// Begins, unless it has begun.
    pub(super) fn begin(&self, connection: &Arc<Connection>) {
        self.task
            .get_or_init(|| AbortOnDropHandle::new(tokio::spawn(send_on(Arc::clone(connection)))));
    }
}

/// Through lost connections, until the broker is closed.
async fn send_on(connection: Arc<Connection>) {
    let mut wait = FIRST_WAIT;
    let mut seen = Seen::default();
    loop {
        match receive(&connection, &mut seen, &mut wait).await {
            Err(BrokerError::Closed) => return,
            Err(error) if wait == LONGEST_WAIT => {
                tracing::warn!(%error, "delayed messages whose queue was deleted cannot be sent on");
            }
            _ => {}
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Until the channel ends. What was not answered by then comes again.
async fn receive(
    connection: &Connection,
    seen: &mut Seen,
    wait: &mut Duration,
) -> Result<(), BrokerError> {
    let failed = |error: lapin::Error| on_connection(&error);
    let channel = connection.channel_when_connected().await?;
    delay::declare_delivery(&channel).await?;
    channel
        .basic_qos(AT_ONCE, BasicQosOptions::default())
        .await
        .map_err(failed)?;
    let consumer = channel
        .basic_consume(
            UNDELIVERABLE.into(),
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(failed)?;
    let mut batches = consumer.ready_chunks(usize::from(AT_ONCE));
    while let Some(batch) = batches.next().await {
        let batch: Vec<Delivery> = batch
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let Some(last) = batch.last().map(|delivery| delivery.delivery_tag) else {
            continue;
        };
        send_batch_on(connection, &channel, &batch, seen).await?;
        // All up to the last: deliveries come in the order of their tags.
        channel
            .basic_ack(last, BasicAckOptions { multiple: true })
            .await
            .map_err(failed)?;
        *wait = FIRST_WAIT;
    }
    Ok(())
}

async fn send_batch_on(
    connection: &Connection,
    channel: &Channel,
    batch: &[Delivery],
    seen: &mut Seen,
) -> Result<(), BrokerError> {
    let mut by_queue: HashMap<Option<QueueName>, Vec<&Delivery>> = HashMap::new();
    for delivery in batch {
        let queue = delay::target(delivery.routing_key.as_str());
        by_queue.entry(queue).or_default().push(delivery);
    }
    for (queue, deliveries) in by_queue {
        let Some(queue) = queue else {
            set_aside(connection, channel, &deliveries).await?;
            continue;
        };
        let found = bind_again(connection, &queue).await?;
        let sends = deliveries.iter().map(|delivery| async {
            if found && deliver(connection, &queue, delivery).await? {
                return Ok(true);
            }
            send_round(connection, &queue, delivery)
                .await
                .map(|()| false)
        });
        let delivered = try_join_all(sends).await?;
        seen.log(&queue, delivered.into_iter().all(|delivered| delivered));
    }
    Ok(())
}

/// Whether the queue exists; then delayed messages find it again.
async fn bind_again(connection: &Connection, queue: &QueueName) -> Result<bool, BrokerError> {
    // On another channel: the answer "no such queue" closes it.
    let channel = connection.channel().await?;
    let bound = async {
        topology::look_up(&channel, queue).await?;
        delay::bind_target(&channel, queue).await
    };
    let found = match bound.await {
        Ok(()) => true,
        Err(BrokerError::NoSuchQueue { .. }) => false,
        Err(error) => return Err(error),
    };
    super::close(&channel).await;
    Ok(found)
}

/// Sends a message straight to its queue; `false` when that is gone.
async fn deliver(
    connection: &Connection,
    queue: &QueueName,
    delivery: &Delivery,
) -> Result<bool, BrokerError> {
    match send_straight(connection, queue, delivery).await {
        Ok(()) => Ok(true),
        Err(BrokerError::Unroutable { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn send_straight(
    connection: &Connection,
    queue: &QueueName,
    delivery: &Delivery,
) -> Result<(), BrokerError> {
    let mut headers = headers(delivery);
    headers.remove(ROUNDS);
    let outlet = connection.outlet().await?;
    send(&outlet, queue, None, delivery, headers).await
}

/// Lets a message wait until its queue may be there.
async fn send_round(
    connection: &Connection,
    queue: &QueueName,
    delivery: &Delivery,
) -> Result<(), BrokerError> {
    let mut headers = headers(delivery);
    let rounds = rounds(&headers);
    // The broker drops, silently, what it sees come to a level for the second time.
    headers.retain(|name, _| name.as_str() != DEATHS);
    let next = AMQPValue::LongLongInt(i64::from(rounds) + 1);
    headers.insert(ROUNDS.into(), next);
    let round = FIRST_ROUND
        .saturating_mul(2_u32.saturating_pow(rounds))
        .min(LONGEST_ROUND);
    let route = delay::route(queue, round)?;
    let outlet = connection.outlet().await?;
    outlet.delay_levels.prepare(connection, &route).await?;
    send(&outlet, queue, Some(route), delivery, headers).await
}

/// Keeps what no delay can have brought here where it can be looked at.
async fn set_aside(
    connection: &Connection,
    channel: &Channel,
    deliveries: &[&Delivery],
) -> Result<(), BrokerError> {
    let suffix = &connection.settings().dead_letter_suffix;
    let aside = QueueName::dead_letters_of(UNDELIVERABLE, suffix);
    delay::declare_queue(channel, aside.as_str(), FieldTable::default()).await?;
    tracing::warn!(
        queue = %aside,
        messages = deliveries.len(),
        "messages without a delay's address were set aside"
    );
    for delivery in deliveries {
        send_straight(connection, &aside, delivery).await?;
    }
    Ok(())
}

/// Sends a message on as it is, but for its headers.
async fn send(
    outlet: &Outlet,
    queue: &QueueName,
    route: Option<Route>,
    delivery: &Delivery,
    headers: Table,
) -> Result<(), BrokerError> {
    let properties = fitted(delivery.properties.clone(), headers, outlet.frame_max());
    let body = Payload::from(&*delivery.data);
    let message = Message::new(queue.clone(), route, &properties, body);
    let answers = outlet.send(vec![message].into()).await;
    answers.into_iter().next().unwrap_or(Ok(()))
}

/// As they are on the wire, so that all of them survive.
fn headers(delivery: &Delivery) -> Table {
    let table = delivery.properties.headers().as_ref();
    table.map(|table| table.inner().clone()).unwrap_or_default()
}

/// Whatever a stranger may have written there.
fn rounds(headers: &Table) -> u32 {
    match headers.get(ROUNDS) {
        Some(AMQPValue::LongLongInt(rounds)) => u32::try_from(*rounds).unwrap_or(0),
        _ => 0,
    }
}

/// Which queues were there when they were last looked for.
#[derive(Debug, Default)]
struct Seen(HashMap<QueueName, bool>);

impl Seen {
    /// Logs a change.
    fn log(&mut self, queue: &QueueName, found: bool) {
        if self.0.len() >= MOST_REMEMBERED && !self.0.contains_key(queue) {
            self.0.clear();
        }
        if self.0.insert(queue.clone(), found) == Some(found) {
            return;
        }
        if found {
            tracing::warn!(
                %queue,
                "the queue was deleted and declared again: messages delayed before are sent on"
            );
        } else {
            tracing::warn!(
                %queue,
                "messages that were delayed wait for their queue, which does not exist"
            );
        }
    }
}
