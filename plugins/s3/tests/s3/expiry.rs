//! Cleanup along its index, and what a lifecycle rule may remove.

use std::time::Duration;

use serde_json::json;
use warren_plugin_api::{ResultStore, Status, Timestamp};

use crate::{
    memory_s3::MemoryS3,
    support::{key, open, opened, record},
};

fn later(seconds: u64) -> Timestamp {
    Timestamp::now().saturating_add(Duration::from_secs(seconds))
}

#[tokio::test]
async fn cleanup_looks_at_what_may_have_expired_and_at_nothing_else() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    for number in 0..20 {
        store
            .put(record(&format!("live-{number}"), Status::Completed).into())
            .await
            .unwrap();
    }
    let mut expired = record("expired", Status::Completed);
    expired.expires_at = Some(Timestamp::from_unix_us(1));
    store.put(expired.into()).await.unwrap();
    service.listen();
    assert_eq!(store.cleanup_expired(Timestamp::now(), 1_000).await, Ok(1));
    let asked = service.asked();
    let gets = asked
        .iter()
        .filter(|asked| asked.path.contains("/records/") && asked.method == "GET");
    assert_eq!(gets.count(), 1);
    assert_eq!(service.keys("p/records/").len(), 20);
    assert_eq!(service.keys("p/index/").len(), 60);
}

#[tokio::test]
async fn an_expiry_that_moved_away_is_come_back_to() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    let mut moved = record("a", Status::Queued);
    moved.expires_at = Some(later(1));
    store.put(moved.clone().into()).await.unwrap();
    let first = service.keys("p/index/expiry/");
    moved.status = Status::InProgress;
    moved.expires_at = Some(later(3_600));
    store.put(moved.into()).await.unwrap();
    assert_eq!(service.keys("p/index/expiry/"), first);
    // Until the entry is due it stays, whatever the clock of whoever cleans up says.
    assert_eq!(store.cleanup_expired(later(60), 10).await, Ok(0));
    assert_eq!(service.keys("p/index/expiry/"), first);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(store.cleanup_expired(Timestamp::now(), 10).await, Ok(0));
    let second = service.keys("p/index/expiry/");
    assert!(second.len() == 1 && second != first);
    assert_eq!(store.cleanup_expired(later(7_200), 10).await, Ok(1));
    assert!(service.keys("p/records/").is_empty());
    assert!(service.keys("p/index/").is_empty());
}

#[tokio::test]
async fn those_who_clean_up_at_once_count_each_record_once() {
    let service = MemoryS3::start();
    let (store, other) = (opened(&service).await, opened(&service).await);
    for number in 0..30 {
        let mut expired = record(&format!("job-{number}"), Status::Completed);
        expired.expires_at = Some(Timestamp::from_unix_us(number));
        store.put(expired.into()).await.unwrap();
    }
    let now = Timestamp::now();
    let (first, second) = tokio::join!(
        store.cleanup_expired(now, 100),
        other.cleanup_expired(now, 100)
    );
    assert_eq!(first.unwrap() + second.unwrap(), 30);
    assert!(service.keys("p/index/").is_empty());
}

#[tokio::test]
async fn only_what_expires_in_time_is_tagged_for_the_rule() {
    let service = MemoryS3::start();
    let store = open(&service, json!({"lifecycle_days": 7})).await.unwrap();
    let day = 86_400;
    for (job_id, expires_at, tagged) in [
        ("soon", Some(later(60)), true),
        ("in-6-days", Some(later(6 * day)), true),
        ("in-8-days", Some(later(8 * day)), false),
        ("never", None, false),
    ] {
        let mut record = record(job_id, Status::Completed);
        record.expires_at = expires_at;
        store.put(record.into()).await.unwrap();
        let tags = service.tags(&key(job_id));
        assert_eq!(
            tags.as_deref(),
            tagged.then_some("warren-expires-within-days=7")
        );
        let entries = service.keys("p/index/");
        let name = &key(job_id)["p/records/".len()..];
        for entry in entries.iter().filter(|entry| entry.contains(name)) {
            assert_eq!(service.tags(entry).is_some(), tagged, "{entry}");
        }
    }
    // A record that is to stay needs entries that stay.
    let mut kept = record("soon", Status::Completed);
    kept.attempt = 2;
    kept.expires_at = None;
    kept.enqueued_at = store.get("soon".into()).await.unwrap().unwrap().enqueued_at;
    store.put(kept.into()).await.unwrap();
    let name = &key("soon")["p/records/".len()..];
    let entries = service.keys("p/index/");
    let of_it: Vec<&String> = entries
        .iter()
        .filter(|entry| entry.contains(name))
        .collect();
    assert_eq!(of_it.len(), 2);
    assert!(of_it.iter().all(|entry| service.tags(entry).is_none()));
}

#[tokio::test]
async fn the_figures_hold_the_rule_that_aws_takes() {
    let service = MemoryS3::start();
    let store = open(&service, json!({"lifecycle_days": 7})).await.unwrap();
    let rule = &store.stats().await.unwrap().details["lifecycle_configuration"];
    let first = &rule["Rules"][0];
    assert_eq!(first["Status"], "Enabled");
    assert_eq!(first["Filter"]["And"]["Prefix"], "p/records/");
    assert_eq!(
        first["Filter"]["And"]["Tags"],
        json!([{"Key": "warren-expires-within-days", "Value": "7"}])
    );
    assert_eq!(first["Expiration"]["Days"], 7);
    assert_eq!(rule["Rules"][1]["Filter"]["And"]["Prefix"], "p/index/");
    assert_eq!(rule["Rules"][1]["Expiration"]["Days"], 14);
    let plain = opened(&service).await.stats().await.unwrap();
    assert!(!plain.details.contains_key("lifecycle_configuration"));
}

#[tokio::test]
async fn too_many_records_are_not_counted() {
    let service = MemoryS3::start();
    let store = open(&service, json!({"count_up_to": 2})).await.unwrap();
    for (id, records) in [("a", Some(1)), ("b", Some(2)), ("c", None)] {
        store.put(record(id, Status::Failed).into()).await.unwrap();
        let stats = store.stats().await.unwrap();
        assert_eq!(stats.records, records);
        assert_eq!(stats.by_status.get(&Status::Failed).copied(), records);
    }
}
