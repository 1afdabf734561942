//! The guard around an opened store: a deadline on every call, and its limits checked first.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::Value;
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, Filter, Health, Page, Record, Stats, Status,
    StoreError, StoreObject, StoreResult, Text, Timestamp, Write, WriteOutcome,
};

use super::{OpenError, StoreType, late_opening::LateOpening};

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
    opening: Opening,
    policy: StorePolicy,
    capabilities: OnceLock<Capabilities>,
}

#[derive(Debug)]
enum Opening {
    Done(StoreObject),
    Late(Arc<LateOpening>),
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
        Ok(Self::from_opening(
            name.into(),
            Opening::Done(object),
            policy,
            capabilities.into(),
        ))
    }

    /// Opens a store of `store_type`. One whose backend is away ([`OpenError::may_pass`]) is
    /// opened later, by a call that finds it there; until then every call gives `unavailable`.
    ///
    /// # Errors
    /// See [`OpenError`]: what an operator must change.
    pub async fn open_now_or_later(
        store_type: StoreType,
        config: Value,
        policy: StorePolicy,
    ) -> Result<Self, OpenError> {
        let name = store_type.manifest.name.clone();
        let error = match store_type.open(&config).await {
            Ok(object) => {
                return Self::new(name.as_str(), object, policy)
                    .map_err(|error| OpenError::Constructor { name, error });
            }
            Err(error) if error.may_pass() => error,
            Err(error) => return Err(error),
        };
        tracing::warn!(store = name, %error, "the result store is not open yet; jobs go on, and it is tried again");
        let error = StoreError::unavailable(error.to_string());
        let late = LateOpening::new(store_type, config, error);
        Ok(Self::from_opening(
            name,
            Opening::Late(Arc::new(late)),
            policy,
            OnceLock::new(),
        ))
    }

    fn from_opening(
        name: String,
        opening: Opening,
        policy: StorePolicy,
        capabilities: OnceLock<Capabilities>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                name,
                opening,
                policy,
                capabilities,
            }),
        }
    }

    /// The name of the store's type.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What this store can do; while it is not open, the most that its type can do.
    pub fn capabilities(&self) -> &Capabilities {
        let Opening::Late(late) = &self.shared.opening else {
            return self.opened_capabilities(None);
        };
        match late.opened() {
            Some(object) => self.opened_capabilities(Some(object)),
            None => late.store_type().capabilities(),
        }
    }

    fn opened_capabilities(&self, object: Option<&StoreObject>) -> &Capabilities {
        self.shared.capabilities.get_or_init(|| {
            object
                .and_then(|object| object.capabilities().ok())
                .unwrap_or_default()
        })
    }

    /// See [`ResultStore::put`](warren_plugin_api::ResultStore::put).
    pub async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        self.check_size(&write)?;
        self.call(async |store| store.put(write).await).await
    }

    /// See [`ResultStore::put_many`](warren_plugin_api::ResultStore::put_many). Records over the
    /// store's limit are answered with `too_large` here and not handed to it.
    pub async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        if writes.iter().all(|write| self.check_size(write).is_ok()) {
            return self.call(async |store| store.put_many(writes).await).await;
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
            .call(async |store| store.put_many(fitting).await)
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
        self.call(async |store| store.get(job_id).await).await
    }

    /// See [`ResultStore::get_many`](warren_plugin_api::ResultStore::get_many).
    pub async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        self.call(async |store| store.get_many(job_ids).await).await
    }

    /// See [`ResultStore::status`](warren_plugin_api::ResultStore::status).
    pub async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        self.call(async |store| store.status(job_id).await).await
    }

    /// See [`ResultStore::status_many`](warren_plugin_api::ResultStore::status_many).
    pub async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        self.call(async |store| store.status_many(job_ids).await)
            .await
    }

    /// See [`ResultStore::delete`](warren_plugin_api::ResultStore::delete).
    pub async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        self.call(async |store| store.delete(job_id).await).await
    }

    /// See [`ResultStore::delete_many`](warren_plugin_api::ResultStore::delete_many).
    pub async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        self.call(async |store| store.delete_many(job_ids).await)
            .await
    }

    /// See [`ResultStore::scan`](warren_plugin_api::ResultStore::scan).
    pub async fn scan(
        &self,
        filter: Filter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> StoreResult<Page> {
        self.call(async |store| store.scan(filter, cursor, limit).await)
            .await
    }

    /// See [`ResultStore::cleanup_expired`](warren_plugin_api::ResultStore::cleanup_expired).
    pub async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        self.call(async |store| store.cleanup_expired(now, limit).await)
            .await
    }

    /// See [`ResultStore::health_check`](warren_plugin_api::ResultStore::health_check).
    pub async fn health_check(&self) -> StoreResult<Health> {
        self.call(async |store| store.health_check().await).await
    }

    /// See [`ResultStore::stats`](warren_plugin_api::ResultStore::stats).
    pub async fn stats(&self) -> StoreResult<Stats> {
        self.call(async |store| store.stats().await).await
    }

    /// See [`ResultStore::subscribe`](warren_plugin_api::ResultStore::subscribe). Runs until it is
    /// dropped or the store loses its connection, so it has no deadline.
    pub async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        self.object().await?.subscribe(sink).await
    }

    /// See [`ResultStore::close`](warren_plugin_api::ResultStore::close).
    pub async fn close(&self) -> StoreResult<()> {
        self.call(async |store| store.close().await).await
    }

    fn check_size(&self, write: &Write) -> StoreResult<()> {
        let Some(limit) = self.capabilities().max_record_bytes else {
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

    async fn object(&self) -> StoreResult<&StoreObject> {
        match &self.shared.opening {
            Opening::Done(object) => Ok(object),
            Opening::Late(late) => late.object().await,
        }
    }

    /// Calls the store under the deadline.
    async fn call<T>(
        &self,
        call: impl AsyncFnOnce(&StoreObject) -> StoreResult<T>,
    ) -> StoreResult<T> {
        let deadline = self.shared.policy.deadline;
        tokio::time::timeout(deadline, async { call(self.object().await?).await })
            .await
            .unwrap_or_else(|_elapsed| {
                let name = self.name();
                Err(StoreError::unavailable(format!(
                    "store {name:?} gave no answer within {deadline:?}"
                )))
            })
    }
}
