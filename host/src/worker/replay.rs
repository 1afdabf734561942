//! Brings what the spool has kept back to the store.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use warren_plugin_api::{ErrorClass, Record, StoreError, StoreResult, Write, WriteOutcome};

use super::{
    DiskSpool,
    attempt::lighten,
    results::{MAX_BATCH, MAX_BATCH_BYTES, REPLAY_PAUSE as PAUSE},
    spool::{Spool, Spooled, Window},
};
use crate::{announcer::Announcer, broker::Broker, store::Store};

/// How long a record on which the store fails by itself rests: at first, then doubled.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// The replay of one spool to one store.
#[derive(Debug)]
pub(super) struct Replay {
    store: Store,
    announcer: Announcer,
    spool: Arc<dyn Spool>,
    /// How many records are offered at once: fewer after each batch that the store did not take,
    /// so that one which is too much for a call does not stop the others for ever.
    batch: usize,
    /// Records on which the store failed while it took others.
    resting: HashMap<u64, Rest>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    length: Duration,
}

/// What one round of replay has done.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Records that the store has taken, or knows a later one of.
    pub(super) taken: usize,
    /// Records that the store refused for good, in any shape.
    pub(super) lost: usize,
    /// Why the store took nothing.
    pub(super) error: Option<StoreError>,
    /// How long to wait for the next round.
    pub(super) wait: Duration,
    /// The next round offers fewer at once.
    pub(super) is_smaller: bool,
}

enum Fate {
    Taken,
    Refused,
    Stays(StoreError),
    StoreDown(StoreError),
}

impl Replay {
    pub(super) fn new(store: Store, announcer: Announcer, spool: Arc<dyn Spool>) -> Self {
        Self {
            store,
            announcer,
            spool,
            batch: MAX_BATCH,
            resting: HashMap::new(),
        }
    }

    /// Offers the oldest records to the store.
    pub(super) async fn round(&mut self) -> Round {
        let now = Instant::now();
        let window = Window {
            records: self.batch,
            bytes: MAX_BATCH_BYTES,
            except: self
                .resting
                .iter()
                .filter(|(_, rest)| rest.until > now)
                .map(|(key, _)| *key)
                .collect(),
        };
        let spooled = match self.spool.oldest(window).await {
            Ok(spooled) => spooled,
            Err(error) => {
                tracing::error!(%error, "the spool cannot be read");
                return Round {
                    wait: PAUSE,
                    ..Round::default()
                };
            }
        };
        let mut round = Round::default();
        if spooled.is_empty() {
            round.wait = self.next_rest_ends_in(now);
            return round;
        }
        match self.offer(&spooled).await {
            Ok(answers) => self.settle(spooled, answers, &mut round).await,
            Err(error) => self.not_taken(&spooled, error, &mut round),
        }
        round
    }

    /// Offers records in one call; `None` for those that have to be offered one by one.
    async fn offer(
        &self,
        spooled: &[Spooled],
    ) -> StoreResult<Vec<Option<StoreResult<WriteOutcome>>>> {
        let ids = spooled
            .iter()
            .map(|spooled| spooled.write.record.job_id.clone())
            .collect();
        let stored = self.store.get_many(ids).await?;
        let mut answers: Vec<Option<StoreResult<WriteOutcome>>> = spooled
            .iter()
            .zip(stored)
            .map(|(spooled, stored)| is_of_later_job(stored, spooled).then_some(OUTLIVED))
            .collect();
        let offered: Vec<usize> = (0..spooled.len())
            .filter(|index| answers[*index].is_none())
            .collect();
        let writes = offered
            .iter()
            .map(|index| spooled[*index].write.clone())
            .collect();
        match self.store.put_many(writes).await {
            Ok(outcomes) => {
                for (index, outcome) in offered.into_iter().zip(outcomes) {
                    answers[index] = Some(outcome);
                }
                Ok(answers)
            }
            Err(error) if is_down(&error) => Err(error),
            // Some record of the batch makes the store fail: find it by offering one at a time.
            Err(_) => Ok(answers),
        }
    }

    /// The store answers when asked for its health and took none of these.
    fn not_taken(&mut self, spooled: &[Spooled], error: StoreError, round: &mut Round) {
        match spooled {
            [only] => self.rest(only.key, &only.write, &error),
            _ => {
                self.batch = (spooled.len() / 2).max(1);
                round.is_smaller = true;
            }
        }
        round.wait = PAUSE;
        round.error = Some(error);
    }

    async fn settle(
        &mut self,
        spooled: Vec<Spooled>,
        answers: Vec<Option<StoreResult<WriteOutcome>>>,
        round: &mut Round,
    ) {
        let mut done = Vec::with_capacity(spooled.len());
        let mut ended = Vec::new();
        for (Spooled { key, write }, answer) in spooled.into_iter().zip(answers) {
            let answer = match answer {
                Some(answer) => answer,
                None => self.store.put(write.clone()).await,
            };
            match self.fate(write.clone(), answer).await {
                Fate::Taken => {
                    round.taken += 1;
                    if write.record.status.is_terminal() {
                        ended.push(write.record.job_id);
                    }
                    done.push(key);
                }
                Fate::Refused => {
                    round.lost += 1;
                    done.push(key);
                }
                Fate::Stays(error) => {
                    self.rest(key, &write, &error);
                    round.wait = PAUSE;
                }
                Fate::StoreDown(error) => {
                    round.wait = PAUSE;
                    round.error = Some(error);
                    break;
                }
            }
        }
        if round.taken > 0 {
            self.batch = (self.batch * 2).min(MAX_BATCH);
        }
        self.announcer.ended(ended);
        for key in &done {
            self.resting.remove(key);
        }
        self.spool.forget(done).await;
    }

    /// Lets a record rest, so that others come first. It is never given up: it is all that is
    /// left of a job's result.
    fn rest(&mut self, key: u64, write: &Write, error: &StoreError) {
        let length = match self.resting.get(&key) {
            Some(rest) => (rest.length * 2).min(LONGEST_REST),
            None => {
                let job_id = write.record.job_id.as_str();
                tracing::warn!(job_id, %error, "the store fails on a record; others come first");
                FIRST_REST
            }
        };
        let until = Instant::now() + length;
        self.resting.insert(key, Rest { until, length });
    }

    fn next_rest_ends_in(&self, now: Instant) -> Duration {
        let ends = self.resting.values().map(|rest| rest.until).min();
        ends.map_or(PAUSE, |until| {
            until.saturating_duration_since(now).max(PAUSE)
        })
    }

    async fn fate(&self, mut write: Write, mut answer: StoreResult<WriteOutcome>) -> Fate {
        loop {
            let error = match answer {
                Ok(WriteOutcome::Written | WriteOutcome::Stale) => return Fate::Taken,
                Err(error) => error,
            };
            if is_down(&error) {
                return Fate::StoreDown(error);
            }
            if error.class().may_pass() {
                return Fate::Stays(error);
            }
            tracing::warn!(job_id = %write.record.job_id, %error, "the store refused a record");
            if !lighten(&mut write.record, &error) {
                return Fate::Refused;
            }
            answer = self.store.put(write.clone()).await;
        }
    }
}

/// The answer for a record whose job's id has been used for a later job.
const OUTLIVED: StoreResult<WriteOutcome> = Ok(WriteOutcome::Stale);

/// Whether `stored` is of a job that was enqueued after the one in the spool, under the same id:
/// sent again by hand, say. The store's own rule knows attempts only.
fn is_of_later_job(stored: StoreResult<Option<Record>>, spooled: &Spooled) -> bool {
    let Ok(Some(stored)) = stored else {
        return false;
    };
    let enqueued_at = spooled.write.record.enqueued_at;
    enqueued_at.is_some() && stored.enqueued_at > enqueued_at
}

/// What [`bring_to_store`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Brought {
    /// Records that the store has taken, or knew a later one of.
    pub taken: usize,
    /// Records that it refused for good.
    pub refused: usize,
}

/// Brings everything in `spool` to `store`; `progress` is told how many records each step was.
/// Over `broker`, clients that wait for these jobs are told; without one they find out later.
///
/// # Errors
/// The store takes no more; what it has not taken stays in the spool.
pub async fn bring_to_store(
    store: &Store,
    broker: Option<&Broker>,
    spool: &DiskSpool,
    progress: impl Fn(u64),
) -> StoreResult<Brought> {
    let announcer = Announcer::new(store.clone(), broker.cloned());
    let mut replay = Replay::new(store.clone(), announcer, Arc::new(spool.clone()));
    let mut brought = Brought::default();
    while !spool.is_empty() {
        let round = replay.round().await;
        brought.taken += round.taken;
        brought.refused += round.lost;
        progress((round.taken + round.lost) as u64);
        if round.taken + round.lost == 0 && !round.is_smaller {
            let failing = || StoreError::internal("the store fails on what is left in the spool");
            return Err(round.error.unwrap_or_else(failing));
        }
    }
    Ok(brought)
}

/// Whether the error is about the store, not about the record.
fn is_down(error: &StoreError) -> bool {
    matches!(
        error.class(),
        ErrorClass::Unavailable | ErrorClass::InvalidConfig
    )
}
