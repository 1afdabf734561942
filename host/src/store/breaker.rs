//! A circuit breaker: a store that failed is left alone, tried with one call, and used again.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, Serializer};
use tokio::{sync::Notify, time::Instant};
use warren_plugin_api::{ErrorClass, StoreError, Timestamp};

use crate::{figures::Counter, job::shorten};

/// How long a store is left alone after it failed: at first, then doubled up to the longest.
const FIRST_REST: Duration = Duration::from_millis(250);
/// The longest text of an error that is kept to be shown.
const MAX_SHOWN: usize = 1024;

/// When a breaker opens, and how long it stays so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BreakerPolicy {
    /// So many failures in a row change nothing yet.
    pub(crate) tolerated: u32,
    /// The longest time for which a store is left alone.
    pub(crate) longest_rest: Duration,
}

/// Whether a store is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// It is used.
    Closed,
    /// It is tried: by one call, or by the first batch after it answered a health check.
    HalfOpen,
    /// It failed and is left alone.
    Open,
}

impl BreakerState {
    /// The word that is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// What there is to say about a breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BreakerReport {
    /// Whether the store is used.
    pub state: BreakerState,
    /// Since when the store is used, or has been failing.
    #[serde(serialize_with = "as_text")]
    pub since: Timestamp,
    /// How often it was opened.
    pub opened: u64,
    /// Calls that were not made because it was not closed.
    pub refused: u64,
    /// The last failure, also of a store that works again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// The last failure of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LastError {
    /// What kind of failure it was.
    pub class: ErrorClass,
    /// What the store said; holds no secret.
    pub message: String,
    /// When.
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
}

fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// See the module's text. Says nothing to the log: whoever is told of a change does.
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: BreakerPolicy,
    /// Closed and without a failure: what calls look at as long as all is well, without a lock.
    is_calm: AtomicBool,
    inner: Mutex<Inner>,
    opened: Counter,
    refused: Counter,
    /// It opened: whoever tries the store has something to do.
    went: Notify,
}

#[derive(Debug)]
struct Inner {
    state: BreakerState,
    since: Timestamp,
    failing_since: Option<Instant>,
    /// In a row, while closed.
    failures: u32,
    rest: Duration,
    /// When the store may be tried; `None` while that is going on.
    try_at: Option<Instant>,
    last_error: Option<(StoreError, Timestamp)>,
}

impl Breaker {
    pub(crate) fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            is_calm: AtomicBool::new(true),
            inner: Mutex::new(Inner {
                state: BreakerState::Closed,
                since: Timestamp::now(),
                failing_since: None,
                failures: 0,
                rest: FIRST_REST,
                try_at: None,
                last_error: None,
            }),
            opened: Counter::default(),
            refused: Counter::default(),
            went: Notify::new(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_calm() || self.inner().state == BreakerState::Closed
    }

    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Acquire)
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.inner().state
    }

    /// When a store that is left alone may be tried; `None` while it is tried or used.
    pub(crate) fn try_at(&self) -> Option<Instant> {
        let inner = self.inner();
        inner.try_at.filter(|_| inner.state == BreakerState::Open)
    }

    /// Waits until it opens. Cancel safe.
    pub(crate) async fn opens(&self) {
        self.went.notified().await;
    }

    /// Why a call that is no trial is not made; `None` when it is.
    pub(crate) fn refusal(&self) -> Option<StoreError> {
        if self.is_calm() {
            return None;
        }
        let inner = self.inner();
        if inner.state == BreakerState::Closed {
            return None;
        }
        self.refused.increment();
        Some(inner.error())
    }

    /// As [`refusal`](Self::refusal), but when the store has been left alone for long enough the
    /// call is made, as a trial. A trial that never ends is followed by another one.
    pub(crate) fn refusal_unless_trial(&self) -> Option<StoreError> {
        if self.is_calm() {
            return None;
        }
        let now = Instant::now();
        let mut inner = self.inner();
        let may_try = inner.try_at.is_none_or(|at| now >= at);
        match inner.state {
            BreakerState::Closed => None,
            BreakerState::Open | BreakerState::HalfOpen if may_try => {
                inner.state = BreakerState::HalfOpen;
                inner.try_at = Some(now + inner.rest);
                None
            }
            BreakerState::Open | BreakerState::HalfOpen => {
                self.refused.increment();
                Some(inner.error())
            }
        }
    }

    /// A call failed with `error`. Whether that opened the breaker, which was closed.
    pub(crate) fn failed(&self, error: &StoreError) -> bool {
        let mut inner = self.inner();
        inner.last_error = Some((error.clone(), Timestamp::now()));
        self.is_calm.store(false, Ordering::Release);
        match inner.state {
            BreakerState::Closed => {
                inner.failures = inner.failures.saturating_add(1);
                if inner.failures <= self.policy.tolerated {
                    return false;
                }
                self.open(&mut inner);
                true
            }
            // One of many calls that were under way when it opened.
            BreakerState::Open if inner.try_at.is_some() => false,
            BreakerState::Open | BreakerState::HalfOpen => {
                inner.state = BreakerState::Open;
                inner.rest = (inner.rest * 2).min(self.policy.longest_rest);
                inner.try_at = Some(Instant::now() + inner.rest);
                false
            }
        }
    }

    /// Somebody has decided that the store is away. Whether it was in use.
    pub(crate) fn opened_by_owner(&self, error: &StoreError) -> bool {
        let mut inner = self.inner();
        inner.last_error = Some((error.clone(), Timestamp::now()));
        let was_closed = inner.state == BreakerState::Closed;
        if was_closed {
            self.open(&mut inner);
        }
        was_closed
    }

    fn open(&self, inner: &mut Inner) {
        let now = Instant::now();
        inner.state = BreakerState::Open;
        inner.since = Timestamp::now();
        inner.failing_since = Some(now);
        inner.rest = FIRST_REST;
        inner.try_at = Some(now + FIRST_REST);
        self.is_calm.store(false, Ordering::Release);
        self.opened.increment();
        self.went.notify_one();
    }

    /// The store is being asked whether it is there.
    pub(crate) fn probing(&self) {
        let mut inner = self.inner();
        if inner.state != BreakerState::Closed {
            inner.state = BreakerState::Open;
            inner.try_at = None;
        }
    }

    /// It is there; whether it works has yet to be seen.
    pub(crate) fn answered(&self) {
        let mut inner = self.inner();
        if inner.state != BreakerState::Closed {
            inner.state = BreakerState::HalfOpen;
            inner.try_at = None;
        }
    }

    /// It works. For how long it did not, if this closed the breaker.
    pub(crate) fn succeeded(&self) -> Option<Duration> {
        if self.is_calm() {
            return None;
        }
        let mut inner = self.inner();
        inner.failures = 0;
        self.is_calm.store(true, Ordering::Release);
        if inner.state == BreakerState::Closed {
            return None;
        }
        inner.state = BreakerState::Closed;
        inner.since = Timestamp::now();
        inner.rest = FIRST_REST;
        inner.try_at = None;
        inner.failing_since.take().map(|since| since.elapsed())
    }

    pub(crate) fn report(&self) -> BreakerReport {
        let inner = self.inner();
        BreakerReport {
            state: inner.state,
            since: inner.since,
            opened: self.opened.get(),
            refused: self.refused.get(),
            last_error: inner.last_error.as_ref().map(|(error, at)| LastError {
                class: error.class(),
                message: shorten(error.message(), MAX_SHOWN).into_owned(),
                at: *at,
            }),
        }
    }

    /// No code that holds the lock can panic.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn error(&self) -> StoreError {
        match &self.last_error {
            Some((error, _)) => error.clone(),
            None => StoreError::unavailable("the store is left alone for a while"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(10);

    fn breaker(tolerated: u32) -> Breaker {
        Breaker::new(BreakerPolicy {
            tolerated,
            longest_rest: LONGEST,
        })
    }

    fn gone() -> StoreError {
        StoreError::unavailable("gone")
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_only_answers_probes_is_tried_less_and_less_often() {
        let breaker = breaker(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            breaker.failed(&gone());
            let at = breaker.try_at().unwrap();
            waits.push(at - Instant::now());
            tokio::time::sleep_until(at).await;
            breaker.probing();
            breaker.answered();
            assert_eq!(breaker.state(), BreakerState::HalfOpen);
        }
        assert!(waits.is_sorted() && waits[0] < waits[1]);
        assert_eq!(waits[7], LONGEST);
        assert_eq!(breaker.report().opened, 1);

        assert!(breaker.succeeded().is_some());
        assert!(breaker.is_closed());
        breaker.failed(&gone());
        assert_eq!(breaker.try_at().unwrap() - Instant::now(), FIRST_REST);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_calls_that_were_under_way_do_not_put_off_the_trial() {
        let breaker = breaker(0);
        assert!(breaker.failed(&gone()));
        let try_at = breaker.try_at();
        assert!(!breaker.failed(&gone()));
        assert_eq!(breaker.try_at(), try_at);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_refused_is_told_why_and_counted() {
        let breaker = breaker(0);
        assert_eq!(breaker.refusal(), None);
        breaker.failed(&gone());
        assert_eq!(breaker.refusal(), Some(gone()));
        assert_eq!(breaker.refusal_unless_trial(), Some(gone()));
        assert_eq!(breaker.report().refused, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_tries_a_store_that_was_left_alone() {
        let breaker = breaker(1);
        assert!(!breaker.failed(&gone()), "one failure is tolerated");
        assert!(breaker.failed(&gone()));
        tokio::time::sleep_until(breaker.try_at().unwrap()).await;
        assert_eq!(breaker.refusal_unless_trial(), None);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.refusal_unless_trial().is_some(), "one at a time");
        breaker.succeeded();
        assert_eq!(breaker.refusal_unless_trial(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_nobody_waits_for_any_more_is_followed_by_another() {
        let breaker = breaker(0);
        breaker.failed(&gone());
        tokio::time::sleep(FIRST_REST).await;
        assert_eq!(breaker.refusal_unless_trial(), None);
        assert!(breaker.refusal_unless_trial().is_some());
        tokio::time::sleep(FIRST_REST).await;
        assert_eq!(breaker.refusal_unless_trial(), None);
    }
}
