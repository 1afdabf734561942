//! Writing among others who write and delete the same jobs, and listen.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use warren_plugin_api::{
    ErrorClass, Payload, Record, ResultStore, Status, Timestamp, Write, WriteMode, WriteOutcome,
};

use crate::{
    secantus::Secantus,
    support::{TestStore, class, eventually, open, record, shared, subscribe},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_race_to_insert_and_replace_one_job_the_latest_stays() {
    let tables = TestStore::open().await;
    for round in 0..5 {
        let job = format!("job-{round}");
        let writes = (1..=16).map(|attempt| {
            let (store, job) = (Arc::clone(&tables.store), job.clone());
            tokio::spawn(async move {
                let record = Record {
                    attempt,
                    ..record(&job, Status::Completed)
                };
                store.put(record.into()).await
            })
        });
        for written in join_all(writes).await {
            written.unwrap().unwrap();
        }
        let found = tables
            .store
            .get(job.as_str().into())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.attempt, 16);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_delete_the_same_jobs_one_finds_each() {
    let tables = TestStore::open().await;
    let jobs: Vec<String> = (0..40).map(|job| format!("job-{job}")).collect();
    let writes = jobs
        .iter()
        .map(|job| record(job, Status::Queued).into())
        .collect();
    tables.store.put_many(writes).await.unwrap();
    let deletes = (0..6).map(|turn| {
        let store = Arc::clone(&tables.store);
        let mut jobs: Vec<_> = jobs.iter().map(|job| job.as_str().into()).collect();
        jobs.rotate_left(turn * 5);
        tokio::spawn(async move {
            let some = jobs.split_off(20);
            let mut found = 0;
            for jobs in [jobs, some] {
                let deleted = store.delete_many(jobs).await.unwrap();
                found += deleted
                    .into_iter()
                    .filter(|deleted| *deleted == Ok(true))
                    .count();
            }
            found
        })
    });
    let found = join_all(deletes).await;
    assert_eq!(found.into_iter().map(Result::unwrap).sum::<usize>(), 40);
}

#[tokio::test]
async fn a_batch_of_large_records_is_split_by_the_server_s_limit() {
    let tables = TestStore::open().await;
    let large = |job: &str| -> Write {
        let payload = Payload::from(vec![7; 5_000_000]);
        Record {
            result: payload,
            ..record(job, Status::Completed)
        }
        .into()
    };
    let jobs = ["a", "b", "c", "d"];
    let outcomes = tables
        .store
        .put_many(jobs.map(large).to_vec())
        .await
        .unwrap();
    assert_eq!(outcomes, vec![Ok(WriteOutcome::Written); 4]);
    let found = tables
        .store
        .get_many(jobs.map(Into::into).to_vec())
        .await
        .unwrap();
    for found in found {
        assert_eq!(found.unwrap().unwrap().result.len(), 5_000_000);
    }
}

#[tokio::test]
async fn the_largest_record_of_all_is_taken_and_one_byte_more_is_not() {
    let tables = TestStore::open_with(json!({"max_record_bytes": 16_711_680})).await;
    let mut largest = record("a", Status::Completed);
    largest.result = vec![7; 16_711_680 - largest.size_bytes()].into();
    let written = tables.store.put(largest.clone().into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    let found = tables.store.get("a".into()).await.unwrap().unwrap();
    assert_eq!(found.result.len(), largest.result.len());
    largest.worker = format!("{}x", largest.worker).into();
    let refused = tables
        .store
        .put(Write {
            record: largest,
            mode: WriteMode::Always,
        })
        .await;
    assert_eq!(class(&refused), Some(ErrorClass::TooLarge));
}

#[tokio::test]
async fn the_same_ending_written_again_is_announced_again() {
    let tables = TestStore::open().await;
    let (announced, _task) = subscribe(&tables.store).await;
    for _ in 0..2 {
        let write = Write {
            record: record("a", Status::Failed),
            mode: WriteMode::Always,
        };
        tables.store.put(write).await.unwrap();
    }
    let deleted = tables.store.delete_many(vec!["a".into(), "b".into()]).await;
    assert_eq!(deleted, Ok(vec![Ok(true), Ok(false)]));
    tables
        .store
        .put(record("last", Status::Completed).into())
        .await
        .unwrap();
    eventually("the last is announced", async || {
        let announced = announced.lock().unwrap();
        announced.iter().any(|(job, _)| job == "last").then_some(())
    })
    .await;
    let announced = announced.lock().unwrap().clone();
    let failed = ("a".to_owned(), Status::Failed);
    let expected = [
        failed.clone(),
        failed,
        ("last".to_owned(), Status::Completed),
    ];
    assert_eq!(announced, expected);
}

#[tokio::test]
async fn who_listens_takes_no_connection_from_who_writes() {
    let tables = TestStore::open_with(json!({"connections": 1})).await;
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(subscribe(&tables.store).await);
    }
    let ending = record("a", Status::Completed);
    let written = tables.store.put(ending.into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    for (announced, _task) in &listeners {
        eventually("it is announced", async || {
            (!announced.lock().unwrap().is_empty()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn without_push_nobody_may_listen() {
    let silent = TestStore::open_with(json!({"push": false})).await;
    assert!(!silent.store.capabilities().push);
    let sink = warren_plugin_api::CompletionSink::new(|| {}, |_| {});
    let refused = silent.store.subscribe(sink).await;
    assert_eq!(class(&refused), Some(ErrorClass::Unsupported));
}

#[tokio::test]
async fn a_server_that_is_no_replica_set_has_everything_but_announcements() {
    let server = Secantus::start(&["--standalone"]);
    let store = open(json!({"mongodb_url": server.url()})).await.unwrap();
    assert!(!store.capabilities().push);
    let written = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    assert!(store.get("a".into()).await.unwrap().is_some());
    let health = store.health_check().await.unwrap();
    assert!(health.detail.contains("single server"), "{health:?}");
}

#[tokio::test]
async fn thousands_of_writes_of_one_job_act_in_their_order() {
    let tables = TestStore::open().await;
    let writes = (1..=300).map(|attempt| {
        Record {
            attempt,
            ..record("one", Status::InProgress)
        }
        .into()
    });
    for outcome in tables.store.put_many(writes.collect()).await.unwrap() {
        assert_eq!(outcome, Ok(WriteOutcome::Written));
    }
    let found = tables.store.get("one".into()).await.unwrap().unwrap();
    assert_eq!(found.attempt, 300);
}

#[tokio::test]
async fn an_expired_claim_is_taken_over() {
    let tables = TestStore::open().await;
    let claim = |expires_at| Write {
        record: Record {
            expires_at,
            ..record("a", Status::Queued)
        },
        mode: WriteMode::IfAbsent,
    };
    let past = Some(Timestamp::from_unix_us(1));
    let written = Ok(WriteOutcome::Written);
    assert_eq!(tables.store.put(claim(past)).await, written);
    assert_eq!(tables.store.put(claim(None)).await, written);
    assert_eq!(tables.store.put(claim(None)).await, Ok(WriteOutcome::Stale));
}

#[tokio::test]
async fn a_weak_write_concern_is_taken_with_a_warning() {
    let url = format!("{}&w=1", shared().url());
    let tables = TestStore::open_at(url, json!({})).await;
    let written = tables
        .store
        .put(record("a", Status::Completed).into())
        .await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    let health = tables.store.health_check().await.unwrap();
    assert!(
        health
            .warnings
            .iter()
            .any(|warning| warning.contains("w=1")),
        "{health:?}"
    );
}
