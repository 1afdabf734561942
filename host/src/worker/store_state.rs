//! Whether the result store takes records, as far as the writer knows.

use std::time::Duration;

use tokio::time::Instant;
use warren_plugin_api::StoreError;

const FIRST_PROBE_AFTER: Duration = Duration::from_millis(250);
const LONGEST_PROBE_AFTER: Duration = Duration::from_secs(10);
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Opens when the store fails and closes when it takes a record again. Speaks only when that
/// changes: never once per job.
#[derive(Debug)]
pub(super) struct StoreState {
    store: String,
    phase: Phase,
    down_since: Option<Instant>,
    probe_after: Duration,
    lost: usize,
    complained_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It takes records.
    Up,
    /// It answers a health check again; whether it takes records has yet to be seen.
    Trial,
    /// It failed, and is asked for its health at this time; `None` while the question is open.
    Down { probe_at: Option<Instant> },
}

impl StoreState {
    pub(super) fn new(store: &str) -> Self {
        Self {
            store: store.to_owned(),
            phase: Phase::Up,
            down_since: None,
            probe_after: FIRST_PROBE_AFTER,
            lost: 0,
            complained_at: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Whether one batch may be tried.
    pub(super) fn is_on_trial(&self) -> bool {
        self.phase == Phase::Trial
    }

    /// When the store is to be asked for its health.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Down { probe_at } => probe_at,
            Phase::Up | Phase::Trial => None,
        }
    }

    /// The question for its health is open.
    pub(super) fn probing(&mut self) {
        self.phase = Phase::Down { probe_at: None };
    }

    /// It answered the question.
    pub(super) fn answered(&mut self) {
        if !self.is_up() {
            self.phase = Phase::Trial;
        }
    }

    /// It has taken a batch.
    pub(super) fn succeeded(&mut self) {
        self.phase = Phase::Up;
        self.probe_after = FIRST_PROBE_AFTER;
        if let Some(since) = self.down_since.take() {
            let down_for = since.elapsed();
            tracing::info!(
                store = self.store,
                ?down_for,
                "the result store takes records again"
            );
        }
    }

    /// A call failed with `error`.
    pub(super) fn failed(&mut self, error: &StoreError) {
        if self.down_since.is_none() {
            self.down_since = Some(Instant::now());
            tracing::warn!(
                store = self.store,
                %error,
                "the result store failed; jobs go on, and their records wait until it is back"
            );
        } else {
            tracing::debug!(store = self.store, %error, "the result store still fails");
        }
        if let Phase::Down { probe_at: Some(_) } = self.phase {
            return;
        }
        self.phase = Phase::Down {
            probe_at: Some(Instant::now() + self.probe_after),
        };
        self.probe_after = (self.probe_after * 2).min(LONGEST_PROBE_AFTER);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_only_answers_probes_is_tried_less_and_less_often() {
        let mut state = StoreState::new("s");
        let error = StoreError::unavailable("gone");
        let mut waits = Vec::new();
        for _ in 0..8 {
            state.failed(&error);
            let at = state.probe_at().unwrap();
            waits.push(at - Instant::now());
            tokio::time::sleep_until(at).await;
            state.probing();
            state.answered();
            assert!(state.is_on_trial() && !state.is_up());
        }
        assert!(waits.is_sorted() && waits[0] < waits[1]);
        assert_eq!(waits[7], LONGEST_PROBE_AFTER);

        state.succeeded();
        assert!(state.is_up());
        state.failed(&error);
        assert_eq!(
            state.probe_at().unwrap() - Instant::now(),
            FIRST_PROBE_AFTER
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_calls_that_were_under_way_do_not_put_off_the_probe() {
        let mut state = StoreState::new("s");
        state.failed(&StoreError::unavailable("gone"));
        let probe_at = state.probe_at();
        state.failed(&StoreError::unavailable("gone"));
        assert_eq!(state.probe_at(), probe_at);
    }
}
