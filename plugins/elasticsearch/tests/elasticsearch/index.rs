//! Our requests for the index and its alias.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use warren_plugin_api::{ErrorClass, ResultStore, Status, WriteOutcome};

use crate::{
    stub::{MakeReply, Reply, Stub},
    support::{MAPPING, bulk, class, mapping_of, no_index, open, record, refusal},
};

const CREATE: &str = "PUT /warren-results-v1";

fn created() -> Reply {
    let made = json!({"acknowledged": true, "shards_acknowledged": true,
                      "index": "warren-results-v1"});
    Reply::Json(200, made)
}

fn exists() -> Reply {
    refusal(
        400,
        "resource_already_exists_exception",
        "index already exists",
    )
}

/// Answers in their order, then as if all were well.
fn in_turn(replies: Vec<MakeReply>) -> Stub {
    let turn = AtomicUsize::new(0);
    Stub::start(move |_| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        replies.get(turn).map_or_else(ours, |reply| reply())
    })
}

fn ours() -> Reply {
    mapping_of(json!({"warren": {"version": 1}}))
}

async fn opened_on(stub: &Stub) -> Vec<String> {
    open(json!({"elasticsearch_urls": [stub.url]}))
        .await
        .unwrap();
    stub.requests()
        .iter()
        .map(crate::stub::Seen::line)
        .collect()
}

#[tokio::test]
async fn we_ask_for_index_and_alias_in_one_request() {
    let stub = in_turn(vec![no_index, created, ours]);
    assert_eq!(opened_on(&stub).await, [MAPPING, CREATE, MAPPING]);
    let request = &stub.requests()[1];
    assert_eq!(request.headers["content-type"], "application/json");
    let body = request.json();
    assert_eq!(body["aliases"], json!({"warren-results": {}}));
    assert_eq!(body.get("settings"), None);
    let mapping = &body["mappings"];
    assert_eq!(mapping["dynamic"], "strict");
    assert_eq!(mapping["_meta"], json!({"warren": {"version": 1}}));
    let types = |kind: &str| -> Vec<&str> {
        let fields = mapping["properties"].as_object().unwrap();
        let of_kind = fields.iter().filter(|(_, field)| field["type"] == kind);
        of_kind.map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(
        types("binary"),
        ["payloads", "record"],
        "kept, never indexed"
    );
    assert_eq!(types("date"), [""; 0], "a date has no microseconds");
    for time in ["enqueued_at", "expires_at", "finished_at"] {
        assert_eq!(mapping["properties"][time], json!({"type": "long"}));
    }
}

#[tokio::test]
async fn who_makes_the_index_second_takes_the_first_one_s() {
    let stub = in_turn(vec![no_index, exists, ours]);
    assert_eq!(opened_on(&stub).await, [MAPPING, CREATE, MAPPING]);
}

#[tokio::test]
async fn an_index_that_lost_its_alias_is_given_it_again() {
    let acknowledged = || Reply::Json(200, json!({"acknowledged": true}));
    let stub = in_turn(vec![no_index, exists, no_index, exists, acknowledged]);
    let lines = opened_on(&stub).await;
    assert_eq!(
        lines,
        [MAPPING, CREATE, MAPPING, CREATE, "POST /_aliases", MAPPING]
    );
    let expected = json!({"actions": [
        {"add": {"index": "warren-results-v1", "alias": "warren-results"}}]});
    assert_eq!(stub.requests()[4].json(), expected);
}

#[tokio::test]
async fn an_index_that_is_not_ours_is_refused() {
    let several = || {
        let index = json!({"mappings": {"_meta": {"warren": {"version": 1}}}});
        Reply::Json(200, json!({"a": index, "b": index}))
    };
    let plain = || {
        let index = json!({"mappings": {"_meta": {"warren": {"version": 1}}}});
        Reply::Json(200, json!({"warren-results": index}))
    };
    let cases: [(MakeReply, &str); 5] = [
        (|| mapping_of(Value::Null), "is not Warren's"),
        (
            || mapping_of(json!({"warren": {"version": 0}})),
            "is not Warren's",
        ),
        (
            || mapping_of(json!({"warren": {"version": 2}})),
            "a later Warren (version 2)",
        ),
        (several, "leads to 2 indices"),
        (plain, "is an index, expected an alias"),
    ];
    for (mapping, said) in cases {
        let stub = in_turn(vec![mapping]);
        let refused = open(json!({"elasticsearch_urls": [stub.url]})).await;
        assert_eq!(class(&refused), Some(ErrorClass::InvalidConfig), "{said}");
        let text = refused.err().unwrap().to_string();
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn an_index_that_is_removed_under_us_is_made_anew_and_the_write_repeated() {
    let bulks = AtomicUsize::new(0);
    let looks = AtomicUsize::new(0);
    let stub = Stub::start(move |seen| match seen.line().as_str() {
        MAPPING if looks.fetch_add(1, Ordering::Relaxed) == 1 => no_index(),
        MAPPING => ours(),
        CREATE => created(),
        crate::support::MGET => crate::support::none_found(seen),
        // With require_alias both products tell it for each item, under a status of 200.
        _ if bulks.fetch_add(1, Ordering::Relaxed) == 0 => {
            bulk(seen, |_| (404, Some("index_not_found_exception")))
        }
        _ => bulk(seen, |_| (201, None)),
    });
    let store = open(json!({"elasticsearch_urls": [stub.url]}))
        .await
        .unwrap();
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    let lines: Vec<String> = stub
        .requests()
        .iter()
        .map(crate::stub::Seen::line)
        .collect();
    assert!(lines.iter().any(|line| line == CREATE), "{lines:?}");
}
