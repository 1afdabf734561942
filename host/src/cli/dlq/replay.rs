//! `warren dlq replay`: jobs that failed for good, sent again as new.

use std::time::Duration;

use serde_json::json;
use warren_plugin_api::{
    ErrorClass, Record, Status, StoreError, Text, Timestamp, Write, WriteMode,
};

use super::{
    super::{
        error::{CliError, Exit},
        output::{Output, one_line},
    },
    dead_letter::DeadLetter,
};
use crate::{
    broker::{BrokerError, Delivery, HeaderValue, Publish, QueueName, Settle},
    cli::arguments::DlqFilter,
    client::Client,
    job::{JobMessage, ReplayedFrom, header},
};

/// Messages that are taken at once: none is held unanswered for much longer than it takes to send
/// so many.
const PAGE: u64 = 100;

/// What became of the messages that were asked for.
#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    unreadable: u64,
    /// The store did not take their records: they stay.
    refused: u64,
}

/// A dead letter that was sent again, and the run that it became.
struct Link {
    job_id: Text,
    queue: QueueName,
    enqueued_at: Timestamp,
    replayed_from: ReplayedFrom,
}

/// Why a job was not sent.
enum NotSent {
    /// The store refuses this record, and may take another.
    Refused(StoreError),
    /// The next one would fare no better.
    Stop(CliError),
}

impl Link {
    fn print(&self, output: &Output) {
        if output.json {
            return output.print_json(&json!({
                "job_id": self.job_id,
                "replayed_from": self.replayed_from,
                "new_run": {
                    "job_id": self.job_id,
                    "queue": self.queue.as_str(),
                    "enqueued_at": self.enqueued_at.to_string(),
                },
            }));
        }
        output.print_line(&format!(
            "{} sent to {} at {}, replayed from {}",
            self.job_id,
            self.queue,
            self.enqueued_at,
            one_line(&self.replayed_from.to_string())
        ));
    }
}

pub(super) async fn run(
    client: &Client,
    queue: &QueueName,
    filter: &DlqFilter,
    ttl: Duration,
    pause: Duration,
    output: &Output,
) -> Result<Exit, CliError> {
    let mut counts = Counts::default();
    let replayed = replay(client, queue, filter, ttl, pause, output, &mut counts).await;
    client.broker().close().await;
    print(&counts, queue, output);
    replayed?;
    Ok(if counts.refused == 0 {
        Exit::Ok
    } else {
        Exit::StoreUnusable
    })
}

async fn replay(
    client: &Client,
    queue: &QueueName,
    filter: &DlqFilter,
    ttl: Duration,
    pause: Duration,
    output: &Output,
    counts: &mut Counts,
) -> Result<(), CliError> {
    let dead_letters = client.broker().dead_letter_queue(queue);
    let info = client.broker().queue_info(&dead_letters).await?;
    let ready = info.map_or(u64::MAX, |info| info.ready);
    // What fails again meanwhile comes last, and is for another replay.
    let mut left = ready.min(filter.limit as u64);
    let bar = output.progress_bar(left, "messages looked at");
    // A message that stays is held to the end, or it would be the next to be taken.
    let mut staying = Vec::new();
    while left > 0 {
        let page = left.min(PAGE) as usize;
        let deliveries = client.broker().fetch(&dead_letters, page).await?;
        if deliveries.is_empty() {
            break;
        }
        left = left.saturating_sub(deliveries.len() as u64);
        for dead_letter in deliveries.into_iter().map(DeadLetter::read) {
            bar.inc(1);
            if !dead_letter.passes(filter) {
                staying.push(dead_letter);
                continue;
            }
            let Some(message) = &dead_letter.message else {
                counts.unreadable += 1;
                staying.push(dead_letter);
                continue;
            };
            match send(client, queue, &dead_letter, message, ttl).await {
                Ok(link) => {
                    counts.sent += 1;
                    bar.suspend(|| link.print(output));
                }
                Err(NotSent::Refused(error)) => {
                    let text = format!("{}: its record was refused: {error}", message.job_id);
                    output.error(&CliError::new(Exit::StoreUnusable, text));
                    counts.refused += 1;
                    staying.push(dead_letter);
                    continue;
                }
                Err(NotSent::Stop(error)) => return Err(error),
            }
            let job_id = dead_letter.job_id;
            let answered = dead_letter.delivery.acker.settle(Settle::Ack);
            answered.map_err(|error| stays_though_sent(&job_id, &dead_letters, &error))?;
            tokio::time::sleep(pause).await;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// To go on would send what the broker has put back, and leave all of it to be sent once more.
fn stays_though_sent(job_id: &str, dead_letters: &QueueName, error: &BrokerError) -> CliError {
    let text = format!(
        "{job_id} was sent, but its message stays in {dead_letters}: {error}; \
         nothing more was sent"
    );
    CliError::new(Exit::BrokerUnavailable, text).with_hint(format!(
        "`warren dlq drop --id {job_id}` deletes it, another replay would run the job again"
    ))
}

async fn send(
    client: &Client,
    queue: &QueueName,
    dead_letter: &DeadLetter,
    message: &JobMessage,
    ttl: Duration,
) -> Result<Link, NotSent> {
    let store = client.store();
    let job_id = message.job_id.as_text();
    let before = store.get(job_id.clone()).await.map_err(from_store)?;
    // A worker takes record and message for one job only when they say the same time.
    let now = Timestamp::now();
    let ttl = dead_letter
        .delivery
        .headers
        .of_job()
        .result_ttl
        .unwrap_or(ttl);
    let replays = replays_so_far(dead_letter, before.as_ref()).saturating_add(1);
    let link = Link {
        job_id: job_id.clone(),
        queue: queue.clone(),
        enqueued_at: now,
        replayed_from: dead_letter.replayed_from(message, replays),
    };
    // The old record has ended, which no ordinary write may undo.
    put(client, queued_again(message, &link, ttl)).await?;
    let publish = as_new(message.clone(), &dead_letter.delivery, &link);
    let Err(error) = client.broker().publish(publish).await else {
        return Ok(link);
    };
    if matches!(error, BrokerError::Unavailable { .. }) {
        // With its old record back, the result of a job that was sent would count as outdated.
        let text = format!(
            "{job_id} may have been sent or not: {error}; its record says queued, and its message \
             stays with the reason why it failed"
        );
        return Err(NotSent::Stop(CliError::new(Exit::BrokerUnavailable, text)));
    }
    let restored = match before {
        Some(record) => put(client, record).await.is_ok(),
        None => store.delete(job_id.clone()).await.is_ok(),
    };
    if !restored {
        tracing::warn!(%job_id, "the record of a job that was not sent says that it is queued");
    }
    Err(NotSent::Stop(error.into()))
}

async fn put(client: &Client, record: Record) -> Result<(), NotSent> {
    let write = Write {
        record,
        mode: WriteMode::Always,
    };
    client.store().put(write).await.map_err(from_store)?;
    Ok(())
}

fn from_store(error: StoreError) -> NotSent {
    match error.class() {
        ErrorClass::Unavailable | ErrorClass::InvalidConfig => NotSent::Stop(error.into()),
        _ => NotSent::Refused(error),
    }
}

/// What the dead letter says, or the record: a message may have been sent again and then stayed
/// all the same, and a worker of rabbitmq-arq drops the header in a retry.
fn replays_so_far(dead_letter: &DeadLetter, before: Option<&Record>) -> u32 {
    let recorded = before.and_then(ReplayedFrom::of_record);
    dead_letter
        .earlier_replays()
        .max(recorded.map_or(0, |from| from.replays))
}

fn queued_again(message: &JobMessage, link: &Link, ttl: Duration) -> Record {
    let now = link.enqueued_at;
    Record {
        job_id: message.job_id.as_text().clone(),
        status: Status::Queued,
        attempt: 1,
        queue: message.queue_name.clone(),
        function: message.function.clone(),
        enqueued_at: Some(now),
        updated_at: Some(now),
        expires_at: Some(now.saturating_add(ttl)),
        args: message.args.clone(),
        kwargs: message.kwargs.clone(),
        extra: vec![link.replayed_from.to_extra()],
        ..Record::default()
    }
}

/// The job as if it had just been sent: first attempt, no expiry that has passed already, and
/// what its producer asked for.
fn as_new(message: JobMessage, delivery: &Delivery, link: &Link) -> Publish {
    let body = JobMessage {
        job_try: 1,
        status: Status::Queued,
        enqueue_time: link.enqueued_at,
        start_time: None,
        end_time: None,
        error: None,
        defer_until: None,
        expires: None,
        ..message
    }
    .to_body();
    let mut headers = delivery.headers.copy_of(|name, value| {
        !header::is_of_a_delivery(name) && !matches!(value, HeaderValue::Other(_))
    });
    headers.insert(header::RETRY_COUNT, HeaderValue::Int(0));
    // In place of that of an earlier replay: the latest failure counts.
    headers.insert(
        header::REPLAYED_FROM,
        HeaderValue::Text(link.replayed_from.to_header()),
    );
    Publish {
        queue: link.queue.clone(),
        body,
        headers,
        delay: Duration::ZERO,
        priority: delivery.priority,
        from_warren: true,
    }
}

fn print(counts: &Counts, queue: &QueueName, output: &Output) {
    let Counts {
        sent,
        unreadable,
        refused,
    } = counts;
    if output.json {
        output.print_json(&json!({
            "replayed": sent, "unreadable": unreadable, "refused": refused,
        }));
        return;
    }
    println!("{sent} jobs sent to {queue} again");
    if *unreadable > 0 {
        println!("{unreadable} messages cannot be read and stay");
    }
    if *refused > 0 {
        println!("{refused} stay because the store refused their records");
    }
}
