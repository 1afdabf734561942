//! The store's operations.

use tokio::sync::watch;
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, ErrorClass, Filter, Health, HostContext,
    Page, Record, ResultStore, ScanOrder, Stats, Status, StoreError, StoreResult, Text, Timestamp,
    Write, WriteOutcome,
};

use crate::{
    address::Trust, cleanup::remove_expired, config::PostgresConfig, database::Database, health,
    read::Reader, scan::Scanner, statements::Statements, subscribe, write::Writer,
};

/// Keeps records in a table of a PostgreSQL database.
pub struct PostgresStore {
    config: PostgresConfig,
    database: Database,
    statements: Statements,
    host: HostContext,
    closed: watch::Sender<bool>,
}

impl ResultStore for PostgresStore {
    type Config = PostgresConfig;

    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        push: true,
        scan: true,
        scan_order: ScanOrder::NewestFirst,
        stats: true,
        ..Capabilities::NONE
    };

    /// A server that is down does not make this fail: it is connected to when it is back.
    async fn open(config: PostgresConfig, host: HostContext) -> StoreResult<Self> {
        let (address, names) = config.checked()?;
        if address.trust() == Trust::Insecure {
            host.warn(format_args!(
                "the TLS certificate of PostgreSQL at {address} is not checked: anybody who can \
                 redirect the connection can read and change results"
            ));
        }
        let statements = Statements::new(&names);
        let database = Database::new(&config, address, names)?;
        if let Err(failure) = database.make_ready().await {
            let error = database.store_error(&failure);
            if error.class() != ErrorClass::Unavailable {
                return Err(error);
            }
            host.warn(error.message());
        }
        Ok(Self {
            config,
            database,
            statements,
            host,
            closed: watch::Sender::new(false),
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            push: self.can_listen(),
            max_record_bytes: Some(self.config.max_record_bytes.get()),
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
        only(self.writer().delete_many(&[job_id]).await)
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        self.writer().delete_many(&job_ids).await
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
        remove_expired(&self.database, &self.statements, now, limit.into()).await
    }

    async fn health_check(&self) -> StoreResult<Health> {
        health::check(&self.database).await
    }

    async fn stats(&self) -> StoreResult<Stats> {
        health::stats(&self.database).await
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        if !self.can_listen() {
            return Err(StoreError::unsupported(
                "this store does not announce completions: push is off or transaction_pooling on",
            ));
        }
        let (address, names) = (self.database.address(), &self.database.names);
        let mut closed = self.closed.subscribe();
        subscribe::listen(address, &self.config, names, &mut closed, &sink).await
    }

    async fn close(&self) -> StoreResult<()> {
        self.closed.send_replace(true);
        self.database.close();
        Ok(())
    }
}

impl PostgresStore {
    const fn can_listen(&self) -> bool {
        self.config.push && !self.config.transaction_pooling
    }

    const fn writer(&self) -> Writer<'_> {
        Writer {
            database: &self.database,
            statements: &self.statements,
            max_record_bytes: self.config.max_record_bytes.get(),
            announce: self.config.push,
        }
    }

    const fn reader(&self) -> Reader<'_> {
        Reader {
            database: &self.database,
            statements: &self.statements,
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
