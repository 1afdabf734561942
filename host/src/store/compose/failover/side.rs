//! Which of the two stores is used now, and whether the secondary holds anything.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use warren_plugin_api::StoreError;

use crate::store::Breaker;

pub(super) struct Side {
    state: Mutex<State>,
    /// The primary's: it follows what is decided here.
    breaker: Arc<Breaker>,
    /// Whether the primary is away.
    away: watch::Sender<bool>,
    /// Something is to be looked after.
    pub(super) work: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// Why the primary is away.
    away: Option<StoreError>,
    debt: Debt,
    /// Writes to the secondary that are under way, and that there ever were.
    writing: u32,
    written: u64,
    is_closed: bool,
}

/// Whether the secondary holds records that belong to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Debt {
    /// It was not looked at yet.
    #[default]
    Unknown,
    /// It was empty when it was looked at.
    None,
    /// This handle has written to it, or found something there.
    Owed,
}

impl Side {
    /// The side of a primary with this breaker.
    pub(super) fn of(breaker: &Arc<Breaker>) -> Self {
        Self {
            state: Mutex::default(),
            breaker: Arc::clone(breaker),
            away: watch::Sender::new(false),
            work: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the primary is not asked now.
    pub(super) fn primary_is_away(&self) -> Option<StoreError> {
        self.state().away.clone()
    }

    pub(super) fn primary_went(&self, error: &StoreError) {
        let mut state = self.state();
        if state.is_closed || state.away.is_some() {
            return;
        }
        tracing::warn!(%error, "the primary store is away; the secondary is used until it is back");
        state.away = Some(error.clone());
        drop(state);
        self.breaker.opened_by_owner(error);
        self.away.send_replace(true);
        self.work.notify_one();
    }

    pub(super) fn primary_is_back(&self) {
        if self.state().away.take().is_some() {
            self.breaker.succeeded();
            tracing::info!("the primary store is back");
            self.away.send_replace(false);
        }
    }

    /// Told whenever the primary goes or comes.
    pub(super) fn changes(&self) -> watch::Receiver<bool> {
        self.away.subscribe()
    }

    /// The primary was seen, or something was found to do: without waiting for the next look.
    pub(super) fn look_again(&self) {
        if self.primary_is_away().is_some() {
            self.work.notify_one();
        }
    }

    /// Whether the secondary may hold something of the primary's.
    pub(super) fn may_owe(&self) -> bool {
        self.state().debt != Debt::None
    }

    /// Whether it does, as far as this handle knows.
    pub(super) fn owes(&self) -> bool {
        self.state().debt == Debt::Owed
    }

    pub(super) fn found_in_secondary(&self) {
        self.state().debt = Debt::Owed;
        self.work.notify_one();
    }

    /// Held while a write to the secondary is under way.
    pub(super) fn writing_to_secondary(&self) -> Owing<'_> {
        let mut state = self.state();
        state.debt = Debt::Owed;
        state.writing += 1;
        state.written += 1;
        Owing { side: self }
    }

    /// The mark for [`found_empty`](Self::found_empty), taken before the secondary is looked at.
    pub(super) fn written(&self) -> u64 {
        self.state().written
    }

    /// The secondary was empty; unless something was written since `mark`, nothing is owed.
    pub(super) fn found_empty(&self, mark: u64) -> bool {
        let mut state = self.state();
        let is_settled = state.writing == 0 && state.written == mark;
        if is_settled {
            state.debt = Debt::None;
        }
        is_settled
    }

    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.work.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }
}

/// A write to the secondary that is under way.
pub(super) struct Owing<'a> {
    side: &'a Side,
}

impl Drop for Owing<'_> {
    fn drop(&mut self) {
        self.side.state().writing -= 1;
    }
}
