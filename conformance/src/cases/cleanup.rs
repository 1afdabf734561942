//! Removing what has expired.

use warren_plugin_api::{Record, Status, Text, Timestamp, WriteMode};

use crate::{
    case::{Case, case},
    cases::{
        expiry::{absent, until},
        scan::{expect_listed, in_queue},
    },
    context::Context,
    expect::{Checked, ensure, expect_eq, expect_record},
    records::{HOUR, SECOND_US, full, now_plus, with_mode},
};

pub(crate) const CASES: &[Case] = &[
    case!("cleanup", live_records_stay, ["RS-060"]),
    case!("cleanup", the_limit_is_kept, ["RS-061"]),
    case!(
        "cleanup",
        exactly_what_expired_by_then,
        ["RS-062"],
        [Alone, OwnExpiry]
    ),
    case!("cleanup", nothing_is_left_in_the_index, ["RS-063"], [Scan]),
    case!(
        "cleanup",
        what_expires_by_itself_needs_none,
        ["RS-064"],
        [NativeExpiry]
    ),
];

fn records(
    context: &Context,
    queue: &Text,
    count: usize,
    expires_at: Option<Timestamp>,
) -> Vec<Record> {
    (0..count)
        .map(|_| Record {
            queue: queue.clone(),
            expires_at,
            ..full(context.id("cleaned"), Status::Completed, 1)
        })
        .collect()
}

async fn live_records_stay(context: &Context) -> Checked {
    let (store, queue) = (&context.store, context.name("queue"));
    let in_a_minute = Some(now_plus(60 * SECOND_US));
    let mut live = records(context, &queue, 5, in_a_minute);
    live.extend(records(context, &queue, 5, None));
    store.all_written(&live).await?;
    let past = Some(now_plus(-SECOND_US));
    store
        .all_written(&records(context, &queue, 5, past))
        .await?;
    store.cleanup_all(Timestamp::now(), 3).await?;
    // A clock that is behind must not remove anything either.
    store.cleanup_all(Timestamp::MIN, 3).await?;
    for record in &live {
        let found = store.get(&record.job_id).await?;
        expect_record("after cleaning up", found.as_ref(), record)?;
    }
    Ok(())
}

/// The limit is checked on every call that the suite makes.
async fn the_limit_is_kept(context: &Context) -> Checked {
    let (store, queue) = (&context.store, context.name("queue"));
    let past = Some(now_plus(-SECOND_US));
    store
        .all_written(&records(context, &queue, 30, past))
        .await?;
    for limit in [1, 2, 7] {
        store.cleanup(Timestamp::now(), limit).await?;
    }
    store.cleanup_all(Timestamp::now(), 5).await?;
    let left = store.cleanup(Timestamp::now(), 1_000).await?;
    if context.options.alone {
        expect_eq("cleanup_expired when nothing is left", &left, &0)?;
    }
    Ok(())
}

/// Records that are alive today, and a later time to clean up for: nobody else removes them.
async fn exactly_what_expired_by_then(context: &Context) -> Checked {
    let (store, queue) = (&context.store, context.name("queue"));
    let then = now_plus(0).saturating_add(HOUR);
    let just_after = Timestamp::from_unix_us(then.unix_us() + 1);
    let by_then = records(context, &queue, 20, Some(then));
    let mut later = records(context, &queue, 5, Some(just_after));
    later.extend(records(context, &queue, 5, None));
    store.all_written(&by_then).await?;
    store.all_written(&later).await?;
    store.cleanup_all(Timestamp::now(), 100).await?;
    let mut removed = Vec::new();
    for _ in 0..4 {
        removed.push(store.cleanup(then, 7).await?);
    }
    expect_eq("20 expired removed by 7", &removed, &vec![7, 7, 6, 0])?;
    for record in &by_then {
        let found = store.get(&record.job_id).await?;
        expect_eq("a record that expired by then", &found, &None)?;
    }
    for record in &later {
        let found = store.get(&record.job_id).await?;
        expect_record("a record that expires later", found.as_ref(), record)?;
    }
    Ok(())
}

async fn nothing_is_left_in_the_index(context: &Context) -> Checked {
    let (store, queue) = (&context.store, context.name("queue"));
    let live = records(context, &queue, 3, None);
    let expired = records(context, &queue, 20, Some(now_plus(-SECOND_US)));
    store.all_written(&expired).await?;
    store.all_written(&live).await?;
    store.cleanup_all(Timestamp::now(), 6).await?;
    let found = store.scan(&in_queue(&queue), 5).await?;
    expect_listed("scan after cleaning up", &found, &live)?;
    // An id that was cleaned up starts anew, once.
    let again = Record {
        queue: queue.clone(),
        ..full(expired[0].job_id.clone(), Status::Queued, 1)
    };
    store.written(again.clone()).await?;
    store.cleanup_all(Timestamp::now(), 6).await?;
    let found = store.scan(&in_queue(&queue), 5).await?;
    ensure!(
        found.len() == live.len() + 1,
        "scan after a new start: expected {} records, found {}",
        live.len() + 1,
        found.len()
    );
    let found = store.get(&again.job_id).await?;
    expect_record("a job that starts anew", found.as_ref(), &again)
}

async fn what_expires_by_itself_needs_none(context: &Context) -> Checked {
    let (store, queue) = (&context.store, context.name("queue"));
    let soon = now_plus(SECOND_US / 4);
    let mut expiring = records(context, &queue, 5, Some(soon));
    expiring.extend(records(context, &queue, 5, Some(now_plus(-SECOND_US))));
    let live = records(context, &queue, 5, None);
    store.all_written(&expiring).await?;
    store.all_written(&live).await?;
    until(soon).await;
    for record in &expiring {
        let what = "that expired, and was not cleaned up";
        absent(context, what, &record.job_id, &queue).await?;
    }
    if context.options.alone && context.capabilities().stats {
        let records = store.stats().await?.records;
        ensure!(
            records.is_none_or(|records| records == live.len() as u64),
            "stats without a cleanup: expected {} records or no figure, found {records:?}",
            live.len()
        );
    }
    // Its id is free.
    let again = Record {
        queue: queue.clone(),
        ..full(expiring[0].job_id.clone(), Status::Queued, 1)
    };
    store
        .written(with_mode(again.clone(), WriteMode::IfAbsent))
        .await?;
    let tidied = store.cleanup_all(Timestamp::now(), 3).await?;
    ensure!(
        !context.options.alone || tidied <= expiring.len() as u64,
        "cleanup_expired: expected at most the {} records that had expired, found {tidied} removed",
        expiring.len()
    );
    for record in live.iter().chain([&again]) {
        let found = store.get(&record.job_id).await?;
        expect_record("after tidying up", found.as_ref(), record)?;
    }
    Ok(())
}
