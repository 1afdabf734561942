//! A folder with a store in it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use warren_plugin_api::{
    HostContext, Record, ResultStore, Status, StoreError, StoreResult, Timestamp,
};
use warren_store_sqlite::SqliteStore;

pub(crate) async fn open(config: Value) -> StoreResult<SqliteStore> {
    let config = serde_json::from_value(config).unwrap();
    SqliteStore::open(config, HostContext::silent()).await
}

pub(crate) async fn open_at(path: &Path) -> StoreResult<SqliteStore> {
    open(json!({"path": path})).await
}

/// Why the file at `path` does not open.
pub(crate) async fn refusal(path: &Path) -> StoreError {
    open_at(path).await.err().expect("it must not open")
}

/// A folder, and the path of a store in it.
pub(crate) fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.db");
    (folder, path)
}

pub(crate) fn record(job_id: &str) -> Record {
    Record {
        job_id: job_id.into(),
        status: Status::Completed,
        attempt: 1,
        queue: "default".into(),
        function: "add".into(),
        enqueued_at: Some(Timestamp::now()),
        result: "3".into(),
        ..Record::default()
    }
}
