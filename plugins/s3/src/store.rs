//! The store's operations.

use std::sync::Arc;

use warren_plugin_api::{
    BatchResult, Capabilities, Cursor, ErrorClass, Filter, Health, HostContext, Page, Record,
    ResultStore, ScanOrder, Stats, Status, StoreError, StoreResult, Text, Timestamp, Write,
    WriteOutcome,
};

use crate::{
    cleanup::remove_expired,
    config::S3Config,
    keys, remove,
    shared::{Shared, SharedStore},
    write,
};

/// Keeps records as objects in a bucket.
pub struct S3Store {
    shared: SharedStore,
}

impl ResultStore for S3Store {
    type Config = S3Config;

    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        scan: true,
        scan_order: ScanOrder::NewestFirst,
        stats: true,
        ..Capabilities::NONE
    };

    /// A service that is down does not make this fail: it is asked later, before the first write.
    async fn open(config: S3Config, host: HostContext) -> StoreResult<Self> {
        let shared = Shared::new(config, host)?;
        if shared.config.single_writer {
            shared.host.warn(format_args!(
                "single_writer is on for S3 at {}: no other process may write there",
                shared.address
            ));
        }
        if let Err(error) = shared.make_ready().await {
            if error.class() != ErrorClass::Unavailable {
                return Err(error);
            }
            shared.host.warn(error.message());
        }
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_record_bytes: Some(self.shared.config.max_record_bytes.get()),
            ..Self::CAPABILITIES
        }
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        write::put(Arc::clone(&self.shared), write).await
    }

    async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        write::put_many(&self.shared, writes).await
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.shared.get(keys::job(&job_id)).await
    }

    async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        self.shared.get_many(&job_ids).await
    }

    async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        self.shared.status(keys::job(&job_id)).await
    }

    async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        self.shared.status_many(&job_ids).await
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        let deleted = remove::delete_many(&self.shared, &[job_id]).await?.pop();
        deleted.unwrap_or_else(|| {
            Err(StoreError::internal(
                "one item was asked for, none answered",
            ))
        })
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        remove::delete_many(&self.shared, &job_ids).await
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.shared.scan(&filter, cursor.as_ref(), limit).await
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        remove_expired(&self.shared, now, limit).await
    }

    async fn health_check(&self) -> StoreResult<Health> {
        self.shared.health().await
    }

    async fn stats(&self) -> StoreResult<Stats> {
        self.shared.stats().await
    }
}
