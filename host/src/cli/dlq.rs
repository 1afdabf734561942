//! `warren dlq ls|replay`

use std::time::Duration;

use serde_json::json;
use warren_plugin_api::{Record, Status, Timestamp, Write, WriteMode};

use super::{
    arguments::{DlqCommand, DlqFilter},
    error::{CliError, Exit},
    output::Output,
    queue::queue_name,
    session::Session,
};
use crate::{
    broker::{Delivery, HeaderValue, Headers, Publish, QueueName, Settle},
    job::{JobMessage, header},
};

pub(super) async fn run(
    session: &Session,
    command: DlqCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    match command {
        DlqCommand::Ls(filter) => list(session, &filter, output).await,
        DlqCommand::Replay { filter, dry_run } => replay(session, &filter, dry_run, output).await,
    }
}

/// A message of a dead-letter queue, and what is known of it.
struct DeadLetter {
    delivery: Delivery,
    job_id: String,
    function: String,
    error: String,
    failed_at: String,
    message: Option<JobMessage>,
}

impl DeadLetter {
    fn read(delivery: Delivery) -> Self {
        let text = |name: &str| match delivery.headers.get(name) {
            Some(HeaderValue::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let message = JobMessage::parse(&delivery.body, Timestamp::now()).ok();
        let job_id = match &message {
            Some(message) => message.job_id.as_str().to_owned(),
            None => text(header::JOB_ID),
        };
        Self {
            job_id,
            function: message
                .as_ref()
                .map_or_else(String::new, |it| it.function.to_string()),
            error: format!(
                "{}: {}",
                text(header::ERROR_TYPE),
                text(header::ERROR_MESSAGE)
            ),
            failed_at: text(header::FAILED_AT),
            message,
            delivery,
        }
    }

    fn passes(&self, filter: &DlqFilter) -> bool {
        (filter.job_ids.is_empty() || filter.job_ids.contains(&self.job_id))
            && filter
                .function
                .as_ref()
                .is_none_or(|function| *function == self.function)
            && filter
                .error
                .as_ref()
                .is_none_or(|part| self.error.to_lowercase().contains(&part.to_lowercase()))
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.job_id.clone(),
            self.function.clone(),
            self.error.chars().take(80).collect(),
            self.failed_at.clone(),
        ]
    }

    fn print_json(&self, output: &Output) {
        output.print_json(&json!({
            "job_id": self.job_id,
            "function": self.function,
            "error": self.error,
            "failed_at": self.failed_at,
        }));
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
    output: &Output,
) -> Result<Exit, CliError> {
    let queue = queue_name(&filter.queue)?;
    let client = session.client().await?;
    let found = matching(client.broker(), &queue, filter).await?;
    if dry_run {
        print(&found, output);
        return Ok(Exit::Ok);
    }
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
    }
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
