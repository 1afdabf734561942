//! A store with keys of its own, and what tests need to look behind it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use redis::Client;
use serde_json::{Value, json};
use warren_plugin_api::{
    ErrorClass, HostContext, Record, ResultStore, Status, StoreError, StoreResult, Timestamp,
};
use warren_store_redis::RedisStore;

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The server that all tests share.
pub(crate) fn shared_url() -> String {
    std::env::var("WARREN_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379/0".into())
}

/// Opens a store; what it logs goes to the test's output.
pub(crate) async fn open(config: Value) -> StoreResult<RedisStore> {
    let config = serde_json::from_value(config)
        .map_err(|error| StoreError::invalid_config(error.to_string()))?;
    let host = HostContext::new(|level, _, message| println!("{level:?}: {message}"));
    RedisStore::open(config, host).await
}

/// A store on the shared server under a prefix that nobody else has; its keys go with it.
pub(crate) struct TestStore {
    pub(crate) store: RedisStore,
    pub(crate) url: String,
    pub(crate) prefix: String,
}

impl TestStore {
    pub(crate) async fn open() -> Self {
        Self::open_at(&shared_url()).await
    }

    pub(crate) async fn open_at(url: &str) -> Self {
        let prefix = unique("warren-test");
        let store = open(json!({"redis_url": url, "key_prefix": prefix, "connections": 1}))
            .await
            .unwrap();
        let health = store.health_check().await;
        assert!(
            health.is_ok(),
            "the tests need a Redis server at {url} (`apt-get install redis-server`): {health:?}"
        );
        Self {
            store,
            url: url.into(),
            prefix,
        }
    }

    /// Another store with the same records, as another process would have.
    pub(crate) async fn open_again(&self) -> RedisStore {
        open(json!({"redis_url": self.url, "key_prefix": self.prefix}))
            .await
            .unwrap()
    }

    /// A key of this store's.
    pub(crate) fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.prefix)
    }

    /// A plain connection to the server.
    pub(crate) fn plain(&self) -> redis::Connection {
        Client::open(self.url.as_str())
            .unwrap()
            .get_connection()
            .unwrap()
    }

    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &mut redis::Cmd) -> T {
        command.query(&mut self.plain()).unwrap()
    }

    /// Every key of this store's that is there.
    pub(crate) fn keys_left(&self) -> Vec<String> {
        let pattern = format!("{}:*", self.prefix);
        let mut keys: Vec<String> = self.ask(redis::cmd("KEYS").arg(pattern));
        keys.sort();
        keys
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        let Ok(mut connection) =
            Client::open(self.url.as_str()).and_then(|client| client.get_connection())
        else {
            return;
        };
        let pattern = format!("{}:*", self.prefix);
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(pattern)
            .query(&mut connection)
            .unwrap_or_default();
        for keys in keys.chunks(1_000) {
            let _ = redis::cmd("UNLINK").arg(keys).exec(&mut connection);
        }
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
