//! `_refresh` and `_search`, and what makes an answer of theirs incomplete.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    client::{Body, Kind},
    config::Refresh,
    document::Source,
    error::{Failure, SLOW},
    index::Index,
    read::DocumentVersion,
};

/// The same copies of the shards each time, so that one page does not know less than the one
/// before; and rather an error than an answer of some of the shards.
const SEARCH: &str = "_search?preference=warren&allow_partial_search_results=false";

#[derive(Deserialize)]
pub(crate) struct Answer {
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    pub(crate) hits: Hits,
    #[serde(default)]
    pub(crate) aggregations: Value,
}

#[derive(Deserialize)]
struct Shards {
    failed: u64,
}

#[derive(Deserialize)]
pub(crate) struct Hits {
    pub(crate) hits: Vec<Hit>,
}

#[derive(Deserialize)]
pub(crate) struct Hit {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    #[serde(rename = "_seq_no")]
    seq_no: Option<u64>,
    #[serde(rename = "_primary_term")]
    primary_term: Option<u64>,
    #[serde(rename = "_source", default)]
    pub(crate) source: Source,
    #[serde(default)]
    sort: Vec<Value>,
}

impl Hit {
    pub(crate) fn version(&self) -> Option<DocumentVersion> {
        Some(DocumentVersion {
            seq_no: self.seq_no?,
            primary_term: self.primary_term?,
        })
    }

    /// The value by which it was sorted, where that is one word.
    pub(crate) fn sort_key(&self) -> Option<&str> {
        self.sort.first().and_then(Value::as_str)
    }
}

/// Shows searches what was acknowledged before, unless the options leave that to others.
pub(crate) async fn refresh(index: &Index, policy: Refresh) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Refreshed {
        #[serde(rename = "_shards")]
        shards: Shards,
    }
    if policy != Refresh::OnRead {
        return index.make_ready().await;
    }
    let refreshed: Refreshed = index
        .send(Kind::Read, &Method::POST, "_refresh", Body::None)
        .await?;
    complete(&refreshed.shards)
}

/// Sends a search; its answer is whole.
pub(crate) async fn search(index: &Index, mut body: Value) -> Result<Answer, Failure> {
    body["timeout"] = json!(format!("{}ms", index.client.servers_limit().as_millis()));
    let body = body.to_string().into_bytes();
    let answer: Answer = index
        .send(Kind::Read, &Method::POST, SEARCH, Body::Json(&body))
        .await?;
    if answer.timed_out {
        return Err(Failure::Lost(format!(
            "a search was not done in time: {SLOW}"
        )));
    }
    complete(&answer.shards)?;
    Ok(answer)
}

fn complete(shards: &Shards) -> Result<(), Failure> {
    if shards.failed == 0 {
        return Ok(());
    }
    Err(Failure::Lost(format!(
        "{} of the index's shards failed",
        shards.failed
    )))
}

/// What has not expired at `now`; a record without a time does not.
pub(crate) fn is_live(now: i64) -> Value {
    json!({"bool": {"must_not": [{"range": {"expires_at": {"lte": now}}}]}})
}
