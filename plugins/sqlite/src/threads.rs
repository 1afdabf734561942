//! Threads of the store's own: SQLite blocks, and the host's threads must not.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use tokio::sync::watch;
use warren_plugin_api::{StoreError, StoreResult};

/// Counts the threads that run.
pub(crate) struct Threads {
    running: Arc<watch::Sender<usize>>,
}

/// Counted until it is dropped.
struct Running(Arc<watch::Sender<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self {
            running: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Runs `work` on a thread of its own, again when it panics: one bad call must not end the
    /// store.
    pub(crate) fn spawn(
        &self,
        name: &str,
        mut work: impl FnMut() + Send + 'static,
    ) -> StoreResult<()> {
        self.running.send_modify(|running| *running += 1);
        let running = Running(Arc::clone(&self.running));
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {}
                // What the thread holds, its connection too, is gone before it counts as ended.
                drop(work);
                drop(running);
            })
            .map(drop)
            .map_err(|error| StoreError::unavailable(format!("cannot start a thread: {error}")))
    }

    /// Returns when all have ended.
    pub(crate) async fn ended(&self) {
        let mut running = self.running.subscribe();
        let _ = running.wait_for(|running| *running == 0).await;
    }
}

/// The store was closed.
pub(crate) fn closed() -> StoreError {
    StoreError::unavailable("the store was closed")
}

/// A thread took a call and panicked.
pub(crate) fn died() -> StoreError {
    StoreError::internal("the SQLite store panicked in this call")
}
