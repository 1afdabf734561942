//! What the writer knows of the result store, and says about it: never once per job.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use warren_plugin_api::StoreError;

use crate::store::{Breaker, BreakerPolicy, BreakerState};

/// The first failure opens it: an outcome that is not stored is spooled, and no job waits.
pub(super) const BREAKER: BreakerPolicy = BreakerPolicy {
    tolerated: 0,
    longest_rest: Duration::from_secs(10),
};
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// The store's breaker as the one sees it who tries the store and closes it: the others of the
/// worker make no call while it is not closed.
#[derive(Debug)]
pub(super) struct StoreState {
    store: String,
    breaker: Arc<Breaker>,
    lost: usize,
    complained_at: Option<Instant>,
}

impl StoreState {
    pub(super) fn new(store: &str, breaker: Arc<Breaker>) -> Self {
        Self {
            store: store.to_owned(),
            breaker,
            lost: 0,
            complained_at: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.breaker.is_closed()
    }

    /// Whether one batch may be tried.
    pub(super) fn is_on_trial(&self) -> bool {
        self.breaker.state() == BreakerState::HalfOpen
    }

    /// When the store is to be asked for its health.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.breaker.try_at()
    }

    /// Waits until somebody else finds that the store fails. Cancel safe.
    pub(super) async fn fails(&self) {
        self.breaker.opens().await;
    }

    /// The question for its health is open.
    pub(super) fn probing(&self) {
        self.breaker.probing();
    }

    /// It answered the question.
    pub(super) fn answered(&self) {
        self.breaker.answered();
    }

    /// It has taken a batch.
    pub(super) fn succeeded(&self) {
        if let Some(down_for) = self.breaker.succeeded() {
            tracing::info!(
                store = self.store,
                ?down_for,
                "the result store takes records again"
            );
        }
    }

    /// A call failed with `error`.
    pub(super) fn failed(&self, error: &StoreError) {
        if self.breaker.failed(error) {
            tracing::warn!(
                store = self.store,
                %error,
                "the result store failed; jobs go on, and their records wait until it is back"
            );
        } else {
            tracing::debug!(store = self.store, %error, "the result store still fails");
        }
    }

    /// Records could not even be kept, and are lost.
    pub(super) fn lost(&mut self, count: usize) {
        self.lost += count;
        if self.may_complain() {
            let lost = std::mem::take(&mut self.lost);
            tracing::error!(
                store = self.store,
                lost,
                "records are lost: the result store is down and the spool takes no more"
            );
        }
    }

    /// Records could not even be kept, and their messages stay unanswered.
    pub(super) fn waiting(&mut self, count: usize) {
        if self.may_complain() {
            tracing::error!(
                store = self.store,
                waiting = count,
                "the result store is down and the spool takes no more: \
                 jobs are not acknowledged, and the broker will send no more of them"
            );
        }
    }

    fn may_complain(&mut self) -> bool {
        let now = Instant::now();
        let may = self
            .complained_at
            .is_none_or(|at| now >= at + COMPLAINT_INTERVAL);
        if may {
            self.complained_at = Some(now);
        }
        may
    }
}
