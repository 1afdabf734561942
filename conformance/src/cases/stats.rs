//! What the store says it holds.

use std::collections::BTreeMap;

use warren_plugin_api::{Record, Stats, Status};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, ensure, expect_eq},
    handle::Handle,
    records::{full, now_plus},
};

pub(crate) const CASES: &[Case] = &[
    case!("stats", statuses_add_up, ["RS-080"], [Stats]),
    case!(
        "stats",
        live_records_are_counted,
        ["RS-081"],
        [Stats, Alone]
    ),
    case!("stats", changes_are_followed, ["RS-082"], [Stats, Alone]),
];

/// Figures that agree with each other.
async fn figures(store: &Handle) -> Checked<Stats> {
    let stats = store.stats().await?;
    let sum: u64 = stats.by_status.values().sum();
    if let (Some(records), false) = (stats.records, stats.by_status.is_empty()) {
        ensure!(
            sum == records,
            "stats: expected the statuses to add up to {records} records, found {sum}: {:?}",
            stats.by_status
        );
    }
    Ok(stats)
}

fn of_every_status(context: &Context) -> Vec<Record> {
    let mut records = Vec::new();
    for (index, status) in Status::ALL.into_iter().enumerate() {
        for _ in 0..=index {
            records.push(full(context.id(status.as_str()), status, 1));
        }
    }
    records
}

async fn statuses_add_up(context: &Context) -> Checked {
    let store = &context.store;
    let records = of_every_status(context);
    store.all_written(&records).await?;
    let expired = Record {
        expires_at: Some(now_plus(-1)),
        ..context.full("expired")
    };
    store.written(expired).await?;
    let stats = figures(store).await?;
    let at_least = records.len() as u64;
    ensure!(
        stats.records.is_none_or(|records| records >= at_least),
        "stats: expected at least {at_least} records, found {:?}",
        stats.records
    );
    for status in Status::ALL
        .into_iter()
        .filter(|_| !stats.by_status.is_empty())
    {
        let found = stats.by_status.get(&status).copied().unwrap_or_default();
        let at_least = records
            .iter()
            .filter(|record| record.status == status)
            .count();
        ensure!(
            found >= at_least as u64,
            "stats: expected at least {at_least} records that are {status}, found {found}"
        );
    }
    Ok(())
}

/// What a store that holds exactly `records` must say, where it says anything.
async fn expect_counted(context: &Context, what: &str, records: &[(Status, u64)]) -> Checked {
    let stats = figures(&context.store).await?;
    let total = records.iter().map(|(_, count)| count).sum();
    if let Some(found) = stats.records {
        expect_eq(&format!("records in stats {what}"), &found, &total)?;
    }
    if !stats.by_status.is_empty() {
        let found: BTreeMap<Status, u64> = stats
            .by_status
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let expected = records.iter().copied().filter(|(_, count)| *count > 0);
        let what = format!("statuses in stats {what}");
        expect_eq(&what, &found, &expected.collect())?;
    }
    Ok(())
}

async fn live_records_are_counted(context: &Context) -> Checked {
    let store = &context.store;
    expect_counted(context, "of nothing", &[]).await?;
    let records = of_every_status(context);
    store.all_written(&records).await?;
    let counted: Vec<(Status, u64)> = Status::ALL.into_iter().zip(1..).collect();
    expect_counted(context, "of new records", &counted).await?;
    let expired: Vec<Record> = (0..3)
        .map(|_| Record {
            expires_at: Some(now_plus(-1)),
            ..context.full("expired")
        })
        .collect();
    store.all_written(&expired).await?;
    expect_counted(context, "beside expired records", &counted).await?;
    let ids = records.into_iter().map(|record| record.job_id).collect();
    store.delete_many(ids).await?;
    expect_counted(context, "after deleting all", &[]).await
}

async fn changes_are_followed(context: &Context) -> Checked {
    let store = &context.store;
    let job_id = context.id("job");
    let other = full(context.id("other"), Status::Failed, 1);
    store.written(other).await?;
    for (status, attempt) in [
        (Status::Queued, 1),
        (Status::InProgress, 1),
        (Status::InProgress, 1),
        (Status::Retrying, 1),
        (Status::InProgress, 2),
        (Status::Completed, 2),
    ] {
        store.written(full(job_id.clone(), status, attempt)).await?;
        // A stale write beside it counts for nothing.
        store.put(full(job_id.clone(), Status::Queued, 0)).await?;
        let counted = [(Status::Failed, 1), (status, 1)];
        expect_counted(context, &format!("of a job that is {status}"), &counted).await?;
    }
    let expired = Record {
        expires_at: Some(now_plus(-1)),
        ..full(job_id.clone(), Status::Completed, 3)
    };
    store.written(expired).await?;
    expect_counted(context, "after the job expired", &[(Status::Failed, 1)]).await?;
    store
        .written(full(job_id.clone(), Status::Queued, 1))
        .await?;
    let counted = [(Status::Failed, 1), (Status::Queued, 1)];
    expect_counted(context, "after it began anew", &counted).await?;
    store.delete(&job_id).await?;
    expect_counted(context, "after it was deleted", &[(Status::Failed, 1)]).await
}
