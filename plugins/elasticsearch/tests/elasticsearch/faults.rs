//! Nodes that are away, silent, or cut off in the middle.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use warren_plugin_api::{ErrorClass, ResultStore, Status, WriteOutcome};

use crate::{
    stub::{Reply, Stub},
    support::{
        MGET, PATIENCE, bulk, class, found, free_port, open, record, store_on, store_with,
        with_index,
    },
};

fn node() -> Stub {
    Stub::start(with_index(|seen| match seen.line().as_str() {
        MGET => found(seen, |id| Some((record(id, Status::Completed), 1))),
        _ => bulk(seen, |_| (201, None)),
    }))
}

#[tokio::test]
async fn a_node_that_is_away_is_passed_over() {
    let node = node();
    let away = format!("http://127.0.0.1:{}", free_port());
    let store = open(json!({"elasticsearch_urls": [away, node.url]}))
        .await
        .unwrap();
    for round in 0..6 {
        let id = format!("job-{round}");
        let written = store.put(record(&id, Status::Queued).into()).await;
        assert_eq!(written, Ok(WriteOutcome::Written));
        let status = store.status(id.as_str().into()).await;
        assert_eq!(status, Ok(Some(Status::Completed)));
    }
}

#[tokio::test]
async fn a_read_goes_to_the_next_node_and_a_write_is_not_sent_twice() {
    for fault in [|| Reply::Hangup, || Reply::Text(503, "")] {
        let broken = Stub::start(with_index(move |_| fault()));
        let node = node();
        let urls = json!({"elasticsearch_urls": [broken.url, node.url]});
        let store = open(urls).await.unwrap();
        for _ in 0..4 {
            let status = store.status("a".into()).await;
            assert_eq!(status, Ok(Some(Status::Completed)));
        }
        let only_broken = open(json!({"elasticsearch_urls": [broken.url]}))
            .await
            .unwrap();
        let before = broken.requests().len();
        let lost = only_broken.put(record("a", Status::Queued).into()).await;
        assert_eq!(class(&lost), Some(ErrorClass::Unavailable));
        assert_eq!(broken.requests().len(), before + 1);
    }
}

#[tokio::test]
async fn a_read_whose_connection_was_cut_is_sent_again_to_the_only_node() {
    let asked = AtomicUsize::new(0);
    let (store, _stub) = store_on(move |seen| {
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            return Reply::Hangup;
        }
        found(seen, |id| Some((record(id, Status::Completed), 1)))
    })
    .await;
    assert_eq!(store.status("a".into()).await, Ok(Some(Status::Completed)));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let config = json!({"request_timeout": "200ms"});
    let (store, _stub) = store_with(config, |_| Reply::Silence).await;
    let asked = tokio::time::timeout(PATIENCE, store.get("a".into())).await;
    let silent = asked.expect("the call hangs");
    assert_eq!(class(&silent), Some(ErrorClass::Unavailable));
}

#[tokio::test]
async fn a_cluster_that_is_away_is_connected_to_when_it_is_back() {
    let port = free_port();
    let config = json!({"elasticsearch_urls": [format!("http://127.0.0.1:{port}")]});
    let store = open(config).await.unwrap();
    let away = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(class(&away), Some(ErrorClass::Unavailable));
    let health = store.health_check().await;
    assert_eq!(class(&health), Some(ErrorClass::Unavailable));
}

#[tokio::test]
async fn a_batch_to_a_cluster_that_is_away_asks_it_once() {
    let (store, stub) = store_on(|_| Reply::Text(503, "")).await;
    let ids: Vec<_> = (0..3_000).map(|number| format!("job-{number}")).collect();
    let writes = ids
        .iter()
        .map(|id| record(id, Status::Queued).into())
        .collect();
    let outcomes = store.put_many(writes).await.unwrap();
    let away = |outcome| class(outcome) == Some(ErrorClass::Unavailable);
    assert!(outcomes.len() == 3_000 && outcomes.iter().all(away));
    assert_eq!(stub.lines().len(), 1);
}
