//! Brings the `queued` records of single jobs to the store: those of many callers together.
//!
//! Group commit without a timer. A caller who finds the store free lets those tasks run first that
//! can, and writes its record with those that they bring; whoever comes while the store is busy is
//! written with the others who came, in the next batch. Each hears of its own record, and only once
//! the store has it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{runtime::Handle, sync::oneshot};
use warren_plugin_api::{ErrorClass, StoreError, StoreResult, Write, WriteOutcome};

use crate::store::Store;

/// Calls that the store may be working on at once.
const CALLS_AT_ONCE: usize = 4;
/// The most records of one batch.
const MAX_BATCH: usize = 512;
/// The most bytes of one batch, unless a single record has more.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Cheap to clone; clones share batches.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    calls: usize,
    /// One of these calls has not begun: whoever comes is written by it.
    is_gathering: bool,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    write: Box<Write>,
    answer: oneshot::Sender<StoreResult<WriteOutcome>>,
}

type Answer = oneshot::Receiver<StoreResult<WriteOutcome>>;

impl Waiting {
    fn new(write: Box<Write>) -> (Self, Answer) {
        let (answer, receiver) = oneshot::channel();
        (Self { write, answer }, receiver)
    }
}

impl Recorder {
    pub(super) fn new(store: Store) -> Self {
        let queue = Mutex::default();
        Self {
            shared: Arc::new(Shared { store, queue }),
        }
    }

    /// Writes one record.
    ///
    /// # Cancel safety
    /// A dropped call may have written its record or not; the records of others are written.
    pub(super) async fn put(&self, write: Box<Write>) -> StoreResult<WriteOutcome> {
        let Ok(runtime) = Handle::try_current() else {
            return self.shared.write_one(write).await;
        };
        let answer = match self.shared.take_turn(write, runtime) {
            Ok((write, mut turn)) => {
                tokio::task::yield_now().await;
                let mut batch = turn.end_gathering();
                if batch.is_empty() {
                    return self.shared.write_one(write).await;
                }
                let (waiting, answer) = Waiting::new(write);
                batch.push(waiting);
                self.shared.write(batch).await;
                answer
            }
            Err(answer) => answer,
        };
        answer.await.unwrap_or_else(|_| {
            Err(StoreError::unavailable(
                "the record was not written: the program is ending",
            ))
        })
    }
}

impl Shared {
    /// The right to call the store soon, or where the answer will come.
    fn take_turn(
        self: &Arc<Self>,
        write: Box<Write>,
        runtime: Handle,
    ) -> Result<(Box<Write>, Turn), Answer> {
        let mut queue = self.lock();
        if queue.calls < CALLS_AT_ONCE && !queue.is_gathering {
            queue.calls += 1;
            queue.is_gathering = true;
            let turn = Turn {
                shared: Arc::clone(self),
                runtime,
                is_gathering: true,
            };
            return Ok((write, turn));
        }
        let (waiting, answer) = Waiting::new(write);
        queue.waiting.push(waiting);
        Err(answer)
    }

    /// As a batch: that is a pointer, where a record by itself is copied from call to call.
    async fn write_one(&self, write: Box<Write>) -> StoreResult<WriteOutcome> {
        let mut outcomes = self.store.put_many(vec![*write]).await?;
        let none = || {
            Err(StoreError::internal(
                "the store gave no answer for a record",
            ))
        };
        outcomes.pop().unwrap_or_else(none)
    }

    async fn write(&self, batch: Vec<Waiting>) {
        let (writes, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (*waiting.write, waiting.answer))
            .unzip();
        // Kept for a second try, one by one: nobody pays for the record of another.
        let kept = writes.clone();
        match self.store.put_many(writes).await {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // Who does not listen any more has given up.
                    let _ = answer.send(outcome);
                }
            }
            Err(error) if error.class() == ErrorClass::Unavailable => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
            Err(_) => {
                for (answer, write) in answers.into_iter().zip(kept) {
                    let _ = answer.send(self.write_one(write.into()).await);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// What goes out next; nothing of those who have given up.
    fn next_batch(&mut self) -> Vec<Waiting> {
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.write.record.size_bytes();
            bytes <= MAX_BATCH_BYTES
        };
        let count = self.waiting.iter().take(MAX_BATCH).take_while(fits).count();
        let count = count.max(1).min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }
}

/// The right to call the store. Goes on to those who wait, however the call ended.
struct Turn {
    shared: Arc<Shared>,
    /// Where the next batch is written: a call may be dropped anywhere.
    runtime: Handle,
    is_gathering: bool,
}

impl Turn {
    /// The others who are written in this turn.
    fn end_gathering(&mut self) -> Vec<Waiting> {
        self.is_gathering = false;
        let mut queue = self.shared.lock();
        queue.is_gathering = false;
        queue.next_batch()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        if self.is_gathering {
            queue.is_gathering = false;
        }
        let batch = queue.next_batch();
        if batch.is_empty() {
            queue.calls -= 1;
            return;
        }
        drop(queue);
        let turn = Self {
            shared: Arc::clone(&self.shared),
            runtime: self.runtime.clone(),
            is_gathering: false,
        };
        self.runtime.spawn(async move {
            turn.shared.write(batch).await;
            drop(turn);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::FutureExt;
    use warren_plugin_api::{
        BatchResult, Capabilities, Health, HostContext, Record, ResultStore, StoreObject, Text,
    };

    use super::*;
    use crate::store::StorePolicy;

    /// Counts its calls; one that holds the record "poison" fails as a whole.
    struct Counting(Arc<AtomicUsize>);

    impl ResultStore for Counting {
        type Config = ();
        const CAPABILITIES: Capabilities = Capabilities::NONE;

        async fn open(_config: (), _host: HostContext) -> StoreResult<Self> {
            Ok(Self(Arc::default()))
        }

        async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
            let mut outcomes = self.put_many(vec![write]).await?;
            outcomes.remove(0)
        }

        async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
            if writes.iter().any(|it| &*it.record.job_id == "poison") {
                return Err(StoreError::internal("cannot"));
            }
            Ok(vec![Ok(WriteOutcome::Written); writes.len()])
        }

        async fn get(&self, _job_id: Text) -> StoreResult<Option<Record>> {
            Ok(None)
        }

        async fn delete(&self, _job_id: Text) -> StoreResult<bool> {
            Ok(false)
        }

        async fn health_check(&self) -> StoreResult<Health> {
            Ok(Health::default())
        }
    }

    fn recorder() -> (Recorder, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let object = StoreObject::from_store(Counting(Arc::clone(&calls)));
        let store = Store::new("counting", object, StorePolicy::default()).unwrap();
        (Recorder::new(store), calls)
    }

    fn write(job_id: &str) -> Box<Write> {
        let record = Record {
            job_id: job_id.into(),
            ..Record::default()
        };
        Box::new(record.into())
    }

    #[tokio::test]
    async fn callers_who_come_while_the_store_is_busy_share_a_call() {
        let (recorder, calls) = recorder();
        let puts = (0..100).map(|number| recorder.put(write(&number.to_string())));
        let outcomes = futures_util::future::join_all(puts).await;
        assert!(outcomes.iter().all(|it| *it == Ok(WriteOutcome::Written)));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn nobody_pays_for_the_record_of_another() {
        let (recorder, _) = recorder();
        let ids = ["a", "b", "c", "d", "e", "poison", "f"];
        let puts = ids.map(|job_id| recorder.put(write(job_id)));
        let outcomes = futures_util::future::join_all(puts).await;
        let failed: Vec<bool> = outcomes.iter().map(Result::is_err).collect();
        assert_eq!(failed, [false, false, false, false, false, true, false]);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_others_their_turn() {
        let (recorder, _) = recorder();
        // Before the call, while its turn gathers, and while the store is asked.
        for polls in 0..4 {
            let puts = (0..9).map(|_| recorder.put(write("given up")));
            let mut gave_up = Box::pin(futures_util::future::join_all(puts));
            for _ in 0..polls {
                let _ = gave_up.as_mut().now_or_never();
                tokio::task::yield_now().await;
            }
            drop(gave_up);
            let outcome = recorder.put(write("a")).await;
            assert_eq!(outcome, Ok(WriteOutcome::Written), "after {polls} polls");
        }
        let all_done = async {
            while recorder.shared.lock().calls > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(20), all_done).await;
        assert!(done.is_ok());
    }
}
