//! The client: sends jobs, and tells what became of them, from any process.

mod abort;
mod declared_queues;
mod enqueue;
mod error;
mod read;
mod recorder;
mod request;
#[cfg(test)]
mod tests;
mod wait;

use std::{sync::Arc, time::Duration};

pub use abort::Abort;
pub use enqueue::Enqueued;
pub use error::{ClientError, EnqueueError, RunError};
pub use request::{DEFAULT_QUEUE, IfExists, InvalidRequest, JobRequest};
pub use wait::{CompletionEvent, WaitError, Waiters};

use crate::{announcer::Announcer, broker::Broker, store::Store};
use declared_queues::DeclaredQueues;
use recorder::Recorder;

/// How a client treats jobs whose request does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// How long the record of a job is kept.
    pub result_ttl: Duration,
    /// The time between two looks at all jobs that are waited for: what catches an announcement
    /// that was lost.
    pub safety_read: Duration,
}

impl Default for ClientOptions {
    /// A day, as rabbitmq-arq; a look every 5 seconds.
    fn default() -> Self {
        Self {
            result_ttl: Duration::from_secs(24 * 60 * 60),
            safety_read: Duration::from_secs(5),
        }
    }
}

/// Sends jobs and reads results. Cheap to clone; clones share connections and waiters.
#[derive(Debug, Clone)]
pub struct Client {
    broker: Broker,
    store: Store,
    options: Arc<ClientOptions>,
    declared: DeclaredQueues,
    recorder: Recorder,
    waiters: Waiters,
    announcer: Announcer,
}

impl Client {
    /// A client with the default options.
    pub fn new(broker: Broker, store: Store) -> Self {
        Self::with_options(broker, store, ClientOptions::default())
    }

    /// A client with options of its own.
    pub fn with_options(broker: Broker, store: Store, options: ClientOptions) -> Self {
        let waiters = Waiters::new(store.clone(), Some(broker.clone()), options.safety_read);
        let announcer = Announcer::new(store.clone(), Some(broker.clone()));
        let recorder = Recorder::new(store.clone());
        Self {
            broker,
            store,
            options: Arc::new(options),
            declared: DeclaredQueues::default(),
            recorder,
            waiters,
            announcer,
        }
    }

    /// The store that results are read from.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The broker that jobs are sent to.
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }
}
