//! Many records at once.

use redis::cmd;
use warren_plugin_api::{ResultStore, Status, Text, Write, WriteOutcome};

use crate::support::{TestStore, record};

#[tokio::test]
async fn writes_of_one_job_act_in_their_order_over_all_portions() {
    let store = TestStore::open().await;
    let mut writes: Vec<Write> = Vec::new();
    for attempt in 1..=3_000 {
        let mut write = record("same", Status::InProgress);
        write.attempt = attempt;
        writes.push(write.into());
        writes.push(record(&format!("other-{attempt}"), Status::Queued).into());
    }
    let outcomes = store.store.put_many(writes).await.unwrap();
    assert_eq!(outcomes.len(), 6_000);
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Ok(WriteOutcome::Written))
    );
    let same = store.store.get("same".into()).await.unwrap().unwrap();
    assert_eq!(same.attempt, 3_000);
    assert_eq!(
        store.ask::<i64>(cmd("ZCARD").arg(store.key("warren:scan"))),
        3_001
    );
}

#[tokio::test]
async fn large_and_small_records_are_answered_in_order() {
    let store = TestStore::open().await;
    let writes: Vec<Write> = (0..40)
        .map(|number| {
            let mut write = record(&format!("job-{number}"), Status::Completed);
            write.result = format!("\"{}\"", "x".repeat(number * 20_000)).into();
            write.into()
        })
        .collect();
    let records: Vec<_> = writes.iter().map(|write| write.record.clone()).collect();
    store.store.put_many(writes).await.unwrap();
    let job_ids: Vec<Text> = records.iter().map(|record| record.job_id.clone()).collect();
    let read = store.store.get_many(job_ids).await.unwrap();
    for (read, written) in read.into_iter().zip(records) {
        assert_eq!(read, Ok(Some(written)));
    }
}

#[tokio::test]
async fn an_id_asked_for_twice_is_answered_twice() {
    let store = TestStore::open().await;
    store
        .store
        .put(record("a", Status::Queued).into())
        .await
        .unwrap();
    let job_ids: Vec<Text> = ["a", "b", "a"].map(Text::from).into();
    let read = store.store.get_many(job_ids.clone()).await.unwrap();
    let found: Vec<_> = read
        .into_iter()
        .map(|read| read.unwrap().is_some())
        .collect();
    assert_eq!(found, [true, false, true]);
    let deleted = store.store.delete_many(job_ids).await.unwrap();
    assert_eq!(deleted, [Ok(true), Ok(false), Ok(false)]);
}

#[tokio::test]
async fn nothing_is_answered_for_nothing() {
    let store = TestStore::open().await;
    assert_eq!(store.store.put_many(Vec::new()).await, Ok(Vec::new()));
    assert_eq!(store.store.get_many(Vec::new()).await, Ok(Vec::new()));
    assert_eq!(store.store.status_many(Vec::new()).await, Ok(Vec::new()));
    assert_eq!(store.store.delete_many(Vec::new()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_given_them_again() {
    let server = crate::server::PrivateServer::start(&[]).await;
    let store = TestStore::open_at(&server.url()).await;
    for job_id in ["a", "b"] {
        store.ask::<()>(cmd("SCRIPT").arg("FLUSH"));
        store
            .store
            .put(record(job_id, Status::Queued).into())
            .await
            .unwrap();
        assert!(store.store.get(job_id.into()).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn concurrent_writers_let_one_ending_win() {
    let store = TestStore::open().await;
    let others = [store.open_again().await, store.open_again().await];
    let endings = [Status::Completed, Status::Failed, Status::Aborted];
    for round in 0..50 {
        let job_id = format!("job-{round}");
        let stores = [&store.store, &others[0], &others[1]];
        let outcomes = futures_util::future::join_all(
            stores
                .into_iter()
                .zip(endings)
                .map(|(store, status)| store.put(record(&job_id, status).into())),
        )
        .await;
        let winner = outcomes
            .iter()
            .position(|outcome| *outcome == Ok(WriteOutcome::Written));
        let losers = outcomes
            .iter()
            .filter(|outcome| **outcome == Ok(WriteOutcome::Stale));
        assert_eq!(losers.count(), 2);
        let status = store.store.status(job_id.into()).await.unwrap();
        assert_eq!(status, winner.map(|winner| endings[winner]));
    }
}
