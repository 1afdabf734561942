//! What a crash between the objects of one write leaves, and what becomes of it.

use std::time::Duration;

use serde_json::json;
use warren_plugin_api::{
    ErrorClass, Filter, ResultStore, Status, Timestamp, Write, WriteMode, WriteOutcome,
};

use crate::{
    memory_s3::{Answer, MemoryS3},
    support::{class, key, listed, open, opened, record},
};

const LONG_AGO: &str = "2026-01-01T00:00:00.000Z";

#[tokio::test]
async fn entries_without_a_record_are_not_listed_and_removed_when_they_are_old() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    store
        .put(record("whole", Status::Queued).into())
        .await
        .unwrap();
    let queue = Filter {
        queue: Some("orders".into()),
        ..Filter::default()
    };
    for (job_id, written_at, stays) in [("young", None, true), ("old", Some(LONG_AGO), false)] {
        if let Some(time) = written_at {
            service.write_at(time);
        }
        store
            .put(record(job_id, Status::Queued).into())
            .await
            .unwrap();
        service.remove(&key(job_id));
        for filter in [Filter::default(), queue.clone()] {
            assert_eq!(listed(&store, filter).await, ["whole"]);
        }
        // The record of a young one may be about to be written.
        let name = &key(job_id)["p/records/".len()..];
        for index in ["p/index/time/", "p/index/queue/"] {
            let has_entry = service.keys(index).iter().any(|key| key.contains(name));
            assert_eq!(has_entry, stays, "{job_id} in {index}");
        }
    }
}

#[tokio::test]
async fn a_write_that_ended_before_its_record_did_nothing() {
    let service = MemoryS3::start();
    let store = open(&service, json!({"retry_for": "0s"})).await.unwrap();
    service.answer_by(|asked| {
        let is_record = asked.method == "PUT" && asked.path.contains("/records/");
        is_record.then(|| Answer::error(503, "SlowDown"))
    });
    let failed = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(class(&failed), Some(ErrorClass::Unavailable));
    service.answer_as_usual();
    assert_eq!(store.get("a".into()).await, Ok(None));
    assert!(listed(&store, Filter::default()).await.is_empty());
    store.put(record("a", Status::Queued).into()).await.unwrap();
    assert_eq!(listed(&store, Filter::default()).await, ["a"]);
}

#[tokio::test]
async fn a_removal_that_never_ended_hides_the_record_and_is_ended_by_cleanup() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    let behind = service.clone();
    service.answer_by(|asked| {
        let is_delete = asked.query.contains_key("delete");
        is_delete.then(|| Answer::error(403, "AccessDenied"))
    });
    assert_eq!(store.delete("a".into()).await, Ok(true));
    service.answer_as_usual();
    assert!(behind.object(&key("a")).is_some());
    assert_eq!(store.get("a".into()).await, Ok(None));
    assert_eq!(store.status("a".into()).await, Ok(None));
    assert_eq!(store.delete("a".into()).await, Ok(false));
    assert!(listed(&store, Filter::default()).await.is_empty());
    assert_eq!(store.stats().await.unwrap().records, Some(0));

    age_mark(&service, "a");
    let later = Timestamp::now().saturating_add(Duration::from_secs(7_200));
    assert_eq!(store.cleanup_expired(later, 100).await, Ok(0));
    assert!(service.keys("p/records/").is_empty());
    assert!(service.keys("p/index/").is_empty());
}

#[tokio::test]
async fn a_removal_of_what_never_expires_is_ended_by_a_scan() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    let mut kept = record("a", Status::Completed);
    kept.expires_at = None;
    store.put(kept.into()).await.unwrap();
    service.answer_by(|asked| {
        let is_delete = asked.query.contains_key("delete");
        is_delete.then(|| Answer::error(503, "SlowDown"))
    });
    assert_eq!(store.delete("a".into()).await, Ok(true));
    service.answer_as_usual();
    assert!(listed(&store, Filter::default()).await.is_empty());
    assert_eq!(service.keys("p/records/").len(), 1);
    age_mark(&service, "a");
    assert!(listed(&store, Filter::default()).await.is_empty());
    assert!(service.keys("p/records/").is_empty());
    assert!(service.keys("p/index/").is_empty());
}

#[tokio::test]
async fn a_write_waits_for_a_removal_and_takes_over_one_that_never_ended() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    service.answer_by(|asked| {
        let is_delete = asked.query.contains_key("delete");
        is_delete.then(|| Answer::error(403, "AccessDenied"))
    });
    assert_eq!(store.delete("a".into()).await, Ok(true));
    service.answer_as_usual();
    // Whoever marked it may be about to delete it.
    let write = || Write {
        record: record("a", Status::Queued),
        mode: WriteMode::IfAbsent,
    };
    let waiting = tokio::time::timeout(Duration::from_millis(300), store.put(write()));
    assert!(waiting.await.is_err());
    age_mark(&service, "a");
    let written = store.put(record("a", Status::InProgress).into()).await;
    // The write that was given up goes on, and may have come first.
    assert_eq!(written, Ok(WriteOutcome::Written));
    assert_eq!(store.status("a".into()).await, Ok(Some(Status::InProgress)));
    assert_eq!(listed(&store, Filter::default()).await, ["a"]);
}

/// As if the mark had been made two minutes ago.
fn age_mark(service: &MemoryS3, job_id: &str) {
    let mark = service.object(&key(job_id)).unwrap();
    let mut mark: serde_json::Value = serde_json::from_slice(&mark).unwrap();
    assert_eq!(mark["state"], "removing");
    let since = mark["since"].as_i64().unwrap();
    mark["since"] = (since - 120_000_000).into();
    service.set(&key(job_id), mark.to_string().as_bytes());
}

#[tokio::test]
async fn what_is_no_record_is_left_out_of_lists_and_they_go_on_past_it() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    for number in 0..8 {
        let mut record = record(&format!("job-{number}"), Status::Failed);
        record.enqueued_at = Some(Timestamp::from_unix_us(number));
        store.put(record.into()).await.unwrap();
    }
    service.set(&key("job-6"), b"\xff\xfe");
    let whole = service.object(&key("job-3")).unwrap();
    service.set(&key("job-3"), &whole[..whole.len() - 9]);
    // Another job's record under this one's key.
    let other = service.object(&key("job-1")).unwrap();
    service.set(&key("job-2"), &other);
    assert_eq!(
        listed(&store, Filter::default()).await,
        ["job-7", "job-5", "job-4", "job-1", "job-0"]
    );
    let corrupt = store.get("job-2".into()).await;
    assert_eq!(class(&corrupt), Some(ErrorClass::CorruptData));
}
