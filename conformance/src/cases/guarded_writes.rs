//! Which write takes effect: `Write::may_replace` is the oracle.

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use warren_plugin_api::{
    Record, Status, Text, Timestamp, Write, WriteMode,
    WriteOutcome::{self, Stale, Written},
};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, ensure, expect_eq, expect_record, short},
    handle::Handle,
    records::{MODES, SECOND_US, full, now_plus, with_mode},
};

pub(crate) const CASES: &[Case] = &[
    case!("guarded_writes", stale_matrix, ["RS-020"]),
    case!("guarded_writes", stale_matrix_over_expired, ["RS-021"]),
    case!("guarded_writes", stale_matrix_in_batches, ["RS-022"]),
    case!("guarded_writes", a_stale_write_changes_nothing, ["RS-023"]),
    case!("guarded_writes", one_winner_of_a_claim, ["RS-024"]),
    case!("guarded_writes", one_winner_between_handles, ["RS-025"]),
    case!("guarded_writes", one_winner_between_batches, ["RS-024"]),
    case!("guarded_writes", one_ending_of_an_attempt, ["RS-026"]),
    case!("guarded_writes", the_latest_version_stays, ["RS-027"]),
];

const CALLERS: usize = 32;

/// A record that is there, and a write that comes upon it.
struct Trial {
    stored: Record,
    write: Write,
}

impl Trial {
    fn expected(&self) -> WriteOutcome {
        let stored = Some(self.stored.version_and_expiry());
        if self.write.may_replace(stored, Timestamp::now()) {
            Written
        } else {
            Stale
        }
    }

    fn describe(&self) -> String {
        let Self { stored, write } = self;
        format!(
            "{} of attempt {} ({:?}) over {} of attempt {}",
            write.record.status, write.record.attempt, write.mode, stored.status, stored.attempt
        )
    }

    fn check(&self, outcome: WriteOutcome, found: Option<&Record>) -> Checked {
        expect_eq(&self.describe(), &outcome, &self.expected())?;
        let remaining = match self.expected() {
            Written => &self.write.record,
            Stale => &self.stored,
        };
        expect_record(&self.describe(), found, remaining)
    }
}

/// Every status over every status, of an earlier, the same and a later attempt, in every mode.
fn matrix(context: &Context, expires_at: Option<Timestamp>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for old in Status::ALL {
        for new in Status::ALL {
            for attempt in [1, 2, 3] {
                for mode in MODES {
                    let stored = full(context.id(""), old, 2);
                    let record = full(stored.job_id.clone(), new, attempt);
                    trials.push(Trial {
                        stored: Record {
                            expires_at: expires_at.or(stored.expires_at),
                            ..stored
                        },
                        write: with_mode(record, mode),
                    });
                }
            }
        }
    }
    trials
}

async fn put_singly(store: &Handle, trials: Vec<Trial>) -> Checked {
    stream::iter(trials)
        .map(|trial| async move {
            store.written(trial.stored.clone()).await?;
            let outcome = store.put(trial.write.clone()).await?;
            let found = store.get(&trial.stored.job_id).await?;
            trial.check(outcome, found.as_ref())
        })
        .buffer_unordered(CALLERS)
        .try_collect()
        .await
}

async fn stale_matrix(context: &Context) -> Checked {
    put_singly(&context.store, matrix(context, None)).await
}

async fn stale_matrix_over_expired(context: &Context) -> Checked {
    let trials = matrix(context, Some(now_plus(-60 * SECOND_US)));
    put_singly(&context.store, trials).await
}

async fn stale_matrix_in_batches(context: &Context) -> Checked {
    let store = &context.store;
    let mut trials = matrix(context, None);
    trials.extend(matrix(context, Some(now_plus(-60 * SECOND_US))));
    let stored: Vec<Record> = trials.iter().map(|trial| trial.stored.clone()).collect();
    store.all_written(&stored).await?;
    let writes = trials.iter().map(|trial| trial.write.clone()).collect();
    let outcomes = store.put_many(writes).await?;
    let ids = stored.into_iter().map(|record| record.job_id).collect();
    let found = store.get_many(ids).await?;
    for ((trial, outcome), found) in trials.iter().zip(outcomes).zip(found) {
        trial.check(outcome, found.as_ref())?;
    }
    Ok(())
}

/// Neither the record, nor what is derived from it: its expiry and its place in scans.
async fn a_stale_write_changes_nothing(context: &Context) -> Checked {
    let store = &context.store;
    let queue = context.name("queue");
    let stored = Record {
        queue: queue.clone(),
        ..full(context.id("job"), Status::Completed, 3)
    };
    store.written(stored.clone()).await?;
    let stale = Record {
        queue: context.name("other"),
        function: "other".into(),
        enqueued_at: None,
        expires_at: Some(Timestamp::MIN),
        extra: Vec::new(),
        ..full(stored.job_id.clone(), Status::Failed, 1)
    };
    for mode in [WriteMode::IfNewer, WriteMode::IfAbsent] {
        let write = with_mode(stale.clone(), mode);
        expect_eq("put", &store.put(write.clone()).await?, &Stale)?;
        let outcomes = store.put_many(vec![write]).await?;
        expect_eq("put_many", &outcomes, &vec![Stale])?;
    }
    let found = store.get(&stored.job_id).await?;
    expect_record("after stale writes", found.as_ref(), &stored)?;
    let status = store.status(&stored.job_id).await?;
    expect_eq("status", &status, &Some(Status::Completed))?;
    if context.capabilities().scan {
        for (queue, expected) in [(queue, vec![stored]), (stale.queue, vec![])] {
            let filter = warren_plugin_api::Filter {
                queue: Some(queue),
                ..Default::default()
            };
            let listed = store.scan(&filter, 100).await?;
            expect_eq("scan after stale writes", &listed, &expected)?;
        }
    }
    Ok(())
}

/// Claims of one id by many callers, each with a record of its own.
fn claims(job_id: &Text, count: usize) -> Vec<Write> {
    (0..count)
        .map(|caller| {
            let record = Record {
                worker: format!("caller {caller}").into(),
                result: format!("{caller}").into(),
                ..full(job_id.clone(), Status::Queued, 1)
            };
            with_mode(record, WriteMode::IfAbsent)
        })
        .collect()
}

/// Each store of `stores` gets its share of the writes; all at once, from several threads.
async fn race(stores: &[Handle], writes: &[Write]) -> Checked<Vec<WriteOutcome>> {
    let calls = writes.iter().enumerate().map(|(index, write)| {
        let store = stores[index % stores.len()].clone();
        let write = write.clone();
        tokio::spawn(async move { store.put(write).await })
    });
    let mut outcomes = Vec::new();
    for outcome in join_all(calls).await {
        outcomes.push(outcome.unwrap_or_else(|error| {
            Err(crate::expect::Failure::Broken(format!("put: {error}")))
        })?);
    }
    Ok(outcomes)
}

/// Exactly one of the writes took effect, and it is what is stored.
async fn one_winner(store: &Handle, writes: &[Write], outcomes: &[WriteOutcome]) -> Checked {
    let winners: Vec<&Write> = writes
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| **outcome == Written)
        .map(|(write, _)| write)
        .collect();
    let [winner] = winners[..] else {
        ensure!(
            false,
            "{} writes at once: expected one to be Written, found {}",
            writes.len(),
            winners.len()
        );
        return Ok(());
    };
    let found = store.get(&winner.record.job_id).await?;
    expect_record("the winner", found.as_ref(), &winner.record)
}

async fn one_winner_of_a_claim(context: &Context) -> Checked {
    let stores = [context.store.clone()];
    for _ in 0..context.scaled(3, 20) {
        let job_id = context.id("claimed");
        let writes = claims(&job_id, CALLERS);
        let outcomes = race(&stores, &writes).await?;
        one_winner(&context.store, &writes, &outcomes).await?;
    }
    Ok(())
}

async fn one_winner_between_handles(context: &Context) -> Checked {
    let stores = [context.store.clone(), context.second_handle().await?];
    for _ in 0..context.scaled(3, 20) {
        let job_id = context.id("claimed");
        let writes = claims(&job_id, CALLERS);
        let outcomes = race(&stores, &writes).await?;
        one_winner(&stores[1], &writes, &outcomes).await?;
    }
    stores[1].close().await
}

async fn one_winner_between_batches(context: &Context) -> Checked {
    const IDS: usize = 50;
    const BATCHES: usize = 8;
    let ids = context.ids(IDS);
    let batches: Vec<Vec<Write>> = (0..BATCHES)
        .map(|batch| {
            ids.iter()
                .map(|id| {
                    let record = Record {
                        worker: format!("batch {batch}").into(),
                        ..full(id.clone(), Status::Queued, 1)
                    };
                    with_mode(record, WriteMode::IfAbsent)
                })
                .collect()
        })
        .collect();
    let calls = batches
        .iter()
        .map(|writes| context.store.put_many(writes.clone()));
    let mut outcomes = Vec::new();
    for batch in join_all(calls).await {
        outcomes.push(batch?);
    }
    for index in 0..IDS {
        let writes: Vec<Write> = batches.iter().map(|batch| batch[index].clone()).collect();
        let outcomes: Vec<WriteOutcome> = outcomes.iter().map(|batch| batch[index]).collect();
        one_winner(&context.store, &writes, &outcomes).await?;
    }
    Ok(())
}

async fn one_ending_of_an_attempt(context: &Context) -> Checked {
    let endings = [Status::Completed, Status::Failed, Status::Aborted];
    for _ in 0..context.scaled(3, 20) {
        let running = full(context.id("job"), Status::InProgress, 2);
        context.store.written(running.clone()).await?;
        let writes: Vec<Write> = (0..CALLERS)
            .map(|caller| {
                let status = endings[caller % endings.len()];
                Write::from(Record {
                    worker: format!("caller {caller}").into(),
                    ..full(running.job_id.clone(), status, 2)
                })
            })
            .collect();
        let outcomes = race(std::slice::from_ref(&context.store), &writes).await?;
        one_winner(&context.store, &writes, &outcomes).await?;
    }
    Ok(())
}

async fn the_latest_version_stays(context: &Context) -> Checked {
    for round in 0..context.scaled(3, 20) {
        let job_id = context.id("job");
        let mut writes: Vec<Write> = (1..=CALLERS)
            .map(|attempt| {
                let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
                Write::from(full(job_id.clone(), Status::Failed, attempt))
            })
            .collect();
        let latest = writes[CALLERS - 1].clone();
        // Another order in every round, without luck: steps that are coprime to the number.
        let step = 2 * round + 3;
        let order: Vec<Write> = (0..CALLERS)
            .map(|index| writes[index * step % CALLERS].clone())
            .collect();
        writes = order;
        let outcomes = race(std::slice::from_ref(&context.store), &writes).await?;
        let position = writes.iter().position(|write| *write == latest);
        let outcome = position.map(|position| outcomes[position]);
        expect_eq("the latest of many at once", &outcome, &Some(Written))?;
        let found = context.store.get(&job_id).await?;
        ensure!(
            found.as_ref() == Some(&latest.record),
            "many attempts at once: expected attempt {CALLERS} to stay, found {}",
            short(&found.map(|record| record.version()))
        );
    }
    Ok(())
}
