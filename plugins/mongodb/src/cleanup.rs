//! Removing what has expired, before the TTL index does.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, doc};
use warren_plugin_api::{StoreResult, Timestamp};

use crate::{
    database::{Database, Query},
    delete::remove,
    document::{EXPIRES_AT, ID, TTL_AT, date_not_before},
    error::Failure,
};

/// What one command removes.
const RECORDS_AT_ONCE: u64 = 500;
/// How long one call goes on.
const GOES_ON_FOR: Duration = Duration::from_secs(2);

/// Removes up to `limit` records that expired by `now`, the earliest first. Several may do so at
/// once: each record is counted by one of them.
pub(crate) async fn remove_expired(
    database: &Database,
    now: Timestamp,
    limit: u64,
) -> StoreResult<u64> {
    let started = Instant::now();
    let mut removed = 0;
    while removed < limit && started.elapsed() < GOES_ON_FOR {
        let batch = RECORDS_AT_ONCE.min(limit - removed);
        let (found, gone) = remove_batch(database, now, batch)
            .await
            .map_err(|failure| database.store_error(&failure))?;
        removed += gone;
        if found < batch {
            break;
        }
    }
    Ok(removed)
}

/// How many were found, and how many of them were still there to be removed.
async fn remove_batch(
    database: &Database,
    now: Timestamp,
    batch: u64,
) -> Result<(u64, u64), Failure> {
    let expired = doc! { "$lte": now.unix_us() };
    let found = database
        .find(Query {
            filter: doc! { TTL_AT: { "$lte": date_not_before(now) }, EXPIRES_AT: expired.clone() },
            projection: Some(doc! { ID: 1 }),
            sort: Some(doc! { TTL_AT: 1 }),
            limit: usize::try_from(batch).unwrap_or(usize::MAX),
        })
        .await?;
    let mut keys = Vec::with_capacity(found.len());
    for document in &found {
        // Whatever somebody else has made a key.
        if let Some(key) = document.get(ID)? {
            keys.push(Bson::try_from(key)?);
        }
    }
    let found = u64::try_from(keys.len()).unwrap_or(u64::MAX);
    if keys.is_empty() {
        return Ok((0, 0));
    }
    // One that was written again meanwhile stays.
    let gone = remove(
        database,
        doc! { ID: { "$in": keys }, EXPIRES_AT: expired },
        0,
    )
    .await?;
    Ok((found, u64::try_from(gone).unwrap_or(u64::MAX)))
}
