//! A record as a document, with the fields of the Elasticsearch store: what is searched for, and the
//! record itself in MessagePack and base64, its payloads apart.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use warren_plugin_api::{Payload, Record, Text, Timestamp};

use crate::error::BenchError;

#[derive(Serialize)]
struct Document<'a> {
    job_id: &'a str,
    status: &'static str,
    queue: &'a str,
    function: &'a str,
    worker: &'a str,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    enqueued_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    bytes: usize,
    sort_key: String,
    record: String,
    payloads: String,
}

/// What a listing leaves out; `extra` is always empty here.
type Payloads<'a> = (&'a Payload, &'a Payload, &'a Payload, &'a Payload, [(); 0]);
type ReadPayloads = (Payload, Payload, Payload, Payload, Vec<(Text, Payload)>);

/// The fields of a document that were asked for.
#[derive(Deserialize)]
pub(super) struct Source {
    record: String,
    payloads: Option<String>,
}

/// The document, as one line of JSON.
pub(super) fn write(record: &Record, line: &mut Vec<u8>) -> Result<(), BenchError> {
    let payloads: Payloads<'_> = (
        &record.args,
        &record.kwargs,
        &record.result,
        &record.progress,
        [],
    );
    let document = Document {
        job_id: &record.job_id,
        status: record.status.as_str(),
        queue: &record.queue,
        function: &record.function,
        worker: &record.worker,
        attempt: record.attempt,
        enqueued_at: record.enqueued_at,
        started_at: record.started_at,
        finished_at: record.finished_at,
        updated_at: record.updated_at,
        heartbeat_at: record.heartbeat_at,
        expires_at: record.expires_at,
        duration_us: record.duration.map(|duration| duration.as_micros() as i64),
        error: record.error.as_deref(),
        bytes: record.size_bytes(),
        sort_key: sort_key(record),
        record: STANDARD.encode(rmp_serde::to_vec_named(&head(record))?),
        payloads: STANDARD.encode(rmp_serde::to_vec(&payloads)?),
    };
    serde_json::to_writer(line, &document)?;
    Ok(())
}

/// The newest first, where it is sorted in descending order.
fn sort_key(record: &Record) -> String {
    let time = record.enqueued_at.map_or(0, Timestamp::unix_us);
    format!(
        "1{:016x}:{}",
        time.cast_unsigned() ^ (1 << 63),
        record.job_id
    )
}

/// The record without its payloads.
fn head(record: &Record) -> Record {
    Record {
        args: Payload::empty(),
        kwargs: Payload::empty(),
        result: Payload::empty(),
        progress: Payload::empty(),
        extra: Vec::new(),
        job_id: record.job_id.clone(),
        queue: record.queue.clone(),
        function: record.function.clone(),
        worker: record.worker.clone(),
        error: record.error.clone(),
        ..*record
    }
}

/// The record without its payloads.
pub(super) fn read_head(source: &Source) -> Result<Record, BenchError> {
    Ok(rmp_serde::from_slice(&STANDARD.decode(&source.record)?)?)
}

/// The whole record.
pub(super) fn read(source: &Source) -> Result<Record, BenchError> {
    let record = read_head(source)?;
    let Some(payloads) = &source.payloads else {
        return Ok(record);
    };
    let payloads: ReadPayloads = rmp_serde::from_slice(&STANDARD.decode(payloads)?)?;
    let (args, kwargs, result, progress, extra) = payloads;
    Ok(Record {
        args,
        kwargs,
        result,
        progress,
        extra,
        ..record
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_store::completed_record;

    #[test]
    fn what_is_written_comes_back() {
        let record = completed_record();
        let mut line = Vec::new();
        write(&record, &mut line).unwrap();
        let source: Source = serde_json::from_slice(&line).unwrap();
        assert_eq!(read(&source).unwrap(), record);
    }
}
