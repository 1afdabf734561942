//! A record as columns, and back.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use tokio_postgres::{Row, types::FromSql};
use warren_plugin_api::{Payload, Record, Status, StoreError, StoreResult, Text, Timestamp};

use crate::{schema::COLUMNS, text};

/// The number of a status in the table: its place in the life of a job.
pub(crate) const fn status_number(status: Status) -> i16 {
    match status {
        Status::Queued => 0,
        Status::InProgress => 1,
        Status::Retrying => 2,
        Status::Completed => 3,
        Status::Failed => 4,
        Status::Aborted => 5,
    }
}

pub(crate) fn status_of(number: i16) -> Option<Status> {
    let index = usize::try_from(number).ok()?;
    Status::ALL.get(index).copied()
}

/// What stands in one row, borrowed from the record where that is possible.
pub(crate) struct Columns<'a> {
    pub(crate) record: &'a Record,
    pub(crate) job_id: Cow<'a, str>,
    pub(crate) queue: Cow<'a, str>,
    pub(crate) function: Cow<'a, str>,
    pub(crate) worker: Cow<'a, str>,
    pub(crate) error: Option<Cow<'a, str>>,
    pub(crate) duration: Option<i64>,
    pub(crate) extra: Vec<u8>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(record: &'a Record) -> StoreResult<Self> {
        Ok(Self {
            record,
            job_id: text::to_column(&record.job_id),
            queue: text::to_column(&record.queue),
            function: text::to_column(&record.function),
            worker: text::to_column(&record.worker),
            error: record.error.as_deref().map(text::to_column),
            duration: record.duration.map(duration_bits),
            extra: extra_bytes(&record.extra)?,
        })
    }
}

/// Microseconds of 64 bits in a column of 63 and a sign: beyond 292,000 years it looks negative.
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

/// The record of a row that has every column.
///
/// # Errors
/// `corrupt_data`
pub(crate) fn record(row: &Row) -> StoreResult<Record> {
    let read = Reader { row };
    let status = read.get::<i16>(1)?;
    let attempt = read.get::<i64>(2)?;
    Ok(Record {
        job_id: read.text(0)?,
        status: status_of(status).ok_or_else(|| corrupt(row, 1, &"no status"))?,
        attempt: u32::try_from(attempt).map_err(|error| corrupt(row, 2, &error))?,
        queue: read.text(3)?,
        function: read.text(4)?,
        worker: read.text(5)?,
        enqueued_at: read.time(6)?,
        started_at: read.time(7)?,
        finished_at: read.time(8)?,
        updated_at: read.time(9)?,
        heartbeat_at: read.time(10)?,
        expires_at: read.time(11)?,
        duration: read
            .get::<Option<i64>>(12)?
            .map(|bits| Duration::from_micros(bits.cast_unsigned())),
        error: read
            .get::<Option<&str>>(13)?
            .map(|column| text::from_column(column).ok_or_else(|| corrupt(row, 13, &ESCAPE)))
            .transpose()?,
        args: read.payload(14)?,
        kwargs: read.payload(15)?,
        result: read.payload(16)?,
        progress: read.payload(17)?,
        extra: read.extra(18)?,
    })
}

const ESCAPE: &str = "a backslash that escapes nothing";

struct Reader<'a> {
    row: &'a Row,
}

impl<'a> Reader<'a> {
    fn get<T: FromSql<'a>>(&self, column: usize) -> StoreResult<T> {
        self.row
            .try_get(column)
            .map_err(|error| match error.source() {
                Some(why) => corrupt(self.row, column, &why),
                None => corrupt(self.row, column, &error),
            })
    }

    fn text(&self, column: usize) -> StoreResult<Text> {
        text::from_column(self.get(column)?).ok_or_else(|| corrupt(self.row, column, &ESCAPE))
    }

    fn time(&self, column: usize) -> StoreResult<Option<Timestamp>> {
        Ok(self
            .get::<Option<i64>>(column)?
            .map(Timestamp::from_unix_us))
    }

    fn payload(&self, column: usize) -> StoreResult<Payload> {
        self.get::<&[u8]>(column).map(Payload::from)
    }

    fn extra(&self, column: usize) -> StoreResult<Vec<(Text, Payload)>> {
        let bytes = self.get::<&[u8]>(column)?;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        rmp_serde::from_slice(bytes).map_err(|error| corrupt(self.row, column, &error))
    }
}

fn corrupt(row: &Row, column: usize, why: &dyn fmt::Display) -> StoreError {
    let job_id: &str = row.try_get(0).unwrap_or("?");
    let column = COLUMNS.get(column).copied().unwrap_or("?");
    StoreError::corrupt_data(format!(
        "what is stored for job {:?} is no record: {column}: {why}",
        job_id.chars().take(100).collect::<String>()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbered_as_jobs_pass_through_them() {
        for (number, status) in (0..).zip(Status::ALL) {
            assert_eq!(status_number(status), number);
            assert_eq!(status_of(number), Some(status));
            assert_eq!(status.is_terminal(), number >= 3, "the SQL says so");
            assert_eq!(i16::from(status.rank()), number.min(3), "and so");
        }
        assert_eq!((status_of(-1), status_of(6)), (None, None));
    }

    #[test]
    fn the_longest_duration_keeps_its_bits() {
        for micros in [0, 1, u64::MAX >> 1, (u64::MAX >> 1) + 1, u64::MAX] {
            let bits = duration_bits(Duration::from_micros(micros));
            assert_eq!(bits.cast_unsigned(), micros);
        }
    }

    #[test]
    fn extra_keeps_order_and_repetitions() {
        let extra: Vec<(Text, Payload)> = vec![
            ("b".into(), Payload::empty()),
            ("a".into(), Payload::from(vec![0, 255])),
            ("b".into(), "x".into()),
            ("".into(), Payload::empty()),
        ];
        let bytes = extra_bytes(&extra).unwrap();
        let back: Vec<(Text, Payload)> = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(back, extra);
        assert!(extra_bytes(&[]).unwrap().is_empty());
    }
}
