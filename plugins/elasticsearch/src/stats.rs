//! What the index holds.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use warren_plugin_api::{Stats, Status, StoreResult, Timestamp};

use crate::{
    client::{Body, Kind},
    config::Refresh,
    error::Failure,
    index::Index,
    search::{self, is_live},
};

#[derive(Deserialize)]
struct Buckets {
    buckets: Vec<Bucket>,
}

#[derive(Deserialize)]
struct Bucket {
    key: String,
    doc_count: u64,
}

/// Counts the live records of each status, and asks for the size where the user may.
pub(crate) async fn stats(index: &Index, policy: Refresh) -> StoreResult<Stats> {
    let counted = count(index, policy).await;
    let by_status = counted.map_err(|failure| index.store_error(&failure))?;
    let mut stats = Stats {
        records: Some(by_status.values().sum()),
        by_status,
        ..Stats::default()
    };
    let sizes: Result<Value, Failure> = index
        .send(Kind::Read, &Method::GET, "_stats/docs,store", Body::None)
        .await;
    let sizes = match sizes {
        Ok(sizes) => sizes,
        // The right to monitor is not needed for anything else.
        Err(failure) if failure.status() == Some(403) => return Ok(stats),
        Err(failure) => return Err(index.store_error(&failure)),
    };
    stats.bytes = sizes
        .pointer("/_all/total/store/size_in_bytes")
        .and_then(Value::as_u64);
    for (name, figure) in [
        ("documents", "/_all/primaries/docs/count"),
        ("deleted_documents", "/_all/primaries/docs/deleted"),
        ("primary_bytes", "/_all/primaries/store/size_in_bytes"),
    ] {
        if let Some(figure) = sizes.pointer(figure).and_then(Value::as_u64) {
            stats.details.insert(name.to_owned(), figure.into());
        }
    }
    Ok(stats)
}

async fn count(index: &Index, policy: Refresh) -> Result<BTreeMap<Status, u64>, Failure> {
    search::refresh(index, policy).await?;
    let query = json!({
        "size": 0,
        "query": is_live(Timestamp::now().unix_us()),
        "track_total_hits": false,
        "aggs": {"by_status": {"terms": {"field": "status", "size": 100}}},
    });
    let answer = search::search(index, query).await?;
    let buckets = answer.aggregations.get("by_status").cloned();
    let buckets: Buckets =
        serde_json::from_value(buckets.unwrap_or_default()).map_err(|error| {
            Failure::Strange(format!("an aggregation that is not expected: {error}"))
        })?;
    Ok(buckets
        .buckets
        .into_iter()
        .filter_map(|bucket| Some((bucket.key.parse().ok()?, bucket.doc_count)))
        .collect())
}
