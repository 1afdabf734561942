//! `warren enqueue`

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    arguments::{EnqueueCommand, IfExistsArgument},
    error::{CliError, Exit},
    job,
    output::Output,
    session::Session,
};
use crate::client::{Client, DEFAULT_QUEUE, IfExists, JobRequest};

/// Jobs that are sent with one round trip each to broker and store.
const BATCH: usize = 500;

pub(super) async fn run(
    session: &Session,
    command: EnqueueCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    let client = session.client().await?;
    if let Some(file) = &command.jsonl {
        return enqueue_lines(&client, file, output).await;
    }
    let enqueued = client.enqueue(request(&command)?).await?;
    if command.wait {
        let record = client.wait(&enqueued.job_id, command.timeout).await?;
        return Ok(job::print_outcome(&record, output));
    }
    if output.json {
        output.print_json(&json!({ "job_id": enqueued.job_id, "sent": enqueued.sent }));
    } else {
        println!("{}", enqueued.job_id);
    }
    Ok(Exit::Ok)
}

fn request(command: &EnqueueCommand) -> Result<JobRequest, CliError> {
    let function = command.function.clone().unwrap_or_default();
    let mut request = JobRequest::new(function)
        .queue(&command.queue)
        .priority(command.priority)
        .if_exists(match command.if_exists {
            IfExistsArgument::Refuse => IfExists::Refuse,
            IfExistsArgument::Keep => IfExists::Keep,
            IfExistsArgument::Replace => IfExists::Replace,
        });
    for argument in &command.arguments {
        request = request.arg(json_or_text(argument));
    }
    for pair in &command.kwargs {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            CliError::new(
                Exit::Usage,
                format!("--kwarg {pair:?}: expected NAME=VALUE"),
            )
        })?;
        request = request.kwarg(name, json_or_text(value));
    }
    if let Some(id) = &command.id {
        request = request.id(id);
    }
    if let Some(delay) = command.delay {
        request = request.delay(delay);
    }
    if let Some(expires) = command.expires {
        request = request.expires_in(expires);
    }
    if let Some(ttl) = command.ttl {
        request = request.result_ttl(ttl);
    }
    if let Some(retries) = command.retries {
        request = request.retries(retries);
    }
    Ok(request)
}

fn json_or_text(argument: &str) -> Value {
    serde_json::from_str(argument).unwrap_or_else(|_| Value::String(argument.to_owned()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    function: String,
    #[serde(default)]
    args: Vec<Value>,
    #[serde(default)]
    kwargs: Map<String, Value>,
    #[serde(default)]
    queue: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

async fn enqueue_lines(client: &Client, file: &Path, output: &Output) -> Result<Exit, CliError> {
    let cannot_read =
        |error: std::io::Error| CliError::new(Exit::Usage, format!("{}: {error}", file.display()));
    let reader: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(cannot_read)?)
    };
    let mut batch = Vec::new();
    let mut failed = 0;
    for (number, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.map_err(cannot_read)?;
        if line.trim().is_empty() {
            continue;
        }
        let job: Line = serde_json::from_str(&line).map_err(|error| {
            CliError::new(
                Exit::Usage,
                format!("{}:{}: {error}", file.display(), number + 1),
            )
        })?;
        batch.push(line_request(job));
        if batch.len() == BATCH {
            failed += send(client, std::mem::take(&mut batch), output).await;
        }
    }
    failed += send(client, batch, output).await;
    if failed > 0 {
        return Err(CliError::new(
            Exit::Failure,
            format!("{failed} jobs were not sent"),
        ));
    }
    Ok(Exit::Ok)
}

fn line_request(line: Line) -> JobRequest {
    let mut request = JobRequest::new(line.function)
        .queue(line.queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned()));
    for argument in line.args {
        request = request.arg(argument);
    }
    for (name, value) in line.kwargs {
        request = request.kwarg(name, value);
    }
    match line.id {
        Some(id) => request.id(id),
        None => request,
    }
}

/// Sends a batch and prints the ids; returns how many were not sent.
async fn send(client: &Client, batch: Vec<JobRequest>, output: &Output) -> usize {
    let mut failed = 0;
    for answer in client.enqueue_many(batch).await {
        match answer {
            Ok(enqueued) if output.json => {
                output.print_json(&json!({ "job_id": enqueued.job_id, "sent": enqueued.sent }));
            }
            Ok(enqueued) => println!("{}", enqueued.job_id),
            Err(error) => {
                failed += 1;
                output.error(&error.into());
            }
        }
    }
    failed
}
