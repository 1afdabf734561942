//! A record as a document, with the fields of the MongoDB store.

use std::time::Duration;

use mongodb::bson::{
    DateTime, RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, oid::ObjectId, raw::cstr,
    spec::BinarySubtype,
};
use warren_plugin_api::{Payload, Record, Text, Timestamp};

use crate::error::BenchError;

pub(super) fn write(record: &Record) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), record.job_id.as_str());
    document.append(cstr!("status"), record.status.as_str());
    document.append(cstr!("attempt"), i64::from(record.attempt));
    document.append(cstr!("version"), version_number(record));
    document.append(cstr!("queue"), record.queue.as_str());
    document.append(cstr!("function"), record.function.as_str());
    document.append(cstr!("worker"), record.worker.as_str());
    append_times(record, &mut document);
    if let Some(error) = &record.error {
        document.append(cstr!("error"), error.as_str());
    }
    for (name, bytes) in [
        (cstr!("args"), &*record.args),
        (cstr!("kwargs"), &*record.kwargs),
        (cstr!("result"), &*record.result),
        (cstr!("progress"), &*record.progress),
    ] {
        if !bytes.is_empty() {
            let subtype = BinarySubtype::Generic;
            document.append(name, RawBinaryRef { subtype, bytes });
        }
    }
    // Whoever watches the collection is told of the same record written again, too.
    document.append(cstr!("write_id"), ObjectId::new());
    document
}

fn append_times(record: &Record, document: &mut RawDocumentBuf) {
    for (name, time) in [
        (cstr!("enqueued_at"), record.enqueued_at),
        (cstr!("started_at"), record.started_at),
        (cstr!("finished_at"), record.finished_at),
        (cstr!("updated_at"), record.updated_at),
        (cstr!("heartbeat_at"), record.heartbeat_at),
        (cstr!("expires_at"), record.expires_at),
    ] {
        if let Some(time) = time {
            document.append(name, time.unix_us());
        }
    }
    if let Some(time) = record.expires_at {
        // Up to the next millisecond: the index must not remove it before it has expired.
        let date = DateTime::from_millis((time.unix_us() + 999).div_euclid(1_000));
        document.append(cstr!("ttl_at"), date);
    }
    if let Some(duration) = record.duration {
        document.append(cstr!("duration"), duration.as_micros() as i64);
    }
}

/// Attempt and status as one number, which writes are compared by.
pub(super) fn version_number(record: &Record) -> i64 {
    i64::from(record.attempt) << 2 | i64::from(record.status.rank())
}

/// The record, in one pass over the document's fields.
pub(super) fn read(document: &RawDocument) -> Result<Record, BenchError> {
    let mut record = Record::default();
    for field in document {
        let (name, value) = field?;
        match value {
            RawBsonRef::String(text) => set_text(&mut record, name.as_str(), text),
            RawBsonRef::Int64(number) => set_number(&mut record, name.as_str(), number),
            RawBsonRef::Binary(binary) => set_payload(&mut record, name.as_str(), binary.bytes),
            // The date for the index, and the id of the write.
            _ => {}
        }
    }
    Ok(record)
}

fn set_text(record: &mut Record, name: &str, text: &str) {
    match name {
        "_id" => record.job_id = text.into(),
        "status" => record.status = text.parse().unwrap_or_default(),
        "queue" => record.queue = text.into(),
        "function" => record.function = text.into(),
        "worker" => record.worker = text.into(),
        "error" => record.error = Some(Text::from(text)),
        _ => {}
    }
}

fn set_number(record: &mut Record, name: &str, number: i64) {
    let time = Some(Timestamp::from_unix_us(number));
    match name {
        "attempt" => record.attempt = number as u32,
        "enqueued_at" => record.enqueued_at = time,
        "started_at" => record.started_at = time,
        "finished_at" => record.finished_at = time,
        "updated_at" => record.updated_at = time,
        "heartbeat_at" => record.heartbeat_at = time,
        "expires_at" => record.expires_at = time,
        "duration" => record.duration = Some(Duration::from_micros(number.cast_unsigned())),
        _ => {}
    }
}

fn set_payload(record: &mut Record, name: &str, bytes: &[u8]) {
    let payload = Payload::from(bytes);
    match name {
        "args" => record.args = payload,
        "kwargs" => record.kwargs = payload,
        "result" => record.result = payload,
        "progress" => record.progress = payload,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_store::completed_record;

    #[test]
    fn what_is_written_comes_back() {
        let record = completed_record();
        assert_eq!(read(&write(&record)).unwrap(), record);
    }
}
