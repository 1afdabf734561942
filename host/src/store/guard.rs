//! The guard around an opened store: a deadline on every call, and its limits checked first.

use std::{future::Future, sync::Arc, time::Duration};

use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, Filter, Health, Page, Record, Stats, Status,
    StoreError, StoreObject, StoreResult, Text, Timestamp, Write, WriteOutcome,
};

/// How much patience the host has with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorePolicy {
    /// The longest that one call may take; afterwards it counts as `unavailable`.
    pub deadline: Duration,
}

impl Default for StorePolicy {
    /// 5 seconds a call.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
        }
    }
}

/// An opened store under the host's guard. Cheap to clone; all clones are one store.
///
/// The methods are those of [`ResultStore`](warren_plugin_api::ResultStore). A call that exceeds
/// the deadline is dropped and gives `unavailable`; it may have been done or not.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    object: StoreObject,
    policy: StorePolicy,
    capabilities: Capabilities,
}

impl Store {
    /// Guards `object`, which was opened as store type `name`.
    ///
    /// # Errors
    /// `internal` when the store cannot say what it can do.
    pub fn new(
        name: impl Into<String>,
        object: StoreObject,
        policy: StorePolicy,
    ) -> StoreResult<Self> {
        let capabilities = object.capabilities()?;
        let name = name.into();
        Ok(Self {
            shared: Arc::new(Shared {
                name,
                object,
                policy,
                capabilities,
            }),
        })
    }

    /// The name of the store's type.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What this store can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    /// See [`ResultStore::put`](warren_plugin_api::ResultStore::put).
    pub async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        self.check_size(&write)?;
        self.within_deadline(self.shared.object.put(write)).await
    }

    /// See [`ResultStore::put_many`](warren_plugin_api::ResultStore::put_many). Records over the
    /// store's limit are answered with `too_large` here and not handed to it.
    pub async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        if writes.iter().all(|write| self.check_size(write).is_ok()) {
            return self
                .within_deadline(self.shared.object.put_many(writes))
                .await;
        }
        let mut answers = Vec::with_capacity(writes.len());
        let mut fitting = Vec::with_capacity(writes.len());
        for write in writes {
            match self.check_size(&write) {
                Ok(()) => {
                    fitting.push(write);
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let mut fitted = self
            .within_deadline(self.shared.object.put_many(fitting))
            .await?
            .into_iter();
        let missing = || Err(StoreError::internal("the store gave too few answers"));
        Ok(answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| fitted.next().unwrap_or_else(missing)))
            .collect())
    }

    /// See [`ResultStore::get`](warren_plugin_api::ResultStore::get).
    pub async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.within_deadline(self.shared.object.get(job_id)).await
    }

    /// See [`ResultStore::get_many`](warren_plugin_api::ResultStore::get_many).
    pub async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        self.within_deadline(self.shared.object.get_many(job_ids))
            .await
    }

    /// See [`ResultStore::status`](warren_plugin_api::ResultStore::status).
    pub async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        self.within_deadline(self.shared.object.status(job_id))
            .await
    }

    /// See [`ResultStore::status_many`](warren_plugin_api::ResultStore::status_many).
    pub async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        self.within_deadline(self.shared.object.status_many(job_ids))
            .await
    }

    /// See [`ResultStore::delete`](warren_plugin_api::ResultStore::delete).
    pub async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        self.within_deadline(self.shared.object.delete(job_id))
            .await
    }

    /// See [`ResultStore::delete_many`](warren_plugin_api::ResultStore::delete_many).
    pub async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        self.within_deadline(self.shared.object.delete_many(job_ids))
            .await
    }

    /// See [`ResultStore::scan`](warren_plugin_api::ResultStore::scan).
    pub async fn scan(
        &self,
        filter: Filter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> StoreResult<Page> {
        self.within_deadline(self.shared.object.scan(filter, cursor, limit))
            .await
    }

    /// See [`ResultStore::cleanup_expired`](warren_plugin_api::ResultStore::cleanup_expired).
    pub async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        self.within_deadline(self.shared.object.cleanup_expired(now, limit))
            .await
    }

    /// See [`ResultStore::health_check`](warren_plugin_api::ResultStore::health_check).
    pub async fn health_check(&self) -> StoreResult<Health> {
        self.within_deadline(self.shared.object.health_check())
            .await
    }

    /// See [`ResultStore::stats`](warren_plugin_api::ResultStore::stats).
    pub async fn stats(&self) -> StoreResult<Stats> {
        self.within_deadline(self.shared.object.stats()).await
    }

    /// See [`ResultStore::subscribe`](warren_plugin_api::ResultStore::subscribe). Runs until it is
    /// dropped or the store loses its connection, so it has no deadline.
    pub async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        self.shared.object.subscribe(sink).await
    }

    /// See [`ResultStore::close`](warren_plugin_api::ResultStore::close).
    pub async fn close(&self) -> StoreResult<()> {
        self.within_deadline(self.shared.object.close()).await
    }

    fn check_size(&self, write: &Write) -> StoreResult<()> {
        let Some(limit) = self.shared.capabilities.max_record_bytes else {
            return Ok(());
        };
        let found = write.record.size_bytes();
        if u64::try_from(found).is_ok_and(|found| found <= limit) {
            return Ok(());
        }
        let name = self.name();
        Err(StoreError::too_large(format!(
            "the record has {found} bytes, store {name:?} takes at most {limit}"
        )))
    }

    async fn within_deadline<T>(
        &self,
        call: impl Future<Output = StoreResult<T>>,
    ) -> StoreResult<T> {
        let deadline = self.shared.policy.deadline;
        tokio::time::timeout(deadline, call)
            .await
            .unwrap_or_else(|_elapsed| {
                let name = self.name();
                Err(StoreError::unavailable(format!(
                    "store {name:?} gave no answer within {deadline:?}"
                )))
            })
    }
}
