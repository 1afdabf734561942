//! The plugin's side of a call: from the ABI's types to the author's trait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use abi_stable::{
    sabi_trait::TD_Opaque,
    std_types::{RBox, ROption, RString, RVec},
};
use async_ffi::{FfiFuture, FutureExt};

use super::{
    callback::SinkObject,
    panic_guard::{GuardedCall, QuietDrop, catch},
    record::{AbiBatch, AbiRecord, AbiResult, AbiWrite, outcome_to_abi, status_to_abi},
    store::{AbiPage, AbiStore, AbiStore_TO, AbiStoreObject},
};
use crate::{
    BatchResult, CompletionSink, Cursor, Filter, ResultStore, StoreError, StoreResult, Text,
    Timestamp, Write, WriteOutcome,
};

/// Makes a store callable over the boundary.
pub(crate) fn into_object<S: ResultStore>(store: S) -> AbiStoreObject {
    let adapter = StoreAdapter {
        shared: Arc::new(Shared {
            store: QuietDrop::new(store),
            closed: AtomicBool::new(false),
        }),
    };
    AbiStore_TO::from_ptr(RBox::new(adapter), TD_Opaque)
}

struct StoreAdapter<S> {
    shared: Arc<Shared<S>>,
}

/// Kept alive by every call that is under way.
struct Shared<S> {
    store: QuietDrop<S>,
    closed: AtomicBool,
}

impl<S> Shared<S> {
    fn open_store(&self) -> StoreResult<&S> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::unavailable("the store is closed"));
        }
        self.store.get()
    }
}

/// `async` block with the open store at hand, as a call that can cross.
macro_rules! call {
    ($self:ident, $what:literal, |$store:ident| $body:expr) => {{
        let shared = Arc::clone(&$self.shared);
        GuardedCall::new($what, async move {
            let $store = shared.open_store()?;
            $body
        })
        .into_ffi()
    }};
}

impl<S: ResultStore> AbiStore for StoreAdapter<S> {
    fn capabilities(&self) -> AbiResult<RString> {
        catch("capabilities", || {
            to_json(&self.shared.store.get()?.capabilities())
        })
        .map_err(Into::into)
        .into()
    }

    fn put(&self, write: AbiWrite) -> FfiFuture<AbiResult<u8>> {
        call!(self, "put", |store| {
            store.put(Write::try_from(write)?).await.map(outcome_to_abi)
        })
    }

    fn put_many(&self, writes: RVec<AbiWrite>) -> FfiFuture<AbiBatch<u8>> {
        call!(self, "put_many", |store| {
            let writes: Vec<Write> = writes
                .into_iter()
                .map(Write::try_from)
                .collect::<StoreResult<_>>()?;
            let expected = writes.len();
            batch_to_abi(
                expected,
                store.put_many(writes).await,
                |outcome: WriteOutcome| outcome_to_abi(outcome),
            )
        })
    }

    fn get(&self, job_id: Text) -> FfiFuture<AbiResult<ROption<AbiRecord>>> {
        call!(self, "get", |store| Ok(store
            .get(job_id)
            .await?
            .map(AbiRecord::from)
            .into()))
    }

    fn get_many(&self, job_ids: RVec<Text>) -> FfiFuture<AbiBatch<ROption<AbiRecord>>> {
        call!(self, "get_many", |store| {
            let expected = job_ids.len();
            batch_to_abi(expected, store.get_many(job_ids.into()).await, |record| {
                record.map(AbiRecord::from).into()
            })
        })
    }

    fn status(&self, job_id: Text) -> FfiFuture<AbiResult<ROption<u8>>> {
        call!(self, "status", |store| Ok(store
            .status(job_id)
            .await?
            .map(status_to_abi)
            .into()))
    }

    fn status_many(&self, job_ids: RVec<Text>) -> FfiFuture<AbiBatch<ROption<u8>>> {
        call!(self, "status_many", |store| {
            let expected = job_ids.len();
            batch_to_abi(
                expected,
                store.status_many(job_ids.into()).await,
                |status| status.map(status_to_abi).into(),
            )
        })
    }

    fn delete(&self, job_id: Text) -> FfiFuture<AbiResult<bool>> {
        call!(self, "delete", |store| store.delete(job_id).await)
    }

    fn delete_many(&self, job_ids: RVec<Text>) -> FfiFuture<AbiBatch<bool>> {
        call!(self, "delete_many", |store| {
            let expected = job_ids.len();
            batch_to_abi(
                expected,
                store.delete_many(job_ids.into()).await,
                |deleted| deleted,
            )
        })
    }

    fn scan(
        &self,
        filter_json: RString,
        cursor: ROption<RString>,
        limit: u32,
    ) -> FfiFuture<AbiResult<AbiPage>> {
        call!(self, "scan", |store| {
            let filter: Filter = from_json(&filter_json)?;
            let cursor = cursor
                .into_option()
                .map(|cursor| Cursor(cursor.into_string()));
            let page = store.scan(filter, cursor, limit).await?;
            Ok(AbiPage {
                records: page.records.into_iter().map(AbiRecord::from).collect(),
                next: page.next.map(|Cursor(next)| RString::from(next)).into(),
            })
        })
    }

    fn cleanup_expired(&self, now: Timestamp, limit: u32) -> FfiFuture<AbiResult<u64>> {
        call!(self, "cleanup_expired", |store| store
            .cleanup_expired(now, limit)
            .await)
    }

    fn health_check(&self) -> FfiFuture<AbiResult<RString>> {
        call!(self, "health_check", |store| to_json(
            &store.health_check().await?
        ))
    }

    fn stats(&self) -> FfiFuture<AbiResult<RString>> {
        call!(self, "stats", |store| to_json(&store.stats().await?))
    }

    fn close(&self) -> FfiFuture<AbiResult<()>> {
        let shared = Arc::clone(&self.shared);
        GuardedCall::new("close", async move {
            if shared.closed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            shared.store.get()?.close().await
        })
        .into_ffi()
    }

    fn subscribe(&self, sink: SinkObject) -> FfiFuture<AbiResult<()>> {
        call!(self, "subscribe", |store| {
            store.subscribe(CompletionSink::from_object(sink)).await
        })
    }
}

/// The answer of a host for a method that a plugin of an older contract does not have.
pub(crate) fn unsupported_since<T: Send + 'static>(
    major: u32,
    minor: u32,
    what: &str,
) -> FfiFuture<AbiResult<T>> {
    let error = StoreError::unsupported(format!(
        "the plugin cannot {what}: it was built against a contract older than {major}.{minor}"
    ));
    std::future::ready(AbiResult::RErr(error.into())).into_ffi()
}

/// A batch must answer for every item, or callers would pair answers with the wrong items.
fn batch_to_abi<T, A>(
    expected: usize,
    answers: BatchResult<T>,
    convert: impl Fn(T) -> A,
) -> StoreResult<RVec<AbiResult<A>>> {
    let answers = answers?;
    if answers.len() != expected {
        return Err(StoreError::internal(format!(
            "the store gave {} answers for {expected} items",
            answers.len()
        )));
    }
    Ok(answers
        .into_iter()
        .map(|answer| answer.map(&convert).map_err(Into::into).into())
        .collect())
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> StoreResult<RString> {
    serde_json::to_string(value)
        .map(RString::from)
        .map_err(|error| StoreError::internal(format!("cannot be written as JSON: {error}")))
}

pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> StoreResult<T> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::internal(format!("unreadable JSON at the boundary: {error}")))
}
