//! An opened store, as the host holds it.

use std::{fmt, sync::Arc};

use abi_stable::std_types::{RString, RVec};

use crate::{
    BatchResult, Capabilities, CompletionSink, Cursor, Filter, Health, Page, Record, ResultStore,
    Stats, Status, StoreError, StoreResult, Text, Timestamp, Write, WriteOutcome,
    abi::{
        adapter::{from_json, into_object, to_json},
        record::{AbiResult, AbiWrite, outcome_from_abi, status_from_abi},
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
        outcome_from_abi(from_abi(self.object.put(write.into()).await)?)
    }

    /// See [`ResultStore::put_many`].
    pub async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let writes: RVec<AbiWrite> = writes.into_iter().map(AbiWrite::from).collect();
        let expected = writes.len();
        batch_from_abi(
            expected,
            self.object.put_many(writes).await,
            outcome_from_abi,
        )
    }

    /// See [`ResultStore::get`].
    pub async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        from_abi(self.object.get(job_id).await)?
            .into_option()
            .map(Record::try_from)
            .transpose()
    }

    /// See [`ResultStore::get_many`].
    pub async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        let expected = job_ids.len();
        batch_from_abi(
            expected,
            self.object.get_many(job_ids.into()).await,
            |record| record.into_option().map(Record::try_from).transpose(),
        )
    }

    /// See [`ResultStore::status`].
    pub async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        from_abi(self.object.status(job_id).await)?
            .into_option()
            .map(status_from_abi)
            .transpose()
    }

    /// See [`ResultStore::status_many`].
    pub async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        let expected = job_ids.len();
        batch_from_abi(
            expected,
            self.object.status_many(job_ids.into()).await,
            |status| status.into_option().map(status_from_abi).transpose(),
        )
    }

    /// See [`ResultStore::delete`].
    pub async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        from_abi(self.object.delete(job_id).await)
    }

    /// See [`ResultStore::delete_many`].
    pub async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        let expected = job_ids.len();
        batch_from_abi(expected, self.object.delete_many(job_ids.into()).await, Ok)
    }

    /// See [`ResultStore::scan`].
    pub async fn scan(
        &self,
        filter: Filter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> StoreResult<Page> {
        let cursor = cursor.map(|Cursor(cursor)| RString::from(cursor)).into();
        let page = from_abi(self.object.scan(to_json(&filter)?, cursor, limit).await)?;
        Ok(Page {
            records: page
                .records
                .into_iter()
                .map(Record::try_from)
                .collect::<StoreResult<_>>()?,
            next: page
                .next
                .into_option()
                .map(|next| Cursor(next.into_string())),
        })
    }

    /// See [`ResultStore::cleanup_expired`].
    pub async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        from_abi(self.object.cleanup_expired(now, limit).await)
    }

    /// See [`ResultStore::health_check`].
    pub async fn health_check(&self) -> StoreResult<Health> {
        from_json(&from_abi(self.object.health_check().await)?)
    }

    /// See [`ResultStore::stats`].
    pub async fn stats(&self) -> StoreResult<Stats> {
        from_json(&from_abi(self.object.stats().await)?)
    }

    /// See [`ResultStore::subscribe`].
    pub async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        from_abi(self.object.subscribe(sink.to_object()).await)
    }

    /// See [`ResultStore::close`].
    pub async fn close(&self) -> StoreResult<()> {
        from_abi(self.object.close().await)
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

fn batch_from_abi<A, T>(
    expected: usize,
    answers: AbiResult<RVec<AbiResult<A>>>,
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
