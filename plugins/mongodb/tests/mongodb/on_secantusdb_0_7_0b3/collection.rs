//! The collection: its indexes, what others put into it, and what has expired.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, future::join_all};
use mongodb::bson::{DateTime, doc, oid::ObjectId};
use serde_json::json;
use warren_plugin_api::{
    ErrorClass, Filter, Record, ResultStore, Status, Text, Timestamp, Write, WriteMode,
    WriteOutcome,
};

use crate::support::{TestStore, class, open, record, shared, unique};

async fn index_names(tables: &TestStore) -> Vec<String> {
    let mut names = tables.documents.list_index_names().await.unwrap();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_that_start_at_once_make_the_indexes_once() {
    let config = json!({"mongodb_url": shared().url(), "database": unique("warren-test")});
    let opened = join_all((0..12).map(|_| open(config.clone()))).await;
    for store in opened {
        let store = store.unwrap();
        store.put(record("a", Status::Queued).into()).await.unwrap();
        store.health_check().await.unwrap();
    }
}

#[tokio::test]
async fn a_prefix_that_differs_is_another_store() {
    let tables = TestStore::open().await;
    let mut config = tables.config.clone();
    config["collection_prefix"] = "other.é ".into();
    let other = open(config).await.unwrap();
    tables
        .store
        .put(record("a", Status::Queued).into())
        .await
        .unwrap();
    assert_eq!(other.get("a".into()).await, Ok(None));
    let written = other.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
}

#[tokio::test]
async fn a_collection_that_vanished_is_made_anew_with_its_indexes() {
    let tables = TestStore::open().await;
    let store = &tables.store;
    let before = index_names(&tables).await;
    assert_eq!(before.len(), 6, "{before:?}");
    store.put(record("a", Status::Queued).into()).await.unwrap();
    tables.documents.drop().await.unwrap();
    assert_eq!(store.get("a".into()).await, Ok(None));
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    store.health_check().await.unwrap();
    assert_eq!(index_names(&tables).await, before);
}

#[tokio::test]
async fn another_program_s_index_of_that_name_is_refused() {
    let tables = TestStore::open().await;
    tables.documents.drop_index("by_time").await.unwrap();
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "worker": 1 })
        .options(
            mongodb::options::IndexOptions::builder()
                .name("by_time".to_owned())
                .build(),
        )
        .build();
    tables.documents.create_index(index).await.unwrap();
    let error = open(tables.config.clone()).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(error.message().contains("by_time"), "{error}");
}

#[tokio::test]
async fn what_is_no_record_is_left_out_of_lists_and_spoils_nothing() {
    let tables = TestStore::open().await;
    let store = &tables.store;
    let good = record("good", Status::Failed);
    store.put(good.clone().into()).await.unwrap();
    let now = Timestamp::now().unix_us();
    tables
        .documents
        .insert_many([
            doc! { "_id": ObjectId::new(), "enqueued_at": now },
            doc! { "_id": 7, "status": "failed" },
            doc! { "_id": "no-status", "enqueued_at": now - 1 },
            doc! { "_id": "foreign-time", "status": "failed", "enqueued_at": DateTime::now() },
            doc! { "_id": "untimed", "queue": 3 },
        ])
        .await
        .unwrap();
    let mut listed = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.scan(Filter::default(), cursor, 1).await.unwrap();
        listed.extend(page.records);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, std::slice::from_ref(&good));
    let ids = ["good", "no-status", "7", "untimed"]
        .map(Text::from)
        .to_vec();
    let found = store.get_many(ids).await.unwrap();
    assert_eq!(found[0], Ok(Some(good)));
    assert_eq!(class(&found[1]), Some(ErrorClass::CorruptData));
    assert_eq!(found[2], Ok(None));
    assert_eq!(class(&found[3]), Some(ErrorClass::CorruptData));
    for (mode, expected) in [
        (WriteMode::IfAbsent, Ok(WriteOutcome::Stale)),
        (WriteMode::Always, Ok(WriteOutcome::Written)),
    ] {
        let write = Write {
            record: record("no-status", Status::Failed),
            mode,
        };
        assert_eq!(store.put(write).await, expected);
    }
    let newer = store.put(record("untimed", Status::Failed).into()).await;
    assert_eq!(class(&newer), Some(ErrorClass::CorruptData));
    assert_eq!(store.delete("untimed".into()).await, Ok(true));
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.records, stats.by_status.values().sum::<u64>().into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleaning_up_removes_exactly_what_has_expired_and_counts_it_once() {
    let tables = TestStore::open().await;
    let store = &tables.store;
    // Alive today, so that the server's own removal does not matter.
    let then = Timestamp::from_unix_us(Timestamp::now().unix_us() + 3_600_000_500);
    let at = |us: i64| Some(Timestamp::from_unix_us(then.unix_us() + us));
    let expiring = |job: String, expires_at| -> Write {
        Record {
            expires_at,
            ..record(&job, Status::Completed)
        }
        .into()
    };
    let mut writes: Vec<Write> = (0..600)
        .map(|job| expiring(format!("by-{job}"), at(0)))
        .collect();
    // Within the same millisecond, which is all that the index knows.
    writes.extend((0..20).map(|job| expiring(format!("after-{job}"), at(1))));
    writes.push(expiring("never".into(), None));
    for outcome in store.put_many(writes).await.unwrap() {
        assert_eq!(outcome, Ok(WriteOutcome::Written));
    }
    assert_eq!(store.cleanup_expired(then, 7).await, Ok(7));
    let others: Vec<_> = (0..3).map(|_| Arc::clone(store)).collect();
    let removed = join_all(others.iter().map(async |store| {
        let mut removed = 0;
        loop {
            let gone = store.cleanup_expired(then, 100).await.unwrap();
            removed += gone;
            if gone == 0 {
                return removed;
            }
        }
    }));
    assert_eq!(removed.await.iter().sum::<u64>(), 593);
    assert_eq!(tables.documents.count_documents(doc! {}).await.unwrap(), 21);
}

#[tokio::test]
async fn the_server_s_own_index_removes_what_has_expired() {
    let tables = TestStore::open().await;
    let indexes: Vec<_> = tables
        .documents
        .list_indexes()
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let ttl = indexes
        .iter()
        .find_map(|index| index.options.as_ref()?.expire_after);
    assert_eq!(ttl, Some(std::time::Duration::ZERO));
    // What it compares is a date, never before the record's own time.
    let expires_at = Timestamp::from_unix_us(Timestamp::now().unix_us() + 60_000_001);
    let record = Record {
        expires_at: Some(expires_at),
        ..record("a", Status::Queued)
    };
    tables.store.put(record.into()).await.unwrap();
    let found = tables
        .documents
        .find_one(doc! { "_id": "a" })
        .await
        .unwrap()
        .unwrap();
    let date = found.get_datetime("ttl_at").unwrap().timestamp_millis();
    assert!(date * 1_000 >= expires_at.unix_us() && date * 1_000 < expires_at.unix_us() + 1_000);
}

#[tokio::test]
async fn a_queue_that_is_longer_than_its_index_is_found_whole() {
    let tables = TestStore::open().await;
    let store = &tables.store;
    let long = "é".repeat(600);
    let queues = [long.clone(), format!("{long}x"), long[..500].to_owned()];
    for queue in &queues {
        let record = Record {
            queue: queue.as_str().into(),
            function: queue.as_str().into(),
            ..record(queue, Status::Queued)
        };
        store.put(record.into()).await.unwrap();
    }
    for queue in &queues {
        let filter = Filter {
            queue: Some(queue.as_str().into()),
            function: Some(queue.as_str().into()),
            ..Filter::default()
        };
        let page = store.scan(filter, None, 10).await.unwrap();
        let found: Vec<&str> = page.records.iter().map(|record| &*record.queue).collect();
        assert_eq!(found, [queue]);
    }
    let mut raw = tables.raw.find(doc! {}).await.unwrap();
    while let Some(document) = raw.next().await {
        assert!(document.unwrap().get_str("queue").unwrap().len() <= 500);
    }
}
