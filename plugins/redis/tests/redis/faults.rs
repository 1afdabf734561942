//! Servers that are down, full, read-only, silent, or no Redis at all.

use std::{
    io::{Read, Write as _},
    net::TcpListener,
    process::Command,
    time::Duration,
};

use redis::cmd;
use serde_json::json;
use warren_plugin_api::{ErrorClass, ResultStore, Status, WriteOutcome};

use crate::{
    server::{PrivateServer, free_port},
    support::{PATIENCE, class, eventually, open, record},
};

#[tokio::test]
async fn a_server_that_is_down_is_connected_to_when_it_is_back() {
    let mut server = PrivateServer::prepare(&[]);
    let store = open(json!({"redis_url": server.url()})).await.unwrap();
    let refused = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(class(&refused), Some(ErrorClass::Unavailable));
    assert_eq!(
        class(&store.health_check().await),
        Some(ErrorClass::Unavailable)
    );
    server.start_again().await;
    eventually("writing works", async || {
        store.put(record("a", Status::Queued).into()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_restarted_server_is_found_by_the_first_call() {
    let mut server = PrivateServer::start(&[]).await;
    let store = open(json!({"redis_url": server.url(), "connections": 2}))
        .await
        .unwrap();
    for job_id in ["a", "b"] {
        store
            .put(record(job_id, Status::Completed).into())
            .await
            .unwrap();
    }
    server.stop();
    server.start_again().await;
    eventually("it has loaded its data", async || {
        let mut plain = redis::Client::open(server.url())
            .ok()?
            .get_connection()
            .ok()?;
        cmd("PING").exec(&mut plain).ok()
    })
    .await;
    assert_eq!(store.status("a".into()).await, Ok(Some(Status::Completed)));
    let again = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(
        again,
        Ok(WriteOutcome::Stale),
        "what was acknowledged is still there"
    );
    assert_eq!(
        store.put(record("c", Status::Completed).into()).await,
        Ok(WriteOutcome::Written)
    );
}

#[tokio::test]
async fn a_full_server_refuses_whole_writes_and_works_again_when_there_is_room() {
    let server = PrivateServer::start(&["--maxmemory", "6mb"]).await;
    let store = open(json!({"redis_url": server.url()})).await.unwrap();
    let mut refused = None;
    for number in 0..1_000 {
        let mut write = record(&format!("job-{number}"), Status::Completed);
        write.result = format!("\"{}\"", "x".repeat(100_000)).into();
        if let Err(error) = store.put(write.clone().into()).await {
            refused = Some((write, error));
            break;
        }
    }
    let (write, error) = refused.expect("the memory was never full");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(error.message().contains("maxmemory"), "{error}");
    assert_eq!(store.get(write.job_id.clone()).await, Ok(None));
    let mut plain = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let listed: i64 = cmd("ZCARD")
        .arg("rabbitmq_arq:warren:scan")
        .query(&mut plain)
        .unwrap();
    let stored: i64 = cmd("DBSIZE").query(&mut plain).unwrap();
    assert_eq!(
        stored,
        2 * listed + 3,
        "two keys a record, two indexes, one set"
    );
    let mut next = 0..listed;
    let written = eventually("there is room again", async || {
        let number = next.next().expect("everything is deleted");
        let deleted = store.delete(format!("job-{number}").as_str().into()).await;
        assert_eq!(deleted, Ok(true));
        store.put(write.clone().into()).await.ok()
    })
    .await;
    assert_eq!(written, WriteOutcome::Written);
}

#[tokio::test]
async fn a_replica_takes_no_writes_until_it_is_promoted() {
    let primary = PrivateServer::start(&[]).await;
    let port = primary.port.to_string();
    let replica = PrivateServer::start(&["--replicaof", "127.0.0.1", &port]).await;
    let store = open(json!({"redis_url": replica.url()})).await.unwrap();
    let refused = eventually("it is in step", async || {
        let refused = store
            .put(record("a", Status::Queued).into())
            .await
            .unwrap_err();
        refused.message().contains("READONLY").then_some(refused)
    })
    .await;
    assert_eq!(refused.class(), ErrorClass::Unavailable);
    assert_eq!(
        class(&store.health_check().await),
        Some(ErrorClass::Unavailable)
    );
    let mut plain = redis::Client::open(replica.url())
        .unwrap()
        .get_connection()
        .unwrap();
    cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .exec(&mut plain)
        .unwrap();
    eventually("writing works", async || {
        store.put(record("a", Status::Queued).into()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_busy_server_is_unavailable() {
    let server = PrivateServer::start(&["--busy-reply-threshold", "50"]).await;
    let store = open(json!({"redis_url": server.url()})).await.unwrap();
    let url = server.url();
    let endless = std::thread::spawn(move || {
        let mut plain = redis::Client::open(url).unwrap().get_connection().unwrap();
        cmd("EVAL").arg("while true do end").arg(0).exec(&mut plain)
    });
    eventually("it says that it is busy", async || {
        let error = store.get("a".into()).await.err()?;
        assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
        error.message().contains("BUSY").then_some(())
    })
    .await;
    let mut plain = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    cmd("SCRIPT").arg("KILL").exec(&mut plain).unwrap();
    assert!(endless.join().unwrap().is_err());
    assert_eq!(store.get("a".into()).await, Ok(None));
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_the_connection_usable() {
    let server = PrivateServer::start(&[]).await;
    let store = open(json!({"redis_url": server.url(), "connections": 1}))
        .await
        .unwrap();
    for number in 0..200_u32 {
        let write = store.put(record(&format!("job-{number}"), Status::Completed).into());
        // Dropped after being polled once, or a few times.
        tokio::select! {
            biased;
            written = write => drop(written),
            () = async { for _ in 0..number % 5 { tokio::task::yield_now().await } } => {}
        }
    }
    assert_eq!(
        store.put(record("last", Status::Completed).into()).await,
        Ok(WriteOutcome::Written)
    );
    let mut plain = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let list: String = cmd("CLIENT").arg("LIST").query(&mut plain).unwrap();
    assert_eq!(
        list.lines().count(),
        2,
        "one connection, and this one: {list}"
    );
}

#[tokio::test]
async fn a_server_that_stops_answering_is_given_up_and_found_again() {
    let server = PrivateServer::start(&[]).await;
    let config = json!({
        "redis_url": server.url(), "connections": 1,
        "response_timeout": "200ms", "connect_timeout": "200ms",
    });
    let store = open(config).await.unwrap();
    server.signal("-STOP");
    let silent = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(class(&silent), Some(ErrorClass::Unavailable));
    server.signal("-CONT");
    eventually("writing works", async || {
        store.put(record("b", Status::Queued).into()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_swallows_calls_is_noticed_though_they_are_given_up() {
    // A proxy whose first connection goes deaf when told.
    let server = PrivateServer::start(&[]).await;
    let proxy = deaf_proxy(server.port);
    let config = json!({
        "redis_url": format!("redis://127.0.0.1:{}", proxy.port), "connections": 1,
        "response_timeout": "300ms",
    });
    let store = open(config).await.unwrap();
    store.get("a".into()).await.unwrap();
    proxy.deaf.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("a new connection is made", async || {
        let call = store.get("a".into());
        // The caller's deadline is shorter than the store's own.
        match tokio::time::timeout(Duration::from_millis(50), call).await {
            Ok(answer) => answer.ok(),
            Err(_) => None,
        }
    })
    .await;
}

struct DeafProxy {
    port: u16,
    deaf: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

/// Passes bytes both ways, but for its first connection once `deaf` is set.
fn deaf_proxy(server_port: u16) -> DeafProxy {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let deaf = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = std::sync::Arc::clone(&deaf);
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let client = client.unwrap();
            let server = std::net::TcpStream::connect(("127.0.0.1", server_port)).unwrap();
            for (mut from, mut to, to_server) in [
                (
                    client.try_clone().unwrap(),
                    server.try_clone().unwrap(),
                    true,
                ),
                (server, client, false),
            ] {
                let told = std::sync::Arc::clone(&told);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4_096];
                    while let Ok(count @ 1..) = from.read(&mut buffer) {
                        let swallow = number == 0
                            && to_server
                            && told.load(std::sync::atomic::Ordering::SeqCst);
                        if !swallow && to.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    DeafProxy { port, deaf }
}

#[tokio::test]
async fn something_that_is_no_redis_is_a_wrong_configuration() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 1_024]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let opened = open(json!({"redis_url": format!("redis://127.0.0.1:{port}")})).await;
    let error = opened.err().unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(error.message().contains("does not speak"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_unavailable() {
    for url in [
        format!("redis://127.0.0.1:{}", free_port()),
        "unix:///nonexistent/redis.sock".to_owned(),
        "redis://warren-has-no-such-host.invalid".to_owned(),
    ] {
        let store = tokio::time::timeout(
            PATIENCE,
            open(json!({"redis_url": url, "connect_timeout": "5s"})),
        )
        .await
        .expect("opening hangs")
        .unwrap();
        let refused = store.get("a".into()).await;
        assert_eq!(
            class(&refused),
            Some(ErrorClass::Unavailable),
            "{url}: {refused:?}"
        );
    }
}

impl PrivateServer {
    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(signal)
            .arg(self.process_id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }
}
