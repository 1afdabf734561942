//! `warren enqueue`

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    time::Duration,
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
    let kwargs = command.kwargs.iter().map(|pair| {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            CliError::new(
                Exit::Usage,
                format!("--kwarg {pair:?}: expected NAME=VALUE"),
            )
        })?;
        Ok((name.to_owned(), json_or_text(value)))
    });
    let line = Line {
        function: command.function.clone().unwrap_or_default(),
        args: command
            .arguments
            .iter()
            .map(|text| json_or_text(text))
            .collect(),
        kwargs: kwargs.collect::<Result<_, CliError>>()?,
        queue: Some(command.queue.clone()),
        id: command.id.clone(),
        if_exists: command.if_exists,
        delay: command.delay,
        expires: command.expires,
        ttl: command.ttl,
        retries: command.retries,
        priority: command.priority,
    };
    Ok(line.into())
}

fn json_or_text(argument: &str) -> Value {
    serde_json::from_str(argument).unwrap_or_else(|_| Value::String(argument.to_owned()))
}

/// A job to be sent, as a line of a file says it.
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
    #[serde(default)]
    if_exists: IfExistsArgument,
    #[serde(default, with = "crate::duration_text::optional")]
    delay: Option<Duration>,
    #[serde(default, with = "crate::duration_text::optional")]
    expires: Option<Duration>,
    #[serde(default, with = "crate::duration_text::optional")]
    ttl: Option<Duration>,
    #[serde(default)]
    retries: Option<u32>,
    #[serde(default)]
    priority: u8,
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
    let bar = output.progress_count("jobs sent");
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
        batch.push(JobRequest::from(job));
        if batch.len() == BATCH {
            failed += send(client, std::mem::take(&mut batch), output).await;
            bar.inc(BATCH as u64);
        }
    }
    failed += send(client, batch, output).await;
    bar.finish_and_clear();
    if failed > 0 {
        return Err(CliError::new(
            Exit::Failure,
            format!("{failed} jobs were not sent"),
        ));
    }
    Ok(Exit::Ok)
}

impl From<Line> for JobRequest {
    fn from(line: Line) -> Self {
        let mut request = Self::new(line.function)
            .queue(line.queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned()))
            .priority(line.priority)
            .if_exists(match line.if_exists {
                IfExistsArgument::Refuse => IfExists::Refuse,
                IfExistsArgument::Keep => IfExists::Keep,
                IfExistsArgument::Replace => IfExists::Replace,
            });
        for argument in line.args {
            request = request.arg(argument);
        }
        for (name, value) in line.kwargs {
            request = request.kwarg(name, value);
        }
        if let Some(id) = line.id {
            request = request.id(id);
        }
        if let Some(delay) = line.delay {
            request = request.delay(delay);
        }
        if let Some(expires) = line.expires {
            request = request.expires_in(expires);
        }
        if let Some(ttl) = line.ttl {
            request = request.result_ttl(ttl);
        }
        if let Some(retries) = line.retries {
            request = request.retries(retries);
        }
        request
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
