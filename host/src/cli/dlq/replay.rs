//! `warren dlq replay`: jobs that failed for good, sent again as new.

use std::time::Duration;

use serde_json::json;
use warren_plugin_api::{ErrorClass, Record, Status, StoreError, Timestamp, Write, WriteMode};

use super::{
    super::{
        error::{CliError, Exit},
        output::Output,
    },
    dead_letter::DeadLetter,
};
use crate::{
    broker::{BrokerError, HeaderValue, Headers, Publish, QueueName, Settle},
    cli::arguments::DlqFilter,
    client::Client,
    job::{HeaderRef, JobHeaders, JobMessage, header},
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

/// Why a job was not sent.
enum NotSent {
    /// The store refuses this record, and may take another.
    Refused(StoreError),
    /// The next one would fare no better.
    Stop(CliError),
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
            let headers = &dead_letter.delivery.headers;
            match send(client, queue, message, headers, ttl).await {
                Ok(()) => counts.sent += 1,
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
    message: &JobMessage,
    headers: &Headers,
    ttl: Duration,
) -> Result<(), NotSent> {
    let store = client.store();
    let job_id = message.job_id.as_text();
    let before = store.get(job_id.clone()).await.map_err(from_store)?;
    // A worker takes record and message for one job only when they say the same time.
    let now = Timestamp::now();
    let ttl = job_headers(headers).result_ttl.unwrap_or(ttl);
    // The old record has ended, which no ordinary write may undo.
    put(client, queued_again(message, now, ttl)).await?;
    let publish = as_new(queue, message.clone(), headers, now);
    let Err(error) = client.broker().publish(publish).await else {
        return Ok(());
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

fn queued_again(message: &JobMessage, now: Timestamp, ttl: Duration) -> Record {
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
        ..Record::default()
    }
}

/// The job as if it had just been sent: first attempt, no expiry that has passed already, and
/// what its producer asked for.
fn as_new(queue: &QueueName, message: JobMessage, headers: &Headers, now: Timestamp) -> Publish {
    let body = JobMessage {
        job_try: 1,
        status: Status::Queued,
        enqueue_time: now,
        start_time: None,
        end_time: None,
        error: None,
        defer_until: None,
        expires: None,
        ..message
    }
    .to_body();
    let mut headers = headers.clone();
    headers.retain(|name, value| {
        !header::is_of_a_delivery(name) && !matches!(value, HeaderValue::Other(_))
    });
    headers.insert(header::RETRY_COUNT.to_owned(), HeaderValue::Int(0));
    Publish {
        queue: queue.clone(),
        body,
        headers,
        delay: Duration::ZERO,
        priority: 0,
    }
}

fn job_headers(headers: &Headers) -> JobHeaders {
    JobHeaders::read(|name| {
        headers.get(name).map(|value| match value {
            HeaderValue::Int(number) => HeaderRef::Int(*number),
            HeaderValue::Text(text) => HeaderRef::Text(text),
            _ => HeaderRef::Other,
        })
    })
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
