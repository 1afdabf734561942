//! From opening to closing, and open again.

use futures_util::{FutureExt, future::join};
use warren_plugin_api::{
    CompletionSink, ErrorClass, Filter, Record, Status, StoreResult, Timestamp,
};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, Failure, ensure, expect_class, expect_record},
    records::full,
};

pub(crate) const CASES: &[Case] = &[
    case!("lifecycle", a_closed_store_is_unavailable, ["RS-130"]),
    case!("lifecycle", closing_twice_succeeds, ["RS-131"]),
    case!("lifecycle", other_handles_stay_open, ["RS-132"]),
    case!("lifecycle", calls_during_close_end, ["RS-133"]),
    case!(
        "lifecycle",
        records_outlive_the_handle,
        ["RS-134"],
        [Durable]
    ),
    case!(
        "lifecycle",
        records_outlive_a_handle_that_was_not_closed,
        ["RS-134"],
        [Durable]
    ),
];

async fn a_closed_store_is_unavailable(context: &Context) -> Checked {
    let handle = context.open_again().await?;
    let (record, id) = (context.small("job"), context.id("job"));
    let ids = vec![id.clone()];
    handle.written(record.clone()).await?;
    handle.close().await?;
    let (store, expected) = (handle.raw(), ErrorClass::Unavailable);
    expect_class("put", &store.put(record.clone().into()).await, expected)?;
    let put_many = store.put_many(vec![record.into()]).await;
    expect_class("put_many", &put_many, expected)?;
    expect_class("get", &store.get(id.clone()).await, expected)?;
    expect_class("get_many", &store.get_many(ids.clone()).await, expected)?;
    expect_class("status", &store.status(id.clone()).await, expected)?;
    expect_class(
        "status_many",
        &store.status_many(ids.clone()).await,
        expected,
    )?;
    expect_class("delete", &store.delete(id).await, expected)?;
    expect_class("delete_many", &store.delete_many(ids).await, expected)?;
    let page = store.scan(Filter::default(), None, 10).await;
    expect_class("scan", &page, expected)?;
    let removed = store.cleanup_expired(Timestamp::MIN, 10).await;
    expect_class("cleanup_expired", &removed, expected)?;
    expect_class("health_check", &store.health_check().await, expected)?;
    expect_class("stats", &store.stats().await, expected)?;
    let sink = CompletionSink::new(|| {}, |_| {});
    expect_class("subscribe", &store.subscribe(sink).await, expected)
}

async fn closing_twice_succeeds(context: &Context) -> Checked {
    let handle = context.open_again().await?;
    handle.close().await?;
    handle.close().await?;
    // From two places at once.
    let handle = context.open_again().await?;
    let (first, second) = tokio::join!(handle.close(), handle.close());
    first.and(second)
}

async fn other_handles_stay_open(context: &Context) -> Checked {
    let second = context.second_handle().await?;
    let record = context.full("job");
    second.written(record.clone()).await?;
    second.close().await?;
    drop(second);
    let found = context.store.get(&record.job_id).await?;
    expect_record("through the handle that is open", found.as_ref(), &record)?;
    let later = Record {
        attempt: 3,
        ..record
    };
    context.store.written(later.clone()).await?;
    let found = context.store.get(&later.job_id).await?;
    expect_record("written after the other closed", found.as_ref(), &later)
}

/// Answered or unavailable, and never anything between.
fn answered_or_unavailable<T>(ended: StoreResult<T>) -> Checked {
    if let Err(error) = ended {
        ensure!(
            error.class() == ErrorClass::Unavailable,
            "a call during close: expected an answer or unavailable, found {error}"
        );
    }
    Ok(())
}

async fn calls_during_close_end(context: &Context) -> Checked {
    for _ in 0..context.scaled(2, 10) {
        let handle = context.open_again().await?;
        let calls: Vec<_> = (0..32)
            .map(|caller| {
                let (store, record) = (handle.raw().clone(), context.full("job"));
                tokio::spawn(async move {
                    for _ in 0..caller {
                        tokio::task::yield_now().await;
                    }
                    let id = record.job_id.clone();
                    store.put(record.into()).await?;
                    store.get(id).await.map(|found| found.is_some())
                })
            })
            .collect();
        // This one is under way, whenever the others get to run.
        let mut begun = Box::pin(handle.raw().put(context.full("job").into()));
        let ended_at_once = begun.as_mut().now_or_never();
        let begun = async {
            match ended_at_once {
                Some(ended) => ended,
                None => begun.await,
            }
        };
        // A store may wait with its end for the calls that it is working on.
        let (closed, ended) = join(handle.close(), begun).await;
        closed?;
        answered_or_unavailable(ended)?;
        for call in calls {
            let ended: StoreResult<bool> = call
                .await
                .map_err(|error| Failure::Broken(format!("a call during close: {error}")))?;
            answered_or_unavailable(ended)?;
        }
    }
    Ok(())
}

/// Records of every status, written singly and as a batch.
fn lasting(context: &Context) -> Vec<Record> {
    Status::ALL
        .into_iter()
        .map(|status| full(context.id("lasting"), status, 2))
        .collect()
}

async fn found_anew(context: &Context, records: &[Record]) -> Checked {
    let reader = context.open_again().await?;
    for record in records {
        let found = reader.get(&record.job_id).await?;
        expect_record("after opening again", found.as_ref(), record)?;
    }
    reader.close().await
}

async fn records_outlive_the_handle(context: &Context) -> Checked {
    // No handle may be left that keeps them alive.
    context.store.close().await?;
    let writer = context.open_again().await?;
    let records = lasting(context);
    let (singly, as_batch) = records.split_at(3);
    for record in singly {
        writer.written(record.clone()).await?;
    }
    writer.all_written(as_batch).await?;
    writer.close().await?;
    drop(writer);
    found_anew(context, &records).await
}

async fn records_outlive_a_handle_that_was_not_closed(context: &Context) -> Checked {
    context.store.close().await?;
    let writer = context.open_again().await?;
    let records = lasting(context);
    writer.all_written(&records).await?;
    drop(writer);
    found_anew(context, &records).await
}
