//! A record as a document, and back.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use warren_plugin_api::{Payload, Record, StoreError, StoreResult, Text, Timestamp};

use crate::{job_key::sort_key, mapping::MOST_INDEXED_CHARS};

/// Bytes of a payload that can be searched for.
const MOST_PAYLOAD_BYTES: usize = 32 * 1024;

/// What is indexed is made from the record and is never read back: numbers of JSON and terms of
/// an index do not hold everything that a record may.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kwargs: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<&'a str>,
    bytes: usize,
    sort_key: String,
    /// MessagePack of the record without payloads, by names.
    record: String,
    /// MessagePack of [`Payloads`]; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    payloads: Option<String>,
}

/// What a listing leaves out.
#[derive(Serialize, Deserialize)]
struct Payloads<'a>(
    Cow<'a, Payload>,
    Cow<'a, Payload>,
    Cow<'a, Payload>,
    Cow<'a, Payload>,
    Cow<'a, [(Text, Payload)]>,
);

/// The fields of a document that a reader asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Source {
    pub(crate) record: Option<String>,
    pub(crate) payloads: Option<String>,
    pub(crate) bytes: Option<u64>,
}

/// The document of a record, as one line of JSON.
pub(crate) fn encode(
    record: &Record,
    document_id: &str,
    index_payloads: bool,
) -> StoreResult<Vec<u8>> {
    let searched = |payload: &'_ Payload| -> Option<String> {
        index_payloads.then(|| payload_text(payload).map(str::to_owned))?
    };
    let searched = [
        searched(&record.args),
        searched(&record.kwargs),
        searched(&record.result),
        searched(&record.progress),
    ];
    let [args, kwargs, result, progress] = searched.each_ref().map(Option::as_deref);
    let document = Document {
        job_id: indexed(&record.job_id),
        status: record.status.as_str(),
        queue: indexed(&record.queue),
        function: indexed(&record.function),
        worker: indexed(&record.worker),
        attempt: record.attempt,
        enqueued_at: record.enqueued_at,
        started_at: record.started_at,
        finished_at: record.finished_at,
        updated_at: record.updated_at,
        heartbeat_at: record.heartbeat_at,
        expires_at: record.expires_at,
        duration_us: record
            .duration
            .and_then(|duration| i64::try_from(duration.as_micros()).ok()),
        error: record.error.as_deref().map(indexed),
        args,
        kwargs,
        result,
        progress,
        bytes: record.size_bytes(),
        sort_key: sort_key(record.enqueued_at, document_id),
        record: head(record)?,
        payloads: payloads(record)?,
    };
    serde_json::to_vec(&document).map_err(|error| unwritable(&error))
}

/// The part of a text that goes into the index; a filter by it asks for no more.
pub(crate) fn indexed(text: &str) -> &str {
    match text.char_indices().nth(MOST_INDEXED_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

fn payload_text(payload: &Payload) -> Option<&str> {
    let bytes = payload.as_slice();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => return None,
    };
    let mut end = text.len().min(MOST_PAYLOAD_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (!text.is_empty()).then_some(&text[..end])
}

fn head(record: &Record) -> StoreResult<String> {
    let head = Record {
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
    };
    let bytes = rmp_serde::to_vec_named(&head).map_err(|error| unwritable(&error))?;
    Ok(STANDARD.encode(bytes))
}

fn payloads(record: &Record) -> StoreResult<Option<String>> {
    let is_empty = [
        &record.args,
        &record.kwargs,
        &record.result,
        &record.progress,
    ]
    .iter()
    .all(|payload| payload.is_empty());
    if is_empty && record.extra.is_empty() {
        return Ok(None);
    }
    let payloads = Payloads(
        Cow::Borrowed(&record.args),
        Cow::Borrowed(&record.kwargs),
        Cow::Borrowed(&record.result),
        Cow::Borrowed(&record.progress),
        Cow::Borrowed(&record.extra),
    );
    let bytes = rmp_serde::to_vec(&payloads).map_err(|error| unwritable(&error))?;
    Ok(Some(STANDARD.encode(bytes)))
}

fn unwritable(error: &dyn fmt::Display) -> StoreError {
    StoreError::internal(format!("a record cannot be encoded: {error}"))
}

/// The record without what a listing leaves out.
///
/// # Errors
/// `corrupt_data`
pub(crate) fn decode_head(document_id: &str, source: &Source) -> StoreResult<Record> {
    let corrupt = |why: &dyn fmt::Display| corrupt(document_id, "record", why);
    let Some(text) = &source.record else {
        return Err(corrupt(&"it is missing"));
    };
    let bytes = STANDARD.decode(text).map_err(|error| corrupt(&error))?;
    let record: Record = rmp_serde::from_slice(&bytes).map_err(|error| corrupt(&error))?;
    if crate::job_key::document_id(&record.job_id) != document_id {
        return Err(corrupt(&"it is another job's"));
    }
    Ok(record)
}

/// The whole record.
///
/// # Errors
/// `corrupt_data`
pub(crate) fn decode(document_id: &str, source: &Source) -> StoreResult<Record> {
    let mut record = decode_head(document_id, source)?;
    let Some(text) = &source.payloads else {
        return Ok(record);
    };
    let corrupt = |why: &dyn fmt::Display| corrupt(document_id, "payloads", why);
    let bytes = STANDARD.decode(text).map_err(|error| corrupt(&error))?;
    let payloads: Payloads<'_> = rmp_serde::from_slice(&bytes).map_err(|error| corrupt(&error))?;
    record.args = payloads.0.into_owned();
    record.kwargs = payloads.1.into_owned();
    record.result = payloads.2.into_owned();
    record.progress = payloads.3.into_owned();
    record.extra = payloads.4.into_owned();
    Ok(record)
}

fn corrupt(document_id: &str, field: &str, why: &dyn fmt::Display) -> StoreError {
    let document_id: String = document_id.chars().take(100).collect();
    StoreError::corrupt_data(format!(
        "document {document_id:?} is no record: {field}: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::Value;
    use warren_plugin_api::Status;

    use super::*;
    use crate::job_key::document_id;

    fn extreme() -> Record {
        Record {
            job_id: "é\0 \"".into(),
            status: Status::Retrying,
            attempt: u32::MAX,
            queue: "q".repeat(100_000).into(),
            enqueued_at: Some(Timestamp::MIN),
            finished_at: Some(Timestamp::MAX),
            duration: Some(Duration::from_micros(u64::MAX)),
            error: Some("".into()),
            args: Payload::from(vec![0xff, 0, 0xc1]),
            result: "null".into(),
            extra: vec![("a".into(), Payload::empty()), ("a".into(), "1".into())],
            ..Record::default()
        }
    }

    fn round_trip(record: &Record) -> Record {
        let id = document_id(&record.job_id);
        let line = encode(record, &id, true).unwrap();
        decode(&id, &serde_json::from_slice(&line).unwrap()).unwrap()
    }

    #[test]
    fn what_json_and_an_index_cannot_hold_comes_back() {
        let record = extreme();
        assert_eq!(round_trip(&record), record);
        let plain = Record {
            job_id: "a".into(),
            ..Record::default()
        };
        assert_eq!(round_trip(&plain), plain);
    }

    #[test]
    fn a_document_is_one_line_whose_terms_fit() {
        let record = extreme();
        let line = encode(&record, "id", false).unwrap();
        assert!(!line.contains(&b'\n'));
        let document: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            document["queue"].as_str().unwrap().len(),
            MOST_INDEXED_CHARS
        );
        assert_eq!(document["enqueued_at"].as_i64(), Some(i64::MIN));
        assert_eq!(document.get("duration_us"), None);
        assert_eq!(document.get("result"), None);
        let wide = "🦀".repeat(MOST_INDEXED_CHARS + 1);
        assert!(indexed(&wide).len() <= 32_766);
    }

    #[test]
    fn payloads_that_are_text_are_searched_for_when_that_is_asked() {
        let record = Record {
            result: format!("\"{}", "é".repeat(MOST_PAYLOAD_BYTES))
                .as_str()
                .into(),
            ..extreme()
        };
        let document: Value =
            serde_json::from_slice(&encode(&record, "id", true).unwrap()).unwrap();
        let found = document["result"].as_str().unwrap();
        assert!(found.len() <= MOST_PAYLOAD_BYTES && found.len() > MOST_PAYLOAD_BYTES - 4);
        assert_eq!(document.get("args"), None, "it is no text");
        assert_eq!(document.get("kwargs"), None, "there is none");
    }

    proptest! {
        /// Whatever somebody else wrote there is a record or `corrupt_data`.
        #[test]
        fn foreign_documents_are_read_or_refused(
            record in proptest::option::of("[A-Za-z0-9+/=]{0,64}|.{0,16}"),
            payloads in proptest::option::of("[A-Za-z0-9+/=]{0,64}|.{0,16}"),
        ) {
            let source = Source { record, payloads, bytes: None };
            if let Err(error) = decode("a", &source) {
                prop_assert!(error.to_string().starts_with("corrupt_data"));
            }
        }

        #[test]
        fn a_record_with_a_flipped_byte_is_read_or_refused(at in 0_usize..400, byte: u8) {
            let line = encode(&extreme(), &document_id(&extreme().job_id), false).unwrap();
            let mut source: Source = serde_json::from_slice(&line).unwrap();
            for field in [&mut source.record, &mut source.payloads] {
                let mut bytes = STANDARD.decode(field.as_deref().unwrap()).unwrap();
                let length = bytes.len();
                bytes[at % length] = byte;
                *field = Some(STANDARD.encode(bytes));
            }
            let read = decode(&document_id(&extreme().job_id), &source);
            if let Err(error) = read {
                prop_assert!(error.to_string().starts_with("corrupt_data"));
            }
        }
    }
}
