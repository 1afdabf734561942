//! Files that are no store, not yet one, or not one any more.

use std::{fs, os::unix::fs::PermissionsExt};

use rusqlite::Connection;
use serde_json::json;
use warren_plugin_api::{ErrorClass, ResultStore, WriteOutcome};

use crate::support::{folder, open, open_at, record, refusal};

#[tokio::test]
async fn a_missing_folder_is_made_for_its_owner_alone() {
    let (folder, _) = folder();
    let path = folder.path().join("a/b/results.db");
    let store = open_at(&path).await.unwrap();
    store.put(record("a").into()).await.unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
}

#[tokio::test]
async fn closing_the_last_handle_leaves_one_file() {
    let (folder, path) = folder();
    let store = open_at(&path).await.unwrap();
    store.put(record("a").into()).await.unwrap();
    store.get("a".into()).await.unwrap().unwrap();
    store.close().await.unwrap();
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["results.db"]);
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_stays_as_it_is() {
    let (_folder, path) = folder();
    let text = "a text of some length, which is no database at all. ".repeat(40);
    fs::write(&path, &text).unwrap();
    let error = refusal(&path).await;
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(error.message().contains("not a database"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn another_program_s_database_is_refused_and_stays_as_it_is() {
    let (_folder, path) = folder();
    let theirs = Connection::open(&path).unwrap();
    theirs
        .execute_batch("CREATE TABLE songs (name TEXT)")
        .unwrap();
    drop(theirs);
    let before = fs::read(&path).unwrap();
    let error = refusal(&path).await;
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(error.message().contains("another program"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_later_schema_is_refused_with_both_versions() {
    let (_folder, path) = folder();
    open_at(&path).await.unwrap().close().await.unwrap();
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    let error = refusal(&path).await;
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    assert!(
        error.message().contains("has schema 7, expected at most 1"),
        "{error}"
    );
}

#[tokio::test]
async fn a_folder_and_a_file_in_the_way_are_refused() {
    let (folder, path) = folder();
    let error = refusal(folder.path()).await;
    assert_eq!(error.class(), ErrorClass::InvalidConfig);
    fs::write(&path, "").unwrap();
    let error = refusal(&path.join("results.db")).await;
    assert_eq!(error.class(), ErrorClass::InvalidConfig, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_handles_make_the_tables_once() {
    let (_folder, path) = folder();
    let opening: Vec<_> = (0..16)
        .map(|number| {
            let path = path.clone();
            tokio::spawn(async move {
                let store = open_at(&path).await.unwrap();
                store.put(record(number.to_string()).into()).await.unwrap()
            })
        })
        .collect();
    for opened in opening {
        assert_eq!(opened.await.unwrap(), WriteOutcome::Written);
    }
    let stats = open_at(&path).await.unwrap().stats().await.unwrap();
    assert_eq!(stats.records, Some(16));
}

#[tokio::test]
async fn a_file_that_was_deleted_or_replaced_takes_no_more_writes() {
    let (folder, path) = folder();
    let store = open_at(&path).await.unwrap();
    store.put(record("before").into()).await.unwrap();
    fs::remove_file(&path).unwrap();
    // What was in it is gone; what comes now is where others look for it.
    store.put(record("after").into()).await.unwrap();
    assert!(store.get("before".into()).await.unwrap().is_none());
    let other = open_at(&path).await.unwrap();
    assert!(other.get("after".into()).await.unwrap().is_some());
    other.close().await.unwrap();
    store.close().await.unwrap();
    drop(folder);
}

#[tokio::test]
async fn a_damaged_file_keeps_its_writers_waiting_and_is_told_to_readers() {
    let (_folder, path) = folder();
    let store = open_at(&path).await.unwrap();
    for number in 0..200 {
        store.put(record(number.to_string()).into()).await.unwrap();
    }
    store.close().await.unwrap();
    // All but the header.
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let store = open_at(&path).await.unwrap();
    let read = store.get("7".into()).await.unwrap_err();
    assert_eq!(read.class(), ErrorClass::CorruptData, "{read}");
    let written = store.put(record("new").into()).await.unwrap_err();
    // Nothing may be given up for it: see `ErrorClass::may_pass`.
    assert_eq!(written.class(), ErrorClass::InvalidConfig, "{written}");
    assert!(written.message().contains("damaged"), "{written}");
}

#[tokio::test]
async fn a_lock_that_is_held_for_long_is_unavailable_and_passes() {
    let (_folder, path) = folder();
    let store = open(json!({"path": path, "busy_timeout": "50ms"}))
        .await
        .unwrap();
    store.put(record("a").into()).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.put(record("b").into()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    let error = store.health_check().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    // Readers do not wait for a writer.
    assert!(store.get("a".into()).await.unwrap().is_some());
    other.execute_batch("COMMIT").unwrap();
    let outcome = store.put(record("b").into()).await.unwrap();
    assert_eq!(outcome, WriteOutcome::Written);
}
