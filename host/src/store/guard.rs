//! The guard around an opened store: its limits checked first, a deadline on every call, and no
//! more calls at once than a store that hangs may hold.

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, ErrorClass, Filter, Health, Page, Record,
    Stats, Status, StoreError, StoreObject, StoreResult, Text, Timestamp, Write, WriteOutcome,
};

use super::{
    OpenError, StoreType,
    breaker::Breaker,
    calls::{Calls, Operation},
    late_opening::LateOpening,
    open::{OPEN_DEADLINE, Opened},
    report::{MemberHandle, StoreReport},
    size_limit::SizeLimit,
};

/// How much patience the host has with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorePolicy {
    /// The longest that one call may take; afterwards it counts as `unavailable`.
    pub deadline: Duration,
    /// How many calls may be under way at once. Those beyond wait for their turn, within their
    /// deadline, and then count as `unavailable`: so a store that hangs holds no more than these.
    pub max_concurrent_calls: NonZeroU32,
}

impl StorePolicy {
    /// How many calls may be under way at once, unless somebody says otherwise.
    pub const DEFAULT_MAX_CONCURRENT_CALLS: NonZeroU32 = NonZeroU32::MIN.saturating_add(127);
}

impl Default for StorePolicy {
    /// 5 seconds a call, 128 calls at once.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            max_concurrent_calls: Self::DEFAULT_MAX_CONCURRENT_CALLS,
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
    /// Calls through this handle are made only while it is closed.
    breaker: Option<Arc<Breaker>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    opening: Opening,
    policy: StorePolicy,
    slots: Semaphore,
    calls: Calls,
    capabilities: OnceLock<Capabilities>,
}

#[derive(Debug)]
enum Opening {
    Done(Opened),
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
        Self::from_opened(name.into(), Opened::from(object), policy)
    }

    fn from_opened(name: String, opened: Opened, policy: StorePolicy) -> StoreResult<Self> {
        let capabilities = opened.object.capabilities()?;
        Ok(Self::from_opening(
            name,
            Opening::Done(opened),
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
        Self::open_within_or_later(store_type, config, policy, OPEN_DEADLINE).await
    }

    /// As [`open_now_or_later`](Self::open_now_or_later), with a deadline for opening it now.
    pub(super) async fn open_within_or_later(
        store_type: StoreType,
        config: Value,
        policy: StorePolicy,
        open_deadline: Duration,
    ) -> Result<Self, OpenError> {
        let name = store_type.manifest.name.clone();
        let error = match store_type.open_whole(open_deadline, &config).await {
            Ok(opened) => {
                return Self::from_opened(name.clone(), opened, policy)
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
        // No system can have more calls than that under way.
        let slots = usize::try_from(policy.max_concurrent_calls.get()).unwrap_or(usize::MAX);
        Self {
            shared: Arc::new(Shared {
                name,
                opening,
                slots: Semaphore::new(slots.min(Semaphore::MAX_PERMITS)),
                policy,
                calls: Calls::default(),
                capabilities,
            }),
            breaker: None,
        }
    }

    /// The same store through a handle that makes no call while `breaker` is not closed, and opens
    /// it when one fails. It never closes it: that is for whoever tries the store.
    pub(crate) fn behind(&self, breaker: &Arc<Breaker>) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            breaker: Some(Arc::clone(breaker)),
        }
    }

    /// From now on, how long calls take is counted too, here and in the stores it is made of.
    pub(crate) fn measure(&self) {
        self.calls().measure();
        for member in self.members() {
            member.store.measure();
        }
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    /// How many calls are under way.
    pub(crate) fn calls_in_flight(&self) -> u64 {
        let all = u64::from(self.shared.policy.max_concurrent_calls.get());
        all.saturating_sub(self.shared.slots.available_permits() as u64)
    }

    /// The stores that it is made of; none as long as it is not open.
    pub(crate) fn members(&self) -> &[MemberHandle] {
        match &self.shared.opening {
            Opening::Done(opened) => &opened.members,
            Opening::Late(late) => late.opened().map_or(&[], |opened| &opened.members),
        }
    }

    /// What became of its calls so far, and of those of the stores it is made of.
    pub fn report(&self) -> StoreReport {
        let calls = self.calls();
        StoreReport {
            store_type: self.name().to_owned(),
            part: None,
            is_open: self.is_open(),
            breaker: self.breaker.as_ref().map(|breaker| breaker.report()),
            calls: calls.made.get(),
            calls_timed_out: calls.timed_out.get(),
            calls_busy: calls.busy.get(),
            calls_in_flight: self.calls_in_flight(),
            max_concurrent_calls: self.shared.policy.max_concurrent_calls.get(),
            members: self.members().iter().map(MemberHandle::report).collect(),
        }
    }

    /// Whether it is open: one that is opened later may turn out to do less than its type can.
    pub(super) fn is_open(&self) -> bool {
        match &self.shared.opening {
            Opening::Done(_) => true,
            Opening::Late(late) => late.opened().is_some(),
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
            Some(opened) => self.opened_capabilities(Some(&opened.object)),
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
        self.size_limit().check(&write)?;
        self.call(Operation::Put, async |store| store.put(write).await)
            .await
    }

    /// See [`ResultStore::put_many`](warren_plugin_api::ResultStore::put_many). Records over the
    /// store's limit are answered with `too_large` here and not handed to it.
    pub async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let (fitting, refused) = self.size_limit().split(writes);
        let answers = self
            .call(Operation::PutMany, async |store| {
                store.put_many(fitting).await
            })
            .await?;
        Ok(refused.merge(answers))
    }

    /// See [`ResultStore::get`](warren_plugin_api::ResultStore::get).
    pub async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.call(Operation::Get, async |store| store.get(job_id).await)
            .await
    }

    /// See [`ResultStore::get_many`](warren_plugin_api::ResultStore::get_many).
    pub async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        self.call(Operation::GetMany, async |store| {
            store.get_many(job_ids).await
        })
        .await
    }

    /// See [`ResultStore::status`](warren_plugin_api::ResultStore::status).
    pub async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        self.call(Operation::Status, async |store| store.status(job_id).await)
            .await
    }

    /// See [`ResultStore::status_many`](warren_plugin_api::ResultStore::status_many).
    pub async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        self.call(Operation::StatusMany, async |store| {
            store.status_many(job_ids).await
        })
        .await
    }

    /// See [`ResultStore::delete`](warren_plugin_api::ResultStore::delete).
    pub async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        self.call(Operation::Delete, async |store| store.delete(job_id).await)
            .await
    }

    /// See [`ResultStore::delete_many`](warren_plugin_api::ResultStore::delete_many).
    pub async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        self.call(Operation::DeleteMany, async |store| {
            store.delete_many(job_ids).await
        })
        .await
    }

    /// See [`ResultStore::scan`](warren_plugin_api::ResultStore::scan).
    pub async fn scan(
        &self,
        filter: Filter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> StoreResult<Page> {
        self.call(Operation::Scan, async |store| {
            store.scan(filter, cursor, limit).await
        })
        .await
    }

    /// See [`ResultStore::cleanup_expired`](warren_plugin_api::ResultStore::cleanup_expired).
    pub async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        self.call(Operation::CleanupExpired, async |store| {
            store.cleanup_expired(now, limit).await
        })
        .await
    }

    /// See [`ResultStore::health_check`](warren_plugin_api::ResultStore::health_check).
    pub async fn health_check(&self) -> StoreResult<Health> {
        self.call(Operation::HealthCheck, async |store| {
            store.health_check().await
        })
        .await
    }

    /// See [`ResultStore::stats`](warren_plugin_api::ResultStore::stats).
    pub async fn stats(&self) -> StoreResult<Stats> {
        self.call(Operation::Stats, async |store| store.stats().await)
            .await
    }

    /// See [`ResultStore::subscribe`](warren_plugin_api::ResultStore::subscribe). Runs until it is
    /// dropped or the store loses its connection, so it has no deadline.
    pub async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        self.object().await?.subscribe(sink).await
    }

    /// See [`ResultStore::close`](warren_plugin_api::ResultStore::close).
    pub async fn close(&self) -> StoreResult<()> {
        self.call(Operation::Close, async |store| store.close().await)
            .await
    }

    fn size_limit(&self) -> SizeLimit<'_> {
        SizeLimit {
            store: self.name(),
            max_record_bytes: self.capabilities().max_record_bytes,
        }
    }

    async fn object(&self) -> StoreResult<&StoreObject> {
        match &self.shared.opening {
            Opening::Done(opened) => Ok(&opened.object),
            Opening::Late(late) => late.object().await,
        }
    }

    /// Calls the store: if its breaker lets the call pass, when it is its turn, under the deadline.
    async fn call<T>(
        &self,
        operation: Operation,
        call: impl AsyncFnOnce(&StoreObject) -> StoreResult<T>,
    ) -> StoreResult<T> {
        if let Some(refusal) = self.breaker.as_ref().and_then(|breaker| breaker.refusal()) {
            return Err(refusal);
        }
        let began = self.calls().begins();
        let answer = self.call_in_turn(call).await;
        let error = answer.as_ref().err();
        self.calls().ended(operation, began, error);
        if let (Some(breaker), Some(error)) = (&self.breaker, error)
            && error.class() == ErrorClass::Unavailable
            && breaker.failed(error)
        {
            let store = self.name();
            tracing::warn!(store, %error, "the result store failed and is left alone until it is back");
        }
        answer
    }

    async fn call_in_turn<T>(
        &self,
        call: impl AsyncFnOnce(&StoreObject) -> StoreResult<T>,
    ) -> StoreResult<T> {
        let (_slot, left) = match self.shared.slots.try_acquire() {
            Ok(slot) => (slot, self.shared.policy.deadline),
            Err(_) => Box::pin(self.wait_for_slot()).await?,
        };
        tokio::time::timeout(left, async { call(self.object().await?).await })
            .await
            .unwrap_or_else(|_elapsed| {
                self.calls().timed_out.increment();
                let (name, deadline) = (self.name(), self.shared.policy.deadline);
                Err(StoreError::unavailable(format!(
                    "store {name:?} gave no answer within {deadline:?}: it hangs, or needs a \
                     longer `deadline`"
                )))
            })
    }

    /// Waits for another call to end; returns how much of the deadline is left then.
    async fn wait_for_slot(&self) -> StoreResult<(SemaphorePermit<'_>, Duration)> {
        let StorePolicy {
            deadline,
            max_concurrent_calls,
        } = self.shared.policy;
        let began = Instant::now();
        match tokio::time::timeout(deadline, self.shared.slots.acquire()).await {
            // At its deadline a turn comes too late.
            Ok(Ok(slot)) if began.elapsed() < deadline => {
                Ok((slot, deadline.saturating_sub(began.elapsed())))
            }
            Ok(Ok(_)) | Ok(Err(_)) | Err(_) => {
                self.calls().busy.increment();
                let name = self.name();
                Err(StoreError::unavailable(format!(
                    "store {name:?} is busy: {max_concurrent_calls} calls are under way, and it \
                     was not this one's turn within {deadline:?}"
                )))
            }
        }
    }
}
