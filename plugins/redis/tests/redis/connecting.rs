//! Announcements, health, and the ends of a store's life.

use std::sync::{Arc, Mutex};

use redis::cmd;
use serde_json::json;
use tokio::task::JoinHandle;
use warren_plugin_api::{CompletionSink, ErrorClass, ResultStore, Status, StoreResult, Write};
use warren_store_redis::RedisStore;

use crate::{
    server::PrivateServer,
    support::{Announced, TestStore, class, eventually, open, record, unique},
};

/// Subscribes in a task; returns when announcements flow.
pub(crate) async fn subscribe(store: &Arc<RedisStore>) -> (Announced, JoinHandle<StoreResult<()>>) {
    let announced = Announced::default();
    let ready = Arc::new(Mutex::new(false));
    let sink = {
        let (announced, ready) = (Arc::clone(&announced), Arc::clone(&ready));
        CompletionSink::new(
            move || *ready.lock().unwrap() = true,
            move |completion| {
                let job_id = String::from(completion.job_id);
                announced.lock().unwrap().push((job_id, completion.status));
            },
        )
    };
    let store = Arc::clone(store);
    let task = tokio::spawn(async move { store.subscribe(sink).await });
    eventually("the subscription is confirmed", async || {
        assert!(!task.is_finished(), "the subscription ended at once");
        ready.lock().unwrap().then_some(())
    })
    .await;
    (announced, task)
}

#[tokio::test]
async fn endings_are_announced_to_every_process_and_nothing_else_is() {
    let store = TestStore::open().await;
    let listener = Arc::new(store.open_again().await);
    let (announced, _task) = subscribe(&listener).await;
    let mut writes: Vec<Write> = Status::ALL
        .into_iter()
        .map(|status| record(&format!("{status}:1"), status).into())
        .collect();
    // Stale: not announced again.
    writes.push(record("completed:1", Status::Completed).into());
    writes.push(record("last", Status::Completed).into());
    store.store.put_many(writes).await.unwrap();
    eventually("the last is announced", async || {
        announced
            .lock()
            .unwrap()
            .iter()
            .any(|(job_id, _)| job_id == "last")
            .then_some(())
    })
    .await;
    let expected = [
        ("completed:1", Status::Completed),
        ("failed:1", Status::Failed),
        ("aborted:1", Status::Aborted),
        ("last", Status::Completed),
    ]
    .map(|(job_id, status)| (job_id.to_owned(), status));
    assert_eq!(*announced.lock().unwrap(), expected);
}

#[tokio::test]
async fn databases_of_one_server_do_not_hear_each_other() {
    let server = PrivateServer::start(&[]).await;
    let database =
        |number: u32| json!({"redis_url": format!("redis://127.0.0.1:{}/{number}", server.port)});
    let listener = Arc::new(open(database(1)).await.unwrap());
    let (announced, _task) = subscribe(&listener).await;
    let other = open(database(2)).await.unwrap();
    other
        .put(record("other", Status::Completed).into())
        .await
        .unwrap();
    listener
        .put(record("own", Status::Completed).into())
        .await
        .unwrap();
    eventually("its own is announced", async || {
        (!announced.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    assert_eq!(
        *announced.lock().unwrap(),
        [("own".to_owned(), Status::Completed)]
    );
}

#[tokio::test]
async fn a_subscription_ends_with_its_server_and_can_be_made_again() {
    let mut server = PrivateServer::start(&[]).await;
    let store = Arc::new(open(json!({"redis_url": server.url()})).await.unwrap());
    let (_, task) = subscribe(&store).await;
    server.stop();
    let ended = task.await.unwrap();
    assert_eq!(class(&ended), Some(ErrorClass::Unavailable));
    server.start_again().await;
    let (announced, _task) = subscribe(&store).await;
    eventually("writing works again", async || {
        store.put(record("a", Status::Completed).into()).await.ok()
    })
    .await;
    eventually("it is announced", async || {
        (!announced.lock().unwrap().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn closing_ends_subscriptions_and_refuses_calls() {
    let store = Arc::new(TestStore::open().await.open_again().await);
    let (_, task) = subscribe(&store).await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(class(&task.await.unwrap()), Some(ErrorClass::Unavailable));
    let refused = store.get("a".into()).await;
    assert_eq!(class(&refused), Some(ErrorClass::Unavailable));
}

#[tokio::test]
async fn closing_leaves_no_connection_on_the_server() {
    let server = PrivateServer::start(&[]).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut plain = client.get_connection().unwrap();
    let mut connections = || -> usize {
        let list: String = cmd("CLIENT").arg("LIST").query(&mut plain).unwrap();
        list.lines().count() - 1
    };
    let store = open(json!({"redis_url": server.url(), "connections": 3}))
        .await
        .unwrap();
    for _ in 0..3 {
        store.get("a".into()).await.unwrap();
    }
    assert_eq!(connections(), 3);
    store.close().await.unwrap();
    eventually("they are gone", async || (connections() == 0).then_some(())).await;
}

#[tokio::test]
async fn health_names_the_server_and_what_an_operator_should_know() {
    let server =
        PrivateServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let store = open(json!({"redis_url": server.url()})).await.unwrap();
    let health = store.health_check().await.unwrap();
    assert!(
        health.detail.contains(" at 127.0.0.1:"),
        "{}",
        health.detail
    );
    assert_eq!(health.warnings.len(), 1, "{:?}", health.warnings);
    assert!(health.warnings[0].contains("allkeys-lru"));
    let volatile = PrivateServer::start(&["--appendonly", "no"]).await;
    let store = open(json!({"redis_url": volatile.url()})).await.unwrap();
    let health = store.health_check().await.unwrap();
    assert_eq!(health.warnings.len(), 1, "{:?}", health.warnings);
    assert!(health.warnings[0].contains("neither RDB nor AOF"));
}

#[tokio::test]
async fn two_prefixes_on_one_server_do_not_see_each_other() {
    let store = TestStore::open().await;
    let other = open(json!({"redis_url": store.url, "key_prefix": unique("other")}))
        .await
        .unwrap();
    store
        .store
        .put(record("a", Status::Queued).into())
        .await
        .unwrap();
    assert_eq!(other.get("a".into()).await, Ok(None));
    let listed = other
        .scan(warren_plugin_api::Filter::default(), None, 10)
        .await
        .unwrap();
    assert!(listed.records.is_empty());
}
