//! A store on an imitation of its own.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use warren_plugin_api::{
    ErrorClass, Filter, HostContext, Record, ResultStore, Status, StoreError, StoreResult,
    Timestamp,
};
use warren_store_s3::S3Store;

use crate::memory_s3::{BUCKET, MemoryS3};

pub(crate) const SECRET: &str = "open-sesame";

/// Opens a store; what it logs goes to the test's output.
pub(crate) async fn open(service: &MemoryS3, more: Value) -> StoreResult<S3Store> {
    let mut config = json!({
        "endpoint": service.endpoint(),
        "allow_http": true,
        "bucket": BUCKET,
        "prefix": "p",
        "region": "eu-test-1",
        "access_key_id": "warren",
        "secret_access_key": SECRET,
    });
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    let config = serde_json::from_value(config)
        .map_err(|error| StoreError::invalid_config(error.to_string()))?;
    let host = HostContext::new(|level, _, message| println!("{level:?}: {message}"));
    S3Store::open(config, host).await
}

pub(crate) async fn opened(service: &MemoryS3) -> S3Store {
    open(service, json!({})).await.unwrap()
}

/// A record as a worker writes it.
pub(crate) fn record(job_id: &str, status: Status) -> Record {
    let now = Timestamp::now();
    Record {
        job_id: job_id.into(),
        status,
        attempt: 1,
        queue: "orders".into(),
        function: "charge".into(),
        enqueued_at: Some(now),
        expires_at: Some(now.saturating_add(Duration::from_secs(3_600))),
        args: "[1]".into(),
        ..Record::default()
    }
}

/// The key of a job's record, as the README has it.
pub(crate) fn key(job_id: &str) -> String {
    let digest = Sha256::digest(job_id);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("p/records/{hex}")
}

pub(crate) fn class<T>(result: &StoreResult<T>) -> Option<ErrorClass> {
    result.as_ref().err().map(StoreError::class)
}

/// The ids that a whole scan lists.
pub(crate) async fn listed(store: &S3Store, filter: Filter) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.scan(filter.clone(), cursor, 3).await.unwrap();
        ids.extend(page.records.iter().map(|record| record.job_id.to_string()));
        cursor = page.next;
        if cursor.is_none() {
            return ids;
        }
    }
}
