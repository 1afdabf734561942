//! How a worker is put together.

use std::{sync::Arc, time::Duration};

use warren_plugin_api::Text;

use super::{Burst, Hooks, Spool, WhenFull, Worker, WorkerError, live::Live, spool::Spooling};
use crate::{
    broker::{Broker, QueueName},
    function::FunctionRegistry,
    job::{JobId, MAX_BODY_BYTES},
    store::Store,
};

/// Sets up a [`Worker`].
#[derive(Debug)]
#[must_use]
pub struct WorkerBuilder {
    pub(super) broker: Broker,
    pub(super) store: Store,
    pub(super) options: Options,
}

/// What is set; the same for the whole life of a worker.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) worker: Text,
    pub(super) queues: Vec<QueueName>,
    pub(super) concurrency: usize,
    pub(super) prefetch: Option<u16>,
    pub(super) functions: FunctionRegistry,
    pub(super) hooks: Hooks,
    pub(super) hook_timeout: Duration,
    pub(super) burst: Option<Burst>,
    pub(super) grace: Duration,
    pub(super) result_ttl: Duration,
    pub(super) max_lost_runs: u32,
    pub(super) max_body_bytes: usize,
    pub(super) cleanup_interval: Option<Duration>,
    pub(super) spooling: Spooling,
}

impl WorkerBuilder {
    pub(super) fn new(broker: Broker, store: Store) -> Self {
        let options = Options {
            worker: random_worker_id(),
            queues: Vec::new(),
            concurrency: 10,
            prefetch: None,
            functions: FunctionRegistry::default(),
            hooks: Hooks::default(),
            hook_timeout: Duration::from_secs(10),
            burst: None,
            grace: Duration::from_secs(30),
            result_ttl: Duration::from_secs(24 * 3600),
            max_lost_runs: 3,
            max_body_bytes: MAX_BODY_BYTES,
            cleanup_interval: Some(Duration::from_secs(60)),
            spooling: Spooling::default(),
        };
        Self {
            broker,
            store,
            options,
        }
    }

    /// The queues to consume. At least one.
    pub fn queues(mut self, queues: impl IntoIterator<Item = QueueName>) -> Self {
        self.options.queues = queues.into_iter().collect();
        self
    }

    /// The functions that jobs may name.
    pub fn functions(mut self, functions: FunctionRegistry) -> Self {
        self.options.functions = functions;
        self
    }

    /// The worker's id, as records name it. Default: `worker_` and 8 random hexadecimal digits.
    pub fn name(mut self, name: impl Into<Text>) -> Self {
        self.options.worker = name.into();
        self
    }

    /// How many jobs run at once. Default: 10.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.options.concurrency = concurrency;
        self
    }

    /// How many messages of each queue the broker may hand over unanswered. Default: as many as
    /// run at once, so that no message waits here while another worker is idle.
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.options.prefetch = Some(prefetch);
        self
    }

    /// What to do at certain moments. Default: nothing.
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.options.hooks = hooks;
        self
    }

    /// How long a hook may take. Default: 10 s.
    pub fn hook_timeout(mut self, timeout: Duration) -> Self {
        self.options.hook_timeout = timeout;
        self
    }

    /// End when the queues are empty. Default: run until asked to stop.
    pub fn burst(mut self, burst: Burst) -> Self {
        self.options.burst = Some(burst);
        self
    }

    /// How long running jobs may go on after a graceful stop. Default: 30 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// How long results are kept, unless the function or the job says otherwise. Default: 24 h.
    pub fn result_ttl(mut self, ttl: Duration) -> Self {
        self.options.result_ttl = ttl;
        self
    }

    /// How many workers one attempt may take down with it before its message goes to the
    /// dead-letter queue. Counted in the job's record, so that a store which all workers share is
    /// needed. Where it may have been forgotten, RabbitMQ's own count stands in on quorum queues,
    /// from 20 on: it rises for messages that no worker began, too. Default: 3.
    pub fn max_lost_runs(mut self, max: u32) -> Self {
        self.options.max_lost_runs = max;
        self
    }

    /// The longest message that is read, in bytes. A longer one goes to the dead-letter queue.
    /// Default: 16 MiB.
    pub fn max_body_bytes(mut self, max: usize) -> Self {
        self.options.max_body_bytes = max;
        self
    }

    /// How often the store is asked to remove expired records; `None` leaves that to others.
    /// Default: every minute or so.
    pub fn cleanup_interval(mut self, interval: Option<Duration>) -> Self {
        self.options.cleanup_interval = interval;
        self
    }

    /// Where records wait while the store is down. Default: in memory, up to 256 MiB; a
    /// [`DiskSpool`](super::DiskSpool) keeps them when this process dies.
    pub fn spool(mut self, spool: Arc<dyn Spool>) -> Self {
        self.options.spooling.spool = spool;
        self
    }

    /// What to do when the store is down and the spool takes no more. Default:
    /// [`WhenFull::Stop`].
    pub fn when_spool_full(mut self, when_full: WhenFull) -> Self {
        self.options.spooling.when_full = when_full;
        self
    }

    /// Checks the options.
    ///
    /// # Errors
    /// An option that cannot work.
    pub fn build(self) -> Result<Worker, WorkerError> {
        let invalid = |option, found: &dyn std::fmt::Display, expected| {
            Err(WorkerError::InvalidOption {
                option,
                found: found.to_string(),
                expected,
            })
        };
        let options = &self.options;
        if options.queues.is_empty() {
            return invalid("queues", &"empty", "at least one queue");
        }
        if !(1..=MAX_CONCURRENCY).contains(&options.concurrency) {
            return invalid("concurrency", &options.concurrency, "1 to 100000");
        }
        if options.prefetch == Some(0) {
            return invalid("prefetch", &0, "1 to 65535");
        }
        if options.worker.is_empty() || options.worker.len() > JobId::MAX_BYTES {
            return invalid("name", &format!("{:?}", options.worker), "1 to 1024 bytes");
        }
        if options.result_ttl.is_zero() {
            return invalid("result_ttl", &"0 s", "more than zero");
        }
        if options.max_lost_runs == 0 {
            return invalid("max_lost_runs", &0, "1 or more");
        }
        Ok(Worker {
            live: Arc::new(Live::new(&self.broker, &self.store, options)),
            broker: self.broker,
            store: self.store,
            options: self.options,
        })
    }
}

const MAX_CONCURRENCY: usize = 100_000;

impl Options {
    /// How many messages the broker may hand over unanswered.
    pub(super) fn prefetch(&self) -> u16 {
        self.prefetch
            .unwrap_or_else(|| u16::try_from(self.concurrency).unwrap_or(u16::MAX))
    }
}

fn random_worker_id() -> Text {
    Text::from(format!("worker_{:08x}", rand::random::<u32>()))
}
