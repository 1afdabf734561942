//! How the server is, and what the store holds.

use std::{collections::BTreeMap, time::Instant};

use tokio_postgres::{
    Row,
    types::{FromSqlOwned, Type},
};
use warren_plugin_api::{Health, Stats, StoreError, StoreResult, Timestamp};

use crate::{
    address::Trust,
    database::{Database, Kind, Plan},
    error::Failure,
    row::status_of,
};

const LOOK: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(), \
     current_setting('transaction_read_only') = 'on', current_setting('synchronous_commit'), \
     current_setting('fsync'), current_setting('full_page_writes'), \
     (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'), \
     current_setting('max_connections')::int8";

/// Asks the server whether it would serve a call, and what an operator should know.
pub(crate) async fn check(database: &Database) -> StoreResult<Health> {
    let asked = Instant::now();
    let row = one(database, Plan::Prepared, LOOK, &[])
        .await
        .map_err(|failure| database.store_error(&failure))?;
    let took = asked.elapsed();
    let address = database.address();
    let version: String = value(&row, 0)?;
    if value(&row, 1)? {
        return Err(StoreError::unavailable(format!(
            "PostgreSQL at {address} is a standby, which takes no writes"
        )));
    }
    if value(&row, 2)? {
        return Err(StoreError::unavailable(format!(
            "PostgreSQL at {address} takes no writes: default_transaction_read_only is on"
        )));
    }
    Ok(Health {
        detail: format!("PostgreSQL {version} at {address}, answered in {took:.1?}"),
        warnings: warnings(database, &row)?,
    })
}

fn warnings(database: &Database, row: &Row) -> StoreResult<Vec<String>> {
    let mut warnings = Vec::new();
    let commit: String = value(row, 3)?;
    if commit == "off" {
        warnings.push(
            "synchronous_commit is off: a crash loses the last results that were acknowledged"
                .to_owned(),
        );
    }
    for (column, setting) in [(4, "fsync"), (5, "full_page_writes")] {
        let state: String = value(row, column)?;
        if state == "off" {
            warnings.push(format!(
                "{setting} is off: a power cut may destroy the whole database"
            ));
        }
    }
    let (open, most): (i64, i64) = (value(row, 6)?, value(row, 7)?);
    if open * 10 >= most * 9 {
        warnings.push(format!(
            "{open} of the server's {most} connections are in use"
        ));
    }
    match database.address().trust() {
        Trust::Certain => {}
        Trust::Insecure => warnings.push("the server's TLS certificate is not checked".to_owned()),
        Trust::Unchecked => warnings.push(
            "whoever can redirect the connection can read and change results: add \
             sslmode=require to postgres_url"
                .to_owned(),
        ),
    }
    Ok(warnings)
}

/// Counts the live records, which reads the whole table; where the server is not done with it in
/// time, there is only its own estimate of all rows.
pub(crate) async fn stats(database: &Database) -> StoreResult<Stats> {
    let described = |failure: Failure| database.store_error(&failure);
    let table = &database.names.results;
    let mut stats = Stats::default();
    match count(database).await {
        Ok(by_status) => {
            let mut known = BTreeMap::new();
            for (number, count) in by_status {
                if let Some(status) = status_of(number) {
                    known.insert(status, count);
                }
            }
            stats.records = Some(known.values().sum());
            stats.by_status = known;
        }
        // "canceling statement due to statement timeout"
        Err(failure)
            if failure
                .sql_state()
                .is_some_and(|state| state.code() == "57014") => {}
        Err(failure) => return Err(described(failure)),
    }
    let sizes = "SELECT pg_total_relation_size(oid), pg_indexes_size(oid), reltuples::int8 \
                 FROM pg_catalog.pg_class WHERE oid = to_regclass($1)";
    let row = one(database, Plan::Anew, sizes, &[(table, Type::TEXT)])
        .await
        .map_err(described)?;
    let number = |column| value::<i64>(&row, column).map(i64::cast_unsigned);
    stats.bytes = Some(number(0)?);
    stats
        .details
        .insert("index_bytes".into(), number(1)?.into());
    // Negative until the table was first analysed.
    let estimate: i64 = value(&row, 2)?;
    if let Ok(estimate) = u64::try_from(estimate) {
        stats
            .details
            .insert("estimated_rows".into(), estimate.into());
    }
    stats
        .details
        .insert("connections".into(), database.open_connections().into());
    Ok(stats)
}

async fn count(database: &Database) -> Result<Vec<(i16, u64)>, Failure> {
    let sql = format!(
        "SELECT status, count(*) FROM {} WHERE expires_at IS NULL OR expires_at > $1 \
         GROUP BY status",
        database.names.results
    );
    let now = Timestamp::now().unix_us();
    let rows = database
        .query(Kind::Read, Plan::Anew, &sql, &[(&now, Type::INT8)])
        .await?;
    let mut counts = Vec::with_capacity(rows.len());
    for row in &rows {
        let count: i64 = row.try_get(1)?;
        counts.push((row.try_get(0)?, count.cast_unsigned()));
    }
    Ok(counts)
}

async fn one(
    database: &Database,
    plan: Plan,
    sql: &str,
    parameters: &[crate::database::Parameter<'_>],
) -> Result<Row, Failure> {
    let rows = database.query(Kind::Read, plan, sql, parameters).await?;
    rows.into_iter()
        .next()
        .ok_or_else(|| StoreError::unavailable("the table is gone").into())
}

fn value<T: FromSqlOwned>(row: &Row, column: usize) -> StoreResult<T> {
    row.try_get(column)
        .map_err(|error| StoreError::internal(format!("an unexpected answer: {error}")))
}
