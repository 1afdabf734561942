//! A record as JSON that rabbitmq-arq reads, and that keeps every bit for Warren.

use base64::{Engine, engine::general_purpose::STANDARD};
use warren_plugin_api::{Payload, Record, Status, Text, Timestamp};

use crate::{
    iso_time,
    json::is_embeddable,
    keys::{index_entry, sortable},
    pieces::Pieces,
};

/// What rabbitmq-arq writes as the worker of a job that none has taken.
pub(crate) const NO_WORKER: &str = "pending";

/// Writes `record`. The layout is described in the crate's README; the scripts depend on the head.
/// Returns where the index entry in it ends.
pub(crate) fn encode(record: &Record, out: &mut Pieces) -> usize {
    out.reserve(768 + size_of_small_parts(record));
    let index_end = head(record, out);
    field(out, "job_id", |out| string(&record.job_id, out));
    field(out, "status", |out| string(record.status.as_str(), out));
    let mut large = Vec::new();
    let result = Embedded::result(record);
    payload_field(out, "result", result, &mut large);
    field(out, "error", |out| {
        optional_string(record.error.as_ref(), out)
    });
    times_for_python(record, out);
    let worker: &str = if record.worker.is_empty() {
        NO_WORKER
    } else {
        &record.worker
    };
    field(out, "worker_id", |out| string(worker, out));
    let retries = i64::from(record.attempt) - 1;
    field(out, "retry_count", |out| integer(retries, out));
    field(out, "queue_name", |out| string(&record.queue, out));
    field(out, "function_name", |out| string(&record.function, out));
    let args = Embedded::container(&record.args, b'[', "[]");
    payload_field(out, "args", args, &mut large);
    let kwargs = Embedded::container(&record.kwargs, b'{', "{}");
    payload_field(out, "kwargs", kwargs, &mut large);
    out.extend_from_slice(b"\"warren_exact\":{");
    exact(record, out);
    raw(
        [("args", args), ("kwargs", kwargs), ("result", result)],
        out,
    );
    places(&large, out);
    out.extend_from_slice(b"}}");
    index_end
}

/// Payloads from this size on are found by their places, and not by reading the JSON.
pub(crate) const LARGE: usize = 64 * 1024;
/// Before the places of large payloads, which are the last that a record says.
pub(crate) const PLACES: &[u8] = b",\"large\":";

/// A payload under the key that Python reads, and where it stands if it is large.
fn payload_field(
    out: &mut Pieces,
    name: &'static str,
    embedded: Embedded<'_>,
    large: &mut Vec<(&'static str, usize, usize)>,
) {
    field(out, name, |out| {
        let start = out.len();
        embedded.json(out);
        let length = out.len() - start;
        if length >= LARGE {
            large.push((name, start, length));
        }
    });
}

/// Name, place and length of each large payload.
fn places(large: &[(&str, usize, usize)], out: &mut Pieces) {
    let mut separator: &[u8] = b"[";
    for (name, start, length) in large {
        if separator == b"[" {
            out.extend_from_slice(PLACES);
        }
        out.extend_from_slice(separator);
        let place = format!("[\"{name}\",{start},{length}]");
        out.extend_from_slice(place.as_bytes());
        separator = b",";
    }
    if !large.is_empty() {
        out.push(b']');
    }
}

/// Bytes of what is copied into the JSON.
fn size_of_small_parts(record: &Record) -> usize {
    let payloads = [&record.args, &record.kwargs, &record.result];
    let shared: usize = payloads
        .into_iter()
        .map(|payload| payload.len())
        .filter(|len| *len >= Pieces::SHARED_FROM)
        .sum();
    record.size_bytes() - shared
}

/// What the scripts look at, in fixed places: see `parts` in `lua/record.lua`.
fn head(record: &Record, out: &mut Pieces) -> usize {
    out.extend_from_slice(OURS);
    out.push(letter(record.status));
    let attempt = format!("{:010}", record.attempt);
    out.extend_from_slice(attempt.as_bytes());
    out.extend_from_slice(&expiry(record.expires_at));
    escaped(&index_entry(record.enqueued_at, &record.queue), out);
    let index_end = out.len();
    out.extend_from_slice(b"\",");
    index_end
}

/// How every record of Warren's begins.
pub(crate) const OURS: &[u8] = b"{\"warren\":\"";

/// The status in one letter.
pub(crate) const fn letter(status: Status) -> u8 {
    match status {
        Status::Queued => b'q',
        Status::InProgress => b'i',
        Status::Retrying => b'r',
        Status::Completed => b'c',
        Status::Failed => b'f',
        Status::Aborted => b'a',
    }
}

/// Length of an expiry in the head.
pub(crate) const EXPIRY_LEN: usize = 17;

/// An expiry as text that sorts as expiries do: `0` and the time, or `1` for never.
pub(crate) fn expiry(expires_at: Option<Timestamp>) -> [u8; EXPIRY_LEN] {
    let mut text = [b'0'; EXPIRY_LEN];
    match expires_at {
        None => text[0] = b'1',
        Some(_) => text[1..].copy_from_slice(&sortable(expires_at)),
    }
    text
}

/// Times and duration as Python expects them. It takes no record without a start.
fn times_for_python(record: &Record, out: &mut Pieces) {
    let start = record
        .started_at
        .or(record.enqueued_at)
        .or(record.updated_at)
        .unwrap_or(Timestamp::from_unix_us(0));
    field(out, "start_time", |out| time(Some(start), out));
    field(out, "end_time", |out| time(record.finished_at, out));
    field(out, "duration", |out| match record.duration {
        None => out.extend_from_slice(b"null"),
        Some(duration) => {
            out.extend_from_slice(itoa::Buffer::new().format(duration.as_secs()).as_bytes());
            out.push(b'.');
            let micros = format!("{:06}", duration.subsec_micros());
            out.extend_from_slice(micros.as_bytes());
        }
    });
    let updated_at = record.updated_at.unwrap_or(start);
    field(out, "created_at", |out| time(Some(updated_at), out));
    field(out, "expires_at", |out| time(record.expires_at, out));
}

/// What Python's keys cannot express.
fn exact(record: &Record, out: &mut Pieces) {
    out.extend_from_slice(b"\"times_us\":[");
    for (number, time) in [
        record.enqueued_at,
        record.started_at,
        record.finished_at,
        record.updated_at,
        record.heartbeat_at,
        record.expires_at,
    ]
    .into_iter()
    .enumerate()
    {
        if number > 0 {
            out.push(b',');
        }
        match time {
            None => out.extend_from_slice(b"null"),
            Some(time) => integer(time.unix_us(), out),
        }
    }
    out.push(b']');
    if let Some(duration) = record.duration {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        out.extend_from_slice(b",\"duration_us\":");
        out.extend_from_slice(itoa::Buffer::new().format(micros).as_bytes());
    }
    if record.worker == NO_WORKER {
        out.extend_from_slice(b",\"worker\":");
        string(NO_WORKER, out);
    }
    if !record.progress.is_empty() {
        out.extend_from_slice(b",\"progress\":");
        entry(None, &record.progress, out);
    }
    if !record.extra.is_empty() {
        out.extend_from_slice(b",\"extra\":[");
        for (number, (name, value)) in record.extra.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            entry(Some(name), value, out);
        }
        out.push(b']');
    }
}

/// A payload that Python does not know: `[name, JSON, null]` or `[name, null, base64]`, without
/// the name where there is none.
fn entry(name: Option<&Text>, value: &Payload, out: &mut Pieces) {
    out.push(b'[');
    if let Some(name) = name {
        string(name, out);
        out.push(b',');
    }
    if is_embeddable(value) {
        out.extend_from_payload(value);
        out.extend_from_slice(b",null]");
    } else {
        out.extend_from_slice(b"null,");
        base64_string(value, out);
        out.push(b']');
    }
}

/// The payloads whose own key shows something else.
fn raw(payloads: [(&str, Embedded<'_>); 3], out: &mut Pieces) {
    let mut separator: &[u8] = b",\"raw\":{\"";
    for (name, embedded) in payloads {
        if let Embedded::Instead { payload, .. } = embedded {
            out.extend_from_slice(separator);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            base64_string(payload, out);
            separator = b",\"";
        }
    }
    if separator.len() == 2 {
        out.push(b'}');
    }
}

/// What stands under the key that Python reads.
#[derive(Clone, Copy)]
enum Embedded<'a> {
    /// The payload itself.
    Itself(&'a Payload),
    /// Something that reads back as the empty payload.
    Empty,
    /// Something of the type that Python expects, while the payload is kept apart.
    Instead {
        shown: &'static str,
        payload: &'a Payload,
    },
}

impl<'a> Embedded<'a> {
    /// `null` reads back as the four bytes for a completed job, as nothing for any other.
    fn result(record: &'a Record) -> Self {
        let payload = &record.result;
        let completed = record.status == Status::Completed;
        let as_it_is = match payload.as_slice() {
            b"" if !completed => return Self::Empty,
            b"" => false,
            b"null" => completed,
            bytes => is_embeddable(bytes),
        };
        Self::choose(as_it_is, payload, "null")
    }

    fn container(payload: &'a Payload, first: u8, shown: &'static str) -> Self {
        let as_it_is = payload.first() == Some(&first) && is_embeddable(payload);
        Self::choose(as_it_is, payload, shown)
    }

    const fn choose(as_it_is: bool, payload: &'a Payload, shown: &'static str) -> Self {
        if as_it_is {
            Self::Itself(payload)
        } else {
            Self::Instead { shown, payload }
        }
    }

    fn json(self, out: &mut Pieces) {
        match self {
            Self::Itself(payload) => out.extend_from_payload(payload),
            Self::Empty => out.extend_from_slice(b"null"),
            Self::Instead { shown, .. } => out.extend_from_slice(shown.as_bytes()),
        }
    }
}

fn field(out: &mut Pieces, name: &str, value: impl FnOnce(&mut Pieces)) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    value(out);
    out.push(b',');
}

fn integer(number: i64, out: &mut Pieces) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn time(time: Option<Timestamp>, out: &mut Pieces) {
    match time {
        None => out.extend_from_slice(b"null"),
        Some(time) => {
            out.push(b'"');
            iso_time::write(time, out.written());
            out.push(b'"');
        }
    }
}

fn optional_string(text: Option<&Text>, out: &mut Pieces) {
    match text {
        None => out.extend_from_slice(b"null"),
        Some(text) => string(text, out),
    }
}

fn string(text: &str, out: &mut Pieces) {
    out.push(b'"');
    escaped(text.as_bytes(), out);
    out.push(b'"');
}

/// `bytes` must be UTF-8.
fn escaped(bytes: &[u8], out: &mut Pieces) {
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0..0x20 => b"\\u00",
            _ => continue,
        };
        out.extend_from_slice(&bytes[written..at]);
        out.extend_from_slice(escape);
        if byte < 0x20 {
            out.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        written = at + 1;
    }
    out.extend_from_slice(&bytes[written..]);
}

fn base64_string(payload: &Payload, out: &mut Pieces) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(payload.as_slice()).as_bytes());
    out.push(b'"');
}
