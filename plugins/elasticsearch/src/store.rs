//! The store's operations.

use warren_plugin_api::{
    BatchResult, Capabilities, Cursor, ErrorClass, Filter, Health, HostContext, Page, Record,
    ResultStore, ScanOrder, Stats, Status, StoreError, StoreResult, Text, Timestamp, Write,
    WriteOutcome,
};

use crate::{
    cleanup::remove_expired, client::Client, config::ElasticsearchConfig, health, index::Index,
    read::Reader, scan::Scanner, stats, write::Writer,
};

/// Keeps records in an index of an Elasticsearch or OpenSearch cluster.
pub struct ElasticsearchStore {
    config: ElasticsearchConfig,
    index: Index,
    host: HostContext,
}

impl ResultStore for ElasticsearchStore {
    type Config = ElasticsearchConfig;

    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        scan: true,
        scan_order: ScanOrder::NewestFirst,
        stats: true,
        ..Capabilities::NONE
    };

    /// A cluster that is down does not make this fail: it is connected to when it is back.
    async fn open(config: ElasticsearchConfig, host: HostContext) -> StoreResult<Self> {
        let address = config.checked()?;
        let index = Index::new(&config, Client::new(&config, address)?);
        if let Err(failure) = index.make_ready().await {
            let error = index.store_error(&failure);
            if error.class() != ErrorClass::Unavailable {
                return Err(error);
            }
            host.warn(error.message());
        }
        Ok(Self {
            config,
            index,
            host,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
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
            index: &self.index,
            refresh: self.config.refresh,
            host: &self.host,
        };
        scanner.scan(&filter, cursor.as_ref(), limit).await
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        remove_expired(&self.index, self.config.refresh, now, limit.into()).await
    }

    async fn health_check(&self) -> StoreResult<Health> {
        health::check(&self.index).await
    }

    async fn stats(&self) -> StoreResult<Stats> {
        stats::stats(&self.index, self.config.refresh).await
    }
}

impl ElasticsearchStore {
    const fn writer(&self) -> Writer<'_> {
        Writer {
            index: &self.index,
            config: &self.config,
        }
    }

    const fn reader(&self) -> Reader<'_> {
        Reader { index: &self.index }
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
