//! Whatever answers: a record, an error of some class, never a panic.

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use warren_plugin_api::{ErrorClass, Filter, ResultStore, Status, Timestamp};

use crate::{
    stub::Reply,
    support::{class, record, store_on},
};

/// JSON of the shapes that answers have, with something of any kind in every place.
fn answer() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9:=/+]{0,12}".prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "_id",
        "_seq_no",
        "_primary_term",
        "_source",
        "_shards",
        "aggregations",
        "buckets",
        "by_status",
        "bytes",
        "docs",
        "error",
        "errors",
        "failed",
        "found",
        "hits",
        "index",
        "items",
        "record",
        "payloads",
        "sort",
        "status",
        "timed_out",
        "type",
        "doc_count",
        "key",
    ]);
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_answer_is_taken_or_refused(answer in answer(), status in prop::sample::select(vec![200_u16, 201, 400, 404, 500])) {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let shown = answer.to_string();
            let (store, _stub) = store_on(move |_| Reply::Json(status, answer.clone())).await;
            let calls = [
                class(&store.get("a".into()).await),
                class(&store.status("a".into()).await),
                class(&store.put(record("a", Status::Completed).into()).await),
                class(&store.delete("a".into()).await),
                class(&store.scan(Filter::default(), None, 10).await),
                class(&store.cleanup_expired(Timestamp::now(), 10).await),
                class(&store.stats().await),
                class(&store.health_check().await),
            ];
            for class in calls.into_iter().flatten() {
                assert_ne!(class, ErrorClass::TooLarge, "{shown}");
            }
        });
    }
}

#[tokio::test]
async fn a_document_of_another_job_is_corrupt_data() {
    let (store, _stub) = store_on(|_| {
        let source = crate::support::source(&record("another", Status::Completed));
        let document = json!({"_id": "a", "found": true, "_seq_no": 1, "_primary_term": 1,
                              "_source": source});
        Reply::Json(200, json!({"docs": [document]}))
    })
    .await;
    let read = store.get("a".into()).await;
    assert_eq!(class(&read), Some(ErrorClass::CorruptData));
}

#[tokio::test]
async fn answers_for_other_documents_are_not_believed() {
    let (store, _stub) =
        store_on(|_| Reply::Json(200, json!({"docs": [{"_id": "b", "found": false}]}))).await;
    let read = store.get("a".into()).await;
    assert_eq!(class(&read), Some(ErrorClass::Unavailable));
}
