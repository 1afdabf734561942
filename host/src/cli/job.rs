//! `warren job get|wait|cancel`

use std::time::Duration;

use serde_json::json;
use warren_plugin_api::{Record, Status, Timestamp};

use super::{
    arguments::JobCommand,
    error::{CliError, Exit},
    output::{Output, one_line, record_json},
    session::Session,
};
use crate::{
    client::{Abort, ClientOptions, WaitError, Waiters},
    job::{GONE_AFTER, ReplayedFrom, worker_silence},
    store::Store,
};

pub(super) async fn run(
    session: &Session,
    command: JobCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    match command {
        JobCommand::Get { job_ids } => get(session, &job_ids, output).await,
        JobCommand::Cancel { job_ids } => cancel(session, &job_ids, output).await,
        JobCommand::Wait {
            job_ids,
            any,
            all: _,
            timeout,
        } => wait(session, &job_ids, any, timeout, output).await,
    }
}

async fn wait(
    session: &Session,
    job_ids: &[String],
    any: bool,
    timeout: Duration,
    output: &Output,
) -> Result<Exit, CliError> {
    let store = session.store().await?;
    // What has ended already needs no broker.
    if let Some(ended) = over_already(&store, job_ids, any).await? {
        return Ok(print_ended(ended, output));
    }
    let broker = if store.capabilities().push {
        session.broker_if_there().await
    } else {
        let broker = session.broker().await;
        if let Err(error) = &broker {
            let error = error.message();
            tracing::warn!(
                error,
                "nobody can tell when jobs end: the store is asked every second"
            );
        }
        broker.ok()
    };
    let safety_read = ClientOptions::default().safety_read;
    let waiters = Waiters::new(store, broker.clone(), safety_read);
    let exit = if any {
        match waiters.wait_any(job_ids, timeout).await {
            Ok(record) => print_outcome(&record, output),
            Err(error) => return Err(error.into()),
        }
    } else {
        print_ended(waiters.wait_all(job_ids, timeout).await, output)
    };
    if let Some(broker) = broker {
        broker.close().await;
    }
    Ok(exit)
}

/// The answers, if nothing has to be waited for.
async fn over_already(
    store: &Store,
    job_ids: &[String],
    any: bool,
) -> Result<Option<Vec<Result<Record, WaitError>>>, CliError> {
    let ids = job_ids
        .iter()
        .map(|job_id| job_id.as_str().into())
        .collect();
    let mut ended = Vec::new();
    for (job_id, record) in job_ids.iter().zip(store.get_many(ids).await?) {
        match record {
            Ok(Some(record)) if !record.status.is_terminal() => {}
            Ok(Some(record)) if any => return Ok(Some(vec![Ok(record)])),
            Ok(Some(record)) => ended.push(Ok(record)),
            Ok(None) => ended.push(Err(WaitError::UnknownJob {
                job_id: job_id.clone(),
            })),
            Err(error) => ended.push(Err(error.into())),
        }
    }
    let is_over = ended.len() == job_ids.len();
    Ok(is_over.then_some(ended))
}

/// Prints them all; the exit code of the first that is none of success.
fn print_ended(ended: Vec<Result<Record, WaitError>>, output: &Output) -> Exit {
    let mut exit = Exit::Ok;
    for ended in ended {
        let shown = match ended {
            Ok(record) => print_outcome(&record, output),
            Err(error) => complain(error.into(), output),
        };
        exit = if exit == Exit::Ok { shown } else { exit };
    }
    exit
}

/// One job's trouble, which must not hide the others.
fn complain(error: CliError, output: &Output) -> Exit {
    output.error(&error);
    error.exit()
}

async fn get(session: &Session, job_ids: &[String], output: &Output) -> Result<Exit, CliError> {
    let store = session.store().await?;
    let ids = job_ids
        .iter()
        .map(|job_id| job_id.as_str().into())
        .collect();
    let mut exit = Exit::Ok;
    for (job_id, record) in job_ids.iter().zip(store.get_many(ids).await?) {
        match record {
            Ok(Some(record)) => print(&record, output),
            Err(error) => {
                let text = format!("{job_id}: {error}");
                let this_exit = complain(CliError::new(Exit::StoreUnusable, text), output);
                exit = if exit == Exit::Ok { this_exit } else { exit };
            }
            Ok(None) => {
                exit = if exit == Exit::Ok {
                    Exit::NotFound
                } else {
                    exit
                };
                if output.json {
                    output.print_json(&json!({ "job_id": job_id, "status": null }));
                } else {
                    eprintln!("{job_id}: no such job is known; it was never sent, or has expired");
                }
            }
        }
    }
    Ok(exit)
}

async fn cancel(session: &Session, job_ids: &[String], output: &Output) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let mut exit = Exit::Ok;
    for job_id in job_ids {
        let (word, this_exit) = match client.abort(job_id).await? {
            Abort::Aborted | Abort::Ended(Status::Aborted) => ("aborted", Exit::Ok),
            Abort::Ended(status) => (status.as_str(), Exit::Failure),
            Abort::Unknown => ("unknown", Exit::NotFound),
        };
        exit = if exit == Exit::Ok { this_exit } else { exit };
        if output.json {
            output.print_json(&json!({ "job_id": job_id, "state": word }));
        } else {
            match this_exit {
                Exit::Ok => println!("{job_id} aborted"),
                Exit::NotFound => eprintln!("{job_id}: no such job is known"),
                _ => eprintln!("{job_id}: has ended already: {word}"),
            }
        }
    }
    client.broker().close().await;
    Ok(exit)
}

fn print(record: &Record, output: &Output) {
    let silence = worker_silence(record, Timestamp::now());
    let mut value = record_json(record);
    if let Some(silence) = silence {
        value["heartbeat_age_seconds"] = silence.as_secs_f64().into();
        value["worker_gone"] = (silence > GONE_AFTER).into();
    }
    if output.json {
        return output.print_json(&value);
    }
    println!("{}  {}", record.job_id, output.status(record.status));
    if let Some(silence) = silence.filter(|silence| *silence > GONE_AFTER) {
        println!("  its worker has been gone for {}", whole_seconds(silence));
    }
    for key in [
        "function",
        "args",
        "kwargs",
        "queue",
        "worker",
        "attempt",
        "enqueued_at",
        "started_at",
        "finished_at",
        "heartbeat_at",
        "duration_seconds",
        "expires_at",
        "progress",
        "error",
        "result",
    ] {
        match (&value[key], silence) {
            (serde_json::Value::String(text), Some(silence)) if key == "heartbeat_at" => {
                println!("  {key:<17} {text}, {} ago", whole_seconds(silence));
            }
            (shown, _) => print_field(key, shown),
        }
    }
    for (name, value) in &record.extra {
        if let Some(replayed_from) = ReplayedFrom::of_extra(name, value) {
            print_replayed_from(&replayed_from);
            continue;
        }
        let name = name.strip_prefix("warren.").unwrap_or(name);
        match serde_json::from_slice::<String>(value) {
            // A process's standard error, for one, has many lines.
            Ok(text) if text.contains('\n') => {
                println!("  {name}");
                text.lines().for_each(|line| println!("    {line}"));
            }
            Ok(text) => println!("  {name:<17} {text}"),
            Err(_) => println!("  {name:<17} {}", String::from_utf8_lossy(value)),
        }
    }
}

fn print_replayed_from(from: &ReplayedFrom) {
    println!("  replayed from {}", one_line(&from.to_string()));
    println!(
        "    from {}, where it came after {} attempts; replay {}",
        from.dead_letter_queue, from.attempts, from.replays
    );
}

fn print_field(key: &str, value: &serde_json::Value) {
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::String(text) if key != "result" => println!("  {key:<17} {text}"),
        shown => println!("  {key:<17} {shown}"),
    }
}

fn whole_seconds(duration: Duration) -> impl std::fmt::Display {
    humantime::format_duration(Duration::from_secs(duration.as_secs()))
}

/// Prints a job that has ended: its result alone where it has one.
pub(super) fn print_outcome(record: &Record, output: &Output) -> Exit {
    let completed = record.status == Status::Completed;
    if output.json {
        output.print_json(&record_json(record));
    } else if completed {
        println!("{}", String::from_utf8_lossy(&record.result));
    } else {
        let error = record
            .error
            .as_ref()
            .map_or("no reason is known", |error| error.as_str());
        eprintln!("{} {}: {error}", record.job_id, record.status);
    }
    if completed { Exit::Ok } else { Exit::JobFailed }
}
