//! The result writer: brings records to the store, and answers a delivery once its record is safe.
//!
//! Group commit without a timer. While the store writes one batch, the next one gathers; when the
//! store is free, whatever has arrived goes out at once. An `in_progress` record is not written
//! when the end of the same attempt is already there, and two writes of one attempt never overtake
//! each other.
//!
//! A store that fails is left alone until it answers a health check; meanwhile records wait in the
//! spool and jobs go on.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};
use warren_plugin_api::{
    BatchResult, Health, Record, StoreError, StoreResult, Text, Write, WriteOutcome,
};

use super::{
    attempt::{Attempt, Ending, lighten},
    put_back::PutBack,
    replay::{Replay, Round},
    spool::{Spool, Spooling, WhenFull},
    stats::WorkerStats,
    store_state::StoreState,
};
use crate::{
    announcer::Announcer,
    broker::{Acker, Settle},
    sleep::until,
    store::{Breaker, Store},
};

/// The most records of one batch.
pub(super) const MAX_BATCH: usize = 512;
/// The most bytes of one batch, unless a single record has more: so that a batch of large results
/// is not too much for one call.
pub(super) const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How many batches the store may be writing at once.
pub(super) const MAX_BATCHES_IN_FLIGHT: usize = 2;
/// How often an attempt's end is offered again in a smaller shape.
const MAX_REFUSALS: usize = 3;
/// How long a record that the store does not take rests before it is offered again.
pub(super) const REPLAY_PAUSE: Duration = Duration::from_secs(1);

/// Sends records to the writer. Cheap to clone; the writer ends when all are dropped.
#[derive(Debug, Clone)]
pub(super) struct ResultSender(UnboundedSender<Entry>);

/// What the writer is told. Bounded by what the broker hands over unanswered.
#[derive(Debug)]
enum Entry {
    Running(Arc<Attempt>),
    Ended(Ended),
}

/// An attempt that has ended, and the delivery to answer once that is stored.
#[derive(Debug)]
struct Ended {
    attempt: Arc<Attempt>,
    /// `None` when the attempt was interrupted and is given back.
    ending: Option<Ending>,
    acker: Acker,
    refusals: Vec<StoreError>,
}

impl ResultSender {
    /// Stores that `attempt` is running, and its progress. Not waited for.
    pub(super) fn running(&self, attempt: &Arc<Attempt>) {
        if !attempt.live.announced.set(true) {
            // The writer lives as long as a sender does.
            let _ = self.0.send(Entry::Running(Arc::clone(attempt)));
        }
    }

    /// Stores how `attempt` ended, and then acknowledges its delivery.
    pub(super) fn ended(&self, attempt: Arc<Attempt>, ending: Ending, acker: Acker) {
        self.send_end(attempt, Some(ending), acker);
    }

    /// Stores that `attempt` was interrupted, and then gives its message back to its queue.
    pub(super) fn given_back(&self, attempt: Arc<Attempt>, acker: Acker) {
        self.send_end(attempt, None, acker);
    }

    /// Waits until the writer is gone, which it never is while all is well. Cancel safe.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }

    fn send_end(&self, attempt: Arc<Attempt>, ending: Option<Ending>, acker: Acker) {
        let ended = Ended {
            attempt,
            ending,
            acker,
            refusals: Vec::new(),
        };
        let _ = self.0.send(Entry::Ended(ended));
    }
}

impl Entry {
    fn attempt(&self) -> &Attempt {
        match self {
            Self::Running(attempt) => attempt,
            Self::Ended(ended) => &ended.attempt,
        }
    }

    /// About how much the record of this has to carry.
    fn size_bytes(&self) -> usize {
        let attempt = self.attempt();
        let result = match self {
            Self::Ended(Ended {
                ending: Some(ending),
                ..
            }) => ending.result.len(),
            Self::Running(_) | Self::Ended(_) => 0,
        };
        attempt.args.len() + attempt.kwargs.len() + result
    }
}

impl Ended {
    fn record(&self, worker: &Text) -> Record {
        let mut record = match &self.ending {
            Some(ending) => self.attempt.ended_record(worker, ending),
            None => self.attempt.given_back_record(),
        };
        for refusal in &self.refusals {
            lighten(&mut record, refusal);
        }
        record
    }

    fn is_end_of_job(&self) -> bool {
        let ending = self.ending.as_ref();
        ending.is_some_and(|ending| ending.status.is_terminal())
    }

    /// Answers the delivery. An answer that comes too late is no loss: the broker delivers the
    /// message again, and the stored record tells what became of it.
    fn answer(self) {
        let answer = if self.ending.is_some() {
            Settle::Ack
        } else {
            Settle::Requeue
        };
        let _ = self.acker.settle(answer);
    }
}

/// The task that owns all writing. See the module's text.
pub(super) struct ResultWriter {
    store: Store,
    announcer: Announcer,
    worker: Text,
    spool: Arc<dyn Spool>,
    when_full: WhenFull,
    stats: WorkerStats,
    state: StoreState,
    inbox: UnboundedReceiver<Entry>,
    put_back: PutBack,
    /// To be written next.
    ready: Vec<Entry>,
    /// The spool had no room for these: offered again, with their messages unanswered.
    waiting: Vec<Ended>,
    waiting_until: Instant,
    /// Waiting for the store to write an earlier record of the same attempt.
    held: Vec<Entry>,
    in_flight: FuturesUnordered<BoxFuture<'static, Step>>,
    batches: usize,
    /// `None` while a round is in flight.
    replay: Option<Replay>,
    /// Not before this time is the spool offered to the store.
    replay_at: Instant,
}

/// A batch that the store is writing: first who runs, then who ended.
#[derive(Default)]
struct Batch {
    running: Vec<Arc<Attempt>>,
    ended: Vec<Ended>,
}

/// Something in flight that has come to its end.
enum Step {
    Written(Batch, BatchResult<WriteOutcome>),
    Kept(Vec<Ended>, usize),
    Replayed(Replay, Round),
    Probed(StoreResult<Health>),
}

impl ResultWriter {
    pub(super) fn new(
        store: Store,
        announcer: Announcer,
        worker: Text,
        spooling: Spooling,
        stats: WorkerStats,
        breaker: Arc<Breaker>,
    ) -> (ResultSender, Self) {
        let (sender, inbox) = unbounded_channel();
        let state = StoreState::new(store.name(), breaker);
        let Spooling { spool, when_full } = spooling;
        let replay = Replay::new(store.clone(), announcer.clone(), Arc::clone(&spool));
        let replay = Some(replay);
        let writer = Self {
            put_back: PutBack::begin(store.clone()),
            store,
            announcer,
            worker,
            spool,
            when_full,
            stats,
            state,
            inbox,
            ready: Vec::new(),
            waiting: Vec::new(),
            waiting_until: Instant::now(),
            held: Vec::new(),
            in_flight: FuturesUnordered::new(),
            batches: 0,
            replay,
            replay_at: Instant::now(),
        };
        (ResultSender(sender), writer)
    }

    /// Runs until every sender is gone and everything is stored or spooled; then offers what is
    /// spooled to the store for the last time, and returns how many records are left there.
    pub(super) async fn run(mut self) -> usize {
        let mut open = true;
        loop {
            self.dispatch();
            if !open && self.ready.is_empty() && self.in_flight.is_empty() {
                break;
            }
            let has_room = self.batches < MAX_BATCHES_IN_FLIGHT;
            let wake_at = self.wake_at();
            tokio::select! {
                Some(step) = self.in_flight.next() => self.finish(step),
                count = self.inbox.recv_many(&mut self.ready, MAX_BATCH), if open && has_room => {
                    open = count > 0;
                    self.gather().await;
                }
                () = until(wake_at) => self.wake(),
                () = self.state.fails() => {}
            }
        }
        self.replay_the_rest().await
    }

    /// Takes what else has arrived, after the jobs that are ready to run have had their turn: a
    /// job that ends at once saves the record of its start.
    async fn gather(&mut self) {
        tokio::task::yield_now().await;
        while self.ready.len() < MAX_BATCH
            && let Ok(entry) = self.inbox.try_recv()
        {
            self.ready.push(entry);
        }
    }

    /// Sends out what is ready, as far as the store may be given more.
    fn dispatch(&mut self) {
        if self.batches >= MAX_BATCHES_IN_FLIGHT {
            return;
        }
        if self.state.is_up() || Instant::now() >= self.waiting_until {
            let waiting = self.waiting.drain(..).map(Entry::Ended);
            self.ready.extend(waiting);
        }
        if self.ready.is_empty() {
            return;
        }
        for entry in &self.ready {
            if let Entry::Ended(ended) = entry {
                ended.attempt.live.ended.set(true);
            }
        }
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut entries = std::mem::take(&mut self.ready).into_iter();
        for entry in entries.by_ref() {
            bytes += entry.size_bytes();
            if entry.attempt().live.in_flight.is_set() {
                self.held.push(entry);
                continue;
            }
            match entry {
                Entry::Running(attempt) => {
                    attempt.live.announced.set(false);
                    if self.state.is_up() && !attempt.live.ended.is_set() {
                        attempt.live.in_flight.set(true);
                        batch.running.push(attempt);
                    }
                }
                Entry::Ended(ended) => batch.ended.push(ended),
            }
            if bytes >= MAX_BATCH_BYTES {
                break;
            }
        }
        self.ready = entries.collect();
        if batch.running.is_empty() && batch.ended.is_empty() {
            return;
        }
        let is_trial = self.state.is_on_trial() && self.spool.is_empty() && self.batches == 0;
        if self.state.is_up() || is_trial {
            self.write(batch);
        } else {
            self.keep(batch.ended);
        }
    }

    fn write(&mut self, batch: Batch) {
        let worker = &self.worker;
        let running = batch
            .running
            .iter()
            .map(|attempt| attempt.running_record(worker));
        let ends = batch.ended.iter().map(|ended| ended.record(worker));
        let writes: Vec<Write> = running.chain(ends).map(Write::from).collect();
        let store = self.store.clone();
        self.batches += 1;
        self.in_flight.push(
            async move {
                let outcome = store.put_many(writes).await;
                Step::Written(batch, outcome)
            }
            .boxed(),
        );
    }

    /// Hands outcomes to the spool; their deliveries are answered when it has them.
    fn keep(&mut self, ended: Vec<Ended>) {
        // What is given back has no outcome to keep.
        let (ended, given_back): (Vec<_>, Vec<_>) =
            ended.into_iter().partition(|ended| ended.ending.is_some());
        given_back.into_iter().for_each(Ended::answer);
        if ended.is_empty() {
            return;
        }
        let writes = ended
            .iter()
            .map(|ended| Write::from(ended.record(&self.worker)))
            .collect();
        let spool = Arc::clone(&self.spool);
        self.batches += 1;
        self.in_flight.push(
            async move {
                let taken = spool.keep(writes).await;
                Step::Kept(ended, taken)
            }
            .boxed(),
        );
    }

    fn finish(&mut self, step: Step) {
        match step {
            Step::Written(batch, outcome) => {
                self.batches -= 1;
                self.finish_batch(batch, outcome);
            }
            Step::Kept(ended, taken) => {
                self.batches -= 1;
                self.finish_keeping(ended, taken);
            }
            Step::Replayed(replay, round) => self.finish_replay(replay, round),
            Step::Probed(Ok(_)) => self.state.answered(),
            Step::Probed(Err(error)) => self.state.failed(&error),
        }
    }

    fn finish_batch(&mut self, batch: Batch, outcome: BatchResult<WriteOutcome>) {
        let Batch { running, ended } = batch;
        for attempt in &running {
            attempt.live.in_flight.set(false);
        }
        self.release_held();
        let answers: Vec<_> = match outcome {
            Ok(answers) => {
                self.state.succeeded();
                self.stats.0.results_waiting.set(self.waiting.len() as u64);
                answers
            }
            Err(error) => {
                self.state.failed(&error);
                vec![Err(error); running.len() + ended.len()]
            }
        };
        let mut answers = answers.into_iter().skip(running.len());
        let mut stored = 0;
        let mut to_keep = Vec::new();
        let mut to_announce = Vec::new();
        let announces = self.announcer.announces_ends();
        for ended in ended {
            let too_few = || Err(StoreError::internal("the store gave too few answers"));
            match answers.next().unwrap_or_else(too_few) {
                Ok(WriteOutcome::Written | WriteOutcome::Stale) => {
                    // Stale too: it may be what this worker wrote and never heard of.
                    stored += u64::from(ended.ending.is_some());
                    if ended.attempt.may_be_written_over && ended.is_end_of_job() {
                        self.put_back.watch(ended.record(&self.worker));
                    }
                    if announces && ended.is_end_of_job() {
                        to_announce.push(ended.attempt.job_id.clone());
                    }
                    ended.answer();
                }
                Err(error) if error.class().may_pass() => {
                    self.stats.0.store_failures.increment();
                    to_keep.push(ended);
                }
                Err(error) => self.refused(ended, error),
            }
        }
        self.stats.0.results_stored.add(stored);
        self.announcer.ended(to_announce);
        self.keep(to_keep);
    }

    /// Moves what waited for an earlier record to where it is written next.
    fn release_held(&mut self) {
        let is_free = |entry: &mut Entry| !entry.attempt().live.in_flight.is_set();
        self.ready.extend(self.held.extract_if(.., is_free));
    }

    fn finish_keeping(&mut self, ended: Vec<Ended>, taken: usize) {
        let mut kept = ended;
        let left = kept.split_off(taken.min(kept.len()));
        self.stats.0.results_spooled.add(kept.len() as u64);
        // Others may be resting for much longer.
        self.replay_at = self.replay_at.min(Instant::now() + REPLAY_PAUSE);
        kept.into_iter().for_each(Ended::answer);
        if !left.is_empty() {
            self.no_room_for(left);
        }
        self.stats.0.results_waiting.set(self.waiting.len() as u64);
    }

    fn no_room_for(&mut self, left: Vec<Ended>) {
        match self.when_full {
            WhenFull::Stop => {
                self.waiting.extend(left);
                self.waiting_until = Instant::now() + REPLAY_PAUSE;
                self.state.waiting(self.waiting.len());
            }
            WhenFull::Drop => {
                self.stats.0.results_lost.add(left.len() as u64);
                self.state.lost(left.len());
                left.into_iter().for_each(Ended::answer);
            }
        }
    }

    /// The store will never take this record: offers it a smaller one.
    fn refused(&mut self, mut ended: Ended, error: StoreError) {
        self.stats.0.results_refused.increment();
        let mut record = ended.record(&self.worker);
        let id = record.job_id.clone();
        tracing::warn!(job_id = %id, store = self.store.name(), %error, "the store refused a record");
        let is_smaller = ended.refusals.len() < MAX_REFUSALS && lighten(&mut record, &error);
        if is_smaller {
            ended.refusals.push(error);
            self.ready.push(Entry::Ended(ended));
        } else {
            self.stats.0.results_lost.increment();
            tracing::error!(job_id = %id, "the store takes no record of this job in any shape");
            ended.answer();
        }
    }

    /// When there is something to do without being told: a probe, a round of replay, or another
    /// try to spool what waits.
    fn wake_at(&self) -> Option<Instant> {
        let may_offer = !self.waiting.is_empty() && self.batches < MAX_BATCHES_IN_FLIGHT;
        let waiting = may_offer.then_some(self.waiting_until);
        [self.replay_due(), self.state.probe_at(), waiting]
            .into_iter()
            .flatten()
            .min()
    }

    fn replay_due(&self) -> Option<Instant> {
        let may_replay = self.state.is_up() || self.state.is_on_trial();
        let has_work = self.replay.is_some() && !self.spool.is_empty();
        (may_replay && has_work).then_some(self.replay_at)
    }

    fn wake(&mut self) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if is_due(self.state.probe_at()) {
            self.state.probing();
            let store = self.store.clone();
            self.in_flight
                .push(async move { Step::Probed(store.health_check().await) }.boxed());
        } else if is_due(self.replay_due())
            && let Some(mut replay) = self.replay.take()
        {
            self.in_flight.push(
                async move {
                    let round = replay.round().await;
                    Step::Replayed(replay, round)
                }
                .boxed(),
            );
        }
    }

    fn finish_replay(&mut self, replay: Replay, round: Round) {
        self.replay = Some(replay);
        self.stats.0.results_replayed.add(round.taken as u64);
        self.stats.0.results_lost.add(round.lost as u64);
        if let Some(error) = &round.error {
            self.stats.0.store_failures.increment();
            self.state.failed(error);
        } else if round.taken > 0 {
            self.state.succeeded();
        }
        self.replay_at = Instant::now() + round.wait;
    }

    /// Offers what is spooled once more, as long as the store takes it.
    async fn replay_the_rest(mut self) -> usize {
        while let Some(replay) = &mut self.replay
            && !self.spool.is_empty()
        {
            let round = replay.round().await;
            self.stats.0.results_replayed.add(round.taken as u64);
            self.stats.0.results_lost.add(round.lost as u64);
            if round.taken == 0 && !round.is_smaller {
                break;
            }
        }
        // What no one took in has no safe place: those jobs run again.
        for mut ended in self.waiting {
            self.stats.0.requeued.increment();
            ended.ending = None;
            ended.answer();
        }
        self.put_back.finish().await;
        self.spool.len()
    }
}
