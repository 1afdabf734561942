//! Our requests for scans, figures and cleaning up, and how we take their answers.

use serde_json::{Value, json};
use warren_plugin_api::{Cursor, ErrorClass, Filter, ResultStore, Status, Timestamp};

use crate::{
    stub::{Reply, Seen},
    support::{
        BULK, MGET, REFRESH, SEARCH, bulk, class, found, none_found, record, source, store_on,
        store_with,
    },
};

fn refreshed() -> Reply {
    Reply::Json(
        200,
        json!({"_shards": {"total": 2, "successful": 2, "failed": 0}}),
    )
}

/// The answer to a `_search`, whole.
fn hits(hits: &Value) -> Reply {
    Reply::Json(
        200,
        json!({
            "took": 1, "timed_out": false,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": {"max_score": null, "hits": hits},
        }),
    )
}

fn hit(id: &str, bytes: u64) -> Value {
    let mut source = source(&record(id, Status::Completed));
    source["bytes"] = bytes.into();
    json!({"_index": "warren-results-v1", "_id": id, "_score": null, "_source": source,
           "sort": [format!("18000000000000001:{id}")]})
}

fn filter() -> Filter {
    Filter {
        statuses: vec![Status::Completed, Status::Failed],
        queue: Some("default".into()),
        function: Some("add".into()),
        enqueued_from: Some(Timestamp::from_unix_us(0)),
        enqueued_before: Some(Timestamp::from_unix_us(9)),
        without_payloads: true,
    }
}

fn answers(seen: &Seen) -> Reply {
    match seen.line().as_str() {
        REFRESH => refreshed(),
        SEARCH => hits(&json!([hit("b", 1), hit("a", 1)])),
        MGET => found(seen, |id| Some((record(id, Status::Completed), 1))),
        _ => bulk(seen, |_| (200, None)),
    }
}

/// The search, without the clock's time, which is checked to be there.
fn timeless(seen: &Seen) -> Value {
    let mut body = seen.json();
    let now = body
        .pointer_mut("/query/bool/filter/0/bool/must_not/0/range/expires_at/lte")
        .unwrap();
    assert!(now.as_i64().is_some_and(|now| now > 1_700_000_000_000_000));
    *now = Value::Null;
    body
}

#[tokio::test]
async fn we_refresh_and_then_search_after_the_last_key() {
    let (store, stub) = store_on(answers).await;
    let cursor = Some(Cursor("elasticsearch:18000000000000005:c".into()));
    let page = store.scan(filter(), cursor, 2).await.unwrap();
    let listed: Vec<&str> = page.records.iter().map(|record| &*record.job_id).collect();
    assert_eq!(listed, ["b", "a"]);
    let next = Cursor("elasticsearch:18000000000000001:a".into());
    assert_eq!(page.next, Some(next), "the page was full");
    assert_eq!(stub.lines(), [REFRESH, SEARCH]);
    let search = &stub.requests_after_opening()[1];
    assert_eq!(
        search.target,
        "/warren-results/_search?preference=warren&allow_partial_search_results=false"
    );
    let expected = json!({
        "size": 2,
        "query": {"bool": {"filter": [
            {"bool": {"must_not": [{"range": {"expires_at": {"lte": null}}}]}},
            {"terms": {"status": ["completed", "failed"]}},
            {"term": {"queue": "default"}},
            {"term": {"function": "add"}},
            {"range": {"enqueued_at": {"gte": 0, "lte": 9}}},
        ]}},
        "sort": [{"sort_key": "desc"}],
        "search_after": ["18000000000000005:c"],
        "track_total_hits": false,
        "_source": ["record", "bytes"],
        "timeout": "3500ms",
    });
    assert_eq!(timeless(search), expected);
}

#[tokio::test]
async fn payloads_are_read_by_id_and_a_page_of_large_records_is_short() {
    let (store, stub) = store_on(|seen| match seen.line().as_str() {
        SEARCH => hits(&json!([
            hit("a", 9 << 20),
            hit("b", 7 << 20),
            hit("c", 1),
            hit("d", 1)
        ])),
        MGET => found(seen, |id| {
            (id != "b").then(|| (record(id, Status::Completed), 1))
        }),
        _ => answers(seen),
    })
    .await;
    let page = store.scan(Filter::default(), None, 100).await.unwrap();
    let search = &stub.requests_after_opening()[1];
    assert_eq!(timeless(search)["_source"], json!(["bytes"]));
    let look = &stub.requests_after_opening()[2];
    assert_eq!(
        look.target,
        "/warren-results/_mget?_source_includes=record,payloads"
    );
    assert_eq!(
        look.json(),
        json!({"ids": ["a", "b"]}),
        "16 MiB and no more"
    );
    let listed: Vec<&str> = page.records.iter().map(|record| &*record.job_id).collect();
    assert_eq!(listed, ["a"], "b was deleted meanwhile");
    let next = Cursor("elasticsearch:18000000000000001:b".into());
    assert_eq!(page.next, Some(next));
}

#[tokio::test]
async fn what_does_not_pass_after_all_is_not_listed() {
    let (store, _stub) = store_on(answers).await;
    let other = Filter {
        queue: Some("another".into()),
        ..filter()
    };
    let page = store.scan(other, None, 10).await.unwrap();
    assert_eq!((page.records.len(), page.next), (0, None));
}

#[tokio::test]
async fn other_policies_ask_for_no_refresh() {
    for policy in ["on_write", "interval"] {
        let (store, stub) = store_with(json!({"refresh": policy}), answers).await;
        store.scan(filter(), None, 10).await.unwrap();
        assert_eq!(stub.lines(), [SEARCH], "{policy}");
    }
}

#[tokio::test]
async fn an_answer_of_some_of_the_shards_is_none() {
    let incomplete: [fn(&Seen) -> Reply; 4] = [
        |seen| match seen.line().as_str() {
            REFRESH => Reply::Json(200, json!({"_shards": {"failed": 1}})),
            _ => answers(seen),
        },
        |seen| match seen.line().as_str() {
            SEARCH => Reply::Json(
                200,
                json!({"timed_out": true, "_shards": {"failed": 0}, "hits": {"hits": []}}),
            ),
            _ => answers(seen),
        },
        |seen| match seen.line().as_str() {
            SEARCH => Reply::Json(
                200,
                json!({"timed_out": false, "_shards": {"failed": 1}, "hits": {"hits": []}}),
            ),
            _ => answers(seen),
        },
        // With allow_partial_search_results=false.
        |seen| match seen.line().as_str() {
            SEARCH => Reply::Json(
                503,
                json!({"error": {
                    "type": "search_phase_execution_exception", "reason": "all shards failed",
                    "root_cause": [{"type": "no_shard_available_action_exception", "reason": "r"}],
                }, "status": 503}),
            ),
            _ => answers(seen),
        },
    ];
    for answer in incomplete {
        let (store, _stub) = store_on(answer).await;
        let away = Some(ErrorClass::Unavailable);
        assert_eq!(class(&store.scan(filter(), None, 10).await), away);
        assert_eq!(class(&store.stats().await), away);
        assert_eq!(
            class(&store.cleanup_expired(Timestamp::now(), 10).await),
            away
        );
    }
}

#[tokio::test]
async fn we_count_by_one_aggregation_and_do_without_the_right_to_monitor() {
    let (store, stub) = store_on(|seen| match seen.line().as_str() {
        SEARCH => Reply::Json(
            200,
            json!({
                "timed_out": false, "_shards": {"failed": 0}, "hits": {"hits": []},
                "aggregations": {"by_status": {"buckets": [
                    {"key": "completed", "doc_count": 3}, {"key": "failed", "doc_count": 2},
                    {"key": "somebody's", "doc_count": 9},
                ]}},
            }),
        ),
        "GET /warren-results/_stats/docs,store" => Reply::Json(
            403,
            json!({"error": {"type": "security_exception", "reason": "r"}, "status": 403}),
        ),
        _ => answers(seen),
    })
    .await;
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.records, stats.bytes), (Some(5), None));
    assert_eq!(stats.by_status[&Status::Failed], 2);
    let search = stub.requests_after_opening()[1].json();
    assert_eq!(search["size"], 0);
    let aggregation = json!({"by_status": {"terms": {"field": "status", "size": 100}}});
    assert_eq!(search["aggs"], aggregation);
}

#[tokio::test]
async fn what_expired_is_deleted_unless_it_was_rewritten_since() {
    let expired = |id: &str, seq_no: u64| json!({"_id": id, "_seq_no": seq_no, "_primary_term": 3, "sort": [1]});
    let found = json!([expired("a", 5), expired("b", 6), expired("c", 7)]);
    let (store, stub) = store_on(move |seen| match seen.line().as_str() {
        REFRESH => refreshed(),
        SEARCH => hits(&found),
        _ => bulk(seen, |id| match id {
            "b" => crate::support::CONFLICT,
            "c" => (404, None),
            _ => (200, None),
        }),
    })
    .await;
    let removed = store.cleanup_expired(Timestamp::from_unix_us(77), 10).await;
    assert_eq!(removed, Ok(1));
    assert_eq!(stub.lines(), [REFRESH, SEARCH, BULK]);
    let requests = stub.requests_after_opening();
    let expected = json!({
        "size": 10,
        "query": {"range": {"expires_at": {"lte": 77}}},
        "sort": [{"expires_at": "asc"}],
        "seq_no_primary_term": true,
        "track_total_hits": false,
        "_source": false,
        "timeout": "3500ms",
    });
    assert_eq!(requests[1].json(), expected);
    let first = json!({"delete": {"_id": "a", "if_seq_no": 5, "if_primary_term": 3}});
    assert_eq!(requests[2].json_lines()[0], first);
}

#[tokio::test]
async fn nothing_expired_sends_no_bulk() {
    let (store, stub) = store_on(|seen| match seen.line().as_str() {
        REFRESH => refreshed(),
        SEARCH => hits(&json!([])),
        _ => none_found(seen),
    })
    .await;
    assert_eq!(store.cleanup_expired(Timestamp::now(), 10).await, Ok(0));
    assert_eq!(stub.lines(), [REFRESH, SEARCH]);
}
