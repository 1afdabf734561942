//! Waiting for jobs to end.
//!
//! Who waits is told: by the store where it announces what has ended, else over the broker, by
//! whoever stored the end. Each waiter subscribes, then reads, then waits, so that an end at any
//! time in between is not missed; and a word is only a reason to read again, unless the store sends
//! the record along that a read would return. What a lost word would have told is found by a slow
//! look at all jobs that are waited for, many in one call.

mod attendant;
mod completions;
mod reader;
mod table;

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use warren_plugin_api::{ErrorClass, Record, StoreError, Text, Timestamp};

use super::Client;
use crate::{broker::Broker, sleep::until, store::Store};
pub use completions::CompletionEvent;
use reader::Reader;
use table::Table;

/// The wait before a store that gave no answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Why a wait ended without the end of the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The store knows no such job, at the start of the wait.
    #[error("no job with the id {job_id:?} is known; it was never sent, or its record has expired")]
    UnknownJob {
        /// The id.
        job_id: String,
    },
    /// The record was there and has gone: deleted, or expired.
    #[error("the record of job {job_id:?} was deleted or has expired while it was waited for")]
    Gone {
        /// The id.
        job_id: String,
    },
    /// The time is up.
    #[error("job {job_id:?} has not ended within {timeout:?}")]
    Timeout {
        /// The id.
        job_id: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The time is up, and none of several jobs has ended.
    #[error("none of {jobs} jobs has ended within {timeout:?}")]
    NoneEnded {
        /// How many were waited for.
        jobs: usize,
        /// How long was waited.
        timeout: Duration,
    },
    /// No job was named.
    #[error("no job to wait for was named")]
    NoJobs,
    /// The store cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Client {
    /// The waiters of this client.
    pub const fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// See [`Waiters::wait`].
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn wait(&self, job_id: &str, timeout: Duration) -> Result<Record, WaitError> {
        self.waiters.wait(job_id, timeout).await
    }

    /// See [`Waiters::wait_any`].
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn wait_any(
        &self,
        job_ids: &[impl AsRef<str>],
        timeout: Duration,
    ) -> Result<Record, WaitError> {
        self.waiters.wait_any(job_ids, timeout).await
    }

    /// See [`Waiters::wait_all`].
    pub async fn wait_all(
        &self,
        job_ids: &[impl AsRef<str>],
        timeout: Duration,
    ) -> Vec<Result<Record, WaitError>> {
        self.waiters.wait_all(job_ids, timeout).await
    }

    /// See [`Waiters::wait_each`].
    pub fn wait_each(
        &self,
        job_ids: &[impl AsRef<str>],
        timeout: Duration,
    ) -> BoxStream<'static, (usize, Result<Record, WaitError>)> {
        self.waiters.wait_each(job_ids, timeout)
    }

    /// See [`Waiters::completions`].
    pub fn completions(&self) -> BoxStream<'static, CompletionEvent> {
        self.waiters.completions()
    }
}

/// Everybody who waits for jobs through one client: one subscription and few reads for all of
/// them. Cheap to clone; clones are one.
///
/// A [`Client`] has one. A program that only waits makes its own, with a broker or without: then a
/// store that announces nothing is looked at, up to once a second, for all jobs at once.
#[derive(Debug, Clone)]
pub struct Waiters {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    broker: Option<Broker>,
    safety_read: Duration,
    table: Table,
    reader: Reader,
    /// Ends the attendant with the last clone.
    end: CancellationToken,
    _end: DropGuard,
}

impl Waiters {
    /// Waiters for jobs whose results `store` has. All of them are looked at every `safety_read`.
    pub fn new(store: Store, broker: Option<Broker>, safety_read: Duration) -> Self {
        let end = CancellationToken::new();
        let shared = Shared {
            reader: Reader::new(store.clone()),
            store,
            broker,
            safety_read,
            table: Table::default(),
            _end: end.clone().drop_guard(),
            end,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits until a job has ended and returns its record, whatever its end.
    ///
    /// A job whose record is deleted or expires ends the wait with [`WaitError::Gone`]. A store
    /// that is unavailable for a while does not end it, nor does a broker that is lost.
    ///
    /// # Errors
    /// See [`WaitError`].
    ///
    /// # Cancel safety
    /// Dropping the call leaves nothing behind, and takes nothing from others who wait for the
    /// same job.
    pub async fn wait(&self, job_id: &str, timeout: Duration) -> Result<Record, WaitError> {
        self.wait_from(job_id, timeout, FirstRead::AtOnce).await
    }

    /// As [`wait`](Self::wait), for a job that is recorded and not sent yet.
    pub(super) async fn wait_for_unsent(
        &self,
        job_id: &str,
        timeout: Duration,
    ) -> Result<Record, WaitError> {
        self.wait_from(job_id, timeout, FirstRead::WhenTold).await
    }

    async fn wait_from(
        &self,
        job_id: &str,
        timeout: Duration,
        first_read: FirstRead,
    ) -> Result<Record, WaitError> {
        let timed_out = |_| WaitError::Timeout {
            job_id: job_id.to_owned(),
            timeout,
        };
        tokio::time::timeout(timeout, self.until_ended(job_id.into(), first_read))
            .await
            .map_err(timed_out)?
    }

    /// Waits until one of these jobs has ended, and returns its record. Unknown jobs and those
    /// whose records go away end the wait only when no other is left.
    ///
    /// # Errors
    /// See [`WaitError`]; the last one when no job can end any more.
    ///
    /// # Cancel safety
    /// As [`wait`](Self::wait).
    pub async fn wait_any(
        &self,
        job_ids: &[impl AsRef<str>],
        timeout: Duration,
    ) -> Result<Record, WaitError> {
        let first = async {
            let mut waits = self.each(job_ids);
            let mut last = WaitError::NoJobs;
            while let Some((_, ended)) = waits.next().await {
                match ended {
                    Ok(record) => return Ok(record),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        let jobs = job_ids.len();
        tokio::time::timeout(timeout, first)
            .await
            .unwrap_or(Err(WaitError::NoneEnded { jobs, timeout }))
    }

    /// Waits until all of these jobs have ended; answers in their order. `timeout` is the longest
    /// time for all of them together.
    ///
    /// # Cancel safety
    /// As [`wait`](Self::wait).
    pub async fn wait_all(
        &self,
        job_ids: &[impl AsRef<str>],
        timeout: Duration,
    ) -> Vec<Result<Record, WaitError>> {
        let mut answers: Vec<(usize, Result<Record, WaitError>)> =
            self.wait_each(job_ids, timeout).collect().await;
        answers.sort_unstable_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, ended)| ended).collect()
    }

    /// These jobs as they end, each with its place among the ids. What has not ended within
    /// `timeout`, counted from now, comes as [`WaitError::Timeout`].
    ///
    /// # Cancel safety
    /// Dropping the stream ends all of its waits; a pending `next` may be dropped and called again.
    pub fn wait_each(
        &self,
        job_ids: &[impl AsRef<str>],
        timeout: Duration,
    ) -> BoxStream<'static, (usize, Result<Record, WaitError>)> {
        let waits = Waits {
            running: self.each(job_ids),
            left: job_ids
                .iter()
                .map(|job_id| Some(job_id.as_ref().to_owned()))
                .collect(),
            deadline: Instant::now().checked_add(timeout),
        };
        futures_util::stream::unfold(waits, move |mut waits| async move {
            let ended = waits.next(timeout).await?;
            Some((ended, waits))
        })
        .boxed()
    }

    /// Every job that ends from now on, of whatever client, with its record as the store has it.
    ///
    /// An ending comes at least once, unless it was missed, which the stream says
    /// ([`CompletionEvent::MayHaveMissed`]). It never ends by itself.
    ///
    /// # Cancel safety
    /// A pending `next` may be dropped and called again; dropping the stream ends it.
    pub fn completions(&self) -> BoxStream<'static, CompletionEvent> {
        completions::stream(&self.shared)
    }

    fn each(&self, job_ids: &[impl AsRef<str>]) -> RunningWaits {
        job_ids
            .iter()
            .enumerate()
            .map(|(index, job_id)| {
                let (this, job_id) = (self.clone(), Text::from(job_id.as_ref()));
                async move { (index, this.until_ended(job_id, FirstRead::AtOnce).await) }.boxed()
            })
            .collect()
    }

    /// Subscribes, then reads, then waits.
    async fn until_ended(&self, job_id: Text, first_read: FirstRead) -> Result<Record, WaitError> {
        let shared = &self.shared;
        let place = shared.table.join(job_id.clone());
        attendant::attend(shared);
        let mut was_known = false;
        let mut reads = first_read == FirstRead::AtOnce;
        loop {
            let changed = place.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let look_again = if std::mem::replace(&mut reads, true) {
                match shared.reader.read(job_id.clone()).await {
                    Ok(Some(record)) if record.status.is_terminal() => return Ok(record),
                    Ok(Some(record)) => {
                        was_known = true;
                        record.expires_at.map(after_expiry)
                    }
                    // Sent while the store took no records: its end will be there.
                    Ok(None) if first_read == FirstRead::WhenTold && !was_known => None,
                    Ok(None) => return Err(nothing_there(job_id.into(), was_known)),
                    Err(error) if error.class() == ErrorClass::Unavailable => {
                        Some(Instant::now() + ASK_AGAIN)
                    }
                    Err(error) => return Err(error.into()),
                }
            } else {
                None
            };
            tokio::select! {
                () = changed => {
                    if let Some(record) = place.told().filter(has_ended) {
                        return Ok(record);
                    }
                }
                () = until(look_again) => {}
            }
        }
    }
}

/// Whether a record that came with a word ends the wait by itself.
fn has_ended(record: &Record) -> bool {
    record.status.is_terminal() && !record.is_expired(Timestamp::now())
}

/// When one who waits reads for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstRead {
    /// The job may have ended already.
    AtOnce,
    /// It cannot have ended yet: whoever attends to the waiters says when there is something.
    WhenTold,
}

type RunningWaits = FuturesUnordered<BoxFuture<'static, (usize, Result<Record, WaitError>)>>;

/// Several waits, one timer for all.
struct Waits {
    running: RunningWaits,
    /// The ids of those that have not been answered.
    left: Vec<Option<String>>,
    deadline: Option<Instant>,
}

impl Waits {
    async fn next(&mut self, timeout: Duration) -> Option<(usize, Result<Record, WaitError>)> {
        let ended = tokio::select! {
            biased;
            ended = self.running.next() => ended,
            () = until(self.deadline) => None,
        };
        if let Some((index, _)) = &ended {
            self.left[*index] = None;
            return ended;
        }
        // The time is up, or nothing is left.
        self.running.clear();
        let index = self.left.iter().position(Option::is_some)?;
        let job_id = self.left[index].take()?;
        Some((index, Err(WaitError::Timeout { job_id, timeout })))
    }
}

fn nothing_there(job_id: String, was_known: bool) -> WaitError {
    if was_known {
        WaitError::Gone { job_id }
    } else {
        WaitError::UnknownJob { job_id }
    }
}

/// When to look whether a record has expired. The store's clock may be late.
fn after_expiry(expires_at: Timestamp) -> Instant {
    let left = expires_at.saturating_duration_since(Timestamp::now());
    let far = Duration::from_secs(365 * 24 * 60 * 60);
    Instant::now() + left.min(far).max(ASK_AGAIN)
}
