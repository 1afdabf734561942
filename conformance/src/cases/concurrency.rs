//! Many callers at once.

use std::future::Future;

use futures_util::future::try_join_all;
use warren_plugin_api::{Record, Status, Timestamp, Write, WriteOutcome};

use crate::{
    case::{Case, case},
    cases::scan::in_queue,
    context::Context,
    expect::{Checked, Failure, ensure, expect_eq, expect_record},
    handle::Handle,
    records::{full, small},
};

pub(crate) const CASES: &[Case] = &[
    case!("concurrency", sixty_four_callers, ["RS-120"]),
    case!("concurrency", what_is_acknowledged_is_seen, ["RS-121"]),
    case!("concurrency", readers_see_whole_records, ["RS-122"]),
];

const CALLERS: usize = 64;

async fn on_tasks<F>(calls: impl Iterator<Item = F>) -> Checked
where
    F: Future<Output = Checked> + Send + 'static,
{
    let tasks = calls.map(|call| async {
        tokio::spawn(call)
            .await
            .unwrap_or_else(|error| Err(Failure::Broken(format!("a caller ended: {error}"))))
    });
    try_join_all(tasks.collect::<Vec<_>>()).await.map(drop)
}

/// A job's life, as a worker and a client see it, beside everything else that a store can do.
async fn sixty_four_callers(context: &Context) -> Checked {
    let queue = context.name("queue");
    let rounds = context.scaled(2, 8);
    let (scan, stats) = (context.capabilities().scan, context.capabilities().stats);
    let callers = (0..CALLERS).map(|caller| {
        let (store, queue) = (context.store.clone(), queue.clone());
        let ids = context.ids(rounds);
        async move {
            for job_id in ids {
                let of = |status| Record {
                    queue: queue.clone(),
                    ..full(job_id.clone(), status, 1)
                };
                for status in [Status::Queued, Status::InProgress] {
                    store.written(of(status)).await?;
                    let found = store.status(&job_id).await?;
                    expect_eq("status among many callers", &found, &Some(status))?;
                }
                let last = of(Status::Completed);
                store.all_written(std::slice::from_ref(&last)).await?;
                let found = store.get(&job_id).await?;
                expect_record("get among many callers", found.as_ref(), &last)?;
                match caller % 4 {
                    0 if scan => drop(store.page(&in_queue(&queue), None, 20).await?),
                    1 if stats => drop(store.stats().await?),
                    2 => drop(store.cleanup(Timestamp::now(), 10).await?),
                    _ => {
                        let deleted = store.delete(&job_id).await?;
                        expect_eq("delete among many callers", &deleted, &true)?;
                    }
                }
            }
            Ok(())
        }
    });
    on_tasks(callers).await
}

async fn what_is_acknowledged_is_seen(context: &Context) -> Checked {
    let second = match context.second_handle().await {
        Ok(second) => second,
        Err(Failure::NotApplicable(_)) => context.store.clone(),
        Err(failure) => return Err(failure),
    };
    for _ in 0..context.scaled(20, 100) {
        let record = context.full("seen");
        context.store.written(record.clone()).await?;
        let found = second.get(&record.job_id).await?;
        expect_record("through the other handle", found.as_ref(), &record)?;
        let later = Record {
            attempt: 3,
            ..record
        };
        second.written(later.clone()).await?;
        let status = context.store.status(&later.job_id).await?;
        expect_eq("status", &status, &Some(later.status))?;
        let found = context.store.get(&later.job_id).await?;
        expect_record("through the first handle", found.as_ref(), &later)?;
        context.store.delete(&later.job_id).await?;
        let found = second.get(&later.job_id).await?;
        expect_eq("a deleted record through the other handle", &found, &None)?;
    }
    Ok(())
}

/// A record whose fields all say the same attempt.
fn consistent(base: &Record, attempt: u32) -> Record {
    Record {
        attempt,
        worker: attempt.to_string().into(),
        args: attempt.to_string().into(),
        result: attempt.to_string().into(),
        error: Some(attempt.to_string().into()),
        enqueued_at: Some(Timestamp::from_unix_us(i64::from(attempt))),
        ..base.clone()
    }
}

async fn readers_see_whole_records(context: &Context) -> Checked {
    let attempts = u32::try_from(context.scaled(50, 300)).unwrap_or(300);
    let base = small(context.id("job"), Status::Failed);
    context.store.written(consistent(&base, 1)).await?;
    let (writer, written) = (context.store.clone(), base.clone());
    let writing = tokio::spawn(async move {
        for attempt in 2..=attempts {
            let write = Write::from(consistent(&written, attempt));
            let outcome = writer.put(write).await?;
            expect_eq("put", &outcome, &WriteOutcome::Written)?;
        }
        Ok(())
    });
    let mut latest = 0;
    while latest < attempts {
        latest = read_whole(&context.store, &base, latest).await?;
        if writing.is_finished() && latest < attempts {
            latest = read_whole(&context.store, &base, attempts).await?;
        }
        tokio::task::yield_now().await;
    }
    writing
        .await
        .unwrap_or_else(|error| Err(Failure::Broken(format!("put: {error}"))))
}

async fn read_whole(store: &Handle, base: &Record, at_least: u32) -> Checked<u32> {
    let Some(found) = store.get(&base.job_id).await? else {
        return Err(Failure::Broken(
            "get while it is written: expected the record, found none".to_owned(),
        ));
    };
    ensure!(
        found.attempt >= at_least,
        "get while it is written: expected attempt {at_least} or later, found {}",
        found.attempt
    );
    let whole = consistent(base, found.attempt);
    expect_record("get while it is written", Some(&found), &whole)?;
    Ok(found.attempt)
}
