//! Brings what the spool has kept back to the store.

use std::{collections::HashMap, sync::Arc};

use warren_plugin_api::{ErrorClass, StoreError, StoreResult, Write, WriteOutcome};

use super::{
    DiskSpool,
    attempt::lighten,
    results::MAX_BATCH_BYTES,
    spool::{Spool, Spooled},
};
use crate::store::Store;

const MAX_BATCH: usize = 512;
/// How often a record that makes the store fail by itself is offered.
const MAX_TRIES: u8 = 3;

/// The replay of one spool to one store.
#[derive(Debug)]
pub(super) struct Replay {
    store: Store,
    spool: Arc<dyn Spool>,
    /// How often each record failed on its own.
    tries: HashMap<u64, u8>,
}

/// What one round of replay has done.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Records that the store has taken.
    pub(super) taken: usize,
    /// Records that are given up: the store takes others and not these.
    pub(super) lost: usize,
    /// Records that stay for a later round.
    pub(super) stayed: usize,
    /// Why the store took nothing.
    pub(super) error: Option<StoreError>,
}

enum Fate {
    Taken,
    Refused,
    Stays(StoreError),
    StoreDown(StoreError),
}

impl Replay {
    pub(super) fn new(store: Store, spool: Arc<dyn Spool>) -> Self {
        Self {
            store,
            spool,
            tries: HashMap::new(),
        }
    }

    /// Offers the oldest records to the store.
    pub(super) async fn round(&mut self) -> Round {
        let spooled = self.oldest().await;
        let mut round = Round::default();
        if spooled.is_empty() {
            return round;
        }
        let writes = spooled
            .iter()
            .map(|spooled| spooled.write.clone())
            .collect();
        let answers = match self.store.put_many(writes).await {
            Ok(answers) => answers.into_iter().map(Some).collect(),
            Err(error) if is_down(&error) => {
                round.stayed = spooled.len();
                round.error = Some(error);
                return round;
            }
            // Some record of the batch makes the store fail: find it by offering one at a time.
            Err(_) => vec![None; spooled.len()],
        };
        self.settle(spooled, answers, &mut round).await;
        round
    }

    /// The oldest records, no more than one call can carry.
    async fn oldest(&self) -> Vec<Spooled> {
        let mut spooled = self.spool.oldest(MAX_BATCH).await;
        let mut bytes = 0;
        let fit = spooled
            .iter()
            .take_while(|spooled| {
                let fits = bytes < MAX_BATCH_BYTES;
                bytes += spooled.write.record.size_bytes();
                fits
            })
            .count();
        spooled.truncate(fit);
        spooled
    }

    async fn settle(
        &mut self,
        spooled: Vec<Spooled>,
        answers: Vec<Option<StoreResult<WriteOutcome>>>,
        round: &mut Round,
    ) {
        let mut done = Vec::with_capacity(spooled.len());
        let mut stuck = Vec::new();
        let mut answers = answers.into_iter();
        let mut is_down = false;
        for Spooled { key, write } in spooled {
            if is_down {
                round.stayed += 1;
                continue;
            }
            let answer = match answers.next().flatten() {
                Some(answer) => answer,
                None => self.store.put(write.clone()).await,
            };
            match self.fate(write, answer).await {
                Fate::Taken => {
                    round.taken += 1;
                    done.push(key);
                }
                Fate::Refused => {
                    round.lost += 1;
                    done.push(key);
                }
                Fate::Stays(error) => {
                    stuck.push(key);
                    round.error = Some(error);
                }
                Fate::StoreDown(error) => {
                    is_down = true;
                    round.stayed += 1;
                    round.error = Some(error);
                }
            }
        }
        self.give_up(stuck, &mut done, round);
        self.tries.retain(|key, _| done.binary_search(key).is_err());
        self.spool.forget(done).await;
    }

    /// Counts failures of single records; only while the store takes others are they theirs.
    fn give_up(&mut self, stuck: Vec<u64>, done: &mut Vec<u64>, round: &mut Round) {
        for key in stuck {
            let tries = self.tries.entry(key).or_default();
            *tries += u8::from(round.taken > 0);
            if *tries < MAX_TRIES {
                round.stayed += 1;
                continue;
            }
            tracing::error!(
                error = round.error.as_ref().map(tracing::field::display),
                "a record is given up: the result store takes others and fails on this one"
            );
            round.lost += 1;
            done.push(key);
        }
        done.sort_unstable();
        if round.taken > 0 {
            round.error = None;
        }
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

/// What [`bring_to_store`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Brought {
    /// Records that the store has taken, or knew a later one of.
    pub taken: usize,
    /// Records that it refused for good.
    pub refused: usize,
}

/// Brings everything in `spool` to `store`; `progress` is told how many records each step was.
///
/// # Errors
/// The store takes no more; what it has not taken stays in the spool.
pub async fn bring_to_store(
    store: &Store,
    spool: &DiskSpool,
    progress: impl Fn(u64),
) -> StoreResult<Brought> {
    let mut replay = Replay::new(store.clone(), Arc::new(spool.clone()));
    let mut brought = Brought::default();
    while !spool.is_empty() {
        let round = replay.round().await;
        brought.taken += round.taken;
        brought.refused += round.lost;
        progress((round.taken + round.lost) as u64);
        if round.taken + round.lost == 0 {
            let unread = || StoreError::internal("what is left in the spool cannot be read");
            return Err(round.error.unwrap_or_else(unread));
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
