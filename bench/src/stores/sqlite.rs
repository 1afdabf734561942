//! rusqlite alone, on the tables that the SQLite store has made: one transaction for each batch, in
//! which each record is written unless a later one is there.

use rusqlite::{Connection, Row, params};
use warren_plugin_api::{Payload, Record, Text, Timestamp};

use super::{Driver, Place};
use crate::error::{BenchError, ensure};

const COLUMNS: &str = "job_id, status, attempt, queue, function, worker, enqueued_at, started_at, \
     finished_at, updated_at, heartbeat_at, expires_at, duration_us, error, args, kwargs, result, \
     progress, extra";

pub(super) struct Bare {
    connection: Connection,
    put: String,
    get: String,
}

impl Bare {
    pub(super) fn open(place: &Place) -> Result<Self, BenchError> {
        let connection = Connection::open(place.file())?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
        Ok(Self {
            connection,
            put: format!(
                "INSERT INTO records ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
                 ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) ON CONFLICT (job_id) DO UPDATE SET \
                 status = ?2, attempt = ?3, queue = ?4, function = ?5, worker = ?6, \
                 enqueued_at = ?7, started_at = ?8, finished_at = ?9, updated_at = ?10, \
                 heartbeat_at = ?11, expires_at = ?12, duration_us = ?13, error = ?14, \
                 args = ?15, kwargs = ?16, result = ?17, progress = ?18, extra = ?19 \
                 WHERE records.expires_at <= ?20 OR NOT (?2 = 'queued' AND records.status IN \
                 ('completed', 'failed', 'aborted')) AND (?3 > records.attempt OR \
                 ?3 = records.attempt AND CASE records.status WHEN 'queued' THEN TRUE \
                 WHEN 'in_progress' THEN ?21 >= 1 WHEN 'retrying' THEN ?21 >= 2 ELSE FALSE END)"
            ),
            get: format!(
                "SELECT {COLUMNS} FROM records \
                 WHERE job_id = ?1 AND (expires_at IS NULL OR expires_at > ?2)"
            ),
        })
    }

    fn write_now(&mut self, records: &[Record]) -> Result<(), BenchError> {
        let now = Timestamp::now().unix_us();
        let transaction = self.connection.transaction()?;
        {
            let mut put = transaction.prepare_cached(&self.put)?;
            let mut ended = Vec::new();
            for record in records {
                let written = put.execute(params![
                    record.job_id.as_str(),
                    record.status.as_str(),
                    record.attempt,
                    record.queue.as_str(),
                    record.function.as_str(),
                    record.worker.as_str(),
                    record.enqueued_at.map(Timestamp::unix_us),
                    record.started_at.map(Timestamp::unix_us),
                    record.finished_at.map(Timestamp::unix_us),
                    record.updated_at.map(Timestamp::unix_us),
                    record.heartbeat_at.map(Timestamp::unix_us),
                    record.expires_at.map(Timestamp::unix_us),
                    record.duration.map(|duration| duration.as_micros() as i64),
                    record.error.as_deref(),
                    blob(&record.args),
                    blob(&record.kwargs),
                    blob(&record.result),
                    blob(&record.progress),
                    None::<Vec<u8>>,
                    now,
                    record.status.rank(),
                ])?;
                ensure("records written", written, 1)?;
                ended.push((record.job_id.as_str(), record.status));
            }
            // So that other processes can be told.
            let mut announce =
                transaction.prepare_cached("INSERT INTO endings (jobs) VALUES (?1)")?;
            for ended in ended.chunks(64) {
                announce.execute([serde_json::to_vec(ended)?])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn read_now(&mut self, ids: &[Text]) -> Result<Vec<Record>, BenchError> {
        let mut get = self.connection.prepare_cached(&self.get)?;
        let now = Timestamp::now().unix_us();
        let mut records = Vec::with_capacity(ids.len());
        for job_id in ids {
            records.push(get.query_row(params![job_id.as_str(), now], record_of)?);
        }
        Ok(records)
    }
}

/// As an async program calls a blocking driver.
impl Driver for Bare {
    async fn write(&mut self, records: &[Record]) -> Result<(), BenchError> {
        tokio::task::block_in_place(|| self.write_now(records))
    }

    async fn read(&mut self, ids: &[Text]) -> Result<Vec<Record>, BenchError> {
        tokio::task::block_in_place(|| self.read_now(ids))
    }
}

fn blob(payload: &Payload) -> Option<&[u8]> {
    (!payload.is_empty()).then_some(payload)
}

fn record_of(row: &Row<'_>) -> rusqlite::Result<Record> {
    let text = |at| row.get::<_, String>(at).map(Text::from);
    let time =
        |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(Timestamp::from_unix_us));
    let payload = |at| {
        let bytes = row.get::<_, Option<Vec<u8>>>(at)?;
        Ok::<_, rusqlite::Error>(bytes.map(Payload::from).unwrap_or_default())
    };
    let status: String = row.get(1)?;
    Ok(Record {
        job_id: text(0)?,
        status: status.parse().unwrap_or_default(),
        attempt: row.get(2)?,
        queue: text(3)?,
        function: text(4)?,
        worker: text(5)?,
        enqueued_at: time(6)?,
        started_at: time(7)?,
        finished_at: time(8)?,
        updated_at: time(9)?,
        heartbeat_at: time(10)?,
        expires_at: time(11)?,
        duration: row
            .get::<_, Option<i64>>(12)?
            .map(|micros| std::time::Duration::from_micros(micros.cast_unsigned())),
        error: row.get::<_, Option<String>>(13)?.map(Text::from),
        args: payload(14)?,
        kwargs: payload(15)?,
        result: payload(16)?,
        progress: payload(17)?,
        extra: Vec::new(),
    })
}
