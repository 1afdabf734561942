//! The statements that are sent again and again.

use crate::{names::Names, schema::COLUMNS};

/// SQL over one store's tables.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) put: String,
    pub(crate) put_and_announce: String,
    pub(crate) get: String,
    pub(crate) status: String,
    pub(crate) delete: String,
    pub(crate) cleanup: String,
}

impl Statements {
    pub(crate) fn new(names: &Names) -> Self {
        let table = &names.results;
        let columns = COLUMNS.join(", ");
        Self {
            put: format!("{} SELECT job_id FROM written", written(table, &columns)),
            put_and_announce: format!("{}{ANNOUNCE}", written(table, &columns)),
            get: format!(
                "SELECT {columns} FROM {table} \
                 WHERE job_id = ANY($1) AND (expires_at IS NULL OR expires_at > $2)"
            ),
            status: format!(
                "SELECT job_id, status FROM {table} \
                 WHERE job_id = ANY($1) AND (expires_at IS NULL OR expires_at > $2)"
            ),
            // Locked in the order of ids, as writes are, so that no two batches wait for each other.
            delete: format!(
                "WITH doomed AS (SELECT job_id FROM {table} WHERE job_id = ANY($1) \
                 ORDER BY job_id FOR UPDATE) \
                 DELETE FROM {table} AS stored USING doomed WHERE stored.job_id = doomed.job_id \
                 RETURNING stored.job_id, (stored.expires_at IS NULL OR stored.expires_at > $2)"
            ),
            // By their places in the table, at which the lock holds them: a join by id is planned
            // anew as the table grows, and at some sizes reads all of it.
            cleanup: format!(
                "WITH gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY( \
                 SELECT ctid FROM {table} WHERE expires_at <= $1 \
                 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1) \
                 SELECT count(*) FROM gone"
            ),
        }
    }
}

/// Writes $1 to $19, one array for each column, at the time $20 and in the mode $21, and leaves
/// what took effect in `written`. The condition is that of `Write::may_replace`: statuses are
/// numbered in the order in which a job passes through them, and from 3 on it has ended.
fn written(table: &str, columns: &str) -> String {
    let replaced: Vec<String> = COLUMNS[1..]
        .iter()
        .map(|column| format!("{column} = excluded.{column}"))
        .collect();
    let replaced = replaced.join(", ");
    format!(
        "WITH written AS (INSERT INTO {table} AS stored ({columns}) \
         SELECT * FROM unnest($1::text[], $2::int2[], $3::int8[], $4::text[], $5::text[], \
         $6::text[], $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::int8[], \
         $13::int8[], $14::text[], $15::bytea[], $16::bytea[], $17::bytea[], $18::bytea[], \
         $19::bytea[]) \
         ON CONFLICT (job_id) DO UPDATE SET {replaced} \
         WHERE stored.expires_at <= $20 OR $21 = {ALWAYS} OR ($21 = {IF_NEWER} \
         AND NOT (excluded.status = 0 AND stored.status >= 3) \
         AND (excluded.attempt > stored.attempt OR (excluded.attempt = stored.attempt \
         AND CASE WHEN excluded.status >= 3 THEN stored.status < 3 \
         ELSE excluded.status >= stored.status END))) \
         RETURNING job_id, status)"
    )
}

/// How a mode is written in $21.
pub(crate) const IF_NEWER: i16 = 0;
pub(crate) const IF_ABSENT: i16 = 1;
pub(crate) const ALWAYS: i16 = 2;

/// Packs the endings among what was written into as few notifications as their 8,000 bytes allow,
/// on the channel $22: `<status><bytes of id>:<id>`, any number of times. An entry has at most
/// 2,054 bytes, and the last of a notification begins before byte 5,900.
const ANNOUNCE: &str = ", ended AS (SELECT entry, (sum(octet_length(entry)) OVER (ORDER BY job_id) \
     - octet_length(entry)) / 5900 AS packet FROM (SELECT job_id, \
     status || (octet_length(job_id) || (':' || job_id)) AS entry \
     FROM written WHERE status >= 3) AS entries) \
     SELECT job_id FROM written UNION ALL \
     SELECT NULLIF(pg_notify($22, string_agg(entry, ''))::text, '') FROM ended GROUP BY packet";
