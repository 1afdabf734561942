//! Which jobs this worker is running, or has run and not yet answered.
//!
//! When the connection is lost, the broker delivers again what this worker is still running. The
//! second delivery waits for the first run to be stored, and then finds that nothing is left to do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use warren_plugin_api::{Text, Timestamp};

use crate::broker::AbortRequest;

/// The jobs in this worker's hands. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct InHand {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// More than one of a job when an id is used twice.
    runs: Mutex<HashMap<Text, Runs>>,
    let_go: Notify,
}

#[derive(Debug, Default)]
struct Runs {
    count: u32,
    /// Stops the latest run.
    stop: Option<Stop>,
}

/// How to stop a run.
#[derive(Debug)]
struct Stop {
    enqueued_at: Option<Timestamp>,
    token: CancellationToken,
}

/// One run of a job. Dropping it lets the job go.
#[derive(Debug)]
pub(super) struct Held {
    job_id: Text,
    shared: Arc<Shared>,
}

impl InHand {
    /// Takes a job in hand. `token` is cancelled when somebody asks to abort the job that was
    /// enqueued at this time.
    pub(super) fn hold(
        &self,
        job_id: Text,
        enqueued_at: Option<Timestamp>,
        token: CancellationToken,
    ) -> Held {
        let mut all = self.shared.runs();
        let runs = all.entry(job_id.clone()).or_default();
        runs.count += 1;
        runs.stop = Some(Stop { enqueued_at, token });
        drop(all);
        Held {
            job_id,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Stops the run that `request` is about, if it is here.
    pub(super) fn abort(&self, request: &AbortRequest) {
        let runs = self.shared.runs();
        let Some(stop) = runs
            .get(&request.job_id)
            .and_then(|runs| runs.stop.as_ref())
        else {
            return;
        };
        let is_meant = request.enqueued_at.is_none() || request.enqueued_at == stop.enqueued_at;
        if is_meant {
            stop.token.cancel();
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
    fn runs(&self) -> MutexGuard<'_, HashMap<Text, Runs>> {
        // No code that holds the lock can panic.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut runs = self.shared.runs();
        if let Some(of_job) = runs.get_mut(&self.job_id) {
            of_job.count -= 1;
            if of_job.count == 0 {
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
        let hold = || in_hand.hold(id.clone(), None, CancellationToken::new());
        let (one, other) = (hold(), hold());
        in_hand.until_let_go(&Text::from("b")).await;
        drop(one);
        let mut waiting = Box::pin(in_hand.until_let_go(&id));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(other);
        waiting.await;
    }

    #[tokio::test]
    async fn only_the_run_that_is_meant_is_stopped() {
        let in_hand = InHand::default();
        let (token, enqueued_at) = (CancellationToken::new(), Timestamp::from_unix_us(5));
        let _held = in_hand.hold(Text::from("a"), Some(enqueued_at), token.clone());
        let request = |job_id: &str, enqueued_at| AbortRequest {
            job_id: job_id.into(),
            enqueued_at,
        };
        in_hand.abort(&request("b", None));
        in_hand.abort(&request("a", Some(Timestamp::from_unix_us(4))));
        assert!(!token.is_cancelled());
        in_hand.abort(&request("a", Some(enqueued_at)));
        assert!(token.is_cancelled());
    }
}
