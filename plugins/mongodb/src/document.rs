//! A record as a document, and back.

use std::{fmt, time::Duration};

use mongodb::bson::{
    DateTime, RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, oid::ObjectId, raw::cstr,
    spec::BinarySubtype,
};
use warren_plugin_api::{
    Payload, Record, Status, StoreError, StoreResult, Text, Timestamp, Version,
};

use crate::guard::version_number;

/// The key of every document: the job's id.
pub(crate) const ID: &str = "_id";
pub(crate) const STATUS: &str = "status";
pub(crate) const ATTEMPT: &str = "attempt";
/// Attempt and status as one number, which a write is compared with.
pub(crate) const VERSION: &str = "version";
pub(crate) const QUEUE: &str = "queue";
pub(crate) const QUEUE_REST: &str = "queue_rest";
pub(crate) const FUNCTION: &str = "function";
pub(crate) const FUNCTION_REST: &str = "function_rest";
pub(crate) const ENQUEUED_AT: &str = "enqueued_at";
pub(crate) const EXPIRES_AT: &str = "expires_at";
/// The same as a date, for the TTL index, which knows milliseconds.
pub(crate) const TTL_AT: &str = "ttl_at";
/// Made anew with each write, so that the same record written again is a change that is announced.
pub(crate) const WRITE_ID: &str = "write_id";

/// What listings leave out.
pub(crate) const PAYLOADS: [&str; 5] = ["args", "kwargs", "result", "progress", "extra"];

/// How much of a queue and a function stands in an index: what is longer goes on in a field of
/// its own.
const INDEXED_BYTES: usize = 500;
/// MongoDB's limit, less the room for the command around the document.
const MOST_BYTES: usize = 16 * 1024 * 1024 - 16 * 1024;

/// The whole document, with its key.
///
/// # Errors
/// `too_large` where the encoded record exceeds a document of MongoDB.
pub(crate) fn of(record: &Record) -> StoreResult<RawDocumentBuf> {
    let mut document = RawDocumentBuf::new();
    append_index_fields(record, &mut document);
    append_payloads(record, &mut document)?;
    document.append(cstr!("write_id"), ObjectId::new());
    let bytes = document.as_bytes().len();
    if bytes > MOST_BYTES {
        return Err(StoreError::too_large(format!(
            "the record takes {bytes} bytes as a document, expected at most {MOST_BYTES}: MongoDB \
             takes no document of more than 16 MiB"
        )));
    }
    Ok(document)
}

fn append_index_fields(record: &Record, document: &mut RawDocumentBuf) {
    document.append(cstr!("_id"), record.job_id.as_str());
    document.append(cstr!("status"), record.status.as_str());
    document.append(cstr!("attempt"), i64::from(record.attempt));
    document.append(cstr!("version"), version_number(record.version()));
    for (name, rest_name, text) in [
        (cstr!("queue"), cstr!("queue_rest"), &record.queue),
        (cstr!("function"), cstr!("function_rest"), &record.function),
    ] {
        let (text, rest) = split(text);
        document.append(name, text);
        if !rest.is_empty() {
            document.append(rest_name, rest);
        }
    }
    document.append(cstr!("worker"), record.worker.as_str());
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
    if let Some(date) = record.expires_at.and_then(ttl_date) {
        document.append(cstr!("ttl_at"), date);
    }
    if let Some(duration) = record.duration {
        document.append(cstr!("duration"), duration_bits(duration));
    }
    if let Some(error) = &record.error {
        document.append(cstr!("error"), error.as_str());
    }
}

fn append_payloads(record: &Record, document: &mut RawDocumentBuf) -> StoreResult<()> {
    let extra = extra_bytes(&record.extra)?;
    for (name, bytes) in [
        (cstr!("args"), &*record.args),
        (cstr!("kwargs"), &*record.kwargs),
        (cstr!("result"), &*record.result),
        (cstr!("progress"), &*record.progress),
        (cstr!("extra"), &*extra),
    ] {
        if !bytes.is_empty() {
            document.append(name, binary(bytes));
        }
    }
    Ok(())
}

const fn binary(bytes: &[u8]) -> RawBinaryRef<'_> {
    RawBinaryRef {
        subtype: BinarySubtype::Generic,
        bytes,
    }
}

/// The indexed beginning of a text, and what follows it.
pub(crate) fn split(text: &str) -> (&str, &str) {
    text.split_at(text.floor_char_boundary(INDEXED_BYTES))
}

/// Whether a text that begins so may have more of it in the field for the rest.
pub(crate) const fn may_go_on(head: &str) -> bool {
    head.len() > INDEXED_BYTES - 4
}

/// When the server may remove a record: never before it has expired. `None` for never: what lies
/// beyond the year 9999 many programs cannot read as a date.
fn ttl_date(expires_at: Timestamp) -> Option<DateTime> {
    let date = date_not_before(expires_at);
    (date < LAST_DATE).then_some(date)
}

/// The time as a date, rounded up to the millisecond, within the years that any program can read.
pub(crate) fn date_not_before(time: Timestamp) -> DateTime {
    let us = time.unix_us();
    let ms = us.div_euclid(1_000) + i64::from(us.rem_euclid(1_000) != 0);
    DateTime::from_millis(ms).clamp(FIRST_DATE, LAST_DATE)
}

const FIRST_DATE: DateTime = DateTime::from_millis(0);
/// The last millisecond of the year 9999.
const LAST_DATE: DateTime = DateTime::from_millis(253_402_300_799_999);

/// Microseconds of 64 bits in a field of 63 and a sign: beyond 292,000 years it looks negative.
fn duration_bits(duration: Duration) -> i64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .cast_signed()
}

/// MessagePack, an array of pairs; nothing for none.
fn extra_bytes(extra: &[(Text, Payload)]) -> StoreResult<Vec<u8>> {
    if extra.is_empty() {
        return Ok(Vec::new());
    }
    rmp_serde::to_vec(extra)
        .map_err(|error| StoreError::internal(format!("extra cannot be encoded: {error}")))
}

/// The record of a document that has every field.
///
/// # Errors
/// `corrupt_data`
pub(crate) fn record(document: &RawDocument) -> StoreResult<Record> {
    let read = Reader { document };
    let text_with_rest = |name, rest_name| -> StoreResult<Text> {
        let text = read.text(name)?;
        match read.optional_text(rest_name)? {
            None => Ok(text.into()),
            Some(rest) => Ok(format!("{text}{rest}").into()),
        }
    };
    Ok(Record {
        job_id: read.text(ID)?.into(),
        status: read.status()?,
        attempt: read.attempt()?,
        queue: text_with_rest(QUEUE, QUEUE_REST)?,
        function: text_with_rest(FUNCTION, FUNCTION_REST)?,
        worker: read.text("worker")?.into(),
        enqueued_at: read.time(ENQUEUED_AT)?,
        started_at: read.time("started_at")?,
        finished_at: read.time("finished_at")?,
        updated_at: read.time("updated_at")?,
        heartbeat_at: read.time("heartbeat_at")?,
        expires_at: read.time(EXPIRES_AT)?,
        duration: read
            .integer("duration")?
            .map(|bits| Duration::from_micros(bits.cast_unsigned())),
        error: read.optional_text("error")?.map(Text::from),
        args: read.payload("args")?,
        kwargs: read.payload("kwargs")?,
        result: read.payload("result")?,
        progress: read.payload("progress")?,
        extra: read.extra()?,
    })
}

/// The status of a document, whatever else it has.
///
/// # Errors
/// `corrupt_data`
pub(crate) fn status(document: &RawDocument) -> StoreResult<Status> {
    Reader { document }.status()
}

/// What a write is judged by: version and expiry.
///
/// # Errors
/// `corrupt_data`
pub(crate) fn version_and_expiry(
    document: &RawDocument,
) -> StoreResult<(Version, Option<Timestamp>)> {
    let read = Reader { document };
    let status = read.status()?;
    let attempt = read.attempt()?;
    let version = Version { attempt, status };
    // Otherwise it could be judged in one way here, and in another by the server.
    if read.integer(VERSION)? != Some(version_number(version)) {
        return Err(read.corrupt(VERSION, &"it is not that of attempt and status"));
    }
    Ok((version, read.time(EXPIRES_AT)?))
}

/// The key of a document, where it is a job's id.
pub(crate) fn job_id(document: &RawDocument) -> Option<&str> {
    document.get_str(ID).ok()
}

struct Reader<'a> {
    document: &'a RawDocument,
}

impl<'a> Reader<'a> {
    /// A value; null is as good as none.
    fn get(&self, name: &str) -> StoreResult<Option<RawBsonRef<'a>>> {
        match self.document.get(name) {
            Ok(None | Some(RawBsonRef::Null)) => Ok(None),
            Ok(found) => Ok(found),
            Err(error) => Err(self.corrupt(name, &error)),
        }
    }

    fn text(&self, name: &str) -> StoreResult<&'a str> {
        self.optional_text(name)?.ok_or_else(|| self.missing(name))
    }

    fn optional_text(&self, name: &str) -> StoreResult<Option<&'a str>> {
        match self.get(name)? {
            None => Ok(None),
            Some(RawBsonRef::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.unexpected(name, "text", other)),
        }
    }

    fn status(&self) -> StoreResult<Status> {
        self.text(STATUS)?
            .parse()
            .map_err(|error| self.corrupt(STATUS, &error))
    }

    fn attempt(&self) -> StoreResult<u32> {
        let attempt = self
            .integer(ATTEMPT)?
            .ok_or_else(|| self.missing(ATTEMPT))?;
        u32::try_from(attempt).map_err(|error| self.corrupt(ATTEMPT, &error))
    }

    /// A number of 64 bits; a shell or a tool may have made a smaller one of it.
    fn integer(&self, name: &str) -> StoreResult<Option<i64>> {
        match self.get(name)? {
            None => Ok(None),
            Some(RawBsonRef::Int64(number)) => Ok(Some(number)),
            Some(RawBsonRef::Int32(number)) => Ok(Some(number.into())),
            Some(other) => Err(self.unexpected(name, "a whole number", other)),
        }
    }

    fn time(&self, name: &str) -> StoreResult<Option<Timestamp>> {
        Ok(self.integer(name)?.map(Timestamp::from_unix_us))
    }

    fn bytes(&self, name: &str) -> StoreResult<&'a [u8]> {
        match self.get(name)? {
            None => Ok(&[]),
            Some(RawBsonRef::Binary(binary)) => Ok(binary.bytes),
            Some(other) => Err(self.unexpected(name, "binary data", other)),
        }
    }

    fn payload(&self, name: &str) -> StoreResult<Payload> {
        self.bytes(name).map(Payload::from)
    }

    fn extra(&self) -> StoreResult<Vec<(Text, Payload)>> {
        let bytes = self.bytes("extra")?;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        rmp_serde::from_slice(bytes).map_err(|error| self.corrupt("extra", &error))
    }

    fn missing(&self, name: &str) -> StoreError {
        self.corrupt(name, &"it is missing")
    }

    fn unexpected(&self, name: &str, expected: &str, found: RawBsonRef<'_>) -> StoreError {
        let found = found.element_type();
        self.corrupt(name, &format_args!("expected {expected}, found {found:?}"))
    }

    fn corrupt(&self, name: &str, why: &dyn fmt::Display) -> StoreError {
        let job_id: String = job_id(self.document)
            .unwrap_or("?")
            .chars()
            .take(100)
            .collect();
        StoreError::corrupt_data(format!(
            "what is stored for job {job_id:?} is no record: {name}: {why}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Binary, Bson, Document, doc};
    use proptest::prelude::*;
    use warren_plugin_api::ErrorClass;

    use super::*;

    fn full() -> Record {
        Record {
            job_id: "a:\0é".into(),
            status: Status::Retrying,
            attempt: u32::MAX,
            queue: format!("{}é{}", "q".repeat(INDEXED_BYTES - 1), "q".repeat(9)).into(),
            function: "".into(),
            worker: "w\0".into(),
            enqueued_at: Some(Timestamp::MIN),
            started_at: Some(Timestamp::MAX),
            finished_at: None,
            updated_at: Some(Timestamp::from_unix_us(1)),
            heartbeat_at: None,
            expires_at: Some(Timestamp::MAX),
            duration: Some(Duration::from_micros(u64::MAX)),
            error: Some("".into()),
            args: vec![0, 255, 128].into(),
            kwargs: Payload::empty(),
            result: "null".into(),
            progress: "{}".into(),
            extra: vec![
                ("b".into(), Payload::empty()),
                ("a".into(), vec![0, 255].into()),
                ("b".into(), "x".into()),
            ],
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        for record in [
            full(),
            Record {
                job_id: "x".into(),
                ..Record::default()
            },
        ] {
            let document = of(&record).unwrap();
            assert_eq!(super::record(&document), Ok(record));
        }
    }

    #[test]
    fn a_date_is_never_before_the_expiry() {
        let last = LAST_DATE.timestamp_millis();
        for (us, ms) in [
            (0, 0),
            (1, 1),
            (1_000, 1),
            (1_001, 2),
            (-1_001, 0),
            (i64::MIN, 0),
            (last * 1_000 - 1_000, last - 1),
        ] {
            let time = Timestamp::from_unix_us(us);
            assert_eq!(ttl_date(time), Some(DateTime::from_millis(ms)), "{us}");
            assert_eq!(date_not_before(time), DateTime::from_millis(ms), "{us}");
        }
        for us in [last * 1_000 - 999, i64::MAX] {
            let time = Timestamp::from_unix_us(us);
            assert_eq!(ttl_date(time), None, "{us}");
            assert_eq!(date_not_before(time), LAST_DATE, "{us}");
        }
    }

    #[test]
    fn what_no_document_can_hold_is_too_large() {
        let record = Record {
            extra: vec![("".into(), Payload::empty()); 9_000_000],
            ..Record::default()
        };
        assert_eq!(of(&record).unwrap_err().class(), ErrorClass::TooLarge);
    }

    fn raw(document: &Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(document).unwrap()
    }

    #[test]
    fn what_somebody_else_changed_is_named() {
        let good = Document::try_from(&*of(&full()).unwrap()).unwrap();
        for (name, value, named) in [
            ("status", Bson::from("done"), "unknown status"),
            ("status", Bson::from(3), "expected text, found Int32"),
            ("attempt", Bson::from(-1_i64), "out of range"),
            ("attempt", Bson::from(1.5), "expected a whole number"),
            ("queue", Bson::Null, "it is missing"),
            (
                "expires_at",
                DateTime::from_millis(1).into(),
                "found DateTime",
            ),
            ("args", Bson::from("[]"), "expected binary data"),
            (
                "extra",
                Binary {
                    subtype: BinarySubtype::Generic,
                    bytes: vec![0xc1],
                }
                .into(),
                "extra",
            ),
        ] {
            let mut document = good.clone();
            document.insert(name, value);
            let error = record(&raw(&document)).unwrap_err();
            assert_eq!(error.class(), ErrorClass::CorruptData);
            assert!(error.message().contains(named), "{name}: {error}");
        }
        let error = record(&raw(&doc! {"_id": ObjectId::new()})).unwrap_err();
        assert_eq!(error.class(), ErrorClass::CorruptData);
    }

    fn any_value() -> impl Strategy<Value = Bson> {
        prop_oneof![
            any::<i64>().prop_map(Bson::Int64),
            any::<i32>().prop_map(Bson::Int32),
            any::<f64>().prop_map(Bson::Double),
            any::<bool>().prop_map(Bson::Boolean),
            ".{0,8}".prop_map(Bson::String),
            proptest::collection::vec(any::<u8>(), 0..16).prop_map(|bytes| Binary {
                subtype: BinarySubtype::Generic,
                bytes
            }
            .into()),
            Just(Bson::Null),
            Just(Bson::Array(vec![Bson::Null])),
        ]
    }

    proptest! {
        #[test]
        fn any_fields_of_any_types_are_a_record_or_corrupt(
            fields in proptest::collection::vec((0..19_usize, any_value()), 0..12)
        ) {
            const NAMES: [&str; 19] = [
                "_id", "status", "attempt", "queue", "queue_rest", "function", "function_rest",
                "worker", "enqueued_at", "started_at", "finished_at", "updated_at",
                "heartbeat_at", "expires_at", "duration", "error", "args", "extra", "other",
            ];
            let mut document = Document::try_from(&*of(&full()).unwrap()).unwrap();
            for (name, value) in fields {
                document.insert(NAMES[name], value);
            }
            if let Err(error) = record(&raw(&document)) {
                prop_assert_eq!(error.class(), ErrorClass::CorruptData);
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_corrupt(bytes in proptest::collection::vec(any::<u8>(), 5..80)) {
            let mut bytes = bytes;
            let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
            bytes[..4].copy_from_slice(&length);
            *bytes.last_mut().unwrap() = 0;
            if let Ok(document) = RawDocumentBuf::from_bytes(bytes) {
                let _ = record(&document);
                let _ = version_and_expiry(&document);
            }
        }

        #[test]
        fn any_text_is_split_into_what_it_was(text in ".{0,600}") {
            let (head, rest) = split(&text);
            prop_assert_eq!(format!("{head}{rest}"), text.clone());
            prop_assert!(head.len() <= INDEXED_BYTES);
            prop_assert!(rest.is_empty() || head.len() > INDEXED_BYTES - 4);
        }
    }
}
