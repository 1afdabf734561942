//! Calls that are dropped before they end, at every await in turn.

use std::time::Duration;

use warren_plugin_api::{Record, Status, Timestamp, Write, WriteMode};

use crate::{
    case::{Case, case},
    cases::scan::{expect_listed, in_queue},
    context::Context,
    expect::{Checked, ensure, expect_record, short},
    polling::{at_every_await, poll_times},
    records::{full, with_mode},
};

pub(crate) const CASES: &[Case] = &[
    case!("cancellation", a_write_is_done_or_not, ["RS-123"]),
    case!("cancellation", a_batch_of_writes_is_done_or_not, ["RS-123"]),
    case!("cancellation", a_delete_is_done_or_not, ["RS-123"]),
    case!("cancellation", a_dropped_claim_is_one_claim, ["RS-123"]),
    case!("cancellation", later_writes_are_not_undone, ["RS-124"]),
    case!("cancellation", readers_can_be_dropped, ["RS-125"]),
];

/// One of two records, whole.
fn expect_either(what: &str, found: Option<&Record>, old: &Record, new: &Record) -> Checked {
    let Some(found) = found else {
        return expect_record(what, None, old);
    };
    if found.attempt == new.attempt {
        return expect_record(what, Some(found), new);
    }
    expect_record(what, Some(found), old)
}

/// The store still takes and gives records.
async fn still_works(context: &Context) -> Checked {
    let record = context.full("after it");
    context.store.written(record.clone()).await?;
    let found = context.store.get(&record.job_id).await?;
    expect_record("a store after a dropped call", found.as_ref(), &record)
}

async fn a_write_is_done_or_not(context: &Context) -> Checked {
    at_every_await(|polls| async move {
        let old = full(context.id("job"), Status::InProgress, 1);
        let new = full(old.job_id.clone(), Status::Completed, 2);
        context.store.written(old.clone()).await?;
        let call = context.store.raw().put(new.clone().into());
        let ended = poll_times(call, polls).await.is_some();
        let found = context.store.get(&old.job_id).await?;
        let what = format!("after a put that was dropped after {polls} polls");
        expect_either(&what, found.as_ref(), &old, &new)?;
        let status = context.store.status(&old.job_id).await?;
        ensure!(
            status == Some(old.status) || status == Some(new.status),
            "{what}: expected one of the two statuses, found {status:?}"
        );
        if ended {
            expect_record(&what, found.as_ref(), &new)?;
        }
        still_works(context).await?;
        Ok(ended)
    })
    .await
}

async fn a_batch_of_writes_is_done_or_not(context: &Context) -> Checked {
    const JOBS: usize = 5;
    at_every_await(|polls| async move {
        let queue = context.name("queue");
        let of = |record: Record| Record {
            queue: queue.clone(),
            ..record
        };
        let old: Vec<Record> = (0..JOBS)
            .map(|_| of(full(context.id("job"), Status::InProgress, 1)))
            .collect();
        let new: Vec<Record> = old
            .iter()
            .map(|old| of(full(old.job_id.clone(), Status::Completed, 2)))
            .collect();
        context.store.all_written(&old).await?;
        let writes = new.iter().cloned().map(Write::from).collect();
        let call = context.store.raw().put_many(writes);
        let ended = poll_times(call, polls).await.is_some();
        let what = format!("after a put_many that was dropped after {polls} polls");
        for (old, new) in old.iter().zip(&new) {
            let found = context.store.get(&old.job_id).await?;
            expect_either(&what, found.as_ref(), old, new)?;
        }
        // What the store derives from records goes with them.
        let later: Vec<Record> = new
            .iter()
            .map(|new| Record {
                attempt: 3,
                ..new.clone()
            })
            .collect();
        context.store.all_written(&later).await?;
        if context.capabilities().scan {
            let found = context.store.scan(&in_queue(&queue), 100).await?;
            expect_listed(&what, &found, &later)?;
        }
        still_works(context).await?;
        Ok(ended)
    })
    .await
}

async fn a_delete_is_done_or_not(context: &Context) -> Checked {
    at_every_await(|polls| async move {
        let queue = context.name("queue");
        let record = Record {
            queue: queue.clone(),
            ..context.full("job")
        };
        context.store.written(record.clone()).await?;
        let call = context.store.raw().delete(record.job_id.clone());
        let ended = poll_times(call, polls).await.is_some();
        let what = format!("after a delete that was dropped after {polls} polls");
        if let Some(found) = context.store.get(&record.job_id).await? {
            expect_record(&what, Some(&found), &record)?;
            ensure!(!ended, "{what}: expected none, found the record");
        }
        context.store.delete(&record.job_id).await?;
        if context.capabilities().scan {
            let found = context.store.scan(&in_queue(&queue), 100).await?;
            expect_listed(&what, &found, &[])?;
        }
        still_works(context).await?;
        Ok(ended)
    })
    .await
}

/// Whoever claims after it wins or finds the dropped claim, whole.
async fn a_dropped_claim_is_one_claim(context: &Context) -> Checked {
    at_every_await(|polls| async move {
        let job_id = context.id("claimed");
        let dropped = full(job_id.clone(), Status::Queued, 1);
        let write = with_mode(dropped.clone(), WriteMode::IfAbsent);
        let call = context.store.raw().put(write);
        let ended = poll_times(call, polls).await.is_some();
        let second = full(job_id.clone(), Status::Queued, 2);
        let write = with_mode(second.clone(), WriteMode::IfAbsent);
        context.store.put(write).await?;
        let found = context.store.get(&job_id).await?;
        let what = format!("after a claim that was dropped after {polls} polls");
        expect_either(&what, found.as_ref(), &dropped, &second)?;
        Ok(ended)
    })
    .await
}

/// A dropped write that arrives late finds a later version and stays stale.
async fn later_writes_are_not_undone(context: &Context) -> Checked {
    at_every_await(|polls| async move {
        let old = full(context.id("job"), Status::InProgress, 1);
        let last = full(old.job_id.clone(), Status::Completed, 3);
        context.store.written(old.clone()).await?;
        let dropped = full(old.job_id.clone(), Status::Failed, 2);
        let ended = poll_times(context.store.raw().put(dropped.into()), polls)
            .await
            .is_some();
        context.store.written(last.clone()).await?;
        for _ in 0..10 {
            let found = context.store.get(&old.job_id).await?;
            let what = format!("a write after one that was dropped after {polls} polls");
            expect_record(&what, found.as_ref(), &last)?;
            // Nothing tells when a late write would come.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(ended)
    })
    .await
}

async fn readers_can_be_dropped(context: &Context) -> Checked {
    let record = context.full("job");
    context.store.written(record.clone()).await?;
    let (store, id) = (context.store.raw(), record.job_id.clone());
    let (ids, queue) = (&vec![id.clone(); 10], &context.name("queue"));
    at_every_await(|polls| {
        let id = id.clone();
        async move {
            let calls = [
                poll_times(store.get(id.clone()), polls).await.is_some(),
                poll_times(store.status(id.clone()), polls).await.is_some(),
                poll_times(store.get_many(ids.clone()), polls)
                    .await
                    .is_some(),
                poll_times(store.status_many(ids.clone()), polls)
                    .await
                    .is_some(),
                poll_times(store.scan(in_queue(queue), None, 10), polls)
                    .await
                    .is_some(),
                poll_times(store.cleanup_expired(Timestamp::MIN, 10), polls)
                    .await
                    .is_some(),
                poll_times(store.health_check(), polls).await.is_some(),
                poll_times(store.stats(), polls).await.is_some(),
            ];
            let found = context.store.get(&id).await?;
            ensure!(
                found.is_some(),
                "get after dropped reads: expected the record, found none"
            );
            Ok(calls.into_iter().all(|ended| ended))
        }
    })
    .await?;
    let found = context.store.get(&record.job_id).await?;
    ensure!(
        found.as_ref() == Some(&record),
        "get after dropped reads: expected the record, found {}",
        short(&found)
    );
    still_works(context).await
}
