//! A record as a row of the table.

use rusqlite::{
    Row, ToSql,
    types::{FromSqlError, ToSqlOutput, Value, ValueRef},
};
use serde::de::DeserializeOwned;
use std::time::Duration;
use warren_plugin_api::{Payload, Record, Status, StoreError, StoreResult, Text, Timestamp};

/// What is read of a row to know everything but the payloads.
pub(crate) const FIELDS: &str = "job_id, status, attempt, queue, function, worker, enqueued_at, \
     started_at, finished_at, updated_at, heartbeat_at, expires_at, duration_us, error";
/// What follows [`FIELDS`] where the payloads are wanted too.
pub(crate) const PAYLOADS: &str = "args, kwargs, result, progress, extra";

/// Positions in [`FIELDS`] that are looked at before a row is read as a whole.
pub(crate) mod position {
    pub(crate) const STATUS: usize = 1;
    pub(crate) const QUEUE: usize = 3;
    pub(crate) const FUNCTION: usize = 4;
    pub(crate) const ENQUEUED_AT: usize = 6;
    pub(crate) const EXPIRES_AT: usize = 11;
    /// How many fields there are.
    pub(crate) const FIELDS_END: usize = 14;
}

/// The values of a row, in the order of [`FIELDS`] and [`PAYLOADS`].
pub(crate) const VALUES: usize = position::FIELDS_END + 5;

/// Reads a row that begins with [`FIELDS`] and, with `payloads`, goes on with [`PAYLOADS`].
///
/// # Errors
/// Anything for which [`is_unreadable`](crate::error::is_unreadable) holds: it is no record.
pub(crate) fn read(row: &Row<'_>, payloads: bool) -> rusqlite::Result<Record> {
    let time = |index| -> rusqlite::Result<Option<Timestamp>> {
        Ok(row
            .get::<_, Option<i64>>(index)?
            .map(Timestamp::from_unix_us))
    };
    let mut record = Record {
        job_id: text(row, 0)?,
        status: status(row, position::STATUS)?,
        attempt: row.get(2)?,
        queue: text(row, position::QUEUE)?,
        function: text(row, position::FUNCTION)?,
        worker: text(row, 5)?,
        enqueued_at: time(position::ENQUEUED_AT)?,
        started_at: time(7)?,
        finished_at: time(8)?,
        updated_at: time(9)?,
        heartbeat_at: time(10)?,
        expires_at: time(position::EXPIRES_AT)?,
        duration: row
            .get::<_, Option<i64>>(12)?
            .map(|us| Duration::from_micros(us.cast_unsigned())),
        error: match row.get_ref(13)? {
            ValueRef::Null => None,
            value => Some(Text::from(value.as_str()?)),
        },
        ..Record::default()
    };
    if payloads {
        let first = position::FIELDS_END;
        record.args = payload(row, first)?;
        record.kwargs = payload(row, first + 1)?;
        record.result = payload(row, first + 2)?;
        record.progress = payload(row, first + 3)?;
        record.extra = extra(row, first + 4)?;
    }
    Ok(record)
}

fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<Text> {
    Ok(Text::from(row.get_ref(index)?.as_str()?))
}

pub(crate) fn status(row: &Row<'_>, index: usize) -> rusqlite::Result<Status> {
    let word = row.get_ref(index)?.as_str()?;
    word.parse()
        .map_err(|error| FromSqlError::Other(Box::new(error)).into())
}

fn payload(row: &Row<'_>, index: usize) -> rusqlite::Result<Payload> {
    Ok(match row.get_ref(index)? {
        ValueRef::Null => Payload::empty(),
        value => Payload::from(value.as_blob()?),
    })
}

fn extra(row: &Row<'_>, index: usize) -> rusqlite::Result<Vec<(Text, Payload)>> {
    match row.get_ref(index)? {
        ValueRef::Null => Ok(Vec::new()),
        _ => packed(row, index),
    }
}

/// A value that stands in its column as MessagePack.
pub(crate) fn packed<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    rmp_serde::from_slice(row.get_ref(index)?.as_blob()?)
        .map_err(|error| FromSqlError::Other(Box::new(error)).into())
}

/// A record's values, ready to be bound; see [`VALUES`].
pub(crate) struct Values<'a> {
    record: &'a Record,
    extra: Option<Vec<u8>>,
}

impl<'a> Values<'a> {
    /// # Errors
    /// `internal`: the encoder failed, which it does not.
    pub(crate) fn new(record: &'a Record) -> StoreResult<Self> {
        let extra = (!record.extra.is_empty())
            .then(|| rmp_serde::to_vec(&record.extra))
            .transpose()
            .map_err(|error| {
                StoreError::internal(format!("cannot encode the extra values: {error}"))
            })?;
        Ok(Self { record, extra })
    }

    /// In the order of the columns; nothing is copied.
    pub(crate) fn bound(&self) -> [Bound<'_>; VALUES] {
        let record = self.record;
        [
            Bound::Text(&record.job_id),
            Bound::Text(record.status.as_str()),
            Bound::Number(Some(record.attempt.into())),
            Bound::Text(&record.queue),
            Bound::Text(&record.function),
            Bound::Text(&record.worker),
            time(record.enqueued_at),
            time(record.started_at),
            time(record.finished_at),
            time(record.updated_at),
            time(record.heartbeat_at),
            time(record.expires_at),
            Bound::Number(record.duration.map(microseconds)),
            record
                .error
                .as_deref()
                .map_or(Bound::Number(None), Bound::Text),
            Bound::Payload(&record.args),
            Bound::Payload(&record.kwargs),
            Bound::Payload(&record.result),
            Bound::Payload(&record.progress),
            Bound::Payload(self.extra.as_deref().unwrap_or_default()),
        ]
    }
}

fn time(time: Option<Timestamp>) -> Bound<'static> {
    Bound::Number(time.map(Timestamp::unix_us))
}

/// All 64 bits: what is beyond SQLite's numbers becomes a negative one.
fn microseconds(duration: Duration) -> i64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .cast_signed()
}

/// A value on its way into a statement.
pub(crate) enum Bound<'a> {
    Text(&'a str),
    Number(Option<i64>),
    /// Nothing is stored for an empty one.
    Payload(&'a [u8]),
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Number(Some(number)) => ToSqlOutput::Owned(Value::Integer(*number)),
            Self::Number(None) | Self::Payload([]) => ToSqlOutput::Owned(Value::Null),
            Self::Payload(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}
