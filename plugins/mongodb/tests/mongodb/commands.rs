//! The exact commands that reach a server, held against MongoDB's manual: the pages of the
//! commands under <https://www.mongodb.com/docs/manual/reference/command/> as of MongoDB 8.0. The
//! server behind is SecantusDB; this is about what it is sent.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use serde_json::json;
use warren_plugin_api::{
    Filter, Record, ResultStore, Status, Text, Timestamp, Write, WriteMode, WriteOutcome,
};

use crate::{
    support::{TestStore, record, shared, subscribe},
    wire::Wire,
};

/// What the manual knows of each command, and of its statements. An aggregation takes a write
/// concern only with `$out` and `$merge`.
const DOCUMENTED: [(&str, &[&str]); 12] = [
    (
        "insert",
        &[
            "insert",
            "documents",
            "ordered",
            "maxTimeMS",
            "writeConcern",
            "bypassDocumentValidation",
            "comment",
        ],
    ),
    (
        "update",
        &[
            "update",
            "updates",
            "ordered",
            "maxTimeMS",
            "writeConcern",
            "bypassDocumentValidation",
            "comment",
            "let",
        ],
    ),
    (
        "updates",
        &[
            "q",
            "u",
            "c",
            "upsert",
            "multi",
            "collation",
            "arrayFilters",
            "hint",
            "sort",
        ],
    ),
    (
        "delete",
        &[
            "delete",
            "deletes",
            "ordered",
            "maxTimeMS",
            "writeConcern",
            "comment",
            "let",
        ],
    ),
    ("deletes", &["q", "limit", "collation", "hint"]),
    (
        "find",
        &[
            "find",
            "filter",
            "sort",
            "projection",
            "hint",
            "skip",
            "limit",
            "batchSize",
            "singleBatch",
            "comment",
            "maxTimeMS",
            "readConcern",
            "collation",
            "allowDiskUse",
            "let",
        ],
    ),
    (
        "aggregate",
        &[
            "aggregate",
            "pipeline",
            "explain",
            "allowDiskUse",
            "cursor",
            "maxTimeMS",
            "bypassDocumentValidation",
            "readConcern",
            "collation",
            "hint",
            "comment",
            "let",
        ],
    ),
    (
        "count",
        &[
            "count",
            "query",
            "limit",
            "skip",
            "hint",
            "readConcern",
            "collation",
            "comment",
            "maxTimeMS",
        ],
    ),
    (
        "createIndexes",
        &[
            "createIndexes",
            "indexes",
            "writeConcern",
            "commitQuorum",
            "comment",
        ],
    ),
    (
        "indexes",
        &[
            "key",
            "name",
            "unique",
            "partialFilterExpression",
            "sparse",
            "expireAfterSeconds",
            "hidden",
        ],
    ),
    ("listIndexes", &["listIndexes", "cursor", "comment"]),
    (
        "getMore",
        &["getMore", "collection", "batchSize", "maxTimeMS", "comment"],
    ),
];

/// What a driver adds to every command.
const OF_THE_DRIVER: [&str; 5] = [
    "$db",
    "lsid",
    "$clusterTime",
    "$readPreference",
    "txnNumber",
];

fn is_documented(of: &str, document: &Document) {
    let (_, fields) = DOCUMENTED.iter().find(|(name, _)| *name == of).unwrap();
    for (field, value) in document {
        assert!(
            fields.contains(&field.as_str()) || OF_THE_DRIVER.contains(&field.as_str()),
            "{of} has no {field}: {document}"
        );
        if ["updates", "deletes", "indexes"].contains(&field.as_str()) {
            for statement in value.as_array().unwrap() {
                is_documented(field, statement.as_document().unwrap());
            }
        }
    }
}

fn without_the_driver_s(mut command: Document) -> Document {
    for field in OF_THE_DRIVER {
        command.remove(field);
    }
    command
}

const ALL: [&str; 9] = [
    "insert",
    "update",
    "delete",
    "find",
    "aggregate",
    "count",
    "createIndexes",
    "listIndexes",
    "getMore",
];

struct Watched {
    wire: Wire,
    tables: TestStore,
}

impl Watched {
    async fn open() -> Self {
        Self::open_with(json!({"operation_timeout": "10s"})).await
    }

    async fn open_with(config: serde_json::Value) -> Self {
        let wire = Wire::to(shared().address());
        let tables = TestStore::open_at(wire.url(), config).await;
        Self { wire, tables }
    }

    /// What was sent since the last call, in the words of the manual.
    fn sent(&self) -> Vec<Document> {
        let sent = self.wire.take(&ALL);
        for command in &sent {
            is_documented(command.keys().next().unwrap(), command);
        }
        sent.into_iter().map(without_the_driver_s).collect()
    }

    fn sent_one(&self) -> Document {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }
}

fn safe() -> Document {
    doc! { "w": "majority", "wtimeout": 10_000 }
}

/// A time that the store took from its clock, in the place of one that is known.
fn at(document: &mut Document, path: &[&str]) -> i64 {
    let (last, path) = path.split_last().unwrap();
    let mut found = document;
    for name in path {
        found = match found.get_mut(*name).unwrap() {
            Bson::Document(document) => document,
            Bson::Array(list) => list[0].as_document_mut().unwrap(),
            other => panic!("{name}: {other}"),
        };
    }
    let time = found.get_i64(last).unwrap();
    assert!(
        (Timestamp::now().unix_us() - time).abs() < 600_000_000,
        "{time}"
    );
    found.insert(*last, 0_i64);
    time
}

fn numbers_as_wide(value: &mut Bson) {
    match value {
        Bson::Int32(number) => *value = Bson::Int64((*number).into()),
        Bson::Document(document) => document
            .iter_mut()
            .for_each(|(_, value)| numbers_as_wide(value)),
        Bson::Array(list) => list.iter_mut().for_each(numbers_as_wide),
        _ => {}
    }
}

/// The server takes a number of any width.
#[track_caller]
fn same(found: Document, expected: Document) {
    let (mut found, mut expected) = (Bson::from(found), Bson::from(expected));
    numbers_as_wide(&mut found);
    numbers_as_wide(&mut expected);
    assert_eq!(found, expected);
}

#[tokio::test]
async fn opening_looks_for_the_indexes_makes_them_and_tries_a_change_stream() {
    let watched = Watched::open().await;
    let sent = watched.sent();
    let names: Vec<&str> = sent
        .iter()
        .map(|command| command.keys().next().unwrap().as_str())
        .collect();
    assert_eq!(names, ["listIndexes", "createIndexes", "aggregate"]);
    same(
        sent[1].clone(),
        doc! {
            "createIndexes": "warren_results",
            "indexes": [
                { "key": { "enqueued_at": -1, "_id": -1 }, "name": "by_time" },
                { "key": { "status": 1, "enqueued_at": -1, "_id": -1 }, "name": "by_status" },
                { "key": { "queue": 1, "enqueued_at": -1, "_id": -1 }, "name": "by_queue" },
                { "key": { "function": 1, "enqueued_at": -1, "_id": -1 }, "name": "by_function" },
                { "key": { "ttl_at": 1 }, "name": "by_expiry", "expireAfterSeconds": 0 },
            ],
            "writeConcern": safe(),
        },
    );
    same(
        sent[2].clone(),
        doc! {
            "aggregate": "warren_results",
            "pipeline": [
                { "$changeStream": {} },
                { "$match": {
                    "operationType": { "$in": ["insert", "replace"] },
                    "fullDocument.status": { "$in": ["completed", "failed", "aborted"] },
                } },
                { "$project": { "documentKey._id": 1, "fullDocument.status": 1 } },
            ],
            "cursor": {},
            "readConcern": { "level": "majority" },
        },
    );
    // The second process finds them.
    watched.tables.open_again().await;
    let names: Vec<String> = watched
        .sent()
        .iter()
        .map(|command| command.keys().next().unwrap().clone())
        .collect();
    assert_eq!(names, ["listIndexes", "aggregate"]);
}

#[tokio::test]
async fn a_first_record_is_inserted_as_one_document_of_typed_fields() {
    let watched = Watched::open().await;
    watched.sent();
    let time = |us| Some(Timestamp::from_unix_us(us));
    let expires_us = Timestamp::now().unix_us() + 3_600_000_001;
    let full = Record {
        job_id: "a".into(),
        status: Status::Queued,
        attempt: 1,
        queue: "orders".into(),
        function: "charge".into(),
        worker: "w".into(),
        enqueued_at: time(1),
        started_at: time(2),
        finished_at: time(3),
        updated_at: time(4),
        heartbeat_at: time(5),
        expires_at: time(expires_us),
        duration: Some(Duration::from_micros(6)),
        error: Some("E: why".into()),
        args: "[1]".into(),
        result: vec![0, 255].into(),
        ..Record::default()
    };
    let claim = Write {
        record: full,
        mode: WriteMode::IfAbsent,
    };
    assert_eq!(
        watched.tables.store.put(claim).await,
        Ok(WriteOutcome::Written)
    );
    let mut sent = watched.sent_one();
    let documents = sent.get_array_mut("documents").unwrap();
    let document = documents[0].as_document_mut().unwrap();
    assert!(matches!(
        document.remove("write_id"),
        Some(Bson::ObjectId(_))
    ));
    let bytes = |bytes: &[u8]| mongodb::bson::Binary {
        subtype: mongodb::bson::spec::BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    };
    same(
        sent,
        doc! {
            "insert": "warren_results",
            "documents": [{
                "_id": "a",
                "status": "queued",
                "attempt": 1_i64,
                "version": 4_i64,
                "queue": "orders",
                "function": "charge",
                "worker": "w",
                "enqueued_at": 1_i64,
                "started_at": 2_i64,
                "finished_at": 3_i64,
                "updated_at": 4_i64,
                "heartbeat_at": 5_i64,
                "expires_at": expires_us,
                "ttl_at": mongodb::bson::DateTime::from_millis(expires_us.div_euclid(1_000) + 1),
                "duration": 6_i64,
                "error": "E: why",
                "args": bytes(b"[1]"),
                "result": bytes(&[0, 255]),
            }],
            "ordered": false,
            "writeConcern": safe(),
            "maxTimeMS": 10_000,
        },
    );
}

#[tokio::test]
async fn an_ending_is_one_conditional_upsert() {
    let watched = Watched::open().await;
    watched.sent();
    let ending = record("a", Status::Completed);
    let written = watched.tables.store.put(ending.into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    let mut sent = watched.sent_one();
    let document = sent.get_array_mut("updates").unwrap()[0]
        .as_document_mut()
        .unwrap();
    let document = document.insert("u", doc! {}).unwrap();
    assert_eq!(document.as_document().unwrap().get_str("_id").unwrap(), "a");
    same(
        sent,
        doc! {
            "update": "warren_results",
            "updates": [{
                "q": { "_id": "a", "version": { "$lt": 7_i64 } },
                "u": {},
                "upsert": true,
            }],
            "ordered": false,
            "writeConcern": safe(),
            "maxTimeMS": 10_000,
        },
    );
}

#[tokio::test]
async fn a_stale_write_is_an_upsert_and_a_look() {
    let watched = Watched::open().await;
    let store = &watched.tables.store;
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    watched.sent();
    let stale = store.put(record("a", Status::InProgress).into()).await;
    assert_eq!(stale, Ok(WriteOutcome::Stale));
    let sent = watched.sent();
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(sent[0].contains_key("update"));
    same(
        sent[1].clone(),
        doc! {
            "find": "warren_results",
            "filter": { "_id": "a" },
            "projection": { "status": 1, "attempt": 1, "version": 1, "expires_at": 1 },
            "limit": 1,
            "batchSize": 2,
            "maxTimeMS": 10_000,
        },
    );
}

#[tokio::test]
async fn ten_thousand_records_are_one_command_and_reading_them_is_a_hundred() {
    let watched = Watched::open_with(json!({"operation_timeout": "5m"})).await;
    let store = &watched.tables.store;
    watched.sent();
    let jobs: Vec<Text> = (0..10_000).map(|job| format!("job-{job}").into()).collect();
    let writes = jobs
        .iter()
        .map(|job| record(job, Status::Queued).into())
        .collect();
    let outcomes = store.put_many(writes).await.unwrap();
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Ok(WriteOutcome::Written))
    );
    assert_eq!(watched.sent().len(), 1);
    let statuses = store.status_many(jobs).await.unwrap();
    assert!(
        statuses
            .iter()
            .all(|status| *status == Ok(Some(Status::Queued)))
    );
    assert_eq!(watched.sent().len(), 100);
}

#[tokio::test]
async fn reading_asks_for_keys_that_have_not_expired() {
    let watched = Watched::open().await;
    let store = &watched.tables.store;
    watched.sent();
    store.get_many(vec!["a".into(), "b".into()]).await.unwrap();
    let mut sent = watched.sent_one();
    at(&mut sent, &["filter", "expires_at", "$not", "$lte"]);
    same(
        sent,
        doc! {
            "find": "warren_results",
            "filter": {
                "expires_at": { "$not": { "$lte": 0_i64 } },
                "_id": { "$in": ["a", "b"] },
            },
            "limit": 2,
            "batchSize": 3,
            "maxTimeMS": 10_000,
        },
    );
}

#[tokio::test]
async fn a_page_of_a_scan_enters_the_index_where_the_last_one_ended() {
    let watched = Watched::open().await;
    let store = &watched.tables.store;
    for (job, us) in [("a", 30), ("b", 20), ("c", 10)] {
        let record = Record {
            enqueued_at: Some(Timestamp::from_unix_us(us)),
            ..record(job, Status::Failed)
        };
        store.put(record.into()).await.unwrap();
    }
    let filter = Filter {
        statuses: vec![Status::Failed],
        queue: Some("orders".into()),
        enqueued_from: Some(Timestamp::from_unix_us(5)),
        without_payloads: true,
        ..Filter::default()
    };
    let first = store.scan(filter.clone(), None, 1).await.unwrap();
    watched.sent();
    store.scan(filter, first.next, 1).await.unwrap();
    let mut sent = watched.sent_one();
    at(&mut sent, &["filter", "expires_at", "$not", "$lte"]);
    same(
        sent,
        doc! {
            "find": "warren_results",
            "filter": {
                "expires_at": { "$not": { "$lte": 0_i64 } },
                "status": "failed",
                "queue": "orders",
                "$or": [{ "enqueued_at": { "$lt": 30_i64 } }, { "_id": { "$lt": "a" } }],
                "enqueued_at": { "$gte": 5_i64, "$lte": 30_i64 },
                "_id": { "$gte": "" },
            },
            "projection": { "args": 0, "kwargs": 0, "result": 0, "progress": 0, "extra": 0 },
            "sort": { "enqueued_at": -1, "_id": -1 },
            "limit": 1,
            "batchSize": 2,
            "maxTimeMS": 10_000,
        },
    );
}

#[tokio::test]
async fn deleting_one_is_one_command_and_many_are_two_for_all() {
    let watched = Watched::open().await;
    let store = &watched.tables.store;
    for job in ["a", "b"] {
        store.put(record(job, Status::Queued).into()).await.unwrap();
    }
    watched.sent();
    assert_eq!(store.delete("x".into()).await, Ok(false));
    let mut sent = watched.sent_one();
    at(&mut sent, &["deletes", "q", "expires_at", "$not", "$lte"]);
    same(
        sent,
        doc! {
            "delete": "warren_results",
            "deletes": [{
                "q": { "expires_at": { "$not": { "$lte": 0_i64 } }, "_id": "x" },
                "limit": 1,
            }],
            "writeConcern": safe(),
            "maxTimeMS": 10_000,
        },
    );
    let deleted = store.delete_many(vec!["a".into(), "b".into()]).await;
    assert_eq!(deleted, Ok(vec![Ok(true), Ok(true)]));
    let mut sent = watched.sent();
    assert_eq!(sent.len(), 2, "{sent:?}");
    at(
        &mut sent[0],
        &["updates", "q", "expires_at", "$not", "$lte"],
    );
    let set = sent[0].get_array_mut("updates").unwrap()[0]
        .as_document_mut()
        .unwrap();
    let set = set
        .get_document_mut("u")
        .unwrap()
        .get_document_mut("$set")
        .unwrap();
    assert!(matches!(set.remove("write_id"), Some(Bson::ObjectId(_))));
    let both = doc! { "$in": ["a", "b"] };
    same(
        sent[0].clone(),
        doc! {
            "update": "warren_results",
            "updates": [{
                "q": { "expires_at": { "$not": { "$lte": 0_i64 } }, "_id": both.clone() },
                "u": { "$set": {
                    "expires_at": i64::MIN,
                    "ttl_at": mongodb::bson::DateTime::from_millis(0),
                } },
                "multi": true,
            }],
            "writeConcern": safe(),
            "maxTimeMS": 10_000,
        },
    );
    at(&mut sent[1], &["deletes", "q", "expires_at", "$lte"]);
    same(
        sent[1].clone(),
        doc! {
            "delete": "warren_results",
            "deletes": [{ "q": { "_id": both, "expires_at": { "$lte": 0_i64 } }, "limit": 0 }],
            "writeConcern": safe(),
            "maxTimeMS": 10_000,
        },
    );
}

#[tokio::test]
async fn figures_are_counted_in_indexes_that_hold_what_is_asked() {
    let watched = Watched::open().await;
    let store = &watched.tables.store;
    watched.sent();
    store.stats().await.unwrap();
    let mut sent = watched.sent();
    assert_eq!(sent.len(), 4, "{sent:?}");
    same(
        sent[0].clone(),
        doc! { "count": "warren_results", "maxTimeMS": 10_000 },
    );
    let by_status = doc! { "$group": { "_id": "$status", "records": { "$sum": 1 } } };
    let every = [
        "queued",
        "in_progress",
        "retrying",
        "completed",
        "failed",
        "aborted",
    ];
    // Of `by_status`, which begins with the status.
    same(
        sent[1].clone(),
        doc! {
            "aggregate": "warren_results",
            "pipeline": [{ "$match": { "status": { "$in": every.as_slice() } } }, by_status.clone()],
            "cursor": {},
            "maxTimeMS": 10_000,
        },
    );
    // Of `by_expiry`, which has nothing before what the server removes next.
    let expired = sent[2].get_array_mut("pipeline").unwrap()[0]
        .as_document_mut()
        .unwrap();
    at(expired, &["$match", "expires_at", "$lte"]);
    let date = expired.get_document_mut("$match").unwrap().remove("ttl_at");
    assert!(matches!(
        date.unwrap().as_document().unwrap().get("$lte"),
        Some(Bson::DateTime(_))
    ));
    same(
        sent[2].clone(),
        doc! {
            "aggregate": "warren_results",
            "pipeline": [{ "$match": { "expires_at": { "$lte": 0_i64 } } }, by_status],
            "cursor": {},
            "maxTimeMS": 10_000,
        },
    );
}

#[tokio::test]
async fn every_other_operation_sends_what_the_manual_knows() {
    let watched = Watched::open().await;
    let store = &watched.tables.store;
    let (_announced, task) = subscribe(store).await;
    let expired = Record {
        expires_at: Some(Timestamp::from_unix_us(1)),
        ..record("old", Status::Completed)
    };
    store.put(expired.into()).await.unwrap();
    store.cleanup_expired(Timestamp::now(), 10).await.unwrap();
    store.stats().await.unwrap();
    store.health_check().await.unwrap();
    task.abort();
    let names: std::collections::BTreeSet<String> = watched
        .sent()
        .iter()
        .map(|command| command.keys().next().unwrap().clone())
        .collect();
    for expected in [
        "aggregate",
        "delete",
        "find",
        "getMore",
        "listIndexes",
        "update",
    ] {
        assert!(names.contains(expected), "{expected}: {names:?}");
    }
}
