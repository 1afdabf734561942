//! Puts back the ends of jobs that a client of rabbitmq-arq has written over.
//!
//! That client sends the message first and writes its `queued` record afterwards, whatever is
//! stored by then: of a job that ended in between nothing but `queued` would remain, and whoever
//! waits for it would wait for ever. So the ends of young jobs that no Warren client made are
//! looked at again a moment later.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::Instant,
};
use warren_plugin_api::{BatchResult, Record, Status, StoreResult, Text, Timestamp, Write};

use super::results::{MAX_BATCH, MAX_BATCH_BYTES};
use crate::{sleep::until, store::Store};

/// How long after its enqueueing a job's `queued` record may still come. Long, because the clocks
/// of two machines are compared.
const YOUNG: Duration = Duration::from_secs(60);
/// When an end is looked at: nearly every client has written by the first look, and one that was
/// busy by the second.
const LOOKS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// With more than this to look at, the oldest are looked at early and then let go.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// How long a store that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether the `queued` record of a job that was enqueued then may still come at `now`.
pub(super) fn is_young(enqueued_at: Timestamp, now: Timestamp) -> bool {
    now.saturating_duration_since(enqueued_at) < YOUNG
}

/// The task that looks at ends.
#[derive(Debug)]
pub(super) struct PutBack {
    ends: UnboundedSender<Record>,
    task: JoinHandle<()>,
}

impl PutBack {
    pub(super) fn begin(store: Store) -> Self {
        let (ends, inbox) = unbounded_channel();
        let task = tokio::spawn(put_back(store, inbox));
        Self { ends, task }
    }

    /// Watches over an end that has just been stored.
    pub(super) fn watch(&self, end: Record) {
        // The task lives as long as a sender does.
        let _ = self.ends.send(end);
    }

    /// Waits until every end was looked at: about a second after the last one was stored.
    pub(super) async fn finish(self) {
        drop(self.ends);
        // It has no way to panic, and nothing that follows depends on it.
        let _ = self.task.await;
    }
}

async fn put_back(store: Store, mut inbox: UnboundedReceiver<Record>) {
    let mut watched = Watched::default();
    loop {
        tokio::select! {
            end = inbox.recv() => match end {
                Some(end) => watched.add(end, Instant::now()),
                None => break,
            },
            () = until(watched.due()) => watched.look(&store, Instant::now()).await,
        }
    }
    watched.look_at_the_rest(&store).await;
}

/// Ends that may be written over yet.
#[derive(Debug, Default)]
struct Watched {
    /// One for each look that is to come; each in the order of its times.
    queues: [VecDeque<End>; LOOKS.len()],
    bytes: usize,
    paused_until: Option<Instant>,
}

#[derive(Debug)]
struct End {
    record: Record,
    stored_at: Instant,
}

impl End {
    fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.record.size_bytes()
    }
}

impl Watched {
    fn add(&mut self, record: Record, stored_at: Instant) {
        let end = End { record, stored_at };
        self.bytes += end.size_bytes();
        self.queues[0].push_back(end);
    }

    fn is_full(&self) -> bool {
        self.bytes > MAX_BYTES
    }

    /// When to look next.
    fn due(&self) -> Option<Instant> {
        let fronts = self.queues.iter().zip(LOOKS);
        let due = fronts
            .filter_map(|(queue, after)| Some(queue.front()?.stored_at + after))
            .min()?;
        let due = if self.is_full() { Instant::now() } else { due };
        Some(self.paused_until.map_or(due, |until| until.max(due)))
    }

    /// Looks at what is due at `now`.
    async fn look(&mut self, store: &Store, now: Instant) {
        for (number, after) in LOOKS.into_iter().enumerate().rev() {
            let is_full = self.is_full();
            let ends = self.take(number, |end| is_full || end.stored_at + after <= now);
            if ends.is_empty() {
                continue;
            }
            match put_back_those_of(store, &ends).await {
                Ok(()) => {
                    self.paused_until = None;
                    self.look_later(number + 1, ends);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot see whether ends of jobs were written over");
                    self.paused_until = Some(now + PAUSE);
                    self.look_later(number, ends);
                }
            }
            return;
        }
    }

    /// Takes the oldest ends that wait for this look, as many as fit into one.
    fn take(&mut self, number: usize, is_due: impl Fn(&End) -> bool) -> Vec<End> {
        let mut bytes = 0;
        let mut ends = Vec::new();
        while ends.len() < MAX_BATCH
            && bytes < MAX_BATCH_BYTES
            && let Some(end) = self.queues[number].pop_front_if(|end| is_due(end))
        {
            bytes += end.size_bytes();
            ends.push(end);
        }
        self.bytes -= bytes;
        ends
    }

    /// Keeps `ends` for a look, if there is one left and room for them.
    fn look_later(&mut self, number: usize, ends: Vec<End>) {
        let bytes: usize = ends.iter().map(End::size_bytes).sum();
        let Some(queue) = self.queues.get_mut(number) else {
            return;
        };
        if self.bytes + bytes > MAX_BYTES {
            return;
        }
        self.bytes += bytes;
        queue.extend(ends);
        // Those that a store did not answer for are older than the others.
        queue.make_contiguous().sort_by_key(|end| end.stored_at);
    }

    /// The worker stops: waits for the first look that is still to come, and takes no other.
    async fn look_at_the_rest(mut self, store: &Store) {
        if let Some(youngest) = self.queues[0].back() {
            tokio::time::sleep_until(youngest.stored_at + LOOKS[0]).await;
        }
        for number in 0..LOOKS.len() {
            loop {
                let ends = self.take(number, |_| true);
                if ends.is_empty() || put_back_those_of(store, &ends).await.is_err() {
                    break;
                }
            }
        }
    }
}

/// Writes those of `ends` once more of which the store says `queued`.
async fn put_back_those_of(store: &Store, ends: &[End]) -> StoreResult<()> {
    let id_of = |end: &End| end.record.job_id.clone();
    let statuses = store.status_many(ends.iter().map(id_of).collect()).await?;
    let statuses = unless_it_may_pass(statuses)?;
    let queued: Vec<&End> = ends
        .iter()
        .zip(statuses)
        .filter(|(_, status)| matches!(status, Ok(Some(Status::Queued))))
        .map(|(end, _)| end)
        .collect();
    if queued.is_empty() {
        return Ok(());
    }
    let ids: Vec<Text> = queued.iter().map(|end| id_of(end)).collect();
    let found = unless_it_may_pass(store.get_many(ids).await?)?;
    let writes: Vec<Write> = queued
        .into_iter()
        .zip(found)
        .filter(|(end, found)| matches!(found, Ok(Some(found)) if is_of_same_job(found, end)))
        .map(|(end, _)| Write::from(end.record.clone()))
        .collect();
    if writes.is_empty() {
        return Ok(());
    }
    let jobs = writes.len();
    unless_it_may_pass(store.put_many(writes).await?)?;
    tracing::info!(
        jobs,
        "ends of jobs that their client had written over with `queued` are put back"
    );
    Ok(())
}

/// The answers, unless one of them is an error that may pass.
fn unless_it_may_pass<T>(answers: Vec<StoreResult<T>>) -> BatchResult<T> {
    let passing = |answer: &StoreResult<T>| {
        let error = answer.as_ref().err();
        error.filter(|error| error.class().may_pass()).cloned()
    };
    match answers.iter().find_map(passing) {
        Some(error) => Err(error),
        None => Ok(answers),
    }
}

/// An id can be used again: then `queued` is about another job.
fn is_of_same_job(found: &Record, end: &End) -> bool {
    found.status == Status::Queued && found.enqueued_at == end.record.enqueued_at
}

#[cfg(test)]
mod tests {
    use warren_plugin_api::Payload;

    use super::*;
    use crate::worker::test_store::{Mode, TestStore};

    const ENQUEUED_AT: Timestamp = Timestamp::from_unix_us(5);

    fn record(id: &str, status: Status) -> Record {
        Record {
            job_id: id.into(),
            status,
            attempt: 1,
            enqueued_at: Some(ENQUEUED_AT),
            ..Record::default()
        }
    }

    /// An end that is stored and watched.
    async fn end(store: &TestStore, put_back: &PutBack, id: &str) {
        let end = record(id, Status::Completed);
        store.insert(end.clone());
        put_back.watch(end);
        // Until it was taken in.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn begin() -> (TestStore, PutBack) {
        let store = TestStore::new();
        let put_back = PutBack::begin(store.open(Duration::from_secs(1)));
        (store, put_back)
    }

    fn status(store: &TestStore, id: &str) -> Status {
        store.record(id).unwrap().status
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_written_over_early_or_late_comes_back() {
        let (store, put_back) = begin();
        for id in ["early", "late"] {
            end(&store, &put_back, id).await;
        }
        store.insert(record("early", Status::Queued));
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(status(&store, "early"), Status::Completed);
        store.insert(record("late", Status::Queued));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(status(&store, "late"), Status::Completed);
    }

    #[tokio::test(start_paused = true)]
    async fn only_queued_of_the_same_job_is_replaced() {
        let (store, put_back) = begin();
        for id in ["again", "deleted", "retried"] {
            end(&store, &put_back, id).await;
        }
        let again = Record {
            enqueued_at: Some(Timestamp::from_unix_us(6)),
            ..record("again", Status::Queued)
        };
        store.insert(again.clone());
        store.remove("deleted");
        store.insert(record("retried", Status::Failed));
        put_back.finish().await;
        assert_eq!(store.record("again"), Some(again));
        assert_eq!(store.record("deleted"), None);
        assert_eq!(status(&store, "retried"), Status::Failed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_stops_waits_for_the_first_look() {
        let (store, put_back) = begin();
        end(&store, &put_back, "a").await;
        let written_over = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            store.insert(record("a", Status::Queued));
        };
        tokio::join!(put_back.finish(), written_over);
        assert_eq!(status(&store, "a"), Status::Completed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_asked_again() {
        let (store, put_back) = begin();
        end(&store, &put_back, "a").await;
        store.insert(record("a", Status::Queued));
        store.set(Mode::Fails(warren_plugin_api::ErrorClass::Unavailable));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(status(&store, "a"), Status::Queued);
        store.set(Mode::Works);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(status(&store, "a"), Status::Completed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_stops_although_the_store_does_not_answer() {
        let (store, put_back) = begin();
        end(&store, &put_back, "a").await;
        store.set(Mode::Holds);
        put_back.finish().await;
        assert_eq!(status(&store, "a"), Status::Completed);
    }

    #[test]
    fn what_does_not_fit_is_looked_at_at_once_and_let_go() {
        let mut watched = Watched::default();
        let now = Instant::now();
        let large = Record {
            result: Payload::from(vec![b'1'; MAX_BYTES / 10 * 3]),
            ..record("large", Status::Completed)
        };
        for _ in 0..4 {
            watched.add(large.clone(), now);
        }
        assert!(watched.due().unwrap() <= Instant::now());
        let ends = watched.take(0, |_| true);
        assert_eq!(ends.len(), 1);
        watched.look_later(1, ends);
        assert!(watched.due().unwrap() > Instant::now());
        assert_eq!(watched.queues[0].len(), 3);
    }
}
