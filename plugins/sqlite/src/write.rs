//! What changes records: each change is one statement, many are one transaction.

use rusqlite::{CachedStatement, Connection, OptionalExtension, TransactionBehavior};
use warren_plugin_api::{
    Status, StoreError, StoreResult, Text, Timestamp, Write, WriteMode, WriteOutcome,
};

use crate::{
    config::Settings,
    error::{During, is_of_one_record, store_error},
    row::Values,
    schema,
};

/// `Write::may_replace` as a condition: ?20 is now, ?21 the mode, ?22 the new rank. A stored
/// status that is none stands in the way of no write but `IfAbsent`.
const PUT: &str = "
INSERT INTO records (job_id, status, attempt, queue, function, worker, enqueued_at, started_at,
    finished_at, updated_at, heartbeat_at, expires_at, duration_us, error, args, kwargs, result,
    progress, extra)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
ON CONFLICT (job_id) DO UPDATE SET status = ?2, attempt = ?3, queue = ?4, function = ?5,
    worker = ?6, enqueued_at = ?7, started_at = ?8, finished_at = ?9, updated_at = ?10,
    heartbeat_at = ?11, expires_at = ?12, duration_us = ?13, error = ?14, args = ?15,
    kwargs = ?16, result = ?17, progress = ?18, extra = ?19
WHERE records.expires_at <= ?20
    OR ?21 = 2
    OR ?21 = 0 AND CASE
        WHEN ?2 = 'queued' AND records.status IN ('completed', 'failed', 'aborted') THEN FALSE
        WHEN ?3 > records.attempt THEN TRUE
        WHEN ?3 < records.attempt THEN records.status NOT IN
            ('queued', 'in_progress', 'retrying', 'completed', 'failed', 'aborted')
        ELSE CASE records.status
            WHEN 'queued' THEN TRUE
            WHEN 'in_progress' THEN ?22 >= 1
            WHEN 'retrying' THEN ?22 >= 2
            WHEN 'completed' THEN FALSE
            WHEN 'failed' THEN FALSE
            WHEN 'aborted' THEN FALSE
            ELSE TRUE
        END
    END";

const DELETE: &str = "DELETE FROM records WHERE job_id = ?1 RETURNING expires_at";

const REMOVE_EXPIRED: &str = "
DELETE FROM records WHERE number IN (
    SELECT number FROM records INDEXED BY by_expiry
    WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
)";

const ANNOUNCE: &str = "INSERT INTO endings (jobs) VALUES (?1)";
const FORGET: &str = "DELETE FROM endings WHERE number <= ?1";

/// Endings in one row, which then costs little more than a single one.
const ENDINGS_PER_ROW: usize = 64;
/// Rows that a slow subscriber may be behind.
const ROWS_KEPT: i64 = 5_000;
const ROWS_FORGOTTEN_AT_ONCE: i64 = 100;

/// Pages that are cut off the file at once, 8 MiB: others wait for that long.
const PAGES_AT_ONCE: i64 = 2048;

/// One change.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are writes, and come in batches"
)]
pub(crate) enum Change {
    Put(Write),
    Delete(Text),
    RemoveExpired {
        by: Timestamp,
        limit: u32,
    },
    /// Gives pages back to the file system where more than a quarter of the file is empty.
    Shrink,
    /// Writes without changing anything: whether the next write would succeed.
    Probe,
}

impl Change {
    /// About how much it adds to the log.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put(write) => write.record.size_bytes(),
            Self::RemoveExpired { limit, .. } => *limit as usize,
            Self::Delete(_) | Self::Shrink | Self::Probe => 0,
        }
    }
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Put(WriteOutcome),
    Deleted(bool),
    Removed(u64),
    Nothing,
}

/// What a transaction came to.
pub(crate) struct Made {
    pub(crate) answers: Vec<StoreResult<Done>>,
    /// Whether a job has ended.
    pub(crate) endings: bool,
}

/// Makes `changes` in their order, in one transaction. An error is about all of them: nothing was
/// changed, unless the commit itself failed.
pub(crate) fn make<'a>(
    connection: &mut Connection,
    settings: &Settings,
    changes: impl Iterator<Item = &'a Change>,
) -> rusqlite::Result<Made> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut statements: Statements<'_> = Statements::prepare(&transaction)?;
    // Once the lock is held: what waited for it is judged now.
    let now = Timestamp::now();
    let mut answers = Vec::with_capacity(changes.size_hint().0);
    for change in changes {
        let done = match change {
            Change::Shrink => shrink(&transaction).map(|()| Ok(Done::Nothing)),
            Change::Probe => probe(&transaction).map(|()| Ok(Done::Nothing)),
            change => statements.make(change, now, settings),
        };
        answers.push(match done {
            Ok(answer) => answer,
            Err(error) if is_of_one_record(&error) => {
                Err(store_error(&error, &settings.path, During::Writing))
            }
            Err(error) => return Err(error),
        });
    }
    statements.announce()?;
    let endings = statements.announced;
    drop(statements);
    transaction.commit()?;
    Ok(Made { answers, endings })
}

struct Statements<'a> {
    put: CachedStatement<'a>,
    delete: CachedStatement<'a>,
    remove_expired: CachedStatement<'a>,
    announce: CachedStatement<'a>,
    forget: CachedStatement<'a>,
    /// What has ended and is not announced yet.
    endings: Vec<(&'a str, Status)>,
    announced: bool,
}

impl<'a> Statements<'a> {
    fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            put: connection.prepare_cached(PUT)?,
            delete: connection.prepare_cached(DELETE)?,
            remove_expired: connection.prepare_cached(REMOVE_EXPIRED)?,
            announce: connection.prepare_cached(ANNOUNCE)?,
            forget: connection.prepare_cached(FORGET)?,
            endings: Vec::new(),
            announced: false,
        })
    }

    fn make(
        &mut self,
        change: &'a Change,
        now: Timestamp,
        settings: &Settings,
    ) -> rusqlite::Result<StoreResult<Done>> {
        Ok(Ok(match change {
            Change::Put(write) => {
                let values = match fitting(write, settings.max_record_bytes) {
                    Ok(values) => values,
                    Err(error) => return Ok(Err(error)),
                };
                let outcome = self.put(write, &values, now)?;
                if outcome == WriteOutcome::Written && write.record.status.is_terminal() {
                    let record = &write.record;
                    self.endings.push((&record.job_id, record.status));
                }
                Done::Put(outcome)
            }
            Change::Delete(job_id) => Done::Deleted(self.delete(job_id, now)?),
            Change::RemoveExpired { by, limit } => {
                let removed = self.remove_expired.execute((by.unix_us(), limit))?;
                Done::Removed(removed as u64)
            }
            Change::Shrink | Change::Probe => Done::Nothing,
        }))
    }

    fn put(
        &mut self,
        write: &Write,
        values: &Values<'_>,
        now: Timestamp,
    ) -> rusqlite::Result<WriteOutcome> {
        let bound = values.bound();
        let count = bound.len();
        for (index, value) in bound.iter().enumerate() {
            self.put.raw_bind_parameter(index + 1, value)?;
        }
        let mode = match write.mode {
            WriteMode::IfNewer => 0,
            WriteMode::IfAbsent => 1,
            WriteMode::Always => 2,
        };
        self.put.raw_bind_parameter(count + 1, now.unix_us())?;
        self.put.raw_bind_parameter(count + 2, mode)?;
        self.put
            .raw_bind_parameter(count + 3, write.record.status.rank())?;
        Ok(match self.put.raw_execute()? {
            0 => WriteOutcome::Stale,
            _ => WriteOutcome::Written,
        })
    }

    fn announce(&mut self) -> rusqlite::Result<()> {
        for endings in self.endings.chunks(ENDINGS_PER_ROW) {
            let jobs = rmp_serde::to_vec(endings)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            let number = self.announce.insert([jobs])?;
            if number % ROWS_FORGOTTEN_AT_ONCE == 0 {
                self.forget.execute([number - ROWS_KEPT])?;
            }
            self.announced = true;
        }
        self.endings.clear();
        Ok(())
    }

    /// Whether a live record was there.
    fn delete(&mut self, job_id: &str, now: Timestamp) -> rusqlite::Result<bool> {
        let deleted: Option<Option<i64>> = self
            .delete
            .query_row([job_id], |row| row.get(0))
            .optional()?;
        Ok(deleted.is_some_and(|expires_at| expires_at.is_none_or(|at| at > now.unix_us())))
    }
}

fn fitting(write: &Write, most: u64) -> StoreResult<Values<'_>> {
    let size = write.record.size_bytes() as u64;
    if size > most {
        return Err(StoreError::too_large(format!(
            "the record has {size} bytes and the SQLite store takes {most}: raise max_record_bytes"
        )));
    }
    Values::new(&write.record)
}

fn shrink(connection: &Connection) -> rusqlite::Result<()> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("freelist_count")? <= pragma("page_count")? / 4 {
        return Ok(());
    }
    // Each step is a page.
    connection.pragma(None, "incremental_vacuum", PAGES_AT_ONCE, |_| Ok(()))
}

/// The header's page goes to the log, and to the disk with the commit.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", schema::VERSION as i64)
}
