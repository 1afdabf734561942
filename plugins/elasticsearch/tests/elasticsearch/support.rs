//! A store on a stub, and answers that several tests need.

use std::{net::TcpListener, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use warren_plugin_api::{
    ErrorClass, HostContext, Record, ResultStore, Status, StoreError, StoreResult, Text, Timestamp,
};
use warren_store_elasticsearch::ElasticsearchStore;

use crate::stub::{Reply, Seen, Stub};

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const MAPPING: &str = "GET /warren-results/_mapping";
pub(crate) const MGET: &str = "POST /warren-results/_mget";
pub(crate) const BULK: &str = "POST /warren-results/_bulk";
pub(crate) const SEARCH: &str = "POST /warren-results/_search";
pub(crate) const REFRESH: &str = "POST /warren-results/_refresh";

pub(crate) async fn open(config: Value) -> StoreResult<ElasticsearchStore> {
    let config = serde_json::from_value(config)
        .map_err(|error| StoreError::invalid_config(error.to_string()))?;
    let host = HostContext::new(|level, _, message| println!("{level:?}: {message}"));
    ElasticsearchStore::open(config, host).await
}

/// A store on a stub that has the index and answers the rest as the test says.
pub(crate) async fn store_on(
    answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (ElasticsearchStore, Stub) {
    store_with(json!({}), answer).await
}

pub(crate) async fn store_with(
    mut config: Value,
    answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (ElasticsearchStore, Stub) {
    let stub = Stub::start(with_index(answer));
    config["elasticsearch_urls"] = json!([stub.url]);
    let store = open(config).await.unwrap();
    (store, stub)
}

/// The index is there, and is Warren's.
pub(crate) fn with_index(
    answer: impl Fn(&Seen) -> Reply + Send + Sync,
) -> impl Fn(&Seen) -> Reply + Send + Sync {
    move |seen| {
        if seen.line() == MAPPING {
            mapping_of(json!({"warren": {"version": 1}}))
        } else {
            answer(seen)
        }
    }
}

pub(crate) fn mapping_of(meta: Value) -> Reply {
    let index = json!({"mappings": {"_meta": meta, "properties": {}}});
    Reply::Json(200, json!({"warren-results-v1": index}))
}

/// An error as both products tell it.
pub(crate) fn refusal(status: u16, kind: &str, reason: &str) -> Reply {
    let cause = json!({"type": kind, "reason": reason});
    let mut error = cause.clone();
    error["root_cause"] = json!([cause]);
    Reply::Json(status, json!({"error": error, "status": status}))
}

pub(crate) fn no_index() -> Reply {
    refusal(
        404,
        "index_not_found_exception",
        "no such index [warren-results]",
    )
}

/// The answer to an `_mget` when nothing is there.
pub(crate) fn none_found(seen: &Seen) -> Reply {
    found(seen, |_| None)
}

/// The answer to an `_mget` over the records that `stored` gives, each with a version.
pub(crate) fn found(seen: &Seen, stored: impl Fn(&str) -> Option<(Record, u64)>) -> Reply {
    let ids = seen.json()["ids"].clone();
    let documents = ids.as_array().unwrap().iter().map(|id| {
        let id = id.as_str().unwrap();
        match stored(id) {
            None => json!({"_index": "warren-results-v1", "_id": id, "found": false}),
            Some((record, seq_no)) => json!({
                "_index": "warren-results-v1", "_id": id, "found": true, "_version": 1,
                "_seq_no": seq_no, "_primary_term": 3, "_source": source(&record),
            }),
        }
    });
    Reply::Json(200, json!({"docs": documents.collect::<Vec<_>>()}))
}

/// What stands in a document of this record.
pub(crate) fn source(record: &Record) -> Value {
    let head = rmp_serde::to_vec_named(record).unwrap();
    json!({"record": STANDARD.encode(head), "bytes": record.size_bytes()})
}

/// The answer to a `_bulk` with the status and the error that `judge` gives for each id.
pub(crate) fn bulk(seen: &Seen, judge: impl Fn(&str) -> (u16, Option<&'static str>)) -> Reply {
    let mut items = Vec::new();
    for action in seen.json_lines() {
        for name in ["create", "index", "delete"] {
            let Some(id) = action[name]["_id"].as_str() else {
                continue;
            };
            let (status, kind) = judge(id);
            let mut result = json!({"_index": "warren-results-v1", "_id": id, "status": status});
            if let Some(kind) = kind {
                result["error"] = json!({"type": kind, "reason": "because"});
            }
            items.push(json!({name: result}));
        }
    }
    Reply::Json(200, json!({"took": 1, "errors": true, "items": items}))
}

pub(crate) const CONFLICT: (u16, Option<&str>) = (409, Some("version_conflict_engine_exception"));

pub(crate) fn record(job_id: &str, status: Status) -> Record {
    Record {
        job_id: Text::from(job_id),
        status,
        attempt: 1,
        queue: "default".into(),
        function: "add".into(),
        enqueued_at: Some(Timestamp::from_unix_us(1)),
        ..Record::default()
    }
}

pub(crate) fn class<T>(result: &StoreResult<T>) -> Option<ErrorClass> {
    result.as_ref().err().map(StoreError::class)
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
