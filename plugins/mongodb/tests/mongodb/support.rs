//! A store with a database of its own, and what tests need to look behind it.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use mongodb::{
    Client, Collection,
    bson::{Document, RawDocumentBuf},
};
use serde_json::{Value, json};
use tokio::{sync::OnceCell, task::JoinHandle};
use warren_plugin_api::{
    CompletionSink, ErrorClass, HostContext, Record, ResultStore, Status, StoreError, StoreResult,
    Timestamp,
};
use warren_store_mongodb::MongodbStore;

use crate::secantus::Secantus;

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The server of all tests that need no other.
pub(crate) fn shared() -> &'static Secantus {
    static SHARED: OnceLock<Secantus> = OnceLock::new();
    SHARED.get_or_init(|| Secantus::start(&[]))
}

/// Opens a store; what it logs goes to the test's output.
pub(crate) async fn open(config: Value) -> StoreResult<MongodbStore> {
    let config = serde_json::from_value(config)
        .map_err(|error| StoreError::invalid_config(error.to_string()))?;
    let host = HostContext::new(|level, _, message| println!("{level:?}: {message}"));
    MongodbStore::open(config, host).await
}

/// A store on the shared server in a database that nobody else has.
pub(crate) struct TestStore {
    pub(crate) store: Arc<MongodbStore>,
    pub(crate) documents: Collection<Document>,
    pub(crate) raw: Collection<RawDocumentBuf>,
    pub(crate) config: Value,
}

impl TestStore {
    pub(crate) async fn open() -> Self {
        Self::open_with(json!({})).await
    }

    pub(crate) async fn open_with(config: Value) -> Self {
        Self::open_at(shared().url(), config).await
    }

    /// With the store's connections to `url`, which leads to the shared server.
    pub(crate) async fn open_at(url: String, mut config: Value) -> Self {
        let database = unique("warren-test");
        config["mongodb_url"] = url.into();
        config["database"] = database.clone().into();
        if config.get("operation_timeout").is_none() {
            // SecantusDB is slow, and slower on a busy machine.
            config["operation_timeout"] = "2m".into();
        }
        let store = open(config.clone()).await.unwrap();
        let plain = Client::with_uri_str(shared().url()).await.unwrap();
        let database = plain.database(&database);
        Self {
            store: Arc::new(store),
            documents: database.collection("warren_results"),
            raw: database.collection("warren_results"),
            config,
        }
    }

    /// Another store with the same records, as another process would have.
    pub(crate) async fn open_again(&self) -> MongodbStore {
        open(self.config.clone()).await.unwrap()
    }
}

/// A name that no other test has, in this run or another.
pub(crate) fn unique(kind: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = Timestamp::now().unix_us();
    format!("{kind}-{}-{now}-{number}", std::process::id())
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
        worker: "worker-1".into(),
        enqueued_at: Some(now),
        updated_at: Some(now),
        expires_at: Some(now.saturating_add(Duration::from_secs(3_600))),
        args: "[1]".into(),
        kwargs: "{}".into(),
        ..Record::default()
    }
}

/// Asks until the answer is `Some`.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn class<T>(result: &StoreResult<T>) -> Option<ErrorClass> {
    result.as_ref().err().map(StoreError::class)
}

/// What a store announced.
pub(crate) type Announced = Arc<Mutex<Vec<(String, Status)>>>;

/// Subscribes, and waits until announcements flow.
pub(crate) async fn subscribe(
    store: &Arc<MongodbStore>,
) -> (Announced, JoinHandle<StoreResult<()>>) {
    let announced = Announced::default();
    let ready = Arc::new(OnceCell::new());
    let sink = CompletionSink::new(
        {
            let ready = Arc::clone(&ready);
            move || drop(ready.set(()))
        },
        {
            let announced = Arc::clone(&announced);
            move |completion| {
                let ended = (completion.job_id.as_str().to_owned(), completion.status);
                announced.lock().unwrap().push(ended);
            }
        },
    );
    let store = Arc::clone(store);
    let task = tokio::spawn(async move { store.subscribe(sink).await });
    eventually("announcements flow", async || {
        assert!(!task.is_finished(), "the subscription ended");
        ready.initialized().then_some(())
    })
    .await;
    (announced, task)
}
