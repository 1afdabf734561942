//! Records read back: Warren's own and those of rabbitmq-arq.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;
use warren_plugin_api::{Payload, Record, Status, StoreError, StoreResult, Text, Timestamp};

use crate::{
    encode::{EXPIRY_LEN, LARGE, NO_WORKER, OURS, PLACES, letter},
    json::{Member, large_members},
};

/// The longest list of places of large payloads.
const LONGEST_PLACES: usize = 256;

/// Every key that is read. Others are ignored, as Python does.
#[derive(Deserialize)]
struct Wire<'a> {
    job_id: Text,
    status: Text,
    retry_count: Option<i64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Text>,
    worker_id: Text,
    queue_name: Text,
    function_name: Text,
    args: Option<&'a RawValue>,
    kwargs: Option<&'a RawValue>,
    warren_exact: Option<Exact<'a>>,
    start_time: Option<&'a RawValue>,
    end_time: Option<&'a RawValue>,
    duration: Option<&'a RawValue>,
    created_at: Option<&'a RawValue>,
    expires_at: Option<&'a RawValue>,
}

/// Warren's own part: see `encode`.
#[derive(Deserialize)]
struct Exact<'a> {
    times_us: [Option<i64>; 6],
    duration_us: Option<u64>,
    worker: Option<Text>,
    #[serde(borrow)]
    progress: Option<(Option<&'a RawValue>, Option<Text>)>,
    #[serde(default)]
    extra: Vec<(Text, Option<&'a RawValue>, Option<Text>)>,
    #[serde(default)]
    raw: Raw,
}

#[derive(Deserialize, Default)]
struct Raw {
    args: Option<Text>,
    kwargs: Option<Text>,
    result: Option<Text>,
}

/// Reads the JSON of a record. Its payloads share the allocation of `bytes`.
///
/// # Errors
/// `corrupt_data`
pub(crate) fn decode(bytes: Vec<u8>) -> StoreResult<Record> {
    let whole = Payload::from(bytes);
    let Some((rest, large)) = without_large(&whole) else {
        return decode_whole(&whole);
    };
    let mut record = decode_whole(&rest)?;
    for (name, place) in large {
        let payload = match name {
            b"args" => &mut record.args,
            b"kwargs" => &mut record.kwargs,
            _ => &mut record.result,
        };
        *payload = whole.slice(place);
    }
    Ok(record)
}

/// A record with a number in place of its large payloads, and where these are; `None` where there
/// are none, or where serde is to say what is wrong.
fn without_large(whole: &Payload) -> Option<(Payload, Vec<Member<'_>>)> {
    if whole.len() < LARGE {
        return None;
    }
    // Faster than serde, and without any place fastest of all.
    let mut large = places(whole).or_else(|| large_members(whole, LARGE))?;
    large.retain(|(name, _)| [&b"args"[..], b"kwargs", b"result"].contains(name));
    if large.is_empty() {
        return None;
    }
    let mut rest = Vec::new();
    let mut from = 0;
    for (_, place) in &large {
        rest.extend_from_slice(&whole[from..place.start]);
        rest.push(b'0');
        from = place.end;
    }
    rest.extend_from_slice(&whole[from..]);
    Some((Payload::from(rest), large))
}

/// Where the large payloads of a record of Warren's stand, as it says itself at its end.
fn places(whole: &[u8]) -> Option<Vec<Member<'_>>> {
    if !whole.starts_with(OURS) {
        return None;
    }
    let tail = &whole[whole.len().saturating_sub(LONGEST_PLACES)..];
    let at = tail.windows(PLACES.len()).rposition(|it| it == PLACES)?;
    let list = tail[at + PLACES.len()..].strip_suffix(b"}}")?;
    let list: Vec<(&str, usize, usize)> = serde_json::from_slice(list).ok()?;
    let mut members = Vec::new();
    let mut from = 0;
    for (name, start, length) in list {
        let end = start.checked_add(length)?;
        let key = whole.get(from..start)?;
        let is_there = key.strip_suffix(b"\":")?.strip_suffix(name.as_bytes())?;
        if !is_there.ends_with(b"\"") || whole.get(end) != Some(&b',') {
            return None;
        }
        members.push((name.as_bytes(), start..end));
        from = end;
    }
    (!members.is_empty()).then_some(members)
}

fn decode_whole(whole: &Payload) -> StoreResult<Record> {
    let wire: Wire<'_> =
        serde_json::from_slice(whole).map_err(|error| corrupt(format_args!("{error}")))?;
    let status: Status = wire
        .status
        .parse()
        .map_err(|error| corrupt(format_args!("{error}")))?;
    let payload = |json: Option<&RawValue>| json.map_or(Payload::empty(), |json| part(whole, json));
    let result = match wire.result {
        // Python has no other way to say that a job returned nothing.
        None if status == Status::Completed => Payload::from("null"),
        json => payload(json),
    };
    let record = Record {
        job_id: wire.job_id,
        status,
        attempt: attempt(wire.retry_count),
        queue: wire.queue_name,
        function: wire.function_name,
        worker: wire.worker_id,
        error: wire.error,
        args: payload(wire.args),
        kwargs: payload(wire.kwargs),
        result,
        ..Record::default()
    };
    match wire.warren_exact {
        Some(exact) => make_exact(record, exact, whole),
        None => Foreign {
            start: wire.start_time,
            end: wire.end_time,
            duration: wire.duration,
            created: wire.created_at,
            expires: wire.expires_at,
        }
        .complete(record),
    }
}

/// Puts the parts into a record of Warren's that Python's keys do not show exactly.
fn make_exact(mut record: Record, exact: Exact<'_>, whole: &Payload) -> StoreResult<Record> {
    let [enqueued, started, finished, updated, heartbeat, expires] =
        exact.times_us.map(|time| time.map(Timestamp::from_unix_us));
    record.enqueued_at = enqueued;
    record.started_at = started;
    record.finished_at = finished;
    record.updated_at = updated;
    record.heartbeat_at = heartbeat;
    record.expires_at = expires;
    record.duration = exact.duration_us.map(Duration::from_micros);
    match exact.worker {
        Some(worker) => record.worker = worker,
        None => without_placeholder(&mut record),
    }
    for (payload, raw) in [
        (&mut record.args, exact.raw.args),
        (&mut record.kwargs, exact.raw.kwargs),
        (&mut record.result, exact.raw.result),
    ] {
        if let Some(raw) = raw {
            *payload = from_base64(&raw)?;
        }
    }
    if let Some((json, raw)) = exact.progress {
        record.progress = entry(whole, json, raw)?;
    }
    record.extra = exact
        .extra
        .into_iter()
        .map(|(name, json, raw)| Ok((name, entry(whole, json, raw)?)))
        .collect::<StoreResult<_>>()?;
    Ok(record)
}

/// A payload that stands as JSON or, where that was not possible, as base64.
fn entry(whole: &Payload, json: Option<&RawValue>, raw: Option<Text>) -> StoreResult<Payload> {
    match (json, raw) {
        (_, Some(raw)) => from_base64(&raw),
        (Some(json), None) => Ok(part(whole, json)),
        (None, None) => Ok(Payload::from("null")),
    }
}

/// What only a record of rabbitmq-arq is asked for.
struct Foreign<'a> {
    start: Option<&'a RawValue>,
    end: Option<&'a RawValue>,
    duration: Option<&'a RawValue>,
    created: Option<&'a RawValue>,
    expires: Option<&'a RawValue>,
}

impl Foreign<'_> {
    fn complete(self, mut record: Record) -> StoreResult<Record> {
        let start = time("start_time", self.start)?;
        // For a job that has not started, Python writes the time at which it was enqueued.
        if record.status == Status::Queued {
            record.enqueued_at = start;
        } else {
            record.started_at = start;
        }
        record.finished_at = time("end_time", self.end)?;
        record.updated_at = time("created_at", self.created)?;
        record.expires_at = time("expires_at", self.expires)?;
        record.duration = duration(self.duration)?;
        without_placeholder(&mut record);
        Ok(record)
    }
}

fn without_placeholder(record: &mut Record) {
    if record.worker == NO_WORKER {
        record.worker = Text::new();
    }
}

/// The run that comes after `retries` retries.
fn attempt(retries: Option<i64>) -> u32 {
    let attempt = retries.unwrap_or(0).saturating_add(1);
    u32::try_from(attempt.max(0)).unwrap_or(u32::MAX)
}

/// The bytes of a value, as a part of the whole that it was read from.
fn part(whole: &Payload, json: &RawValue) -> Payload {
    let text = json.get();
    let start = (text.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    whole.slice(start..start.saturating_add(text.len()))
}

fn from_base64(text: &str) -> StoreResult<Payload> {
    STANDARD
        .decode(text)
        .map(Payload::from)
        .map_err(|error| corrupt(format_args!("a payload is not base64: {error}")))
}

/// A time as Python programs write it: text with or without an offset (then UTC), or seconds.
fn time(key: &str, json: Option<&RawValue>) -> StoreResult<Option<Timestamp>> {
    let Some(json) = json else {
        return Ok(None);
    };
    let text = json.get();
    let read = if text.starts_with('"') {
        serde_json::from_str::<String>(text)
            .ok()
            .and_then(|text| parse_time(&text))
    } else {
        serde_json::from_str::<f64>(text).ok().and_then(micros)
    };
    read.map(|micros| Some(Timestamp::from_unix_us(micros)))
        .ok_or_else(|| corrupt(format_args!("{key} is no time")))
}

fn parse_time(text: &str) -> Option<i64> {
    Timestamp::parse_rfc3339(text)
        .or_else(|_| Timestamp::parse_rfc3339(&format!("{text}Z")))
        .ok()
        .map(Timestamp::unix_us)
}

fn duration(json: Option<&RawValue>) -> StoreResult<Option<Duration>> {
    let Some(json) = json else {
        return Ok(None);
    };
    serde_json::from_str::<f64>(json.get())
        .ok()
        .and_then(micros)
        .map(|micros| Some(Duration::from_micros(micros.max(0).cast_unsigned())))
        .ok_or_else(|| corrupt(format_args!("duration is no number of seconds")))
}

/// Seconds to whole microseconds; `None` for what is no number or too far away.
fn micros(seconds: f64) -> Option<i64> {
    let micros = (seconds * 1e6).round();
    // Beyond this an i64 holds no f64 exactly anyway.
    (micros.abs() < 9.2e18).then_some(micros as i64)
}

fn corrupt(what: std::fmt::Arguments<'_>) -> StoreError {
    StoreError::corrupt_data(format!("the record in Redis is unreadable: {what}"))
}

/// Status and expiry, from the first bytes of a record of Warren's; `None` for any other.
pub(crate) fn decode_head(bytes: &[u8]) -> Option<(Status, Option<Timestamp>)> {
    let rest = bytes.strip_prefix(OURS)?;
    let (letter_found, rest) = rest.split_first()?;
    let status = Status::ALL
        .into_iter()
        .find(|status| letter(*status) == *letter_found)?;
    let expires = std::str::from_utf8(rest.get(ATTEMPT_LEN..ATTEMPT_LEN + EXPIRY_LEN)?).ok()?;
    let time = u64::from_str_radix(expires.get(1..)?, 16).ok()?;
    let expires_at = match expires.as_bytes().first()? {
        b'0' => Some(Timestamp::from_unix_us((time ^ (1 << 63)).cast_signed())),
        b'1' => None,
        _ => return None,
    };
    Some((status, expires_at))
}

const ATTEMPT_LEN: usize = 10;
/// As many bytes as [`decode_head`] needs to see.
pub(crate) const HEAD_BYTES: usize = OURS.len() + 1 + ATTEMPT_LEN + EXPIRY_LEN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode::encode, pieces::Pieces};

    fn stored(record: &Record) -> Vec<u8> {
        let mut pieces = Pieces::default();
        encode(record, &mut pieces);
        pieces.iter().collect::<Vec<_>>().concat()
    }

    fn large(first: &str, last: &str) -> Payload {
        Payload::from(format!("{first}{}{last}", "1,".repeat(LARGE) + "1"))
    }

    fn record() -> Record {
        Record {
            job_id: "job".into(),
            status: Status::Completed,
            attempt: 1,
            args: large("[", "]"),
            kwargs: Payload::from("{}"),
            result: large("[[", "]]"),
            ..Record::default()
        }
    }

    #[test]
    fn large_payloads_are_found_where_the_record_says() {
        let stored = stored(&record());
        let found = places(&stored).unwrap();
        let values: Vec<_> = found
            .into_iter()
            .map(|(name, place)| (name, &stored[place]))
            .collect();
        let expected = record();
        assert_eq!(
            values,
            [
                (&b"result"[..], expected.result.as_slice()),
                (&b"args"[..], expected.args.as_slice())
            ]
        );
        assert_eq!(decode(stored).unwrap(), expected);
    }

    #[test]
    fn small_payloads_and_those_that_are_kept_apart_have_no_place() {
        let record = Record {
            args: Payload::from("[1]"),
            result: Payload::from(vec![b'x'; LARGE]),
            extra: vec![(
                "large".into(),
                Payload::from(r#"{"a":1,"large":[["args",1,2]]}"#),
            )],
            ..record()
        };
        let stored = stored(&record);
        assert!(places(&stored).is_none());
        assert_eq!(decode(stored).unwrap(), record);
    }

    #[test]
    fn a_place_that_is_not_right_is_not_believed() {
        let right = stored(&record());
        let text = String::from_utf8(right).unwrap();
        let (before, list) = text.rsplit_once(",\"large\":").unwrap();
        for wrong in [
            list.replace("[\"result\",", "[\"result\",1"),
            list.replace("\"args\"", "\"kwargs\""),
            list.replace("]]", "0]]"),
            list.replace(",[", ",[[["),
            format!("[[\"result\",{},2]]}}}}", usize::MAX),
            "[]}}".to_owned(),
        ] {
            assert_ne!(wrong, list);
            let stored = format!("{before},\"large\":{wrong}").into_bytes();
            assert!(places(&stored).is_none(), "{wrong}");
        }
    }
}
