//! Stores made of other stores, when their members fail, lose records, or are written to by others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

mod configuration;
mod failover;
mod fanout;
mod switchable;
mod tiered;

use std::{fmt::Debug, time::Duration};

use serde_json::{Value, json};
use warren::store::{OpenError, StoreRegistry, StoreType};
use warren_plugin_api::{ErrorClass, Record, Status, StoreObject, StoreResult, Timestamp, Write};

use switchable::{Backend, Switchable};

/// The combinators, and one store that can be switched off.
fn registry() -> StoreRegistry {
    let registry = StoreRegistry::with_combinators();
    let switchable = StoreType::from_program::<Switchable>("switchable");
    registry.register(switchable).unwrap();
    registry
}

async fn try_open(name: &str, config: Value) -> Result<StoreObject, OpenError> {
    registry().open(name, &config, &[]).await
}

async fn open(name: &str, config: Value) -> StoreObject {
    try_open(name, config).await.unwrap()
}

/// A member on this backend.
fn member(backend: &Backend) -> Value {
    json!({
        "type": "switchable",
        "deadline": "300ms",
        "config": { "name": backend.name },
    })
}

fn record(job_id: &str, status: Status, attempt: u32) -> Record {
    Record {
        job_id: job_id.into(),
        status,
        attempt,
        queue: "q".into(),
        result: format!("{job_id} {status} {attempt}").into(),
        expires_at: Some(Timestamp::now().saturating_add(Duration::from_secs(3_600))),
        ..Record::default()
    }
}

fn completed(job_id: &str) -> Record {
    record(job_id, Status::Completed, 1)
}

fn queued(job_id: &str) -> Record {
    record(job_id, Status::Queued, 1)
}

async fn put(store: &StoreObject, record: &Record) -> StoreResult<warren_plugin_api::WriteOutcome> {
    store.put(Write::from(record.clone())).await
}

async fn written(store: &StoreObject, record: &Record) {
    let outcome = put(store, record).await;
    assert_eq!(outcome, Ok(warren_plugin_api::WriteOutcome::Written));
}

#[track_caller]
fn assert_unavailable<T: Debug>(answer: StoreResult<T>, said: &[&str]) {
    let error = answer.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    for said in said {
        assert!(error.message().contains(said), "{said:?} is not in {error}");
    }
}

/// Asks again until it is so.
async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let asked = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let so = tokio::time::timeout(PATIENCE, asked).await;
    assert!(so.is_ok(), "{what}: not within {PATIENCE:?}");
}
