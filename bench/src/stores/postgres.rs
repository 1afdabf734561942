//! tokio-postgres alone, on the tables that the PostgreSQL store has made: for each batch one
//! prepared statement with an array for each column, which writes each record unless a later one is
//! there, announces the endings, and says what was written.

use tokio_postgres::{Client, NoTls, Row, Statement};
use warren_plugin_api::{Payload, Record, Status, Text, Timestamp};

use super::{Driver, Place};
use crate::error::{BenchError, ensure};

const COLUMNS: &str = "job_id, status, attempt, queue, function, worker, enqueued_at, started_at, \
     finished_at, updated_at, heartbeat_at, expires_at, duration, error, args, kwargs, result, \
     progress, extra";

pub(super) struct Bare {
    client: Client,
    put: Statement,
    get: Statement,
    channel: String,
}

impl Bare {
    pub(super) async fn connect(place: &Place) -> Result<Self, BenchError> {
        let (client, connection) = tokio_postgres::connect(&place.url, NoTls).await?;
        tokio::spawn(connection);
        let schema = place.schema();
        let table = format!("\"{schema}\".warren_results");
        let replaced: Vec<String> = COLUMNS
            .split(", ")
            .skip(1)
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        let put = format!(
            "WITH written AS (INSERT INTO {table} AS stored ({COLUMNS}) SELECT * FROM \
             unnest($1::text[], $2::int2[], $3::int8[], $4::text[], $5::text[], $6::text[], \
             $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::int8[], \
             $13::int8[], $14::text[], $15::bytea[], $16::bytea[], $17::bytea[], $18::bytea[], \
             $19::bytea[]) ON CONFLICT (job_id) DO UPDATE SET {} \
             WHERE stored.expires_at <= $20 OR NOT (excluded.status = 0 AND stored.status >= 3) \
             AND (excluded.attempt > stored.attempt OR excluded.attempt = stored.attempt \
             AND stored.status < 3 AND excluded.status >= stored.status) \
             RETURNING job_id, status), \
             ended AS (SELECT job_id, row_number() OVER () / 100 AS packet FROM written \
             WHERE status >= 3) \
             SELECT job_id FROM written UNION ALL \
             SELECT pg_notify($21, string_agg(job_id, ' '))::text FROM ended GROUP BY packet",
            replaced.join(", ")
        );
        let get = format!(
            "SELECT {COLUMNS} FROM {table} \
             WHERE job_id = ANY($1) AND (expires_at IS NULL OR expires_at > $2)"
        );
        Ok(Self {
            put: client.prepare(&put).await?,
            get: client.prepare(&get).await?,
            channel: schema,
            client,
        })
    }
}

impl Driver for Bare {
    async fn write(&mut self, records: &[Record]) -> Result<(), BenchError> {
        // In one order, so that two writers do not wait for each other.
        let mut records: Vec<&Record> = records.iter().collect();
        records.sort_unstable_by(|a, b| a.job_id.cmp(&b.job_id));
        let texts =
            |of: fn(&Record) -> &str| -> Vec<&str> { records.iter().map(|it| of(it)).collect() };
        let times = |of: fn(&Record) -> Option<Timestamp>| -> Vec<Option<i64>> {
            records
                .iter()
                .map(|it| of(it).map(Timestamp::unix_us))
                .collect()
        };
        let payloads =
            |of: fn(&Record) -> &[u8]| -> Vec<&[u8]> { records.iter().map(|it| of(it)).collect() };
        let statuses: Vec<i16> = records.iter().map(|it| number(it.status)).collect();
        let attempts: Vec<i64> = records.iter().map(|it| it.attempt.into()).collect();
        let durations: Vec<Option<i64>> = records
            .iter()
            .map(|it| it.duration.map(|duration| duration.as_micros() as i64))
            .collect();
        let errors: Vec<Option<&str>> = records.iter().map(|it| it.error.as_deref()).collect();
        let now = Timestamp::now().unix_us();
        let rows = self
            .client
            .query(
                &self.put,
                &[
                    &texts(|it| &it.job_id),
                    &statuses,
                    &attempts,
                    &texts(|it| &it.queue),
                    &texts(|it| &it.function),
                    &texts(|it| &it.worker),
                    &times(|it| it.enqueued_at),
                    &times(|it| it.started_at),
                    &times(|it| it.finished_at),
                    &times(|it| it.updated_at),
                    &times(|it| it.heartbeat_at),
                    &times(|it| it.expires_at),
                    &durations,
                    &errors,
                    &payloads(|it| &it.args),
                    &payloads(|it| &it.kwargs),
                    &payloads(|it| &it.result),
                    &payloads(|it| &it.progress),
                    &payloads(|_| &[]),
                    &now,
                    &self.channel,
                ],
            )
            .await?;
        let mut written = 0;
        for row in &rows {
            // An announcement answers with a row that is empty.
            written += usize::from(!row.try_get::<_, &str>(0)?.is_empty());
        }
        ensure("records written", written, records.len())
    }

    async fn read(&mut self, ids: &[Text]) -> Result<Vec<Record>, BenchError> {
        let ids: Vec<&str> = ids.iter().map(|job_id| job_id.as_str()).collect();
        let now = Timestamp::now().unix_us();
        let rows = self.client.query(&self.get, &[&ids, &now]).await?;
        let records: Result<Vec<Record>, _> = rows.iter().map(record_of).collect();
        Ok(records?)
    }
}

/// Removes the schema.
pub(super) async fn remove(place: &Place) -> Result<(), BenchError> {
    let (client, connection) = tokio_postgres::connect(&place.url, NoTls).await?;
    let connected = tokio::spawn(connection);
    let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", place.schema());
    client.batch_execute(&drop).await?;
    connected.abort();
    Ok(())
}

fn number(status: Status) -> i16 {
    let place = Status::ALL.iter().position(|it| *it == status);
    place.map_or(0, |place| place as i16)
}

fn record_of(row: &Row) -> Result<Record, tokio_postgres::Error> {
    let text = |at: usize| row.try_get::<_, &str>(at).map(Text::from);
    let time = |at: usize| {
        let micros = row.try_get::<_, Option<i64>>(at);
        micros.map(|micros| micros.map(Timestamp::from_unix_us))
    };
    let payload = |at: usize| row.try_get::<_, &[u8]>(at).map(Payload::from);
    let (status, attempt): (i16, i64) = (row.try_get(1)?, row.try_get(2)?);
    Ok(Record {
        job_id: text(0)?,
        status: Status::ALL
            .get(status as usize)
            .copied()
            .unwrap_or_default(),
        attempt: attempt as u32,
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
            .try_get::<_, Option<i64>>(12)?
            .map(|micros| std::time::Duration::from_micros(micros.cast_unsigned())),
        error: row.try_get::<_, Option<&str>>(13)?.map(Text::from),
        args: payload(14)?,
        kwargs: payload(15)?,
        result: payload(16)?,
        progress: payload(17)?,
        extra: Vec::new(),
    })
}
