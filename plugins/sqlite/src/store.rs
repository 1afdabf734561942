//! The store's operations.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, stream::FuturesOrdered};
use rusqlite::Connection;
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, Filter, Health, HostContext, Page, Record,
    ResultStore, ScanOrder, Stats, Status, StoreError, StoreResult, Text, Timestamp, Write,
    WriteOutcome,
};

use crate::{
    config::{Settings, SqliteConfig},
    cursor::Place,
    health,
    reader::{self, Reader},
    scan,
    subscribe::{self, Bell},
    threads::{Threads, closed},
    write::{Change, Done},
    writer::{Writer, mixed_up},
};

/// Ids that are not worth another connection.
const LEAST_PART: usize = 64;

type ReadMany<T> = fn(&Connection, &Settings, &[Text]) -> rusqlite::Result<Vec<StoreResult<T>>>;

/// Expired records that one transaction removes, while other writes wait.
const REMOVED_AT_ONCE: u32 = 500;

/// Keeps records in an SQLite file that several processes share.
pub struct SqliteStore {
    settings: Arc<Settings>,
    /// None once the store is closed.
    open: Mutex<Option<Open>>,
    threads: Threads,
    bell: Arc<Bell>,
    host: HostContext,
}

#[derive(Clone)]
struct Open {
    writer: Writer,
    reader: Reader,
}

impl ResultStore for SqliteStore {
    type Config = SqliteConfig;

    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        embedded: true,
        native_expiry: false,
        push: true,
        scan: true,
        scan_order: ScanOrder::NewestFirst,
        stats: true,
        max_record_bytes: None,
    };

    async fn open(config: SqliteConfig, host: HostContext) -> StoreResult<Self> {
        let settings = Arc::new(config.settings()?);
        let threads = Threads::new();
        let bell = Arc::new(Bell::default());
        let writer = Writer::start(
            Arc::clone(&settings),
            host.clone(),
            &threads,
            Arc::clone(&bell),
        )
        .await?;
        let reader = Reader::start(&settings, &host, &threads)?;
        Ok(Self {
            settings,
            open: Mutex::new(Some(Open { writer, reader })),
            threads,
            bell,
            host,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_record_bytes: Some(self.settings.max_record_bytes),
            ..Self::CAPABILITIES
        }
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        only(self.put_many(vec![write]).await?)
    }

    async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let changes = writes.into_iter().map(Change::Put).collect();
        self.make(changes, |done| match done {
            Done::Put(outcome) => Some(outcome),
            _ => None,
        })
        .await
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        only(self.get_many(vec![job_id]).await?)
    }

    async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        self.read_in_parts(job_ids, reader::get_many).await
    }

    async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        only(self.status_many(vec![job_id]).await?)
    }

    async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        self.read_in_parts(job_ids, reader::status_many).await
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        only(self.delete_many(vec![job_id]).await?)
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        let changes = job_ids.into_iter().map(Change::Delete).collect();
        self.make(changes, |done| match done {
            Done::Deleted(deleted) => Some(deleted),
            _ => None,
        })
        .await
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        let after = cursor.as_ref().map(Place::from_cursor).transpose()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let reader = self.open()?.reader;
        reader
            .run(move |connection, _| scan::page(connection, &filter, after, limit))
            .await
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let mut total = 0;
        loop {
            let limit = limit
                .saturating_sub(u32::try_from(total).unwrap_or(u32::MAX))
                .min(REMOVED_AT_ONCE);
            if limit == 0 {
                return Ok(total);
            }
            let changes = vec![Change::RemoveExpired { by: now, limit }];
            let removed = only(
                self.make(changes, |done| match done {
                    Done::Removed(removed) => Some(removed),
                    _ => None,
                })
                .await?,
            )?;
            total += removed;
            if removed < u64::from(limit) {
                break;
            }
        }
        if total > 0 {
            self.make_nothing(Change::Shrink).await?;
        }
        Ok(total)
    }

    async fn health_check(&self) -> StoreResult<Health> {
        self.make_nothing(Change::Probe).await?;
        self.open()?.reader.run(health::health).await
    }

    async fn stats(&self) -> StoreResult<Stats> {
        self.open()?.reader.run(health::stats).await
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        drop(self.open()?);
        let (settings, host) = (Arc::clone(&self.settings), self.host.clone());
        subscribe::listen(settings, host, &self.threads, &self.bell, &sink).await
    }

    /// Waits for what was begun. The last one to leave the file brings its log into it.
    async fn close(&self) -> StoreResult<()> {
        self.leave();
        self.threads.ended().await;
        Ok(())
    }
}

impl SqliteStore {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self) {
        drop(self.lock().take());
        self.bell.close();
    }

    fn open(&self) -> StoreResult<Open> {
        self.lock().clone().ok_or_else(closed)
    }

    /// Has the changes made; `answer` is what a change of this kind is answered with.
    async fn make<T>(
        &self,
        changes: Vec<Change>,
        answer: impl Fn(Done) -> Option<T>,
    ) -> BatchResult<T> {
        let writer = self.open()?.writer;
        let done = writer.make(changes).await?;
        Ok(done
            .into_iter()
            .map(|done| answer(done?).ok_or_else(mixed_up))
            .collect())
    }

    /// Reads a large batch over several connections at once.
    async fn read_in_parts<T: Send + 'static>(
        &self,
        mut job_ids: Vec<Text>,
        read: ReadMany<T>,
    ) -> BatchResult<T> {
        let reader = self.open()?.reader;
        let parts = usize::from(self.settings.read_connections);
        let size = job_ids.len().div_ceil(parts).max(LEAST_PART);
        let mut reading = FuturesOrdered::new();
        while !job_ids.is_empty() {
            let rest = job_ids.split_off(size.min(job_ids.len()));
            let part = std::mem::replace(&mut job_ids, rest);
            reading.push_back(
                reader.run(move |connection, settings| read(connection, settings, &part)),
            );
        }
        let mut answers = Vec::new();
        while let Some(part) = reading.next().await {
            answers.append(&mut part?);
        }
        Ok(answers)
    }

    async fn make_nothing(&self, change: Change) -> StoreResult<()> {
        only(self.make(vec![change], |_| Some(())).await?)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The answer to a batch of one.
fn only<T>(mut answers: Vec<StoreResult<T>>) -> StoreResult<T> {
    answers.pop().unwrap_or_else(|| {
        Err(StoreError::internal(
            "one item was asked for, none answered",
        ))
    })
}
