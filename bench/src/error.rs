//! Why there are no figures.

use std::{path::PathBuf, time::Duration};

use warren::{
    broker::{BrokerError, InvalidQueueName},
    client::{EnqueueError, RunError, WaitError},
    function::RegisterFunctionError,
    store::OpenError,
    worker::WorkerError,
};
use warren_plugin_api::{StoreError, loader::LoadError};

/// Why a measurement ended without figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(
        "RabbitMQ does not answer at {address}: {reason}; start one (apt-get install \
         rabbitmq-server) or name another in WARREN_TEST_AMQP_URL"
    )]
    NoBroker { address: String, reason: String },
    #[error(
        "Redis does not answer at {address}: {reason}; start one (apt-get install redis-server) \
         or name another in WARREN_TEST_REDIS_URL"
    )]
    NoRedis { address: String, reason: String },
    #[error("{name} does not start; the reason is above")]
    NoTestServer { name: &'static str },
    #[error(
        "{store} has no part in `cost`: so many records take too long there; choose among {others}"
    )]
    NotInCost { store: &'static str, others: String },
    #[error("the plugin {file} is missing; build it: cargo build --release --workspace")]
    NoPlugin { file: PathBuf },
    #[error("the plugins do not build: {reason}")]
    Build { reason: String },
    #[error("interrupted; what was made on the servers has been deleted")]
    Interrupted,
    /// The work was not done, so that its time means nothing.
    #[error("{what}: expected {expected}, found {found}; no figures")]
    WorkNotDone {
        what: &'static str,
        expected: String,
        found: String,
    },
    #[error("{file}: cannot be written: {error}")]
    Write {
        file: PathBuf,
        error: std::io::Error,
    },
    #[error("this process cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("{file}: cannot be drawn: {reason}")]
    Plot { file: PathBuf, reason: String },
    #[error("a process that is measured: {0}")]
    Process(std::io::Error),
    #[error("the peers cannot be made ready: {reason}")]
    Peers { reason: String },
    #[error("valgrind has counted nothing: {reason}; it is needed: apt-get install valgrind")]
    Valgrind { reason: String },
    #[error("{failures} of the measurements gave no figures; see above")]
    Incomplete { failures: usize },
    #[error("{part} has no end after {limit:?}, which is too long; its figures are left out")]
    TooLong { part: String, limit: Duration },
    #[error("a thread that measured has panicked")]
    Panicked,
    #[error("lapin: {0}")]
    Lapin(#[from] lapin::Error),
    #[error("rusqlite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] tokio_postgres::Error),
    #[error("MongoDB: {0}")]
    Mongodb(#[from] mongodb::error::Error),
    #[error("BSON: {0}")]
    Bson(#[from] mongodb::bson::error::Error),
    #[error("object_store: {0}")]
    ObjectStore(#[from] object_store::Error),
    #[error("reqwest: {0}")]
    Http(#[from] reqwest::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("MessagePack: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    #[error("MessagePack: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("no folder for temporary files: {0}")]
    Folder(std::io::Error),
    #[error("redis-rs: {0}")]
    Redis(#[from] redis::RedisError),
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Queue(#[from] InvalidQueueName),
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
    #[error(transparent)]
    Wait(#[from] WaitError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Function(#[from] RegisterFunctionError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Fails unless `found` is `expected`.
pub(crate) fn ensure<T: PartialEq + std::fmt::Debug>(
    what: &'static str,
    found: T,
    expected: T,
) -> Result<(), BenchError> {
    if found == expected {
        return Ok(());
    }
    Err(BenchError::WorkNotDone {
        what,
        expected: format!("{expected:?}"),
        found: format!("{found:?}"),
    })
}
