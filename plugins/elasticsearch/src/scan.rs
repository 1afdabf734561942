//! Listing, newest first, from where the last page ended.

use serde_json::{Value, json};
use warren_plugin_api::{
    Cursor, Filter, HostContext, Page, Record, Status, StoreResult, Timestamp,
};

use crate::{
    config::Refresh,
    cursor::{from_cursor, to_cursor},
    document::{self, indexed},
    error::Failure,
    index::Index,
    read::Reader,
    search::{self, Hit, is_live},
};

/// Records of a page, and the bytes of those with payloads; at least one record is on a page.
const MOST_RECORDS: usize = 1_000;
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// Lists through one alias.
pub(crate) struct Scanner<'a> {
    pub(crate) index: &'a Index,
    pub(crate) refresh: Refresh,
    pub(crate) host: &'a HostContext,
}

impl Scanner<'_> {
    pub(crate) async fn scan(
        &self,
        filter: &Filter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> StoreResult<Page> {
        let after = cursor.map(from_cursor).transpose()?;
        self.page(filter, after, limit.clamp(1, MOST_RECORDS))
            .await
            .map_err(|failure| self.index.store_error(&failure))
    }

    async fn page(
        &self,
        filter: &Filter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Failure> {
        // Before each page: what was deleted after the first must not be on the second.
        search::refresh(self.index, self.refresh).await?;
        let now = Timestamp::now();
        let query = query(filter, after, limit, now);
        let mut hits = search::search(self.index, query).await?.hits.hits;
        let is_last = hits.len() < limit;
        let taken = if filter.without_payloads {
            hits.len()
        } else {
            within_budget(&hits)
        };
        let is_cut = taken < hits.len();
        hits.truncate(taken);
        let next = match hits.last() {
            Some(last) if is_cut || !is_last => {
                Some(to_cursor(last.sort_key().ok_or_else(|| {
                    Failure::Strange("a hit without the value it was sorted by".to_owned())
                })?))
            }
            _ => None,
        };
        let records = if filter.without_payloads {
            self.heads(&hits)
        } else {
            self.whole(&hits).await?
        };
        let now = Timestamp::now();
        let records = records
            .into_iter()
            // The query compares no more than the index holds.
            .filter(|record| filter.matches(record) && !record.is_expired(now))
            .collect();
        Ok(Page { records, next })
    }

    fn heads(&self, hits: &[Hit]) -> Vec<Record> {
        hits.iter()
            .map(|hit| document::decode_head(&hit.id, &hit.source))
            .filter_map(|record| self.readable(record))
            .collect()
    }

    /// As they are by now: who was deleted meanwhile is left out.
    async fn whole(&self, hits: &[Hit]) -> Result<Vec<Record>, Failure> {
        if hits.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&str> = hits.iter().map(|hit| hit.id.as_str()).collect();
        let mut records = Vec::with_capacity(ids.len());
        for item in (Reader { index: self.index }).whole(&ids).await? {
            if let Some(stored) = item? {
                records.extend(self.readable(stored.record));
            }
        }
        Ok(records)
    }

    fn readable(&self, record: StoreResult<Record>) -> Option<Record> {
        record
            .map_err(|error| {
                self.host.warn(format_args!("left out of a list: {error}"));
            })
            .ok()
    }
}

fn within_budget(hits: &[Hit]) -> usize {
    let mut bytes = 0_u64;
    hits.iter()
        .take_while(|hit| {
            let is_first = bytes == 0;
            bytes = bytes.saturating_add(hit.source.bytes.unwrap_or_default().max(1));
            is_first || bytes <= MOST_BYTES
        })
        .count()
}

fn query(filter: &Filter, after: Option<&str>, limit: usize, now: Timestamp) -> Value {
    let mut conditions = vec![is_live(now.unix_us())];
    if !filter.statuses.is_empty() {
        let statuses: Vec<&str> = filter
            .statuses
            .iter()
            .map(|status| Status::as_str(*status))
            .collect();
        conditions.push(json!({"terms": {"status": statuses}}));
    }
    for (field, text) in [("queue", &filter.queue), ("function", &filter.function)] {
        if let Some(text) = text {
            conditions.push(json!({"term": {field: indexed(text)}}));
        }
    }
    let mut times = serde_json::Map::new();
    if let Some(from) = filter.enqueued_from {
        times.insert("gte".into(), from.unix_us().into());
    }
    if let Some(before) = filter.enqueued_before {
        // A little too much where a server rounds: what passes is looked at again.
        times.insert("lte".into(), before.unix_us().into());
    }
    if !times.is_empty() {
        conditions.push(json!({"range": {"enqueued_at": times}}));
    }
    let fields: &[&str] = if filter.without_payloads {
        &["record", "bytes"]
    } else {
        &["bytes"]
    };
    let mut query = json!({
        "size": limit,
        "query": {"bool": {"filter": conditions}},
        "sort": [{"sort_key": "desc"}],
        "track_total_hits": false,
        "_source": fields,
    });
    if let Some(after) = after {
        query["search_after"] = json!([after]);
    }
    query
}
