//! The worker: takes jobs from queues, runs their functions, stores what became of them, and only
//! then answers the broker.
//!
//! # The life of a delivery
//! 1. `consume` takes it when a slot is free and starts a task for it.
//! 2. `execute` reads the message and asks `admission` whether the job is run; if so, it calls
//!    the function under its timeout and hands the verdict to `outcome`.
//! 3. What the outcome asks to be sent, a retry or a dead letter, is sent and confirmed first.
//! 4. The record goes to the result writer (`results`), which stores it and then acknowledges the
//!    delivery. While the store is down the record waits in the [`Spool`].
//!
//! A failure in between means that the message is delivered again: work may be repeated, and is
//! never lost.

mod aborts;
mod admission;
mod attempt;
mod builder;
mod burst;
mod cleanup;
mod consume;
mod disk_spool;
mod error;
mod execute;
mod functions;
mod hand_over;
mod health;
mod hooks;
mod in_hand;
mod live;
mod outcome;
mod put_back;
mod replay;
mod resend;
mod results;
mod run;
mod shared;
mod shutdown;
pub mod signals;
mod spool;
mod stats;
mod store_state;
#[cfg(test)]
mod test_store;
#[cfg(test)]
mod tests;

pub use builder::WorkerBuilder;
pub use burst::Burst;
pub use disk_spool::{DiskSpool, SpoolError, Survey};
pub use error::WorkerError;
pub use health::{
    BrokerHealth, HealthError, HealthReport, HealthServer, HealthStatus, JobsHealth, NotTaking,
    SpoolHealth, WorkerHealth,
};
pub use hooks::{HookError, HookResult, Hooks, JobEnd, JobInfo, StartupContext};
pub use replay::{Brought, bring_to_store};
pub use shutdown::Shutdown;
pub use spool::{MemorySpool, Spool, Spooled, WhenFull, Window};
pub use stats::{WorkerReport, WorkerStats};

use std::sync::Arc;

use crate::{broker::Broker, store::Store};

/// Runs jobs from queues.
#[derive(Debug)]
pub struct Worker {
    broker: Broker,
    store: Store,
    options: builder::Options,
    live: Arc<live::Live>,
}

impl Worker {
    /// Starts to set up a worker that takes jobs from `broker` and keeps results in `store`.
    pub fn builder(broker: Broker, store: Store) -> WorkerBuilder {
        WorkerBuilder::new(broker, store)
    }

    /// The worker's id, as records name it.
    pub fn id(&self) -> &str {
        &self.options.worker
    }

    /// The live counts, from before [`run`](Self::run) until after it.
    pub fn stats(&self) -> WorkerStats {
        self.live.stats.clone()
    }

    /// How the worker is, from before [`run`](Self::run) until after it.
    pub fn health(&self) -> WorkerHealth {
        WorkerHealth::of(Arc::clone(&self.live))
    }

    /// Runs jobs until `shutdown` asks to stop or, in burst mode, until nothing is left.
    ///
    /// # Errors
    /// The worker does not start, or the broker connection was closed by this program. A broker
    /// that is merely away is waited for.
    ///
    /// # Cancel safety
    /// Dropping the future leaves running jobs to themselves; use `shutdown` instead.
    pub async fn run(self, shutdown: Shutdown) -> Result<WorkerReport, WorkerError> {
        consume::run(self, shutdown).await
    }
}
