//! Removing what has expired: found by a search, and deleted unless it was rewritten since.

use std::time::{Duration, Instant};

use serde_json::json;
use warren_plugin_api::{StoreResult, Timestamp};

use crate::{
    bulk::{self, Action, Outcome},
    config::Refresh,
    error::Failure,
    index::Index,
    search,
};

/// What one search finds and one request deletes.
const RECORDS_AT_ONCE: u64 = 1_000;
/// How long one call goes on.
const GOES_ON_FOR: Duration = Duration::from_secs(2);

/// Removes up to `limit` records that expired by `now`, the earliest first. Several may do so at
/// once: each record is deleted, and counted, by one of them.
pub(crate) async fn remove_expired(
    index: &Index,
    policy: Refresh,
    now: Timestamp,
    limit: u64,
) -> StoreResult<u64> {
    let started = Instant::now();
    let mut removed = 0;
    while removed < limit && started.elapsed() < GOES_ON_FOR {
        let most = RECORDS_AT_ONCE.min(limit - removed);
        let (found, gone) = remove_some(index, policy, now, most)
            .await
            .map_err(|failure| index.store_error(&failure))?;
        removed += gone;
        // Without a refresh the next search would find the same ones.
        if found < most || policy == Refresh::Interval {
            break;
        }
    }
    Ok(removed)
}

/// How many were found, and removed.
async fn remove_some(
    index: &Index,
    policy: Refresh,
    now: Timestamp,
    most: u64,
) -> Result<(u64, u64), Failure> {
    search::refresh(index, policy).await?;
    let query = json!({
        "size": most,
        "query": {"range": {"expires_at": {"lte": now.unix_us()}}},
        "sort": [{"expires_at": "asc"}],
        "seq_no_primary_term": true,
        "track_total_hits": false,
        "_source": false,
    });
    let hits = search::search(index, query).await?.hits.hits;
    let mut actions = Vec::with_capacity(hits.len());
    for hit in &hits {
        let version = hit.version().ok_or_else(|| {
            Failure::Strange("a hit without _seq_no and _primary_term".to_owned())
        })?;
        actions.push((hit.id.as_str(), Action::Delete(version)));
    }
    if actions.is_empty() {
        return Ok((0, 0));
    }
    let mut gone = 0;
    for done in bulk::send(index, policy, &actions).await? {
        match done {
            Outcome::Made => gone += 1,
            // It was rewritten, or another has removed it.
            Outcome::Changed => {}
            Outcome::Refused(refusal) => return Err(refusal.into()),
        }
    }
    Ok((actions.len() as u64, gone))
}
