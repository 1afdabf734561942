//! A store with tables of its own, and what tests need to look behind it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{sync::OnceCell, task::JoinHandle};
use tokio_postgres::{Client, NoTls};
use warren_plugin_api::{
    CompletionSink, ErrorClass, HostContext, Record, ResultStore, Status, StoreError, StoreResult,
    Timestamp,
};
use warren_store_postgres::PostgresStore;

use crate::server::PrivateServer;

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The server that all tests share.
pub(crate) fn shared_url() -> String {
    std::env::var("WARREN_TEST_POSTGRES_URL").unwrap_or_else(|_| PrivateServer::shared().url())
}

/// Opens a store; what it logs goes to the test's output.
pub(crate) async fn open(config: Value) -> StoreResult<PostgresStore> {
    let config = serde_json::from_value(config)
        .map_err(|error| StoreError::invalid_config(error.to_string()))?;
    let host = HostContext::new(|level, _, message| println!("{level:?}: {message}"));
    PostgresStore::open(config, host).await
}

/// A plain connection.
pub(crate) async fn connect(url: &str) -> Client {
    let connected = tokio_postgres::connect(url, NoTls).await;
    let (client, connection) = connected.unwrap_or_else(|error| {
        panic!(
            "no PostgreSQL at {url} ({error}): set WARREN_TEST_POSTGRES_URL to one that runs, or \
             leave it out"
        )
    });
    tokio::spawn(connection);
    client
}

/// A store on the shared server in a schema that nobody else has, which goes with `finish`.
pub(crate) struct TestStore {
    pub(crate) store: Arc<PostgresStore>,
    pub(crate) plain: Client,
    pub(crate) schema: String,
}

impl TestStore {
    pub(crate) async fn open() -> Self {
        Self::open_with(json!({})).await
    }

    pub(crate) async fn open_with(mut config: Value) -> Self {
        let schema = unique("warren-test");
        config["postgres_url"] = shared_url().into();
        config["schema"] = schema.clone().into();
        let plain = connect(&shared_url()).await;
        let store = open(config).await.unwrap();
        Self {
            store: Arc::new(store),
            plain,
            schema,
        }
    }

    /// Another store with the same records, as another process would have.
    pub(crate) async fn open_again(&self) -> PostgresStore {
        open(json!({"postgres_url": shared_url(), "schema": self.schema}))
            .await
            .unwrap()
    }

    /// The table, quoted.
    pub(crate) fn table(&self) -> String {
        format!("\"{}\".warren_results", self.schema)
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.plain.batch_execute(sql).await.unwrap();
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        let sql = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.schema);
        drop_in_background(shared_url(), sql);
    }
}

/// Tests end with their runtime, so what they leave is removed by one of its own.
pub(crate) fn drop_in_background(url: String, sql: String) {
    let removed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let client = connect(&url).await;
            client.batch_execute(&sql).await.unwrap();
        });
    })
    .join();
    if !std::thread::panicking() {
        removed.unwrap();
    }
}

/// A name that no other test has, in this run or another.
pub(crate) fn unique(kind: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
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
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn class<T>(result: &StoreResult<T>) -> Option<ErrorClass> {
    result.as_ref().err().map(StoreError::class)
}

/// What a store announced.
pub(crate) type Announced = Arc<Mutex<Vec<(String, Status)>>>;

/// Subscribes, and waits until announcements flow.
pub(crate) async fn subscribe(
    store: &Arc<PostgresStore>,
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
