//! Our requests for writing and deleting, and how we take their answers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use warren_plugin_api::{
    ErrorClass, Payload, Record, ResultStore, Status, Timestamp, Write, WriteMode, WriteOutcome,
};

use crate::{
    stub::Reply,
    support::{BULK, CONFLICT, MGET, bulk, class, found, none_found, record, store_on, store_with},
};

#[tokio::test]
async fn we_claim_with_one_create() {
    let (store, stub) = store_on(|seen| bulk(seen, |_| (201, None))).await;
    let claim = Write {
        record: Record {
            attempt: u32::MAX,
            expires_at: Some(Timestamp::MAX),
            result: "1".into(),
            ..record("a", Status::Queued)
        },
        mode: WriteMode::IfAbsent,
    };
    assert_eq!(store.put(claim).await, Ok(WriteOutcome::Written));
    let [request] = &stub.requests_after_opening()[..] else {
        panic!("{:?}", stub.lines())
    };
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.target,
        "/warren-results/_bulk?require_alias=true&timeout=3500ms"
    );
    assert_eq!(request.headers["content-type"], "application/x-ndjson");
    assert!(
        request.body.ends_with('\n'),
        "the last line must have an end"
    );
    let [action, document] = &request.json_lines()[..] else {
        panic!("{}", request.body)
    };
    assert_eq!(*action, json!({"create": {"_id": "a"}}));
    let mut document = document.clone();
    for blob in ["record", "payloads"] {
        assert!(document[blob].take().is_string(), "{blob}");
    }
    let expected = json!({
        "job_id": "a", "status": "queued", "queue": "default", "function": "add", "worker": "",
        "attempt": u32::MAX, "enqueued_at": 1, "expires_at": i64::MAX, "bytes": 12,
        "sort_key": "18000000000000001:a", "record": null, "payloads": null,
    });
    assert_eq!(document, expected);
}

#[tokio::test]
async fn we_replace_only_what_we_have_judged() {
    let (store, stub) = store_on(|seen| match seen.line().as_str() {
        MGET => found(seen, |id| Some((record(id, Status::Queued), 7))),
        _ => bulk(seen, |_| (200, None)),
    })
    .await;
    let written = store.put(record("a", Status::InProgress).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    let [look, change] = &stub.requests_after_opening()[..] else {
        panic!("{:?}", stub.lines())
    };
    assert_eq!(look.target, "/warren-results/_mget?_source_includes=record");
    assert_eq!(look.headers["content-type"], "application/json");
    assert_eq!(look.json(), json!({"ids": ["a"]}));
    let action = json!({"index": {"_id": "a", "if_seq_no": 7, "if_primary_term": 3}});
    assert_eq!(change.json_lines()[0], action);
}

#[tokio::test]
async fn a_stale_write_sends_nothing() {
    let (store, stub) =
        store_on(|seen| found(seen, |id| Some((record(id, Status::Completed), 7)))).await;
    let stale = store.put(record("a", Status::InProgress).into()).await;
    assert_eq!(stale, Ok(WriteOutcome::Stale));
    assert_eq!(stub.lines(), [MGET]);
}

#[tokio::test]
async fn who_loses_a_race_looks_and_judges_again() {
    let looks = AtomicUsize::new(0);
    let (store, stub) = store_on(move |seen| match seen.line().as_str() {
        MGET => match looks.fetch_add(1, Ordering::Relaxed) {
            0 => none_found(seen),
            1 => found(seen, |id| Some((record(id, Status::Queued), 1))),
            _ => found(seen, |id| Some((record(id, Status::Aborted), 2))),
        },
        _ => bulk(seen, |_| CONFLICT),
    })
    .await;
    let lost = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(lost, Ok(WriteOutcome::Stale));
    assert_eq!(stub.lines(), [MGET, BULK, MGET, BULK, MGET]);
}

#[tokio::test]
async fn a_race_that_never_ends_is_a_conflict() {
    let (store, stub) = store_on(|seen| match seen.line().as_str() {
        MGET => found(seen, |id| Some((record(id, Status::Queued), 1))),
        _ => bulk(seen, |_| CONFLICT),
    })
    .await;
    let lost = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(class(&lost), Some(ErrorClass::Conflict));
    assert!(stub.lines().len() <= 200);
}

#[tokio::test]
async fn each_item_of_a_batch_has_its_own_fate() {
    let (store, _stub) = store_on(|seen| match seen.line().as_str() {
        MGET => none_found(seen),
        _ => bulk(seen, |id| match id {
            "full" => (429, Some("es_rejected_execution_exception")),
            "disk" => (429, Some("cluster_block_exception")),
            "shard" => (503, Some("unavailable_shards_exception")),
            "mapping" => (400, Some("document_parsing_exception")),
            _ => (201, None),
        }),
    })
    .await;
    let ids = ["a", "full", "disk", "shard", "mapping", "b"];
    let writes = ids.map(|id| record(id, Status::Completed).into()).to_vec();
    let outcomes = store.put_many(writes).await.unwrap();
    let classes: Vec<_> = outcomes.iter().map(class).collect();
    let away = Some(ErrorClass::Unavailable);
    let wrong = Some(ErrorClass::InvalidConfig);
    assert_eq!(classes, [None, away, away, away, wrong, None]);
}

#[tokio::test]
async fn writes_of_one_job_go_one_after_another() {
    let (store, stub) = store_on(|seen| match seen.line().as_str() {
        MGET => none_found(seen),
        _ => bulk(seen, |_| (201, None)),
    })
    .await;
    let writes = [
        ("a", Status::InProgress),
        ("b", Status::InProgress),
        ("a", Status::Completed),
    ];
    let writes = writes
        .map(|(id, status)| record(id, status).into())
        .to_vec();
    assert!(
        store
            .put_many(writes)
            .await
            .unwrap()
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(stub.lines(), [MGET, BULK, MGET, BULK]);
    let ids: Vec<_> = stub
        .requests_after_opening()
        .iter()
        .step_by(2)
        .map(|look| look.json())
        .collect();
    assert_eq!(ids, [json!({"ids": ["a", "b"]}), json!({"ids": ["a"]})]);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_sent_in_parts_and_a_record_is_told() {
    const LIMIT: usize = 20_000;
    let (store, _stub) = store_on(|seen| match seen.line().as_str() {
        MGET => none_found(seen),
        // As http.max_content_length and proxies answer.
        _ if seen.body.len() > LIMIT => Reply::Text(413, ""),
        _ => bulk(seen, |_| (201, None)),
    })
    .await;
    let mut writes: Vec<Write> = Vec::new();
    for (id, bytes) in [
        ("a", 6_000),
        ("b", 6_000),
        ("large", 30_000),
        ("c", 6_000),
        ("d", 10),
    ] {
        let record = Record {
            result: Payload::from(vec![b'1'; bytes]),
            ..record(id, Status::Completed)
        };
        writes.push(record.into());
    }
    let outcomes = store.put_many(writes).await.unwrap();
    let classes: Vec<_> = outcomes.iter().map(class).collect();
    assert_eq!(
        classes,
        [None, None, Some(ErrorClass::TooLarge), None, None]
    );
}

#[tokio::test]
async fn we_delete_only_what_we_have_seen() {
    let (store, stub) = store_on(|seen| match seen.line().as_str() {
        MGET => found(seen, |id| match id {
            "absent" => None,
            "expired" => {
                let expired = Record {
                    expires_at: Some(Timestamp::from_unix_us(1)),
                    ..record(id, Status::Completed)
                };
                Some((expired, 8))
            }
            _ => Some((record(id, Status::Completed), 9)),
        }),
        _ => bulk(seen, |_| (200, None)),
    })
    .await;
    let ids = ["absent", "expired", "live"].map(Into::into).to_vec();
    let deleted = store.delete_many(ids).await.unwrap();
    assert_eq!(deleted, [Ok(false), Ok(false), Ok(true)]);
    let actions = stub.requests_after_opening()[1].json_lines();
    let delete = |id: &str, seq_no: u64| json!({"delete": {"_id": id, "if_seq_no": seq_no, "if_primary_term": 3}});
    assert_eq!(actions, [delete("expired", 8), delete("live", 9)]);
}

#[tokio::test]
async fn a_record_that_goes_while_it_is_deleted_was_not_ours_to_delete() {
    let looks = Arc::new(AtomicUsize::new(0));
    let (store, _stub) = store_on(move |seen| match seen.line().as_str() {
        MGET if looks.fetch_add(1, Ordering::Relaxed) == 0 => {
            found(seen, |id| Some((record(id, Status::Completed), 9)))
        }
        MGET => none_found(seen),
        _ => bulk(seen, |_| CONFLICT),
    })
    .await;
    assert_eq!(store.delete("a".into()).await, Ok(false));
}

#[tokio::test]
async fn with_refresh_on_write_we_ask_to_wait_for_it() {
    let config = json!({"refresh": "on_write"});
    let (store, stub) = store_with(config, |seen| match seen.line().as_str() {
        MGET => found(seen, |id| Some((record(id, Status::Queued), 7))),
        _ => bulk(seen, |_| (200, None)),
    })
    .await;
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    store.delete("a".into()).await.unwrap();
    for request in stub.requests_after_opening() {
        let waits = request.target.contains("&refresh=wait_for");
        assert_eq!(waits, request.line() == BULK, "{}", request.target);
    }
}

#[tokio::test]
async fn ids_that_no_server_takes_are_hashed() {
    let (store, stub) = store_on(none_found).await;
    let ids = ["é".repeat(512), "a/b".to_owned(), "plain-1".to_owned()];
    let ids: Vec<_> = ids.iter().map(Into::into).collect();
    assert_eq!(
        store.get_many(ids).await.unwrap(),
        [Ok(None), Ok(None), Ok(None)]
    );
    let asked = stub.requests_after_opening()[0].json();
    let asked: Vec<&str> = asked["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    for hashed in &asked[..2] {
        assert_eq!(
            (hashed.len(), hashed.starts_with('~')),
            (44, true),
            "{hashed}"
        );
    }
    assert_eq!(asked[2], "plain-1");
}
