//! Removing what has expired.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;
use warren_plugin_api::{StoreResult, Timestamp};

use crate::{
    database::{Database, Kind, Plan},
    error::Failure,
    statements::Statements,
};

/// What one statement removes, while its rows are locked.
const RECORDS_AT_ONCE: u64 = 1_000;
/// How long one call goes on.
const GOES_ON_FOR: Duration = Duration::from_secs(2);

/// Removes up to `limit` records that expired by `now`, the earliest first. Several may do so at
/// once: none waits for another, and each record is counted by one of them.
pub(crate) async fn remove_expired(
    database: &Database,
    statements: &Statements,
    now: Timestamp,
    limit: u64,
) -> StoreResult<u64> {
    let (started, now) = (Instant::now(), now.unix_us());
    let mut removed = 0;
    while removed < limit && started.elapsed() < GOES_ON_FOR {
        let batch = RECORDS_AT_ONCE.min(limit - removed);
        let gone = remove_batch(database, statements, now, batch)
            .await
            .map_err(|failure| database.store_error(&failure))?;
        removed += gone;
        if gone < batch {
            break;
        }
    }
    Ok(removed)
}

async fn remove_batch(
    database: &Database,
    statements: &Statements,
    now: i64,
    batch: u64,
) -> Result<u64, Failure> {
    let limit = i64::try_from(batch).unwrap_or(i64::MAX);
    let parameters: [_; 2] = [(&now as _, Type::INT8), (&limit as _, Type::INT8)];
    let rows = database
        .query(Kind::Write, Plan::Anew, &statements.cleanup, &parameters)
        .await?;
    let gone: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(u64::try_from(gone).unwrap_or_default())
}
