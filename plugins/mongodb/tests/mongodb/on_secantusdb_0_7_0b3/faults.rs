//! Servers that are away, die, come back, and say that they are in trouble.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use serde_json::json;
use warren_plugin_api::{ErrorClass, Filter, ResultStore, Status, Timestamp, WriteOutcome};

use crate::{
    secantus::Secantus,
    support::{TestStore, class, eventually, open, record, shared, subscribe},
    wire::{Answer, Wire},
};

#[tokio::test]
async fn a_server_that_was_killed_and_started_again_has_what_it_acknowledged() {
    let mut server = Secantus::start(&["--sync-on-commit"]);
    let config = json!({"mongodb_url": server.url(), "connect_timeout": "300ms"});
    let store = Arc::new(open(config.clone()).await.unwrap());
    let (_announced, subscription) = subscribe(&store).await;
    let written = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));

    server.kill();
    assert_eq!(
        class(&store.get("a".into()).await),
        Some(ErrorClass::Unavailable)
    );
    let put = store.put(record("b", Status::Queued).into()).await;
    assert_eq!(class(&put), Some(ErrorClass::Unavailable));
    assert_eq!(
        class(&store.delete("a".into()).await),
        Some(ErrorClass::Unavailable)
    );
    assert_eq!(
        class(&store.health_check().await),
        Some(ErrorClass::Unavailable)
    );
    assert_eq!(class(&store.stats().await), Some(ErrorClass::Unavailable));
    let scan = store.scan(Filter::default(), None, 1).await;
    assert_eq!(class(&scan), Some(ErrorClass::Unavailable));
    assert_eq!(class(&open(config).await), Some(ErrorClass::Unavailable));
    let ended = subscription.await.unwrap();
    assert_eq!(class(&ended), Some(ErrorClass::Unavailable), "{ended:?}");

    server.start_again(&["--sync-on-commit"]);
    let found = eventually("it is back", async || store.get("a".into()).await.ok()).await;
    assert_eq!(found.unwrap().status, Status::Completed);
    let written = store.put(record("b", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    let (announced, _task) = subscribe(&store).await;
    store.put(record("b", Status::Failed).into()).await.unwrap();
    eventually("it is announced", async || {
        (!announced.lock().unwrap().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn figures_that_take_too_long_are_left_out() {
    let wire = Wire::to(shared().address());
    let tables = TestStore::open_at(wire.url(), json!({"push": false})).await;
    let store = &tables.store;
    store.put(record("a", Status::Queued).into()).await.unwrap();
    let late = doc! { "ok": 0.0, "code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "late" };
    wire.next("aggregate", Answer::Says(late));
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.records, None);
    assert!(stats.by_status.is_empty());
    assert_eq!(stats.details["documents"], 1);
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.records, Some(1));
}

struct InTrouble {
    wire: Wire,
    tables: TestStore,
}

impl InTrouble {
    async fn open() -> Self {
        let wire = Wire::to(shared().address());
        let config = json!({"connect_timeout": "1s"});
        let tables = TestStore::open_at(wire.url(), config).await;
        Self { wire, tables }
    }
}

fn refusal(code: i32, name: &str) -> Document {
    doc! { "ok": 0.0, "errmsg": "no s3cret here", "code": code, "codeName": name }
}

#[tokio::test]
async fn what_the_server_says_has_its_class_and_its_words() {
    use ErrorClass::{Conflict, Internal, InvalidConfig, TooLarge, Unavailable};
    let trouble = InTrouble::open().await;
    for (code, name, expected) in [
        (13, "Unauthorized", InvalidConfig),
        (18, "AuthenticationFailed", InvalidConfig),
        (50, "MaxTimeMSExpired", Unavailable),
        (112, "WriteConflict", Conflict),
        (121, "DocumentValidationFailure", InvalidConfig),
        (8_000, "AtlasError", Unavailable),
        (10_334, "BSONObjectTooLarge", TooLarge),
        (14_031, "OutOfDiskSpace", Unavailable),
        (1, "InternalError", Internal),
        // After this the driver waits for another primary.
        (10_107, "NotWritablePrimary", Unavailable),
    ] {
        trouble
            .wire
            .next("update", Answer::Says(refusal(code, name)));
        let store = &trouble.tables.store;
        let error = store
            .put(record("a", Status::Completed).into())
            .await
            .unwrap_err();
        assert_eq!(error.class(), expected, "{error}");
        assert!(
            error.message().contains(&format!("error {code}: ")),
            "{error}"
        );
        assert!(trouble.wire.is_done());
    }
}

#[tokio::test]
async fn a_record_that_the_server_refuses_spoils_no_other() {
    let trouble = InTrouble::open().await;
    let said = doc! {
        "ok": 1.0, "n": 2,
        "writeErrors": [{ "index": 1, "code": 10_334, "errmsg": "too large after all" }],
    };
    trouble.wire.next("update", Answer::DoesAndSays(said));
    let writes = ["a", "b", "c"].map(|job| record(job, Status::Completed).into());
    let outcomes = trouble
        .tables
        .store
        .put_many(writes.to_vec())
        .await
        .unwrap();
    assert_eq!(outcomes[0], Ok(WriteOutcome::Written));
    assert_eq!(class(&outcomes[1]), Some(ErrorClass::TooLarge));
    assert_eq!(outcomes[2], Ok(WriteOutcome::Written));
}

#[tokio::test]
async fn what_was_not_sent_after_a_failure_is_not_called_written() {
    let trouble = InTrouble::open().await;
    let store = &trouble.tables.store;
    let (past, far) = (
        Timestamp::from_unix_us(1),
        Timestamp::from_unix_us(i64::MAX),
    );
    let expiring = |job: &str, attempt, status, expires_at| warren_plugin_api::Record {
        attempt,
        expires_at: Some(expires_at),
        ..record(job, status)
    };
    // One of a later version that has expired, and one that is earlier after all.
    for stored in [
        expiring("expired", 9, Status::Completed, past),
        expiring("earlier", 1, Status::Queued, far),
    ] {
        store.put(stored.into()).await.unwrap();
    }
    let refused = |index: i32| doc! { "index": index, "code": 11_000, "errmsg": "E11000" };
    let said = doc! { "ok": 1.0, "n": 0, "writeErrors": [refused(0), refused(1)] };
    trouble.wire.next("update", Answer::Says(said));
    trouble
        .wire
        .next("update", Answer::Says(refusal(91, "ShutdownInProgress")));
    let writes = ["expired", "earlier"].map(|job| record(job, Status::Completed).into());
    let outcomes = store.put_many(writes.to_vec()).await.unwrap();
    for outcome in &outcomes {
        assert_eq!(class(outcome), Some(ErrorClass::Unavailable), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_write_that_no_majority_has_in_time_is_not_acknowledged() {
    let trouble = InTrouble::open().await;
    let said = doc! {
        "ok": 1.0, "n": 1,
        "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" },
    };
    for command in ["insert", "update", "delete"] {
        trouble
            .wire
            .next(command, Answer::DoesAndSays(said.clone()));
    }
    let store = &trouble.tables.store;
    for status in [Status::Queued, Status::Completed] {
        let error = store.put(record("a", status).into()).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
        assert!(error.message().contains("not yet acknowledged"), "{error}");
    }
    assert_eq!(
        class(&store.delete("a".into()).await),
        Some(ErrorClass::Unavailable)
    );
    assert!(trouble.wire.is_done());
}

#[tokio::test]
async fn one_that_came_in_between_is_judged_again() {
    let trouble = InTrouble::open().await;
    let store = &trouble.tables.store;
    // Another process inserted an earlier version between the server's look and its insert.
    store
        .put(record("a", Status::InProgress).into())
        .await
        .unwrap();
    let said = doc! {
        "ok": 1.0, "n": 0,
        "writeErrors": [{ "index": 0, "code": 11_000, "errmsg": "E11000 duplicate key error" }],
    };
    trouble.wire.next("update", Answer::Says(said.clone()));
    let written = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    assert_eq!(store.status("a".into()).await, Ok(Some(Status::Completed)));
    // And one that loses for ever is told so.
    for _ in 0..9 {
        trouble.wire.next("update", Answer::Says(said.clone()));
    }
    let lost = store.put(record("b", Status::Completed).into()).await;
    assert_eq!(class(&lost), Some(ErrorClass::Conflict), "{lost:?}");
    assert!(trouble.wire.is_done());
}

#[tokio::test]
async fn a_broken_connection_repeats_what_reads_and_never_what_writes() {
    let trouble = InTrouble::open().await;
    let store = &trouble.tables.store;
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    trouble.wire.next("find", Answer::Breaks);
    assert_eq!(store.status("a".into()).await, Ok(Some(Status::Completed)));

    trouble.wire.take(&[]);
    trouble.wire.next("update", Answer::DoesAndBreaks);
    let unknown = store.put(record("b", Status::Completed).into()).await;
    assert_eq!(
        class(&unknown),
        Some(ErrorClass::Unavailable),
        "{unknown:?}"
    );
    assert_eq!(trouble.wire.take(&["update"]).len(), 1);
    // It was done, as one may find out by writing it again.
    let again = eventually("it is back", async || {
        store.put(record("b", Status::Completed).into()).await.ok()
    });
    assert_eq!(again.await, WriteOutcome::Stale);
}

#[tokio::test]
async fn a_delete_that_is_given_up_half_way_leaves_nothing_that_can_be_found() {
    let trouble = InTrouble::open().await;
    let store = &trouble.tables.store;
    let jobs = || vec!["a".into(), "b".into()];
    for job in ["a", "b"] {
        store
            .put(record(job, Status::Completed).into())
            .await
            .unwrap();
    }
    trouble.wire.next("delete", Answer::Breaks);
    for deleted in store.delete_many(jobs()).await.unwrap() {
        assert_eq!(class(&deleted), Some(ErrorClass::Unavailable));
    }
    let found = eventually("it is back", async || store.get_many(jobs()).await.ok()).await;
    assert_eq!(found, vec![Ok(None), Ok(None)]);
    assert_eq!(store.cleanup_expired(Timestamp::now(), 10).await, Ok(2));
}

#[tokio::test]
async fn no_right_to_watch_is_no_announcements_and_a_warning() {
    let wire = Wire::to(shared().address());
    let tables = TestStore::open().await;
    let mut config = tables.config.clone();
    config["mongodb_url"] = wire.url().into();
    wire.next("aggregate", Answer::Says(refusal(13, "Unauthorized")));
    let store = open(config.clone()).await.unwrap();
    assert!(!store.capabilities().push);
    // A moment's trouble is no answer to that question.
    for _ in 0..2 {
        wire.next("aggregate", Answer::Says(refusal(91, "ShutdownInProgress")));
    }
    assert_eq!(class(&open(config).await), Some(ErrorClass::Unavailable));
}

#[tokio::test]
async fn without_the_right_to_make_indexes_the_missing_ones_are_named_a_task() {
    let wire = Wire::to(shared().address());
    let tables = TestStore::open().await;
    tables.documents.drop_index("by_queue").await.unwrap();
    let mut config = tables.config.clone();
    config["mongodb_url"] = wire.url().into();
    wire.next("createIndexes", Answer::Says(refusal(13, "Unauthorized")));
    let error = open(config.clone()).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(
        error.message().contains("are missing and cannot be made"),
        "{error}"
    );
    // Where they are there, nothing needs to be made.
    tables.store.health_check().await.unwrap();
    wire.next("createIndexes", Answer::Says(refusal(13, "Unauthorized")));
    open(config).await.unwrap();
    assert!(!wire.is_done());
}

#[tokio::test]
async fn a_call_that_is_given_up_does_not_hold_up_the_next() {
    let tables = TestStore::open_with(json!({"connections": 1})).await;
    for job in 0..20 {
        let put = tables
            .store
            .put(record(&format!("job-{job}"), Status::Queued).into());
        let _ = tokio::time::timeout(std::time::Duration::from_micros(job * 300), put).await;
    }
    let written = tables
        .store
        .put(record("last", Status::Queued).into())
        .await;
    assert_eq!(written, Ok(WriteOutcome::Written));
}
