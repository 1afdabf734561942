//! What the store makes of a service's errors, and of none.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use warren_plugin_api::{ErrorClass, ResultStore, Status, WriteOutcome};

use crate::{
    memory_s3::{Answer, Asked, MemoryS3},
    support::{SECRET, class, key, open, opened, record},
    tls,
};

fn is_record_put(asked: &Asked) -> bool {
    asked.method == "PUT" && asked.path.contains("/records/")
}

#[tokio::test]
async fn every_error_has_its_class_and_the_service_s_words() {
    use ErrorClass::{Internal, InvalidConfig, TooLarge, Unavailable};
    let service = MemoryS3::start();
    let store = open(&service, json!({"retry_for": "0s"})).await.unwrap();
    for (status, code, expected) in [
        (503, "SlowDown", Unavailable),
        (500, "InternalError", Unavailable),
        (403, "AccessDenied", InvalidConfig),
        (403, "SignatureDoesNotMatch", InvalidConfig),
        (400, "ExpiredToken", InvalidConfig),
        (404, "NoSuchBucket", InvalidConfig),
        (400, "EntityTooLarge", TooLarge),
        (400, "InvalidArgument", Internal),
        (301, "PermanentRedirect", InvalidConfig),
    ] {
        service.answer_by(move |_| Some(Answer::error(status, code)));
        let error = store.get("a".into()).await.unwrap_err();
        assert_eq!(error.class(), expected, "{error}");
        if status != 301 {
            assert!(error.message().contains(code), "{error}");
        }
        assert!(error.message().contains("bucket jobs/p"), "{error}");
        assert!(!error.to_string().contains(SECRET), "{error}");
        let put = store.put(record("a", Status::Queued).into()).await;
        assert_eq!(class(&put), Some(expected), "{code}");
        let scan = store.scan(Default::default(), None, 10).await;
        assert_eq!(class(&scan), Some(expected), "{code}");
    }
}

#[tokio::test]
async fn what_the_service_could_not_serve_is_sent_again() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    service.answer_by(move |asked| {
        let is_early = is_record_put(asked) && count.fetch_add(1, Ordering::Relaxed) < 2;
        is_early.then(|| Answer::error(503, "SlowDown"))
    });
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_conflict_of_conditional_writes_is_looked_at_again() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    for status in [Status::Queued, Status::InProgress] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        service.answer_by(move |asked| {
            let is_first = is_record_put(asked) && count.fetch_add(1, Ordering::Relaxed) == 0;
            is_first.then(|| Answer::error(409, "ConditionalRequestConflict"))
        });
        let written = store.put(record("a", status).into()).await;
        assert_eq!(written, Ok(WriteOutcome::Written), "{status}");
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_found_to_be_done() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    let behind = service.clone();
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    service.answer_by(move |asked| {
        // It is done, and the client, which sends it again, is told that it could not be.
        if !is_record_put(asked) || count.fetch_add(1, Ordering::Relaxed) > 0 {
            return None;
        }
        Some(Answer::put_and(500, asked))
    });
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    assert_eq!(lost.load(Ordering::Relaxed), 2);
    assert!(behind.object(&key("a")).is_some());
}

#[tokio::test]
async fn who_comes_second_is_stale_and_leaves_no_entries() {
    let service = MemoryS3::start();
    let (store, other) = (opened(&service).await, opened(&service).await);
    let behind = service.clone();
    // Between the look and the write of one, the other writes.
    let winner = record("a", Status::Completed);
    other.put(winner.into()).await.unwrap();
    let theirs = behind.object(&key("a")).unwrap();
    assert_eq!(other.delete("a".into()).await, Ok(true));
    let is_first = Arc::new(AtomicUsize::new(0));
    service.answer_by(move |asked| {
        if !is_record_put(asked) || is_first.fetch_add(1, Ordering::Relaxed) > 0 {
            return None;
        }
        Some(Answer::first_set(&key("a"), &theirs))
    });
    let second = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(second, Ok(WriteOutcome::Stale));
    assert!(service.keys("p/index/").is_empty());
    assert_eq!(store.status("a".into()).await, Ok(Some(Status::Completed)));
}

#[tokio::test]
async fn a_service_that_is_down_is_asked_again_when_it_is_back() {
    let service = MemoryS3::start();
    service.answer_by(|_| Some(Answer::error(503, "ServiceUnavailable")));
    let store = open(&service, json!({"retry_for": "0s"})).await.unwrap();
    let refused = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(class(&refused), Some(ErrorClass::Unavailable));
    let health = store.health_check().await;
    assert_eq!(class(&health), Some(ErrorClass::Unavailable));
    service.answer_as_usual();
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    // It was probed before that.
    assert!(service.object("p/store.json").is_some());
    assert!(store.health_check().await.is_ok());
}

#[tokio::test]
async fn what_answers_and_is_no_s3_is_said() {
    let service = MemoryS3::start();
    service.answer_by(|_| {
        let mut answer = Answer::of(200);
        answer.body = b"<html>Welcome</html>".to_vec();
        Some(answer)
    });
    let error = open(&service, json!({})).await.err();
    let error = match error {
        Some(error) => error,
        None => {
            let store = open(&service, json!({})).await.unwrap();
            store.get("a".into()).await.unwrap_err()
        }
    };
    println!("{error}");
    assert!(error.message().contains("S3 at"), "{error}");
}

#[tokio::test]
async fn a_delete_is_not_sent_twice() {
    let service = MemoryS3::start();
    let store = opened(&service).await;
    store.put(record("a", Status::Queued).into()).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    service.answer_by(move |asked| {
        let is_delete = asked.query.contains_key("delete");
        is_delete.then(|| {
            count.fetch_add(1, Ordering::Relaxed);
            Answer::error(500, "InternalError")
        })
    });
    // It may have been done, and the job's next record have been written since.
    assert_eq!(store.delete("a".into()).await, Ok(true));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_service_without_tls_that_is_asked_for_it_is_told() {
    let service = MemoryS3::start();
    let endpoint = format!("https://localhost:{}", service.port);
    let config = json!({"endpoint": endpoint, "allow_http": false, "retry_for": "0s"});
    let store = open(&service, config).await.unwrap();
    let error = store.health_check().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    assert!(error.message().contains("begins with https://"), "{error}");
}

#[tokio::test]
async fn a_service_with_tls_is_known_by_who_signed_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let service = MemoryS3::start();
    let (port, certificate) = tls::before(service.port).await;
    let endpoint = format!("https://localhost:{port}");
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, certificate).unwrap();
    let known = json!({"endpoint": endpoint, "allow_http": false, "tls_ca_file": authority});
    let store = open(&service, known).await.unwrap();
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));

    let unknown = json!({"endpoint": endpoint, "allow_http": false, "retry_for": "0s"});
    let error = open(&service, unknown).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig, "{error}");
    assert!(error.message().contains("tls_ca_file"), "{error}");

    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let config = json!({"endpoint": endpoint, "tls_ca_file": empty});
    let error = open(&service, config).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(error.message().contains("holds no certificate"), "{error}");
}
