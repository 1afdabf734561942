//! What a running function knows about its job, and may do besides returning.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use warren_plugin_api::{Payload, Text, Timestamp};

use super::JobError;

/// What is known about a job that runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFacts {
    /// The job's id.
    pub job_id: Text,
    /// 1-based count of runs.
    pub attempt: u32,
    /// The queue it came from.
    pub queue: Text,
    /// The function's name.
    pub function: Text,
    /// The worker that runs it.
    pub worker: Text,
    /// When a client accepted it.
    pub enqueued_at: Option<Timestamp>,
    /// When this run's time is up.
    pub deadline: Option<Timestamp>,
}

/// Values that all runs share, one of each type: a connection pool, a client, settings.
#[derive(Clone, Default)]
pub struct SharedState {
    values: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl SharedState {
    /// Adds a value; a second one of its type takes its place.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of type `T`.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(self.values.get(&TypeId::of::<T>())?)
            .downcast()
            .ok()
    }
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedState({} values)", self.values.len())
    }
}

/// A running job as its function sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobContext {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    facts: JobFacts,
    state: Arc<SharedState>,
    cancelled: CancellationToken,
    progress: Mutex<Payload>,
    progress_reported: Notify,
}

impl JobContext {
    /// A context for one run. `cancelled` tells the function to stop.
    pub fn new(facts: JobFacts, state: Arc<SharedState>, cancelled: CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                facts,
                state,
                cancelled,
                progress: Mutex::default(),
                progress_reported: Notify::new(),
            }),
        }
    }

    /// What is known about the job.
    pub fn facts(&self) -> &JobFacts {
        &self.inner.facts
    }

    /// The job's id.
    pub fn job_id(&self) -> &str {
        &self.inner.facts.job_id
    }

    /// 1-based count of runs.
    pub fn attempt(&self) -> u32 {
        self.inner.facts.attempt
    }

    /// The shared value of type `T`, if the program provided one.
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.inner.state.get()
    }

    /// Cancelled when the run should stop: its time is up, or the worker stops at once. A
    /// function that holds resources of others waits for it and cleans up.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancelled
    }

    /// Says how far the job has come: any value that JSON can hold. The latest one counts.
    ///
    /// # Errors
    /// The value is not one that JSON can hold.
    pub fn set_progress(&self, progress: &impl Serialize) -> Result<(), JobError> {
        let json = serde_json::to_vec(progress)?;
        *self.latest_progress() = json.into();
        self.inner.progress_reported.notify_one();
        Ok(())
    }

    /// The latest progress that was reported; empty when there was none.
    pub fn progress(&self) -> Payload {
        self.latest_progress().clone()
    }

    /// Waits for a report of progress that no earlier call has returned for. For one task at a
    /// time; cancel safe.
    pub(crate) async fn progress_reported(&self) {
        self.inner.progress_reported.notified().await;
    }

    fn latest_progress(&self) -> MutexGuard<'_, Payload> {
        // No code that holds the lock can panic.
        let progress = self.inner.progress.lock();
        progress.unwrap_or_else(PoisonError::into_inner)
    }
}
