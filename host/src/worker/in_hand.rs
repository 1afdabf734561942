//! Which jobs this worker is running, or has run and not yet answered.
//!
//! When the connection is lost, the broker delivers again what this worker is still running. The
//! second delivery waits for the first run to be stored, and then finds that nothing is left to do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use warren_plugin_api::Text;

/// The jobs in this worker's hands. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct InHand {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many runs each job has here; more than one when an id is used twice.
    runs: Mutex<HashMap<Text, u32>>,
    let_go: Notify,
}

/// One run of a job. Dropping it lets the job go.
#[derive(Debug)]
pub(super) struct Held {
    job_id: Text,
    shared: Arc<Shared>,
}

impl InHand {
    /// Takes a job in hand.
    pub(super) fn hold(&self, job_id: Text) -> Held {
        *self.shared.runs().entry(job_id.clone()).or_default() += 1;
        Held {
            job_id,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Waits until no run of the job is in hand. Cancel safe.
    pub(super) async fn until_let_go(&self, job_id: &Text) {
        loop {
            // Registered before looking, so that a run that ends in between is not missed.
            let let_go = self.shared.let_go.notified();
            tokio::pin!(let_go);
            let_go.as_mut().enable();
            if !self.shared.runs().contains_key(job_id) {
                return;
            }
            let_go.await;
        }
    }
}

impl Shared {
    fn runs(&self) -> MutexGuard<'_, HashMap<Text, u32>> {
        // No code that holds the lock can panic.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut runs = self.shared.runs();
        if let Some(count) = runs.get_mut(&self.job_id) {
            *count -= 1;
            if *count == 0 {
                runs.remove(&self.job_id);
            }
        }
        drop(runs);
        self.shared.let_go.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_let_go_when_its_last_run_is() {
        let in_hand = InHand::default();
        let id = Text::from("a");
        let (one, other) = (in_hand.hold(id.clone()), in_hand.hold(id.clone()));
        in_hand.until_let_go(&Text::from("b")).await;
        drop(one);
        let mut waiting = Box::pin(in_hand.until_let_go(&id));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(other);
        waiting.await;
    }
}
