//! A direct exchange by which clients hear of jobs that have ended: see
//! [`broker::completions`](crate::broker::completions).
//!
//! Words are neither persistent nor confirmed, and the broker drops those that nobody asked for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{join_all, try_join_all},
};
use lapin::{
    BasicProperties, Channel, ExchangeKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{connection::Connection, error::on_connection, topology};
use crate::broker::{
    Announced, BrokerError, CompletionReceiver, Interest,
    completions::{self, BACKLOG, MAX_PENDING, Message, Word},
};

const EXCHANGE: &str = "warren.completions";
/// Header by which RabbitMQ routes one message by several keys.
const MORE_KEYS: &str = "CC";
/// How long words are not sent after the broker refused to take them.
const REST: Duration = Duration::from_secs(10);
/// The wait before a lost subscription is tried again; doubled after each, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Words that the broker hands over at once: what bounds the memory of a client that is slow.
const PREFETCH: u16 = 256;
/// What the broker keeps for a client that does not take it; the oldest goes first.
const MAX_QUEUE_BYTES: i64 = 16 * 1024 * 1024;

/// Sends words on a channel of its own, without being waited for.
#[derive(Debug)]
pub(super) struct Announcer {
    connection: Arc<Connection>,
    pending: Mutex<Vec<Word>>,
    /// Somebody sees to it that what is pending is sent.
    is_sending: AtomicBool,
    channel: tokio::sync::Mutex<Option<Channel>>,
}

impl Announcer {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            pending: Mutex::default(),
            is_sending: AtomicBool::new(false),
            channel: tokio::sync::Mutex::default(),
        }
    }

    /// Never waits. Words that a broker which is away has no room for are left out.
    pub(super) fn announce(self: &Arc<Self>, words: impl IntoIterator<Item = Word>) {
        let mut pending = self.pending();
        let room = MAX_PENDING.saturating_sub(pending.len());
        pending.extend(words.into_iter().take(room));
        drop(pending);
        if !self.is_sending.swap(true, Ordering::AcqRel) {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.send_all().await });
        }
    }

    /// Waits until what was announced so far is on its way.
    pub(super) async fn flush(&self) {
        // What could not be sent is lost, as a hint may be.
        let _ = self.send_pending().await;
    }

    async fn send_all(&self) {
        loop {
            match self.send_pending().await {
                Ok(()) => {}
                Err(BrokerError::Closed) => return self.pending().clear(),
                Err(error) => {
                    tracing::warn!(%error, "waiting clients are not told of jobs that have ended; they look for themselves");
                    tokio::time::sleep(REST).await;
                    self.pending().clear();
                }
            }
            self.is_sending.store(false, Ordering::Release);
            if self.pending().is_empty() || self.is_sending.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    async fn send_pending(&self) -> Result<(), BrokerError> {
        let mut channel = self.channel.lock().await;
        while !self.pending().is_empty() {
            let open = match channel.take().filter(|it| it.status().connected()) {
                Some(open) => open,
                None => open(&self.connection).await?,
            };
            let words = std::mem::take(&mut *self.pending());
            let messages = completions::messages(words);
            // One after the other, each would cost a switch to the connection's thread.
            let sent = join_all(messages.iter().map(|message| send(&open, message))).await;
            if let Some(error) = sent.into_iter().find_map(Result::err) {
                tracing::debug!(%error, "lost words of jobs that have ended");
            } else {
                *channel = Some(open);
            }
        }
        Ok(())
    }

    fn pending(&self) -> MutexGuard<'_, Vec<Word>> {
        // No code that holds the lock can panic.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open(connection: &Connection) -> Result<Channel, BrokerError> {
    let channel = connection.channel_when_connected().await?;
    topology::declare_exchange(&channel, EXCHANGE, ExchangeKind::Direct).await?;
    Ok(channel)
}

async fn send(channel: &Channel, message: &Message) -> lapin::Result<()> {
    let mut keys = message.concerns.routing_keys();
    let first = keys.next().unwrap_or_default();
    let others: Vec<AMQPValue> = keys
        .map(|key| AMQPValue::LongString(LongString::from(key.as_bytes())))
        .collect();
    let mut headers = BTreeMap::new();
    if !others.is_empty() {
        headers.insert(
            ShortString::from(MORE_KEYS),
            AMQPValue::FieldArray(others.into()),
        );
    }
    channel
        .basic_publish(
            EXCHANGE.into(),
            ShortString::from(first.as_ref()),
            BasicPublishOptions::default(),
            &message.body,
            BasicProperties::default().with_headers(headers.into()),
        )
        .await?;
    Ok(())
}

/// Receives words of what `interest` asks for, through lost connections.
pub(super) fn receive(
    connection: Arc<Connection>,
    mut interest: watch::Receiver<Interest>,
) -> CompletionReceiver {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut wait = FIRST_WAIT;
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = forward(&connection, &mut interest, &sender) => ended,
                () = sender.closed() => return,
            };
            if sender.send(Announced::Down).await.is_err() {
                return;
            }
            if began.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            match ended {
                Ok(Ended::NothingWanted) | Err(BrokerError::Closed) => return,
                Err(error) if wait == LONGEST_WAIT => {
                    tracing::warn!(%error, "word of jobs that have ended does not come through");
                }
                Err(error) => {
                    tracing::debug!(%error, "word of jobs that have ended is interrupted")
                }
                Ok(Ended::ByBroker) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    });
    CompletionReceiver { receiver }
}

enum Ended {
    ByBroker,
    NothingWanted,
}

/// Until the channel ends, or nobody is there any more to want anything.
async fn forward(
    connection: &Connection,
    interest: &mut watch::Receiver<Interest>,
    sender: &mpsc::Sender<Announced>,
) -> Result<Ended, BrokerError> {
    let failed = |error: lapin::Error| on_connection(&error);
    if !completions::is_wanted(interest).await {
        return Ok(Ended::NothingWanted);
    }
    let channel = open(connection).await?;
    let queue = own_queue(&channel).await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await
        .map_err(failed)?;
    let mut consumer = channel
        .basic_consume(
            queue.clone(),
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(failed)?;
    let mut bound = Interest::NONE;
    loop {
        let wanted = *interest.borrow_and_update();
        if wanted != bound {
            bind(&channel, &queue, bound, wanted).await?;
            if !bound.covers(wanted) {
                // Who listens no more is found out by the caller.
                let _ = sender.send(Announced::Up(wanted)).await;
            }
            bound = wanted;
        }
        tokio::select! {
            delivery = consumer.next() => {
                let Some(delivery) = delivery else {
                    return Ok(Ended::ByBroker);
                };
                let delivery = delivery.map_err(failed)?;
                if let Some(jobs) = completions::jobs(&delivery.data) {
                    let _ = sender.send(Announced::Jobs(jobs)).await;
                }
                let tag = delivery.delivery_tag;
                channel
                    .basic_ack(tag, BasicAckOptions::default())
                    .await
                    .map_err(failed)?;
            }
            changed = interest.changed() => {
                if changed.is_err() {
                    super::close(&channel).await;
                    return Ok(Ended::NothingWanted);
                }
            }
        }
    }
}

/// The queue of this client alone; it goes with the channel's consumer.
async fn own_queue(channel: &Channel) -> Result<ShortString, BrokerError> {
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-max-length-bytes".into(),
        AMQPValue::LongLongInt(MAX_QUEUE_BYTES),
    );
    let queue = channel
        .queue_declare(ShortString::default(), own, arguments)
        .await
        .map_err(|error| on_connection(&error))?;
    Ok(queue.name().clone())
}

/// Makes what is bound what is wanted.
async fn bind(
    channel: &Channel,
    queue: &ShortString,
    bound: Interest,
    wanted: Interest,
) -> Result<(), BrokerError> {
    let key = |key: std::borrow::Cow<'static, str>| ShortString::from(key.as_ref());
    let more = wanted.without(bound).routing_keys().map(|name| {
        channel.queue_bind(
            queue.clone(),
            EXCHANGE.into(),
            key(name),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
    });
    let fewer = bound.without(wanted).routing_keys().map(|name| {
        channel.queue_unbind(
            queue.clone(),
            EXCHANGE.into(),
            key(name),
            FieldTable::default(),
        )
    });
    let failed = |error: lapin::Error| on_connection(&error);
    try_join_all(more).await.map_err(failed)?;
    try_join_all(fewer).await.map_err(failed)?;
    Ok(())
}
