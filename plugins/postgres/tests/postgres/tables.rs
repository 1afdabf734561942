//! Making the tables, and who may use them.

use std::time::Duration;

use serde_json::json;
use warren_plugin_api::{ErrorClass, Filter, ResultStore, Status, Timestamp, WriteOutcome};

use crate::{
    server::PrivateServer,
    support::{
        TestStore, class, connect, drop_in_background, eventually, open, record, shared_url, unique,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_come_first_at_once_make_the_tables_once() {
    let schema = unique("warren-test");
    let opening = (0..16).map(|_| {
        let config = json!({"postgres_url": shared_url(), "schema": schema, "connections": 1});
        tokio::spawn(async move {
            let store = open(config).await.unwrap();
            store.health_check().await.unwrap();
        })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap();
    }
    let plain = connect(&shared_url()).await;
    let versions = format!("SELECT version FROM \"{schema}\".warren_schema_version");
    let rows = plain.query(&versions, &[]).await.unwrap();
    let drop = format!("DROP SCHEMA \"{schema}\" CASCADE");
    drop_in_background(shared_url(), drop);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<_, i32>(0), 1);
}

#[tokio::test]
async fn making_the_tables_has_more_time_than_any_other_statement() {
    const LOCK: i64 = 0x77_61_72_72_65_6e;
    let server = PrivateServer::start(&[]);
    let other = connect(&server.url()).await;
    other
        .batch_execute(&format!("SELECT pg_advisory_lock({LOCK})"))
        .await
        .unwrap();
    let config = json!({"postgres_url": server.url(), "statement_timeout": "100ms"});
    let opening = tokio::spawn(open(config));
    let waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    eventually("it waits for the other who makes tables", async || {
        let rows = other.query(waiting, &[]).await.unwrap();
        (!rows.is_empty()).then_some(())
    })
    .await;
    // Longer than one statement is waited for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    other
        .batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})"))
        .await
        .unwrap();
    let _store = opening.await.unwrap().unwrap();
    let versions = "SELECT version FROM public.warren_schema_version";
    assert_eq!(other.query(versions, &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn schema_and_prefix_may_have_any_name() {
    for (schema, prefix) in [
        ("My \"schema\"; DROP TABLE x; --".to_owned(), "a\".b'\\"),
        (format!("été 中 {}", "s".repeat(50)), "p"),
        ("select".to_owned(), ""),
        (
            "S".repeat(63),
            "a prefix of forty-four bytes which are the most.",
        ),
    ] {
        let prefix = &prefix[..prefix.len().min(44)];
        let config = json!({
            "postgres_url": shared_url(), "schema": schema, "table_prefix": prefix,
        });
        let store = open(config.clone()).await.unwrap();
        let written = store.put(record("a", Status::Completed).into()).await;
        assert_eq!(written, Ok(WriteOutcome::Written), "{schema}");
        let again = open(config).await.unwrap();
        let page = again.scan(Filter::default(), None, 10).await.unwrap();
        assert_eq!(page.records.len(), 1, "{schema}");
        assert_eq!(again.stats().await.unwrap().records, Some(1));
        let quoted = schema.replace('"', "\"\"");
        drop_in_background(shared_url(), format!("DROP SCHEMA \"{quoted}\" CASCADE"));
    }
}

#[tokio::test]
async fn stores_of_other_prefixes_share_nothing() {
    let tables = TestStore::open().await;
    let config = json!({
        "postgres_url": shared_url(), "schema": tables.schema, "table_prefix": "other_",
    });
    let other = open(config).await.unwrap();
    other.put(record("a", Status::Queued).into()).await.unwrap();
    assert_eq!(tables.store.get("a".into()).await, Ok(None));
}

#[tokio::test]
async fn tables_of_a_later_version_are_refused() {
    let tables = TestStore::open().await;
    let versions = format!("\"{}\".warren_schema_version", tables.schema);
    tables
        .run(&format!("INSERT INTO {versions} (version) VALUES (99)"))
        .await;
    let config = json!({"postgres_url": shared_url(), "schema": tables.schema});
    let error = open(config).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(error.message().contains("version 99"), "{error}");
}

#[tokio::test]
async fn another_program_s_table_of_that_name_is_refused() {
    let tables = TestStore::open().await;
    let table = tables.table();
    tables
        .run(&format!(
            "DROP TABLE {table}; CREATE TABLE {table} (id int)"
        ))
        .await;
    let refused = tables.store.put(record("a", Status::Queued).into()).await;
    assert_eq!(
        class(&refused),
        Some(ErrorClass::InvalidConfig),
        "{refused:?}"
    );
}

#[tokio::test]
async fn tables_that_vanish_are_made_anew() {
    let tables = TestStore::open().await;
    let store = &tables.store;
    store.put(record("a", Status::Queued).into()).await.unwrap();
    tables
        .run(&format!("DROP SCHEMA \"{}\" CASCADE", tables.schema))
        .await;
    assert_eq!(store.get("a".into()).await, Ok(None));
    let written = store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
}

#[tokio::test]
async fn a_user_needs_no_more_than_the_readme_lists() {
    let server = PrivateServer::start(&[]);
    let config =
        |user: &str| json!({"postgres_url": server.url_as(user, "jobs"), "schema": "my_app"});
    let plain = connect(&server.url()).await;
    plain.batch_execute("CREATE DATABASE jobs").await.unwrap();
    plain
        .batch_execute("CREATE ROLE warren LOGIN")
        .await
        .unwrap();
    let error = open(config("warren")).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(
        error.message().contains("the rights that the README"),
        "{error}"
    );

    open(config("postgres")).await.unwrap();
    let readme = include_str!("../../README.md");
    let grants = readme
        .lines()
        .filter(|line| line.starts_with("GRANT ") && line.contains("my_app"));
    let grants = grants.collect::<Vec<_>>().join("\n");
    let owner = connect(&server.url_as("postgres", "jobs")).await;
    owner.batch_execute(&grants).await.unwrap();
    works(config("warren")).await;

    owner
        .batch_execute("DROP SCHEMA my_app CASCADE")
        .await
        .unwrap();
    let grant = readme.lines().find(|line| line.starts_with("GRANT CREATE"));
    owner.batch_execute(grant.unwrap()).await.unwrap();
    works(config("warren")).await;
}

async fn works(config: serde_json::Value) {
    let store = std::sync::Arc::new(open(config).await.unwrap());
    let (announced, _task) = crate::support::subscribe(&store).await;
    let written = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    assert!(store.get("a".into()).await.unwrap().is_some());
    let page = store.scan(Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(store.stats().await.unwrap().records, Some(1));
    store.cleanup_expired(Timestamp::now(), 10).await.unwrap();
    store.health_check().await.unwrap();
    assert_eq!(store.delete("a".into()).await, Ok(true));
    crate::support::eventually("it is announced", async || {
        (!announced.lock().unwrap().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_character_is_refused() {
    let server = PrivateServer::start(&[]);
    let plain = connect(&server.url()).await;
    let latin = "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    plain.batch_execute(latin).await.unwrap();
    let url = server.url_as("postgres", "latin");
    let error = open(json!({"postgres_url": url})).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(error.message().contains("LATIN1"), "{error}");
}
