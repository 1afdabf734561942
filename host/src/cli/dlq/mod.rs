//! `warren dlq ls|show|drop|replay`

mod dead_letter;

use std::time::Duration;

use serde_json::json;
use warren_plugin_api::{Record, Status, Timestamp, Write, WriteMode};

use super::{
    arguments::{DlqCommand, DlqFilter},
    error::{CliError, Exit},
    output::Output,
    queue::queue_name,
    results::confirm,
    session::Session,
};
use crate::{
    broker::{HeaderValue, Headers, Publish, QueueName, Settle},
    job::{JobMessage, header},
};
use dead_letter::DeadLetter;

pub(super) async fn run(
    session: &Session,
    command: DlqCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    match command {
        DlqCommand::Ls(filter) => list(session, &filter, output).await,
        DlqCommand::Show(filter) => show(session, &filter, output).await,
        DlqCommand::Drop {
            filter,
            dry_run,
            yes,
        } => delete(session, &filter, dry_run, yes, output).await,
        DlqCommand::Replay {
            filter,
            dry_run,
            rate,
        } => {
            let pause = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.get());
            replay(session, &filter, dry_run, pause, output).await
        }
    }
}

const COLUMNS: [&str; 4] = ["JOB", "FUNCTION", "ERROR", "FAILED AT"];

/// Every message that is looked at goes back to its place when it is dropped.
async fn matching(
    broker: &crate::broker::Broker,
    queue: &QueueName,
    filter: &DlqFilter,
) -> Result<Vec<DeadLetter>, CliError> {
    let dead_letters = broker.dead_letter_queue(queue);
    let deliveries = broker.fetch(&dead_letters, filter.limit).await?;
    Ok(deliveries
        .into_iter()
        .map(DeadLetter::read)
        .filter(|it| it.passes(filter))
        .collect())
}

async fn list(session: &Session, filter: &DlqFilter, output: &Output) -> Result<Exit, CliError> {
    let broker = session.broker().await?;
    let found = matching(&broker, &queue_name(&filter.queue)?, filter).await?;
    print(&found, output);
    drop(found);
    broker.close().await;
    Ok(Exit::Ok)
}

async fn show(session: &Session, filter: &DlqFilter, output: &Output) -> Result<Exit, CliError> {
    let broker = session.broker().await?;
    let found = matching(&broker, &queue_name(&filter.queue)?, filter).await?;
    for dead_letter in &found {
        let shown = dead_letter.to_full_json();
        if output.json {
            output.print_json(&shown);
            continue;
        }
        println!("{}", dead_letter.job_id);
        for key in ["function", "error", "failed_at", "body"] {
            println!("  {key:<17} {}", shown[key].as_str().unwrap_or_default());
        }
        for (name, value) in shown["headers"].as_object().into_iter().flatten() {
            println!("  {name:<17} {value}");
        }
    }
    let exit = if found.is_empty() {
        Exit::NotFound
    } else {
        Exit::Ok
    };
    drop(found);
    broker.close().await;
    Ok(exit)
}

async fn delete(
    session: &Session,
    filter: &DlqFilter,
    dry_run: bool,
    yes: bool,
    output: &Output,
) -> Result<Exit, CliError> {
    let broker = session.broker().await?;
    let queue = queue_name(&filter.queue)?;
    let found = matching(&broker, &queue, filter).await?;
    if dry_run {
        print(&found, output);
        return Ok(Exit::Ok);
    }
    let count = found.len();
    if !yes && count > 0 {
        confirm(&format!(
            "Delete {count} messages of jobs that failed in {queue}?"
        ))?;
    }
    for dead_letter in found {
        // Should the connection be lost now, it stays and can be deleted again.
        let _ = dead_letter.delivery.acker.settle(Settle::Ack);
    }
    broker.close().await;
    if output.json {
        output.print_json(&json!({ "dropped": count }));
    } else {
        println!("{count} messages deleted");
    }
    Ok(Exit::Ok)
}

fn print(found: &[DeadLetter], output: &Output) {
    if output.json {
        found
            .iter()
            .for_each(|dead_letter| dead_letter.print_json(output));
    } else {
        output.print_table(&COLUMNS, found.iter().map(DeadLetter::row).collect());
    }
}

async fn replay(
    session: &Session,
    filter: &DlqFilter,
    dry_run: bool,
    pause: Duration,
    output: &Output,
) -> Result<Exit, CliError> {
    let queue = queue_name(&filter.queue)?;
    let client = session.client().await?;
    let found = matching(client.broker(), &queue, filter).await?;
    if dry_run {
        print(&found, output);
        return Ok(Exit::Ok);
    }
    let bar = output.progress_bar(found.len() as u64, "jobs sent again");
    let (mut sent, mut unreadable) = (0, 0);
    for dead_letter in found {
        let DeadLetter {
            delivery, message, ..
        } = dead_letter;
        let Some(message) = message else {
            unreadable += 1;
            continue;
        };
        // The old record has ended, which no ordinary write may undo.
        let record = queued_again(&message, session.loaded.config.result_store.ttl);
        client
            .store()
            .put(Write {
                record,
                mode: WriteMode::Always,
            })
            .await?;
        client.broker().publish(as_new(&queue, message)).await?;
        // Only now, so that a failure leaves the message where it is.
        let _ = delivery.acker.settle(Settle::Ack);
        sent += 1;
        bar.inc(1);
        tokio::time::sleep(pause).await;
    }
    bar.finish_and_clear();
    client.broker().close().await;
    if output.json {
        output.print_json(&json!({ "replayed": sent, "unreadable": unreadable }));
    } else {
        println!("{sent} jobs sent to {queue} again");
        if unreadable > 0 {
            println!("{unreadable} messages cannot be read and stay");
        }
    }
    Ok(Exit::Ok)
}

fn queued_again(message: &JobMessage, ttl: Duration) -> Record {
    let now = Timestamp::now();
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

/// The job as if it had just been sent: first attempt, no expiry that has passed already.
fn as_new(queue: &QueueName, message: JobMessage) -> Publish {
    let body = JobMessage {
        job_try: 1,
        status: Status::Queued,
        enqueue_time: Timestamp::now(),
        start_time: None,
        end_time: None,
        error: None,
        defer_until: None,
        expires: None,
        ..message
    }
    .to_body();
    Publish {
        queue: queue.clone(),
        body,
        headers: Headers::from([(header::RETRY_COUNT.to_owned(), HeaderValue::Int(0))]),
        delay: Duration::ZERO,
        priority: 0,
    }
}
