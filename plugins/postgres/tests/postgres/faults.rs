//! Servers that are down, full, read-only, silent, or no PostgreSQL at all.

use std::{
    io::{Read, Write as _},
    net::TcpListener,
    sync::Arc,
};

use serde_json::json;
use warren_plugin_api::{ErrorClass, ResultStore, Status, WriteOutcome};

use crate::{
    server::{PrivateServer, free_port},
    support::{PATIENCE, TestStore, class, connect, eventually, open, record, subscribe},
};

#[tokio::test]
async fn a_server_that_is_down_is_connected_to_when_it_is_back() {
    let server = PrivateServer::prepare(&[]);
    let store = open(json!({"postgres_url": server.url()})).await.unwrap();
    let refused = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(class(&refused), Some(ErrorClass::Unavailable));
    let health = store.health_check().await;
    assert_eq!(class(&health), Some(ErrorClass::Unavailable));
    server.start_again();
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
}

#[tokio::test]
async fn a_restarted_server_is_found_again_with_what_was_acknowledged() {
    let server = PrivateServer::start(&[]);
    let store = Arc::new(open(json!({"postgres_url": server.url()})).await.unwrap());
    let (_announced, subscription) = subscribe(&store).await;
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    server.stop();
    let ended = tokio::time::timeout(PATIENCE, subscription).await;
    assert_eq!(
        class(&ended.unwrap().unwrap()),
        Some(ErrorClass::Unavailable)
    );
    let away = store.get("a".into()).await;
    assert_eq!(class(&away), Some(ErrorClass::Unavailable));
    server.start_again();
    assert_eq!(store.status("a".into()).await, Ok(Some(Status::Completed)));
    let stale = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(stale, Ok(WriteOutcome::Stale));
}

#[tokio::test]
async fn reads_do_not_notice_that_their_connections_were_ended() {
    let tables = TestStore::open_with(json!({"connections": 3})).await;
    let store = &tables.store;
    store.put(record("a", Status::Queued).into()).await.unwrap();
    for _ in 0..20 {
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE query LIKE '%' || $1 || '%' AND pid <> pg_backend_pid()";
        tables
            .plain
            .query_one(ended, &[&tables.schema])
            .await
            .unwrap();
        let (first, second) = tokio::join!(store.status("a".into()), store.status("a".into()));
        assert_eq!(first, Ok(Some(Status::Queued)));
        assert_eq!(second, Ok(Some(Status::Queued)));
    }
}

#[tokio::test]
async fn a_standby_takes_no_writes_until_it_is_promoted() {
    let primary = PrivateServer::start(&[]);
    let config = json!({"postgres_url": primary.url()});
    open(config).await.unwrap();
    let standby = primary.standby();
    let store = open(json!({"postgres_url": standby.url()})).await.unwrap();
    let refused = store.put(record("a", Status::Queued).into()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(error.message().contains("25006"), "{error}");
    let health = store.health_check().await;
    assert_eq!(class(&health), Some(ErrorClass::Unavailable));
    standby.promote();
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
}

#[tokio::test]
async fn the_primary_is_found_among_several_hosts() {
    let primary = PrivateServer::start(&[]);
    open(json!({"postgres_url": primary.url()})).await.unwrap();
    let standby = primary.standby();
    let url = format!(
        "postgresql://postgres@127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}/postgres\
         ?target_session_attrs=read-write",
        free_port(),
        standby.port,
        primary.port
    );
    let store = open(json!({"postgres_url": url})).await.unwrap();
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
}

#[tokio::test]
async fn a_database_that_is_read_only_is_unavailable_until_it_is_not() {
    let server = PrivateServer::start(&[]);
    let store = open(json!({"postgres_url": server.url()})).await.unwrap();
    server.set("default_transaction_read_only = on");
    server.reload();
    let refused = eventually("it takes no writes", async || {
        store
            .put(record("a", Status::InProgress).into())
            .await
            .err()
    })
    .await;
    assert_eq!(refused.class(), ErrorClass::Unavailable);
    let health = store.health_check().await;
    assert_eq!(class(&health), Some(ErrorClass::Unavailable));
    server.set("default_transaction_read_only = off");
    server.reload();
    eventually("writing works", async || {
        store.put(record("a", Status::InProgress).into()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_unavailable_until_there_is_one() {
    let server = PrivateServer::start(&["max_connections = 6"]);
    let config = json!({"postgres_url": server.url()});
    let mut others = Vec::new();
    let store = open(config.clone()).await.unwrap();
    while let Ok((client, connection)) =
        tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await
    {
        tokio::spawn(connection);
        others.push(client);
    }
    let crowded = open(config).await.unwrap();
    let refused = crowded.get("a".into()).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Unavailable);
    assert!(refused.message().contains("max_connections"), "{refused}");
    let warned = store.health_check().await.unwrap().warnings;
    assert!(
        warned
            .iter()
            .any(|warning| warning.contains("connections are in use")),
        "{warned:?}"
    );
    drop(others);
    eventually("there is a free one", async || {
        crowded.get("a".into()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stops_answering_is_given_up_and_found_again() {
    let server = PrivateServer::start(&[]);
    let config = json!({
        "postgres_url": server.url(), "connections": 1,
        "statement_timeout": "100ms", "connect_timeout": "1s",
    });
    let store = open(config).await.unwrap();
    let watcher = connect(&server.url()).await;
    let backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'warren'";
    // The connection that made the tables takes a moment to go.
    let backend: i32 = eventually("there is one connection", async || {
        Some(watcher.query_one(backend, &[]).await.ok()?.get(0))
    })
    .await;
    server.signal("-STOP", backend);
    let silent = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(class(&silent), Some(ErrorClass::Unavailable));
    // Another connection is made at once.
    let written = store.put(record("b", Status::Queued).into()).await;
    server.signal("-CONT", backend);
    assert_eq!(written, Ok(WriteOutcome::Written));
}

#[tokio::test]
async fn a_crashed_server_process_ends_no_store() {
    let server = PrivateServer::start(&[]);
    let store = open(json!({"postgres_url": server.url()})).await.unwrap();
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    let watcher = connect(&server.url()).await;
    let backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'warren' LIMIT 1";
    // The connection that made the tables takes a moment to go.
    let backend: i32 = eventually("there is one connection", async || {
        Some(watcher.query_one(backend, &[]).await.ok()?.get(0))
    })
    .await;
    // The server then ends all others and recovers.
    server.signal("-KILL", backend);
    let found = eventually("it has recovered", async || {
        match store.status("a".into()).await {
            Ok(found) => Some(found),
            Err(error) => {
                assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
                None
            }
        }
    })
    .await;
    assert_eq!(found, Some(Status::Completed));
}

#[tokio::test]
async fn something_that_is_no_postgresql_is_unavailable() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 1_024]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let url = format!("postgresql://127.0.0.1:{port}/x?sslmode=disable");
    let store = open(json!({"postgres_url": url})).await.unwrap();
    let refused = store.get("a".into()).await;
    assert_eq!(
        class(&refused),
        Some(ErrorClass::Unavailable),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_reached_is_unavailable() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    for url in [
        format!("postgresql://127.0.0.1:{}/x", free_port()),
        format!("postgresql://{}/x", silent.local_addr().unwrap()),
        "postgresql:///x?host=/nonexistent".to_owned(),
        "postgresql://warren-has-no-such-host.invalid/x".to_owned(),
    ] {
        let config = json!({"postgres_url": url, "connect_timeout": "1s"});
        let store = tokio::time::timeout(PATIENCE, open(config)).await;
        let store = store.expect("opening hangs").unwrap();
        let refused = store.get("a".into()).await;
        assert_eq!(
            class(&refused),
            Some(ErrorClass::Unavailable),
            "{url}: {refused:?}"
        );
    }
}
