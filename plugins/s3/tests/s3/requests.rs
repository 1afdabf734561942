//! The requests, held against the API reference of Amazon S3 (2006-03-01): method, path, query,
//! headers and body.

use serde_json::json;
use warren_plugin_api::{Filter, ResultStore, Status, Timestamp, WriteOutcome};

use crate::{
    memory_s3::{Asked, BUCKET, MemoryS3, keys_in},
    support::{key, open, opened, record},
};

/// `PUT /jobs/p/index/time/…` as `PUT time`.
fn shown(asked: &Asked) -> String {
    let path = asked.path.strip_prefix("/jobs/").unwrap_or(&asked.path);
    let what = match path.strip_prefix("p/") {
        Some(rest) => rest
            .strip_prefix("index/")
            .unwrap_or(rest)
            .split('/')
            .next()
            .unwrap(),
        None if asked.query.contains_key("delete") => "?delete",
        None if asked.query.contains_key("list-type") => "?list-type",
        None => path,
    };
    format!("{} {what}", asked.method)
}

fn all_shown(asked: &[Asked]) -> Vec<String> {
    let mut all: Vec<String> = asked.iter().map(shown).collect();
    // Entries are put at once.
    if let [_, entries @ .., _] = all.as_mut_slice() {
        entries.sort();
    }
    all
}

#[tokio::test]
async fn a_first_write_puts_entries_and_then_the_record_if_there_is_none() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    service.listen();
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    let asked = service.asked();
    assert_eq!(
        all_shown(&asked),
        [
            "GET records",
            "PUT expiry",
            "PUT queue",
            "PUT time",
            "PUT records"
        ]
    );
    assert_eq!(asked[0].header("range"), Some("bytes=0-1023"));
    for entry in &asked[1..4] {
        assert!(entry.body.is_empty());
        assert_eq!(entry.header("if-none-match"), None);
    }
    let put = &asked[4];
    assert_eq!(put.path, format!("/{BUCKET}/{}", key("a")));
    assert_eq!(put.header("if-none-match"), Some("*"));
    assert_eq!(put.header("if-match"), None);
    assert_eq!(put.header("x-amz-tagging"), None);
    let length = put.body.len().to_string();
    assert_eq!(put.header("content-length"), Some(length.as_str()));
}

#[tokio::test]
async fn a_later_write_replaces_what_was_checked_and_nothing_else() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    let queued = record("a", Status::Queued);
    store.put(queued.clone().into()).await.unwrap();
    service.listen();
    let mut completed = queued;
    completed.status = Status::Completed;
    completed.expires_at = completed.expires_at.map(|time| {
        // A result is kept for longer than the wait for it.
        time.saturating_add(std::time::Duration::from_secs(60))
    });
    store.put(completed.clone().into()).await.unwrap();
    let asked = service.asked();
    assert_eq!(all_shown(&asked), ["GET records", "PUT records"]);
    let etag = asked[1].header("if-match").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    assert_eq!(asked[1].header("if-none-match"), None);

    let stale = store.put(completed.into()).await;
    assert_eq!(stale, Ok(WriteOutcome::Stale));
    assert_eq!(all_shown(&service.asked()), ["GET records"]);
}

#[tokio::test]
async fn a_record_in_another_queue_is_led_to_from_there_and_no_more_from_here() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    let mut moved = record("a", Status::Queued);
    store.put(moved.clone().into()).await.unwrap();
    let before = service.keys("p/index/");
    moved.status = Status::InProgress;
    moved.queue = "mail".into();
    service.listen();
    store.put(moved.into()).await.unwrap();
    assert_eq!(
        all_shown(&service.asked()),
        [
            "GET records",
            "PUT expiry",
            "PUT queue",
            "PUT records",
            "PUT time",
            "POST ?delete"
        ]
    );
    let after = service.keys("p/index/");
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|key| !after.contains(key)));
}

#[tokio::test]
async fn every_request_is_signed_for_the_region() {
    let service = MemoryS3::start();
    let store = open(&service, json!({"session_token": "temporary"}))
        .await
        .unwrap();
    service.listen();
    store.put(record("a", Status::Queued).into()).await.unwrap();
    store.scan(Filter::default(), None, 10).await.unwrap();
    store.delete("a".into()).await.unwrap();
    let asked = service.asked();
    assert!(asked.len() > 6);
    for asked in asked {
        let signature = asked.header("authorization").unwrap();
        let scheme = "AWS4-HMAC-SHA256 Credential=warren/";
        assert!(signature.starts_with(scheme), "{signature}");
        assert!(signature.contains("/eu-test-1/s3/aws4_request"));
        assert!(signature.contains("SignedHeaders=") && signature.contains("Signature="));
        assert_eq!(asked.header("x-amz-security-token"), Some("temporary"));
        assert!(asked.header("x-amz-date").unwrap().ends_with('Z'));
        // The body's digest is a part of what is signed.
        assert_eq!(asked.header("x-amz-content-sha256").unwrap().len(), 64);
    }
}

#[tokio::test]
async fn a_page_is_listed_by_list_objects_v2_from_behind_the_cursor() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    for (index, id) in ["a", "b", "c"].into_iter().enumerate() {
        let mut record = record(id, Status::Completed);
        let minute = i64::try_from(index).unwrap() * 60_000_000;
        record.enqueued_at = Some(Timestamp::from_unix_us(minute));
        store.put(record.into()).await.unwrap();
    }
    service.listen();
    let page = store.scan(Filter::default(), None, 2).await.unwrap();
    let ids: Vec<&str> = page.records.iter().map(|record| &*record.job_id).collect();
    assert_eq!(ids, ["c", "b"]);
    let asked = service.asked();
    let list = &asked[0];
    assert_eq!(list.method, "GET");
    assert_eq!(list.path, format!("/{BUCKET}"));
    assert_eq!(list.query["list-type"], "2");
    assert_eq!(list.query["prefix"], "p/index/time/");
    assert!(list.query["max-keys"].parse::<u32>().unwrap() >= 2);
    assert!(!list.query.contains_key("start-after"));
    assert!(asked[1..].iter().all(|asked| shown(asked) == "GET records"));

    let cursor = page.next.unwrap();
    let behind = cursor.0.strip_prefix("s3:").unwrap().to_owned();
    let page = store
        .scan(Filter::default(), Some(cursor), 2)
        .await
        .unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.next, None);
    let list = &service.asked()[0];
    assert_eq!(list.query["start-after"], format!("p/index/time/{behind}"));
}

#[tokio::test]
async fn a_list_of_one_queue_and_of_some_time_looks_at_nothing_else() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    for minute in 0..10 {
        for queue in ["orders", "mail"] {
            let mut record = record(&format!("{queue}-{minute}"), Status::Completed);
            record.queue = queue.into();
            record.enqueued_at = Some(Timestamp::from_unix_us(minute * 60_000_000));
            store.put(record.into()).await.unwrap();
        }
    }
    service.listen();
    let filter = Filter {
        queue: Some("mail".into()),
        enqueued_from: Some(Timestamp::from_unix_us(3 * 60_000_000)),
        enqueued_before: Some(Timestamp::from_unix_us(6 * 60_000_000)),
        ..Filter::default()
    };
    let page = store.scan(filter, None, 100).await.unwrap();
    let ids: Vec<&str> = page.records.iter().map(|record| &*record.job_id).collect();
    assert_eq!(ids, ["mail-5", "mail-4", "mail-3"]);
    assert_eq!(page.next, None);
    let asked = service.asked();
    assert!(asked[0].query["prefix"].starts_with("p/index/queue/"));
    let looked_at = asked.iter().filter(|asked| shown(asked) == "GET records");
    assert_eq!(looked_at.count(), 3);
}

#[tokio::test]
async fn deleting_marks_each_record_and_deletes_all_objects_in_one_request() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    let ids = ["a", "b", "c"];
    for id in ids {
        store
            .put(record(id, Status::Completed).into())
            .await
            .unwrap();
    }
    service.listen();
    let deleted = store.delete_many(ids.map(Into::into).to_vec()).await;
    assert_eq!(deleted.unwrap(), [Ok(true), Ok(true), Ok(true)]);
    let asked = service.asked();
    let (last, before) = asked.split_last().unwrap();
    let marks: Vec<&Asked> = before
        .iter()
        .filter(|asked| asked.method == "PUT")
        .collect();
    assert_eq!(marks.len(), 3);
    assert!(marks.iter().all(|mark| mark.header("if-match").is_some()));
    assert_eq!(last.method, "POST");
    assert_eq!(last.path, format!("/{BUCKET}"));
    assert!(last.query.contains_key("delete"));
    assert!(last.header("content-md5").is_some());
    let body = String::from_utf8(last.body.clone()).unwrap();
    let keys: Vec<&str> = keys_in(&body).collect();
    assert_eq!(keys.len(), 12);
    // A record before the entries that lead to it.
    assert_eq!(keys[0], key("a"));
    assert!(service.keys("p/records/").is_empty());
    assert!(service.keys("p/index/").is_empty());
}

#[tokio::test]
async fn without_bulk_delete_objects_are_deleted_one_by_one() {
    let service = MemoryS3::start();
    let store = open(&service, json!({"bulk_delete": false})).await.unwrap();
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    service.listen();
    assert_eq!(store.delete("a".into()).await, Ok(true));
    let asked = service.asked();
    let deletes = asked.iter().filter(|asked| asked.method == "DELETE");
    assert_eq!(deletes.count(), 4);
    assert!(asked.iter().all(|asked| asked.method != "POST"));
}

#[tokio::test]
async fn the_bucket_stands_in_the_host_s_name_where_that_is_asked_for() {
    let service = MemoryS3::start();
    service.listen();
    // No name server knows the bucket: a proxy is asked for it, which is the imitation.
    let errand = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "requests::errand_by_virtual_host"])
        .env("http_proxy", service.endpoint())
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&errand.stdout);
    assert!(
        errand.status.success() && said.contains("1 passed"),
        "{said}"
    );
    let asked = service.asked();
    assert!(asked.len() > 10);
    for asked in &asked {
        assert_eq!(asked.host, format!("{BUCKET}.s3.example"));
        assert!(
            !asked.path.starts_with(&format!("/{BUCKET}")),
            "{}",
            asked.path
        );
    }
    assert!(service.object(&key("a")).is_some());
}

#[tokio::test]
#[ignore = "run by the_bucket_stands_in_the_host_s_name_where_that_is_asked_for, in its environment"]
async fn errand_by_virtual_host() {
    let service = MemoryS3::start();
    let config = json!({"endpoint": "http://s3.example", "addressing": "virtual_host"});
    let store = open(&service, config).await.unwrap();
    store.put(record("a", Status::Queued).into()).await.unwrap();
    let page = store.scan(Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.records.len(), 1);
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_are_allowed() {
    let service = MemoryS3::start();
    let store = open(&service, json!({"concurrent_requests": 4}))
        .await
        .unwrap();
    service.take(std::time::Duration::from_millis(1));
    let writes = (0..100).map(|index| record(&format!("job-{index}"), Status::Queued).into());
    let written = store.put_many(writes.collect()).await.unwrap();
    assert!(
        written
            .iter()
            .all(|outcome| *outcome == Ok(WriteOutcome::Written))
    );
    let most = service.most_at_once();
    assert!((2..=4).contains(&most), "{most}");
}
