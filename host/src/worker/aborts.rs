//! Which jobs somebody asked to abort.
//!
//! Whoever aborts a job writes `aborted` into the store and then tells every worker. So a worker
//! knows of each request that came after it began; about messages that were sent before that, it
//! asks the store, many at once.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lru::LruCache;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use warren_plugin_api::{Status, Text, Timestamp};

use super::in_hand::InHand;
use crate::{
    broker::{AbortRequest, Control, ControlReceiver},
    job::JobMessage,
    store::Store,
};

/// The most requests that are remembered; the latest count.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// How far the clocks of this machine and of those that send jobs may be apart.
const CLOCKS_APART: Duration = Duration::from_secs(5);
/// How long jobs wait for the store's answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a store that gave none is not asked again.
const REST: Duration = Duration::from_secs(10);
/// The most jobs that the store is asked about in one call.
const AT_ONCE: usize = 512;

/// What a worker knows about requests to abort.
#[derive(Debug)]
pub(super) struct Aborts {
    requests: Mutex<LruCache<Text, Option<Timestamp>>>,
    /// So that jobs need no lock as long as nobody aborts anything.
    any: AtomicBool,
    /// Messages from before this time may have been aborted without a word to this worker.
    informed_since: Mutex<Timestamp>,
    questions: mpsc::UnboundedSender<Question>,
}

#[derive(Debug)]
struct Question {
    job_id: Text,
    enqueued_at: Timestamp,
    answer: oneshot::Sender<bool>,
}

impl Aborts {
    /// Starts to ask `store` when need be; that ends when this is dropped.
    pub(super) fn new(store: Store) -> Self {
        let (questions, asked) = mpsc::unbounded_channel();
        tokio::spawn(answer(store, asked));
        Self {
            requests: Mutex::new(LruCache::new(REMEMBERED)),
            any: AtomicBool::new(false),
            informed_since: Mutex::new(Timestamp::MAX),
            questions,
        }
    }

    /// Whether the job of `message` is to be aborted instead of run.
    pub(super) async fn concern(&self, message: &JobMessage) -> bool {
        if self.is_requested(message) {
            return true;
        }
        if message.enqueue_time >= *lock(&self.informed_since) {
            return false;
        }
        let (answer, answered) = oneshot::channel();
        let question = Question {
            job_id: message.job_id.as_text().clone(),
            enqueued_at: message.enqueue_time,
            answer,
        };
        self.questions.send(question).is_ok() && answered.await.unwrap_or(false)
    }

    /// Whether this worker was told.
    pub(super) fn is_requested(&self, message: &JobMessage) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let requests = lock(&self.requests);
        requests
            .peek(message.job_id.as_str())
            .is_some_and(|enqueued_at| enqueued_at.is_none_or(|at| at == message.enqueue_time))
    }

    fn request(&self, request: AbortRequest) {
        let forgotten = lock(&self.requests).push(request.job_id.clone(), request.enqueued_at);
        self.any.store(true, Ordering::Release);
        if forgotten.is_some_and(|(job_id, _)| job_id != request.job_id) {
            // More than can be remembered: about older messages the store is asked again.
            self.informed_from(Timestamp::now());
        }
    }

    /// Messages that were sent before this may have been aborted without a word to this worker.
    fn informed_from(&self, time: Timestamp) {
        *lock(&self.informed_since) = time.saturating_add(CLOCKS_APART);
    }

    /// Takes in requests until the broker is closed.
    pub(super) async fn follow(&self, mut control: ControlReceiver, in_hand: &InHand) {
        while let Some(control) = control.next().await {
            match control {
                Control::Abort(request) => {
                    tracing::info!(job_id = %request.job_id, "asked to abort a job");
                    // In this order: a run that begins now looks after it is in hand.
                    self.request(request.clone());
                    in_hand.abort(&request);
                }
                // What was sent before was missed.
                Control::Up => self.informed_from(Timestamp::now()),
                Control::Down => self.informed_from(Timestamp::MAX),
            }
        }
    }
}

/// No code that holds one of the locks can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the store about all jobs that are waiting for an answer, again and again. A store that does
/// not answer must not keep jobs from running: it is left alone for a while.
async fn answer(store: Store, mut asked: mpsc::UnboundedReceiver<Question>) {
    let mut questions = Vec::new();
    let mut asks_from = Instant::now();
    while asked.recv_many(&mut questions, AT_ONCE).await > 0 {
        let mut statuses = Vec::new();
        if Instant::now() >= asks_from {
            let ids = questions.iter().map(|it| it.job_id.clone()).collect();
            match tokio::time::timeout(PATIENCE, store.status_many(ids)).await {
                Ok(Ok(found)) => statuses = found,
                Ok(Err(_)) | Err(_) => {
                    tracing::debug!("cannot see whether jobs were aborted");
                    asks_from = Instant::now() + REST;
                }
            }
        }
        let mut statuses = statuses.into_iter();
        for question in questions.drain(..) {
            let status = statuses.next().and_then(Result::ok).flatten();
            let aborted = status == Some(Status::Aborted) && is_about(&store, &question).await;
            // Who asked may have gone.
            let _ = question.answer.send(aborted);
        }
    }
}

/// Whether the record is of this very job: its id can have been used before.
async fn is_about(store: &Store, question: &Question) -> bool {
    let record = store.get(question.job_id.clone()).await.ok().flatten();
    record.is_some_and(|record| {
        let enqueued_at = record.enqueued_at.unwrap_or(question.enqueued_at);
        record.status == Status::Aborted && enqueued_at == question.enqueued_at
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use warren_plugin_api::Record;

    use super::*;
    use crate::{
        broker::{Broker, BrokerSettings},
        job::JobId,
        worker::test_store::{Mode, TestStore},
    };

    fn message(id: &str, enqueued_at: Timestamp) -> JobMessage {
        JobMessage {
            enqueue_time: enqueued_at,
            ..JobMessage::new(JobId::new(id).unwrap(), "f", "q")
        }
    }

    const LONG_AGO: Timestamp = Timestamp::from_unix_us(1);

    async fn store_with_an_aborted_job() -> (TestStore, Store) {
        let test_store = TestStore::new();
        let store = test_store.open(Duration::from_secs(600));
        let record = Record {
            job_id: "gone".into(),
            status: Status::Aborted,
            ..Record::default()
        };
        store.put(record.into()).await.unwrap();
        (test_store, store)
    }

    #[tokio::test]
    async fn what_was_aborted_before_the_worker_began_is_found_in_the_store() {
        let (_, store) = store_with_an_aborted_job().await;
        let aborts = Aborts::new(store);
        assert!(aborts.concern(&message("gone", LONG_AGO)).await);
        assert!(!aborts.concern(&message("other", LONG_AGO)).await);
    }

    #[tokio::test]
    async fn a_request_concerns_the_job_of_that_time_and_no_later_one_of_its_id() {
        let (_, store) = store_with_an_aborted_job().await;
        let broker = Broker::connect(&BrokerSettings::new("memory://aborts".parse().unwrap()))
            .await
            .unwrap();
        let aborts = Arc::new(Aborts::new(store));
        let control = broker.control();
        let following = {
            let aborts = Arc::clone(&aborts);
            tokio::spawn(async move { aborts.follow(control, &InHand::default()).await })
        };
        let enqueued_at = Some(Timestamp::MAX);
        let job_id = Text::from("a");
        let request = AbortRequest {
            job_id,
            enqueued_at,
        };
        broker.request_abort(&request).await.unwrap();
        let known = async {
            while !aborts.concern(&message("a", Timestamp::MAX)).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), known)
            .await
            .unwrap();
        assert!(!aborts.concern(&message("a", LONG_AGO)).await);
        following.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_asked_once_and_then_left_alone() {
        let (test_store, store) = store_with_an_aborted_job().await;
        let aborts = Aborts::new(store);
        test_store.set(Mode::Holds);
        let began = Instant::now();
        for _ in 0..5 {
            assert!(!aborts.concern(&message("gone", LONG_AGO)).await);
        }
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
