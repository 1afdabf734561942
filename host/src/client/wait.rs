//! Waiting for jobs to end: one subscription for all waiters, and a slow look at the store that
//! catches what a subscription lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use warren_plugin_api::{Completion, CompletionSink, ErrorClass, Record, StoreError, Text};

use super::{Client, ClientOptions};
use crate::store::Store;

/// Between two looks at a store that does not announce anything: from here, growing.
const FIRST_POLL: Duration = Duration::from_millis(20);
/// The longest time between two looks at such a store.
const SLOWEST_POLL: Duration = Duration::from_secs(1);
/// The wait before a lost subscription is tried again.
const RESUBSCRIBE_WAIT: Duration = Duration::from_millis(500);

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
    /// The store cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Client {
    /// Waits until a job has ended and returns its record, whatever its end.
    ///
    /// A store that announces completions wakes the waiter at once; any other is looked at, ever
    /// more slowly, up to once a second.
    ///
    /// # Errors
    /// See [`WaitError`]. A store that is unavailable for a while does not end the wait.
    ///
    /// # Cancel safety
    /// Dropping the call leaves nothing behind.
    pub async fn wait(&self, job_id: &str, timeout: Duration) -> Result<Record, WaitError> {
        self.waiters.wait_within(job_id, timeout).await
    }

    /// Waits until all of these jobs have ended; answers in their order.
    pub async fn wait_all(
        &self,
        job_ids: &[impl AsRef<str>],
        timeout: Duration,
    ) -> Vec<Result<Record, WaitError>> {
        self.waiters.wait_all(job_ids, timeout).await
    }
}

/// As [`Client::wait_all`], for a program that has a store and no broker.
pub async fn wait_all(
    store: &Store,
    job_ids: &[impl AsRef<str>],
    timeout: Duration,
) -> Vec<Result<Record, WaitError>> {
    let safety_read = ClientOptions::default().safety_read;
    let waiters = Waiters::new(store.clone(), safety_read);
    waiters.wait_all(job_ids, timeout).await
}

/// Everybody who waits through one client.
#[derive(Debug, Clone)]
pub(super) struct Waiters {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    safety_read: Duration,
    /// Who waits for which job.
    table: Mutex<HashMap<Text, Entry>>,
    subscription: Mutex<Option<watch::Receiver<u64>>>,
}

#[derive(Debug)]
struct Entry {
    ended: Arc<Notify>,
    waiters: usize,
}

impl Waiters {
    pub(super) fn new(store: Store, safety_read: Duration) -> Self {
        let shared = Shared {
            store,
            safety_read,
            table: Mutex::default(),
            subscription: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    async fn wait_within(&self, job_id: &str, timeout: Duration) -> Result<Record, WaitError> {
        let timed_out = |_| WaitError::Timeout {
            job_id: job_id.to_owned(),
            timeout,
        };
        tokio::time::timeout(timeout, self.wait(job_id.into()))
            .await
            .map_err(timed_out)?
    }

    async fn wait_all(
        &self,
        job_ids: &[impl AsRef<str>],
        timeout: Duration,
    ) -> Vec<Result<Record, WaitError>> {
        let waits = job_ids
            .iter()
            .map(|job_id| self.wait_within(job_id.as_ref(), timeout));
        futures_util::future::join_all(waits).await
    }

    /// Subscribes, then reads, then waits: a job that ends at any time in between is not missed.
    async fn wait(&self, job_id: Text) -> Result<Record, WaitError> {
        let shared = &self.shared;
        let waiter = Waiter::register(shared, job_id.clone());
        let mut subscribed = shared.subscription();
        let mut was_known = false;
        let mut poll = FIRST_POLL;
        loop {
            let ended = waiter.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            match shared.store.get(job_id.clone()).await {
                Ok(Some(record)) if record.status.is_terminal() => return Ok(record),
                Ok(Some(_)) => was_known = true,
                Ok(None) if was_known => {
                    return Err(WaitError::Gone {
                        job_id: job_id.into(),
                    });
                }
                Ok(None) => {
                    return Err(WaitError::UnknownJob {
                        job_id: job_id.into(),
                    });
                }
                Err(error) if error.class() == ErrorClass::Unavailable => {}
                Err(error) => return Err(error.into()),
            }
            let is_live = subscribed
                .as_ref()
                .is_some_and(|generation| *generation.borrow() > 0);
            let next_look = Instant::now() + if is_live { shared.safety_read } else { poll };
            poll = (poll * 2).min(SLOWEST_POLL);
            tokio::select! {
                () = ended => {}
                () = tokio::time::sleep_until(next_look) => {}
                // Announcements may have been lost before the subscription came (back).
                () = changed(&mut subscribed) => {}
            }
        }
    }
}

/// The subscription has come up again. Never, when there is none.
async fn changed(subscribed: &mut Option<watch::Receiver<u64>>) {
    if let Some(generation) = subscribed
        && generation.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Text, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one subscription of this client, started by the first waiter; `None` for a store that
    /// announces nothing. The number counts how often it has come up.
    fn subscription(self: &Arc<Self>) -> Option<watch::Receiver<u64>> {
        if !self.store.capabilities().push {
            return None;
        }
        let mut subscription = self
            .subscription
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let receiver = subscription.get_or_insert_with(|| {
            let (generation, receiver) = watch::channel(0);
            tokio::spawn(subscribe(Arc::downgrade(self), generation));
            receiver
        });
        Some(receiver.clone())
    }

    fn wake(&self, completion: &Completion) {
        if let Some(entry) = self.lock().get(&completion.job_id) {
            entry.ended.notify_waiters();
        }
    }
}

/// Keeps a subscription up until the client is gone.
async fn subscribe(waiters: Weak<Shared>, generation: watch::Sender<u64>) {
    let generation = Arc::new(generation);
    loop {
        let Some(store) = waiters.upgrade().map(|shared| shared.store.clone()) else {
            return;
        };
        let up = Arc::clone(&generation);
        let woken = Weak::clone(&waiters);
        let sink = CompletionSink::new(
            move || up.send_modify(|count| *count += 1),
            move |completion| {
                if let Some(shared) = woken.upgrade() {
                    shared.wake(&completion);
                }
            },
        );
        let ended = tokio::select! {
            ended = store.subscribe(sink) => ended,
            () = generation.closed() => return,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "announcements of completed jobs have stopped");
            if error.class() == ErrorClass::Unsupported {
                return;
            }
        }
        tokio::time::sleep(RESUBSCRIBE_WAIT).await;
    }
}

/// One who waits; leaves the table when dropped.
struct Waiter<'a> {
    shared: &'a Shared,
    job_id: Text,
    ended: Arc<Notify>,
}

impl<'a> Waiter<'a> {
    fn register(shared: &'a Shared, job_id: Text) -> Self {
        let mut table = shared.lock();
        let entry = table.entry(job_id.clone()).or_insert_with(|| Entry {
            ended: Arc::default(),
            waiters: 0,
        });
        entry.waiters += 1;
        let ended = Arc::clone(&entry.ended);
        Self {
            shared,
            job_id,
            ended,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut table = self.shared.lock();
        let is_last = table.get_mut(&self.job_id).is_some_and(|entry| {
            entry.waiters -= 1;
            entry.waiters == 0
        });
        if is_last {
            table.remove(&self.job_id);
        }
    }
}
