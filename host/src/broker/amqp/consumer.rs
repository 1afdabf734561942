//! Receiving deliveries, and answering them.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::SelectAll};
use lapin::{
    Channel,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{connection::Connection, convert, error::on_queue, topology};
use crate::broker::{
    Acker, BrokerError, Delivery, QueueName, Settle,
    ack_ranges::{AckFrame, AckRanges},
    delivery::SettleDelivery,
};

/// The wait before consuming is tried again after the broker ended it.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// Receives from some queues, through lost connections and deleted queues.
#[derive(Debug)]
pub(crate) struct AmqpConsumer {
    deliveries: mpsc::Receiver<Delivery>,
    /// Dropped with the consumer, which ends the task that receives.
    stopped: watch::Sender<bool>,
}

impl AmqpConsumer {
    pub(super) async fn start(
        connection: Arc<Connection>,
        queues: Vec<QueueName>,
        prefetch: u16,
    ) -> Result<Self, BrokerError> {
        let prefetch = prefetch.max(1);
        // The first time, what is wrong with the queues is the caller's to know.
        let first = Intake::open(&connection, &queues, prefetch).await?;
        // The broker sends no more than this before it is answered: handing over never waits.
        let (sender, deliveries) = mpsc::channel(usize::from(prefetch) * queues.len().max(1));
        let (stopped, stop) = watch::channel(false);
        tokio::spawn(receive(connection, queues, prefetch, first, sender, stop));
        Ok(Self {
            deliveries,
            stopped,
        })
    }

    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    pub(crate) async fn stop(&self) {
        self.stopped.send_replace(true);
    }
}

/// Consumers of several queues on one channel.
struct Intake {
    channel: Channel,
    settler: Arc<ChannelSettler>,
    streams: SelectAll<QueueStream>,
    tags: Vec<ShortString>,
}

type QueueStream =
    futures_util::stream::BoxStream<'static, (QueueName, lapin::Result<lapin::message::Delivery>)>;

impl Intake {
    async fn open(
        connection: &Connection,
        queues: &[QueueName],
        prefetch: u16,
    ) -> Result<Self, BrokerError> {
        let channel = connection.channel_when_connected().await?;
        let mut streams = SelectAll::new();
        let mut tags = Vec::with_capacity(queues.len());
        for queue in queues {
            let (tag, stream) = consume(&channel, queue, prefetch).await?;
            tags.push(tag);
            streams.push(stream);
        }
        let settler = Arc::new(ChannelSettler::start(channel.clone(), connection));
        Ok(Self {
            channel,
            settler,
            streams,
            tags,
        })
    }
}

async fn consume(
    channel: &Channel,
    queue: &QueueName,
    prefetch: u16,
) -> Result<(ShortString, QueueStream), BrokerError> {
    let failed = |error| on_queue(&error, queue);
    // Without `global`, RabbitMQ counts per consumer: a full queue does not starve the others.
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
        .map_err(failed)?;
    let consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(failed)?;
    let tag = consumer.tag();
    let name = queue.clone();
    tracing::debug!(%queue, %tag, "consuming");
    // The end of a stream, without an error, is the server's cancellation: it must be seen too.
    let ended = futures_util::stream::once(std::future::ready(Err(
        lapin::ErrorKind::FutureCompleted.into(),
    )));
    let stream = consumer
        .chain(ended)
        .map(move |delivery| (name.clone(), delivery))
        .boxed();
    Ok((tag, stream))
}

/// Hands deliveries over until the consumer is stopped or dropped, or the broker closed.
async fn receive(
    connection: Arc<Connection>,
    queues: Vec<QueueName>,
    prefetch: u16,
    first: Intake,
    sender: mpsc::Sender<Delivery>,
    mut stop: watch::Receiver<bool>,
) {
    let mut intake = first;
    loop {
        match hand_over(&mut intake, &sender, &mut stop).await {
            Ended::ByConsumer => {
                drop(sender);
                linger(intake, stop).await;
                return;
            }
            // The loss of the whole connection is logged where that is followed.
            Ended::ByBroker(Some(error)) if connection.is_connected() => {
                tracing::warn!(%error, "the broker ended the delivery of jobs; asking for them again");
            }
            Ended::ByBroker(_) => {}
        }
        let reopened = tokio::select! {
            reopened = reopen(&connection, &queues, prefetch) => reopened,
            () = stopped(&mut stop) => return,
        };
        match reopened {
            Some(reopened) => intake = reopened,
            None => return,
        }
    }
}

enum Ended {
    ByConsumer,
    ByBroker(Option<BrokerError>),
}

async fn hand_over(
    intake: &mut Intake,
    sender: &mpsc::Sender<Delivery>,
    stop: &mut watch::Receiver<bool>,
) -> Ended {
    // Made once: beginning to wait takes a lock, and ending it another one.
    let stopped = stopped(stop);
    tokio::pin!(stopped);
    loop {
        let received = tokio::select! {
            biased;
            () = &mut stopped => return Ended::ByConsumer,
            received = intake.streams.next() => received,
        };
        let (queue, delivery) = match received {
            Some((queue, Ok(delivery))) => (queue, delivery),
            Some((queue, Err(error))) => {
                return Ended::ByBroker(Some(on_queue(&error, &queue)));
            }
            None => return Ended::ByBroker(None),
        };
        let delivery = into_delivery(queue, delivery, &intake.settler);
        if sender.send(delivery).await.is_err() {
            return Ended::ByConsumer;
        }
    }
}

/// Waits until the consumer is stopped or dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means dropped.
    let _ = stop.wait_for(|stopped| *stopped).await;
}

/// Ends the consumers at once, and the channel only when the consumer is dropped: until then
/// running jobs are answered on it. What lapin holds that was not handed over goes back at once.
async fn linger(intake: Intake, mut stop: watch::Receiver<bool>) {
    let Intake {
        channel,
        settler,
        tags,
        mut streams,
    } = intake;
    for tag in tags {
        if channel
            .basic_cancel(tag, BasicCancelOptions::default())
            .await
            .is_err()
        {
            return;
        }
    }
    // Cancelled, each stream ends after what has come in.
    while let Some((_, received)) = streams.next().await {
        if let Ok(delivery) = received {
            let _ = settler.settle(delivery.delivery_tag, Settle::Requeue);
        }
    }
    while stop.changed().await.is_ok() {}
    settler.finish().await;
    super::close(&channel).await;
}

/// Opens consumers again, however long it takes; declares queues that were deleted meanwhile.
async fn reopen(connection: &Connection, queues: &[QueueName], prefetch: u16) -> Option<Intake> {
    loop {
        match redeclare_and_open(connection, queues, prefetch).await {
            Ok(intake) => return Some(intake),
            Err(BrokerError::Closed) => return None,
            Err(error) => {
                tracing::warn!(%error, "cannot consume yet");
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }
}

async fn redeclare_and_open(
    connection: &Connection,
    queues: &[QueueName],
    prefetch: u16,
) -> Result<Intake, BrokerError> {
    let channel = connection.channel_when_connected().await?;
    for queue in queues {
        topology::declare_with_dead_letters(&channel, queue, connection.settings()).await?;
    }
    super::close(&channel).await;
    Intake::open(connection, queues, prefetch).await
}

/// A delivery as the worker sees it. The body is moved, not copied.
pub(super) fn into_delivery(
    queue: QueueName,
    delivery: lapin::message::Delivery,
    settler: &Arc<ChannelSettler>,
) -> Delivery {
    Delivery {
        queue,
        headers: convert::headers(&delivery.properties),
        priority: delivery.properties.priority().unwrap_or_default(),
        from_warren: convert::is_from_warren(&delivery.properties),
        body: delivery.data.into(),
        redelivered: delivery.redelivered,
        acker: Acker::new(
            delivery.delivery_tag,
            Arc::clone(settler) as Arc<dyn SettleDelivery>,
        ),
    }
}

/// Sends the answers of one channel. Tags belong to it alone: once it is gone, its answers go
/// nowhere, and the broker delivers those messages again.
#[derive(Debug)]
pub(super) struct ChannelSettler {
    answers: mpsc::UnboundedSender<ToSend>,
}

#[derive(Debug)]
enum ToSend {
    Answer(u64, Settle),
    /// Everything before this has been sent.
    Mark(oneshot::Sender<()>),
}

impl ChannelSettler {
    pub(super) fn start(channel: Channel, connection: &Connection) -> Self {
        let (answers, receiver) = mpsc::unbounded_channel();
        connection
            .answering()
            .spawn(send_answers(channel, receiver));
        Self { answers }
    }

    /// Waits until every answer given so far has been sent.
    async fn finish(&self) {
        let (mark, reached) = oneshot::channel();
        if self.answers.send(ToSend::Mark(mark)).is_ok() {
            // An error means that the channel is gone.
            let _ = reached.await;
        }
    }
}

impl SettleDelivery for ChannelSettler {
    fn settle(&self, tag: u64, answer: Settle) -> Result<(), BrokerError> {
        self.answers
            .send(ToSend::Answer(tag, answer))
            .map_err(|_| BrokerError::Unavailable {
                reason: "the channel that delivered the message is gone".to_owned(),
            })
    }
}

/// Takes all answers that have come meanwhile and sends them in as few frames as can be.
async fn send_answers(channel: Channel, mut answers: mpsc::UnboundedReceiver<ToSend>) {
    const MOST_AT_ONCE: usize = 1_024;
    let mut ranges = AckRanges::default();
    let mut batch = Vec::new();
    let mut marks = Vec::new();
    let mut settled = Vec::new();
    while answers.recv_many(&mut batch, MOST_AT_ONCE).await > 0 {
        for to_send in batch.drain(..) {
            match to_send {
                ToSend::Answer(tag, answer) => settled.push((tag, answer)),
                ToSend::Mark(mark) => marks.push(mark),
            }
        }
        for frame in ranges.frames(&settled) {
            if send(&channel, frame).await.is_err() {
                return;
            }
        }
        settled.clear();
        for mark in marks.drain(..) {
            // Whoever waited may have gone.
            let _ = mark.send(());
        }
    }
    // Every delivery is answered or abandoned: what was abandoned goes back with the channel.
    super::close(&channel).await;
}

async fn send(channel: &Channel, frame: AckFrame) -> lapin::Result<()> {
    match frame {
        AckFrame::UpTo(tag) => {
            channel
                .basic_ack(tag, BasicAckOptions { multiple: true })
                .await
        }
        AckFrame::One(tag) => {
            channel
                .basic_ack(tag, BasicAckOptions { multiple: false })
                .await
        }
        AckFrame::Requeue(tag) => {
            let options = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            channel.basic_nack(tag, options).await
        }
    }
}
