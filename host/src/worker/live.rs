//! What can be seen of a worker while it runs, by those who are no part of it.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::{sync::watch, time::Instant};
use warren_plugin_api::{Text, Timestamp};

use super::{
    builder::Options,
    functions::Functions,
    spool::{Spool, WhenFull},
    stats::WorkerStats,
    store_state::BREAKER,
};
use crate::{
    broker::{Broker, ConnectionState},
    figures::Counter,
    store::{Breaker, Store},
};

/// How far a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Starting,
    Running,
    Stopping,
    Ended,
}

/// One for each worker.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) worker: Text,
    pub(super) queues: Vec<String>,
    pub(super) concurrency: usize,
    pub(super) broker: watch::Receiver<ConnectionState>,
    /// Behind the breaker.
    pub(super) store: Store,
    pub(super) breaker: Arc<Breaker>,
    pub(super) spool: Arc<dyn Spool>,
    pub(super) when_full: WhenFull,
    pub(super) stats: WorkerStats,
    pub(super) functions: Functions,
    pub(super) connection_losses: Counter,
    pub(super) started_at: Timestamp,
    pub(super) began: Instant,
    phase: AtomicU8,
}

impl Live {
    pub(super) fn new(broker: &Broker, store: &Store, options: &Options) -> Self {
        let breaker = Arc::new(Breaker::new(BREAKER));
        let store = store.behind(&breaker);
        Self {
            worker: options.worker.clone(),
            queues: options.queues.iter().map(ToString::to_string).collect(),
            concurrency: options.concurrency,
            broker: broker.state(),
            stats: WorkerStats::with_store(store.clone()),
            store,
            breaker,
            spool: Arc::clone(&options.spooling.spool),
            when_full: options.spooling.when_full,
            functions: Functions::of(&options.functions),
            connection_losses: Counter::default(),
            started_at: Timestamp::now(),
            began: Instant::now(),
            phase: AtomicU8::new(Phase::Starting as u8),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Running,
            2 => Phase::Stopping,
            _ => Phase::Ended,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Counts lost connections until the broker is closed.
    pub(super) async fn follow_broker(&self) {
        let mut state = self.broker.clone();
        let mut was_up = is_up(*state.borrow_and_update());
        while state.changed().await.is_ok() {
            let is = *state.borrow_and_update();
            if was_up && is == ConnectionState::Connecting {
                self.connection_losses.increment();
            }
            was_up = is_up(is);
        }
    }
}

/// Whether jobs can be handed over: a broker that takes no messages goes on with that.
pub(super) fn is_up(state: ConnectionState) -> bool {
    matches!(state, ConnectionState::Connected | ConnectionState::Blocked)
}

/// Says that a worker has ended, however that came.
pub(super) struct Ends<'a>(pub(super) &'a Live);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.enter(Phase::Ended);
    }
}
