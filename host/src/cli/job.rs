//! `warren job get|wait|cancel`

use serde_json::json;
use warren_plugin_api::{Record, Status};

use super::{
    arguments::JobCommand,
    error::{CliError, Exit},
    output::{Output, record_json},
    session::Session,
};
use crate::client::{Abort, wait_all};

pub(super) async fn run(
    session: &Session,
    command: JobCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    match command {
        JobCommand::Get { job_ids } => get(session, &job_ids, output).await,
        JobCommand::Cancel { job_ids } => cancel(session, &job_ids, output).await,
        JobCommand::Wait { job_ids, timeout } => {
            let store = session.store().await?;
            let mut exit = Exit::Ok;
            for ended in wait_all(&store, &job_ids, timeout).await {
                let shown = match ended {
                    Ok(record) => print_outcome(&record, output),
                    Err(error) => complain(error.into(), output),
                };
                exit = if exit == Exit::Ok { shown } else { exit };
            }
            Ok(exit)
        }
    }
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
    if output.json {
        return output.print_json(&record_json(record));
    }
    let value = record_json(record);
    println!("{}  {}", record.job_id, output.status(record.status));
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
        match &value[key] {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) if key != "result" => println!("  {key:<17} {text}"),
            shown => println!("  {key:<17} {shown}"),
        }
    }
    for (name, value) in &record.extra {
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
