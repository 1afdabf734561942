//! The store's operations.

use tokio::sync::watch;
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, Filter, Health, HostContext, Page, Record,
    ResultStore, ScanOrder, Stats, Status, StoreError, StoreResult, Text, Timestamp, Write,
    WriteOutcome,
};

use crate::{
    address::Trust, cleanup::remove_expired, config::MongodbConfig, database::Database, delete,
    error::Failure, health, indexes, read::Reader, scan::Scanner, subscribe, write::Writer,
};

/// Keeps records in a collection of a MongoDB database.
pub struct MongodbStore {
    database: Database,
    max_record_bytes: u64,
    can_push: bool,
    host: HostContext,
    closed: watch::Sender<bool>,
}

impl ResultStore for MongodbStore {
    type Config = MongodbConfig;

    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        native_expiry: true,
        push: true,
        scan: true,
        scan_order: ScanOrder::NewestFirst,
        stats: true,
        ..Capabilities::NONE
    };

    /// Fails while the server is away: only it knows whether ended jobs can be announced.
    async fn open(config: MongodbConfig, host: HostContext) -> StoreResult<Self> {
        let address = config.checked()?;
        if address.trust() == Trust::Insecure {
            host.warn(format_args!(
                "the TLS certificate of MongoDB at {address} is not checked: anybody who can \
                 redirect the connection can read and change results"
            ));
        }
        let database = Database::new(&config, address.clone())
            .await
            .map_err(|failure| failure.to_store_error(&address))?;
        let can_push = prepare(&database, &config, &host)
            .await
            .map_err(|failure| database.store_error(&failure))?;
        Ok(Self {
            database,
            max_record_bytes: config.max_record_bytes.get(),
            can_push,
            host,
            closed: watch::Sender::new(false),
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            push: self.can_push,
            max_record_bytes: Some(self.max_record_bytes),
            ..Self::CAPABILITIES
        }
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        only(self.writer().put_many(&[write]).await)
    }

    async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        self.writer().put_many(&writes).await
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        only(self.reader().get_many(&[job_id]).await)
    }

    async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        self.reader().get_many(&job_ids).await
    }

    async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        only(self.reader().status_many(&[job_id]).await)
    }

    async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        self.reader().status_many(&job_ids).await
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        delete::delete(&self.database, &job_id).await
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        delete::delete_many(&self.database, &job_ids).await
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let scanner = Scanner {
            database: &self.database,
            host: &self.host,
        };
        scanner.scan(&filter, cursor.as_ref(), limit).await
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        remove_expired(&self.database, now, limit.into()).await
    }

    async fn health_check(&self) -> StoreResult<Health> {
        health::check(&self.database).await
    }

    async fn stats(&self) -> StoreResult<Stats> {
        health::stats(&self.database).await
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        if !self.can_push {
            return Err(StoreError::unsupported(
                "this store does not announce completions: push is off, or the server is no \
                 member of a replica set",
            ));
        }
        let mut closed = self.closed.subscribe();
        subscribe::listen(&self.database, &mut closed, &sink).await
    }

    async fn close(&self) -> StoreResult<()> {
        self.closed.send_replace(true);
        self.database.close().await;
        Ok(())
    }
}

/// Looks who answers, makes the indexes, and finds out whether changes can be watched.
async fn prepare(
    database: &Database,
    config: &MongodbConfig,
    host: &HostContext,
) -> Result<bool, Failure> {
    let hello = health::hello(database).await?;
    indexes::ensure(database).await?;
    if !config.push {
        return Ok(false);
    }
    subscribe::is_possible(database, &hello, host).await
}

impl MongodbStore {
    const fn writer(&self) -> Writer<'_> {
        Writer {
            database: &self.database,
            max_record_bytes: self.max_record_bytes,
        }
    }

    const fn reader(&self) -> Reader<'_> {
        Reader {
            database: &self.database,
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
