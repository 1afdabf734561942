//! A record as the bare Redis side keeps it: the JSON that rabbitmq-arq reads, as the store
//! writes it, by serde alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use warren_plugin_api::{Payload, Record, Status, Text, Timestamp};

use crate::error::BenchError;

#[derive(Serialize)]
struct Written<'a> {
    member: &'a str,
    job_id: &'a str,
    status: Status,
    result: Option<&'a RawValue>,
    error: Option<&'a str>,
    start_time: Option<String>,
    end_time: Option<String>,
    duration: Option<f64>,
    created_at: Option<String>,
    expires_at: Option<String>,
    worker_id: &'a str,
    retry_count: u32,
    queue_name: &'a str,
    function_name: &'a str,
    args: Option<&'a RawValue>,
    kwargs: Option<&'a RawValue>,
    progress: Option<&'a RawValue>,
    times_us: [Option<i64>; 6],
    duration_us: Option<u64>,
}

/// What is read of it; the other keys are Python's.
#[derive(Deserialize)]
struct Read<'a> {
    job_id: Text,
    status: Status,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Text>,
    worker_id: Text,
    retry_count: u32,
    queue_name: Text,
    function_name: Text,
    args: Option<&'a RawValue>,
    kwargs: Option<&'a RawValue>,
    progress: Option<&'a RawValue>,
    times_us: [Option<i64>; 6],
    duration_us: Option<u64>,
}

/// Payloads must be JSON.
pub(super) fn write(record: &Record, member: &str) -> Result<Vec<u8>, BenchError> {
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let times = [
        record.enqueued_at,
        record.started_at,
        record.finished_at,
        record.updated_at,
        record.heartbeat_at,
        record.expires_at,
    ];
    Ok(serde_json::to_vec(&Written {
        member,
        job_id: &record.job_id,
        status: record.status,
        result: raw(&record.result)?,
        error: record.error.as_deref(),
        start_time: text(record.started_at),
        end_time: text(record.finished_at),
        duration: record.duration.map(|duration| duration.as_secs_f64()),
        created_at: text(record.updated_at),
        expires_at: text(record.expires_at),
        worker_id: &record.worker,
        retry_count: record.attempt.saturating_sub(1),
        queue_name: &record.queue,
        function_name: &record.function,
        args: raw(&record.args)?,
        kwargs: raw(&record.kwargs)?,
        progress: raw(&record.progress)?,
        times_us: times.map(|time| time.map(Timestamp::unix_us)),
        duration_us: record.duration.map(|duration| duration.as_micros() as u64),
    })?)
}

fn raw(payload: &Payload) -> Result<Option<&RawValue>, serde_json::Error> {
    if payload.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(payload)
}

/// Payloads share the allocation of `json`.
pub(super) fn read(json: Vec<u8>) -> Result<Record, BenchError> {
    let whole = Payload::from(json);
    let read: Read<'_> = serde_json::from_slice(&whole)?;
    let payload = |part: Option<&RawValue>| {
        part.map_or_else(Payload::empty, |part| {
            let start = part.get().as_ptr() as usize - whole.as_ptr() as usize;
            whole.slice(start..start + part.get().len())
        })
    };
    let times = read.times_us.map(|time| time.map(Timestamp::from_unix_us));
    let [
        enqueued_at,
        started_at,
        finished_at,
        updated_at,
        heartbeat_at,
        expires_at,
    ] = times;
    Ok(Record {
        args: payload(read.args),
        kwargs: payload(read.kwargs),
        result: payload(read.result),
        progress: payload(read.progress),
        job_id: read.job_id,
        status: read.status,
        attempt: read.retry_count + 1,
        queue: read.queue_name,
        function: read.function_name,
        worker: read.worker_id,
        enqueued_at,
        started_at,
        finished_at,
        updated_at,
        heartbeat_at,
        expires_at,
        duration: read.duration_us.map(Duration::from_micros),
        error: read.error,
        extra: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_store::completed_record;

    #[test]
    fn what_is_written_comes_back() {
        let record = completed_record();
        let json = write(&record, "member").unwrap();
        assert_eq!(read(json).unwrap(), record);
    }
}
