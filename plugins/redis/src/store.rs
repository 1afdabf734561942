//! The store's operations.

use std::sync::atomic::AtomicBool;

use tokio::sync::watch;
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, ErrorClass, Filter, Health, HostContext,
    Page, Record, ResultStore, ScanOrder, Stats, Status, StoreError, StoreResult, Text, Timestamp,
    Write, WriteOutcome,
};

use crate::{
    cleanup::remove_expired, config::RedisConfig, connection::Connections, health, keys::Keys,
    read::Reader, scan::Scanner, script::Scripts, subscribe::Listener, warn_once::WarnOnce,
    write::Writer,
};

/// Keeps records on a Redis server, where rabbitmq-arq reads and writes them too.
pub struct RedisStore {
    config: RedisConfig,
    keys: Keys,
    connections: Connections,
    scripts: Scripts,
    host: HostContext,
    unannounced: WarnOnce,
    staging_refused: AtomicBool,
    closed: watch::Sender<bool>,
}

impl ResultStore for RedisStore {
    type Config = RedisConfig;

    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        embedded: false,
        native_expiry: true,
        push: true,
        scan: true,
        scan_order: ScanOrder::NewestFirst,
        stats: true,
        max_record_bytes: None,
    };

    /// A server that is down does not make this fail: it is connected to when it is back.
    async fn open(config: RedisConfig, host: HostContext) -> StoreResult<Self> {
        let address = config.address()?;
        if address.is_insecure() {
            host.warn(format_args!(
                "the TLS certificate of Redis at {address} is not checked: anybody who can \
                 redirect the connection can read and change results"
            ));
        }
        let keys = Keys::new(config.key_prefix.clone(), address.db());
        let scripts = Scripts::new();
        // Most calls are writes, and several are under way before the first is answered.
        let greeting = scripts.put.load().clone();
        let connections = Connections::new(address, &config, greeting, host.clone())?;
        match connections.connect().await {
            Err(error) if error.class() != ErrorClass::Unavailable => return Err(error),
            // Logged by the connection; calls say so until the server is back.
            Ok(()) | Err(_) => {}
        }
        Ok(Self {
            config,
            keys,
            connections,
            scripts,
            host,
            unannounced: WarnOnce::default(),
            staging_refused: AtomicBool::new(false),
            closed: watch::Sender::new(false),
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_record_bytes: Some(self.config.max_record_bytes.get()),
            ..Self::CAPABILITIES
        }
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        only(self.writer().put_many(vec![write]).await)
    }

    async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        self.writer().put_many(writes).await
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.reader().get(&job_id).await
    }

    async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        self.reader().get_many(&job_ids).await
    }

    async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        self.reader().status(job_id).await
    }

    async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        self.reader().status_many(&job_ids).await
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        only(self.writer().delete_many(&[job_id]).await)
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        self.writer().delete_many(&job_ids).await
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.scanner().scan(&filter, cursor.as_ref(), limit).await
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let (connections, limit) = (&self.connections, u64::from(limit));
        remove_expired(connections, &self.keys, &self.scripts, now, limit)
            .await
            .map(|cleaned| cleaned.removed)
    }

    async fn health_check(&self) -> StoreResult<Health> {
        let mut health = health::check(&self.connections).await?;
        if self.unannounced.has_warned() {
            health.warnings.push(format!(
                "the user may not publish on {}: completions are not announced",
                self.keys.channel()
            ));
        }
        Ok(health)
    }

    async fn stats(&self) -> StoreResult<Stats> {
        health::stats(&self.scanner()).await
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        let listener = Listener {
            address: self.connections.address().clone(),
            config: self.config.clone(),
            keys: self.keys.clone(),
            closed: self.closed.subscribe(),
        };
        listener.listen(sink).await
    }

    async fn close(&self) -> StoreResult<()> {
        self.closed.send_replace(true);
        self.connections.close();
        Ok(())
    }
}

impl RedisStore {
    const fn writer(&self) -> Writer<'_> {
        Writer {
            connections: &self.connections,
            keys: &self.keys,
            scripts: &self.scripts,
            host: &self.host,
            max_record_bytes: self.config.max_record_bytes.get(),
            unannounced: &self.unannounced,
            staging_refused: &self.staging_refused,
        }
    }

    const fn reader(&self) -> Reader<'_> {
        Reader {
            connections: &self.connections,
            keys: &self.keys,
        }
    }

    const fn scanner(&self) -> Scanner<'_> {
        Scanner {
            reader: self.reader(),
            scripts: &self.scripts,
            host: &self.host,
        }
    }
}

/// The answer to a batch of one.
fn only<T>(answers: BatchResult<T>) -> StoreResult<T> {
    answers?.pop().unwrap_or_else(|| {
        Err(StoreError::internal(
            "one item was asked for, none answered",
        ))
    })
}
