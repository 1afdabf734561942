//! A service that ignores preconditions is refused, or taken with open eyes.

use serde_json::json;
use warren_plugin_api::{ErrorClass, ResultStore, Status, WriteOutcome};

use crate::{
    memory_s3::{Answer, MemoryS3},
    support::{class, open, opened, record},
};

#[tokio::test]
async fn a_service_is_probed_once_and_by_its_name() {
    let service = MemoryS3::start();
    service.listen();
    let _store = opened(&service).await;
    let writes = service
        .asked()
        .iter()
        .filter(|asked| asked.method == "PUT")
        .count();
    assert_eq!(writes, 5);
    assert!(service.keys("p/probe").is_empty());
    let again = opened(&service).await;
    let asked = service.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].method, "GET");
    drop(again);
    // The bucket was moved: what was found out of the old service says nothing of the new.
    service.set(
        "p/store.json",
        br#"{"warren": 1, "preconditions_kept_by": "https://old.example"}"#,
    );
    let _store = opened(&service).await;
    assert!(service.asked().len() > 5);
}

#[tokio::test]
async fn a_service_that_ignores_preconditions_is_refused() {
    let service = MemoryS3::start();
    service.ignore_preconditions();
    let refused = open(&service, json!({})).await;
    let error = refused.err().unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(error.message().contains("ignores If-None-Match"), "{error}");
    assert!(error.message().contains("single_writer"), "{error}");
    assert!(service.keys("").is_empty(), "{:?}", service.keys(""));
}

#[tokio::test]
async fn a_service_that_ignores_only_if_match_is_refused_too() {
    let service = MemoryS3::start();
    service.answer_by(|asked| {
        let answer = asked.header("if-match").map(|_| Answer::of(200));
        answer.map(|mut answer| {
            answer.headers.push(("etag", "\"1\"".to_owned()));
            answer
        })
    });
    let error = open(&service, json!({})).await.err().unwrap();
    assert!(error.message().contains("ignores If-Match"), "{error}");
}

#[tokio::test]
async fn a_service_that_does_not_know_them_is_refused_with_what_it_says() {
    let service = MemoryS3::start();
    service.answer_by(|asked| {
        let has_one = asked.header("if-none-match").or(asked.header("if-match"));
        has_one.map(|_| Answer::error(501, "NotImplemented"))
    });
    let error = open(&service, json!({"retry_for": "0s"}))
        .await
        .err()
        .unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(error.message().contains("NotImplemented"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_writer_guards_its_writes_itself() {
    let service = MemoryS3::start();
    service.ignore_preconditions();
    let config = json!({"single_writer": true});
    let store = std::sync::Arc::new(open(&service, config.clone()).await.unwrap());
    let other = std::sync::Arc::new(open(&service, config).await.unwrap());
    // Handles of one process are one writer.
    let claims = (0..20).map(|number| {
        let store = std::sync::Arc::clone(if number % 2 == 0 { &store } else { &other });
        tokio::spawn(async move {
            let write = warren_plugin_api::Write {
                record: record("a", Status::Queued),
                mode: warren_plugin_api::WriteMode::IfAbsent,
            };
            store.put(write).await.unwrap()
        })
    });
    let mut winners = 0;
    for claim in claims.collect::<Vec<_>>() {
        winners += usize::from(claim.await.unwrap() == WriteOutcome::Written);
    }
    assert_eq!(winners, 1);
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    let late = store.put(record("a", Status::InProgress).into()).await;
    assert_eq!(late, Ok(WriteOutcome::Stale));
    assert_eq!(store.delete("a".into()).await, Ok(true));
    assert!(service.keys("p/records/").is_empty());
    let health = store.health_check().await.unwrap();
    assert!(health.warnings[0].contains("single_writer"), "{health:?}");
}

#[tokio::test]
async fn what_a_later_warren_wrote_is_left_alone() {
    let service = MemoryS3::start();
    service.set("p/store.json", br#"{"warren": 2}"#);
    let refused = open(&service, json!({})).await;
    assert_eq!(class(&refused), Some(ErrorClass::InvalidConfig));
    assert_eq!(service.keys(""), ["p/store.json"]);
}
