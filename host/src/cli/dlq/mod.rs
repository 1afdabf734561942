//! `warren dlq ls|show|drop|replay`

mod dead_letter;
mod replay;

use std::time::Duration;

use serde_json::json;

use super::{
    arguments::{DlqCommand, DlqFilter},
    error::{CliError, Exit},
    output::Output,
    queue::queue_name,
    results::confirm,
    session::Session,
};
use crate::broker::{QueueName, Settle};
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
        dead_letter.delivery.acker.settle(Settle::Ack)?;
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
    if dry_run {
        return list(session, filter, output).await;
    }
    let client = session.client().await?;
    let ttl = session.loaded.config.result_store.ttl;
    replay::run(&client, &queue, filter, ttl, pause, output).await
}
