//! The trait that a store's author implements.

use std::future::Future;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    Capabilities, CompletionSink, Cursor, Filter, Health, HostContext, Page, Record, Stats, Status,
    StoreError, Text, Timestamp, Write, WriteOutcome,
};

/// Result of a store's operation.
pub type StoreResult<T> = Result<T, StoreError>;

/// Results of an operation on many items, in the order of the items.
///
/// The outer error means that nothing is known about any item.
pub type BatchResult<T> = StoreResult<Vec<StoreResult<T>>>;

/// Keeps the results of jobs in some backend.
///
/// Implement it for one type and name that type in [`export_store!`](crate::export_store): that
/// is a whole plugin. The rules it must keep stand, numbered, in `docs/result-store.md`, and the
/// conformance suite checks them.
///
/// # Concurrency
/// Every method may be called from many threads at once.
///
/// # Cancel safety
/// The host drops a call's future when its deadline passes. Afterwards a write may have been done
/// or not, but never in part, and the store must stay usable.
///
/// # Panics
/// A panic anywhere is caught at the plugin's edge and reported as
/// [`ErrorClass::Internal`](crate::ErrorClass::Internal).
pub trait ResultStore: Sized + Send + Sync + 'static {
    /// The store's own configuration. Use `#[serde(deny_unknown_fields)]` and `#[serde(default)]`;
    /// the doc comments of its fields become the descriptions that the host shows.
    type Config: DeserializeOwned + JsonSchema + Send;

    /// The most that this store can do, shown before it is opened.
    const CAPABILITIES: Capabilities;

    /// Connects to the backend, or prepares it.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorClass::InvalidConfig) for what an operator must change.
    /// A backend that is merely down may be an
    /// [`Unavailable`](crate::ErrorClass::Unavailable) error, or better, be connected to later:
    /// the host starts its worker either way and tries again.
    fn open(
        config: Self::Config,
        host: HostContext,
    ) -> impl Future<Output = StoreResult<Self>> + Send;

    /// What this opened store can do, where that is less than [`CAPABILITIES`](Self::CAPABILITIES)
    /// because of its configuration or its server. Constant for the life of the store.
    fn capabilities(&self) -> Capabilities {
        Self::CAPABILITIES
    }

    /// Writes one record, unless its [`WriteMode`](crate::WriteMode) refuses it. Check and write
    /// are one atomic step, also against other processes.
    ///
    /// # Errors
    /// [`TooLarge`](crate::ErrorClass::TooLarge): over the limit, nothing was written.
    fn put(&self, write: Write) -> impl Future<Output = StoreResult<WriteOutcome>> + Send;

    /// Writes many records; each is checked and written atomically, the batch as a whole need not
    /// be. Two writes of one job in a batch act in their order.
    fn put_many(
        &self,
        writes: Vec<Write>,
    ) -> impl Future<Output = BatchResult<WriteOutcome>> + Send {
        async move {
            let mut outcomes = Vec::with_capacity(writes.len());
            for write in writes {
                outcomes.push(self.put(write).await);
            }
            Ok(outcomes)
        }
    }

    /// Reads one record; `None` when there is none, or it has expired.
    fn get(&self, job_id: Text) -> impl Future<Output = StoreResult<Option<Record>>> + Send;

    /// Reads many records. An id that is asked for twice is answered twice.
    fn get_many(
        &self,
        job_ids: Vec<Text>,
    ) -> impl Future<Output = BatchResult<Option<Record>>> + Send {
        async move {
            let mut records = Vec::with_capacity(job_ids.len());
            for job_id in job_ids {
                records.push(self.get(job_id).await);
            }
            Ok(records)
        }
    }

    /// Reads one status, where possible without the rest of the record.
    fn status(&self, job_id: Text) -> impl Future<Output = StoreResult<Option<Status>>> + Send {
        async move { Ok(self.get(job_id).await?.map(|record| record.status)) }
    }

    /// Reads many statuses.
    fn status_many(
        &self,
        job_ids: Vec<Text>,
    ) -> impl Future<Output = BatchResult<Option<Status>>> + Send {
        async move {
            let records = self.get_many(job_ids).await?;
            Ok(records
                .into_iter()
                .map(|record| Ok(record?.map(|record| record.status)))
                .collect())
        }
    }

    /// Deletes one record; `true` when a live one was there. Deleting nothing is no error.
    fn delete(&self, job_id: Text) -> impl Future<Output = StoreResult<bool>> + Send;

    /// Deletes many records.
    fn delete_many(&self, job_ids: Vec<Text>) -> impl Future<Output = BatchResult<bool>> + Send {
        async move {
            let mut deleted = Vec::with_capacity(job_ids.len());
            for job_id in job_ids {
                deleted.push(self.delete(job_id).await);
            }
            Ok(deleted)
        }
    }

    /// Lists live records that pass `filter`, page by page. A record that is there, and passes,
    /// during the whole scan is returned exactly once; one that comes, goes or changes meanwhile
    /// may or may not be.
    ///
    /// # Arguments
    /// - `cursor`: `None` for the first page, then each page's `next`.
    /// - `limit`: the most records to return, 1 to 10,000. May be exceeded by none.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorClass::Unsupported) without the capability;
    /// [`InvalidConfig`](crate::ErrorClass::InvalidConfig) for a cursor that is not the store's.
    fn scan(
        &self,
        filter: Filter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> impl Future<Output = StoreResult<Page>> + Send {
        let _ = (filter, cursor, limit);
        async {
            Err(StoreError::unsupported(
                "this store cannot list its records",
            ))
        }
    }

    /// Removes up to `limit` records that expired at or before `now`, and whatever index entries
    /// they left behind; returns how many. Short: the host calls it again while it returns `limit`.
    /// The default is for backends that remove expired records by themselves.
    fn cleanup_expired(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> impl Future<Output = StoreResult<u64>> + Send {
        let _ = (now, limit);
        async { Ok(0) }
    }

    /// Asks the backend whether it would serve a call now.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorClass::Unavailable) when it would not.
    fn health_check(&self) -> impl Future<Output = StoreResult<Health>> + Send;

    /// What the store holds.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorClass::Unsupported) without the capability.
    fn stats(&self) -> impl Future<Output = StoreResult<Stats>> + Send {
        async {
            Err(StoreError::unsupported(
                "this store does not count its records",
            ))
        }
    }

    /// Announces through `sink` every job whose stored status becomes terminal, from any process,
    /// until the future is dropped. Calls [`CompletionSink::ready`] once announcements flow.
    /// A store that has an ended job's record at hand asks [`CompletionSink::wants_record`] and
    /// sends it along, which saves the host a read.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorClass::Unsupported) without the capability;
    /// [`Unavailable`](crate::ErrorClass::Unavailable) when the connection is lost: announcements
    /// may have been missed, and the host subscribes again.
    fn subscribe(&self, sink: CompletionSink) -> impl Future<Output = StoreResult<()>> + Send {
        let _ = sink;
        async {
            Err(StoreError::unsupported(
                "this store does not announce completions",
            ))
        }
    }

    /// Ends the store: what it acknowledged stays readable, connections are closed. Any later
    /// call gives [`Unavailable`](crate::ErrorClass::Unavailable), a second `close` succeeds.
    fn close(&self) -> impl Future<Output = StoreResult<()>> + Send {
        async { Ok(()) }
    }
}
