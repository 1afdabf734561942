//! An opened store, as the host holds it.

use std::{fmt, sync::Arc};

use abi_stable::std_types::{ROption, RResult, RString, RVec};
use async_ffi::FfiContext;

use crate::{
    BatchResult, Capabilities, CompletionSink, Cursor, Filter, Health, Page, Record, ResultStore,
    Stats, Status, StoreError, StoreResult, Text, Timestamp, Write, WriteOutcome,
    abi::{
        adapter::{from_json, into_object, to_json},
        call::{AbiAnswer, Call},
        record::{AbiBatch, AbiRecord, AbiResult, AbiWrite, outcome_from_abi, status_from_abi},
        store::AbiStoreObject,
    },
};

/// An opened store behind the stable ABI: from a plugin file, or linked into this program.
///
/// Cheap to clone; all clones are one store. Its methods are those of [`ResultStore`]. It adds no
/// deadline: a store that hangs hangs its caller.
///
/// # Cancel safety
/// As the trait says: a dropped call may have been done or not, never in part.
#[derive(Clone)]
pub struct StoreObject {
    object: Arc<AbiStoreObject>,
}

impl StoreObject {
    /// Puts a statically linked store behind the same boundary as a loaded one.
    pub fn from_store<S: ResultStore>(store: S) -> Self {
        Self::from_abi(into_object(store))
    }

    pub(crate) fn from_abi(object: AbiStoreObject) -> Self {
        Self {
            object: Arc::new(object),
        }
    }

    /// What this store can do.
    ///
    /// # Errors
    /// `internal` when the store panics or answers with what is no capabilities.
    pub fn capabilities(&self) -> StoreResult<Capabilities> {
        let json = from_abi(self.object.capabilities())?;
        from_json(&json)
    }

    /// See [`ResultStore::put`].
    pub async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        let mut write = ROption::RSome(AbiWrite::from(write));
        let call = |context: &mut FfiContext<'_>, answer: &mut AbiAnswer<u8>| {
            self.object.put(&mut write, context, answer)
        };
        Call::new(call, |outcome| outcome_from_abi(from_abi(outcome)?)).await
    }

    /// See [`ResultStore::put_many`].
    pub async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let writes: RVec<AbiWrite> = writes.into_iter().map(AbiWrite::from).collect();
        let expected = writes.len();
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.put_many(writes, context, answer)
        };
        let read = |outcomes| batch_from_abi(expected, outcomes, outcome_from_abi);
        Call::new(call, read).await
    }

    /// See [`ResultStore::get`].
    pub async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        let call =
            |context: &mut FfiContext<'_>, answer: &mut _| self.object.get(job_id, context, answer);
        Call::new(call, |answer| match answer {
            RResult::ROk(ROption::RSome(record)) => Ok(Some(record.try_into()?)),
            RResult::ROk(ROption::RNone) => Ok(None),
            RResult::RErr(error) => Err(error.into()),
        })
        .await
    }

    /// See [`ResultStore::get_many`].
    pub async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        let expected = job_ids.len();
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.get_many(job_ids.into(), context, answer)
        };
        let read = |records| {
            batch_from_abi(expected, records, |record: ROption<AbiRecord>| {
                record.into_option().map(Record::try_from).transpose()
            })
        };
        Call::new(call, read).await
    }

    /// See [`ResultStore::status`].
    pub async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.status(job_id, context, answer)
        };
        let read = |status| optional_status(from_abi(status)?);
        Call::new(call, read).await
    }

    /// See [`ResultStore::status_many`].
    pub async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        let expected = job_ids.len();
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.status_many(job_ids.into(), context, answer)
        };
        let read = |statuses| batch_from_abi(expected, statuses, optional_status);
        Call::new(call, read).await
    }

    /// See [`ResultStore::delete`].
    pub async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.delete(job_id, context, answer)
        };
        Call::new(call, from_abi).await
    }

    /// See [`ResultStore::delete_many`].
    pub async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        let expected = job_ids.len();
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.delete_many(job_ids.into(), context, answer)
        };
        Call::new(call, |deleted| batch_from_abi(expected, deleted, Ok)).await
    }

    /// See [`ResultStore::scan`].
    pub async fn scan(
        &self,
        filter: Filter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> StoreResult<Page> {
        let cursor = cursor.map(|Cursor(cursor)| RString::from(cursor)).into();
        let filter = to_json(&filter)?;
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.scan(filter, cursor, limit, context, answer)
        };
        Call::new(call, |page| {
            let page = from_abi(page)?;
            let records = page.records.into_iter().map(Record::try_from);
            Ok(Page {
                records: records.collect::<StoreResult<_>>()?,
                next: page
                    .next
                    .into_option()
                    .map(|next| Cursor(next.into_string())),
            })
        })
        .await
    }

    /// See [`ResultStore::cleanup_expired`].
    pub async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.cleanup_expired(now, limit, context, answer)
        };
        Call::new(call, from_abi).await
    }

    /// See [`ResultStore::health_check`].
    pub async fn health_check(&self) -> StoreResult<Health> {
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.health_check(context, answer)
        };
        Call::new(call, |health| from_json(&from_abi(health)?)).await
    }

    /// See [`ResultStore::stats`].
    pub async fn stats(&self) -> StoreResult<Stats> {
        let call =
            |context: &mut FfiContext<'_>, answer: &mut _| self.object.stats(context, answer);
        Call::new(call, |stats| from_json(&from_abi(stats)?)).await
    }

    /// See [`ResultStore::subscribe`].
    pub async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        let sink = sink.to_object();
        let call = |context: &mut FfiContext<'_>, answer: &mut _| {
            self.object.subscribe(sink, context, answer)
        };
        Call::new(call, from_abi).await
    }

    /// See [`ResultStore::close`].
    pub async fn close(&self) -> StoreResult<()> {
        let call =
            |context: &mut FfiContext<'_>, answer: &mut _| self.object.close(context, answer);
        Call::new(call, from_abi).await
    }
}

impl fmt::Debug for StoreObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreObject")
    }
}

fn from_abi<T>(result: AbiResult<T>) -> StoreResult<T> {
    result.into_result().map_err(StoreError::from)
}

fn optional_status(code: ROption<u8>) -> StoreResult<Option<Status>> {
    code.into_option().map(status_from_abi).transpose()
}

fn batch_from_abi<A, T>(
    expected: usize,
    answers: AbiResult<AbiBatch<A>>,
    convert: impl Fn(A) -> StoreResult<T>,
) -> BatchResult<T> {
    let answers = from_abi(answers)?;
    if answers.len() != expected {
        return Err(StoreError::internal(format!(
            "the store gave {} answers for {expected} items",
            answers.len()
        )));
    }
    Ok(answers
        .into_iter()
        .map(|answer| from_abi(answer).and_then(&convert))
        .collect())
}
