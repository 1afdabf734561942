//! Every record can have its own end.

use std::time::Duration;

use warren_plugin_api::{Filter, Record, Status, Text, Timestamp, WriteMode, WriteOutcome};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, ensure, expect_eq, expect_record},
    records::{HOUR, SECOND_US, full, now_plus, with_mode},
};

pub(crate) const CASES: &[Case] = &[
    case!("expiry", what_has_expired_is_absent, ["RS-030", "RS-031"]),
    case!("expiry", a_record_ends_at_its_time, ["RS-030"]),
    case!("expiry", every_record_has_its_own_time, ["RS-032"]),
    case!("expiry", a_write_sets_the_time_anew, ["RS-033"]),
    case!("expiry", far_times_are_kept, ["RS-034"]),
    case!("expiry", an_expired_record_is_no_claim, ["RS-021"]),
];

const SHORT_US: i64 = SECOND_US / 4;

/// No way of reading shows the record.
pub(crate) async fn absent(context: &Context, what: &str, job_id: &Text, queue: &Text) -> Checked {
    let store = &context.store;
    let what = |call: &str| format!("{call} of a record {what}");
    expect_eq(&what("get"), &store.get(job_id).await?, &None)?;
    expect_eq(&what("status"), &store.status(job_id).await?, &None)?;
    let ids = vec![job_id.clone()];
    let many = store.get_many(ids.clone()).await?;
    expect_eq(&what("get_many"), &many, &vec![None])?;
    let statuses = store.status_many(ids).await?;
    expect_eq(&what("status_many"), &statuses, &vec![None])?;
    if context.capabilities().scan {
        let filter = Filter {
            queue: Some(queue.clone()),
            ..Filter::default()
        };
        let listed = store.scan(&filter, 100).await?;
        ensure!(
            listed.iter().all(|record| record.job_id != *job_id),
            "{}: expected it not to be listed, found it",
            what("scan")
        );
    }
    Ok(())
}

fn expiring(context: &Context, name: &str, expires_at: Option<Timestamp>) -> Record {
    Record {
        queue: context.name("queue"),
        expires_at,
        ..full(context.id(name), Status::InProgress, 1)
    }
}

/// Waits until this machine's clock shows `time`.
pub(crate) async fn until(time: Timestamp) {
    loop {
        let left = time.saturating_duration_since(Timestamp::now());
        if left.is_zero() && Timestamp::now() >= time {
            return;
        }
        tokio::time::sleep(left + Duration::from_millis(1)).await;
    }
}

async fn what_has_expired_is_absent(context: &Context) -> Checked {
    let past = [
        Timestamp::MIN,
        Timestamp::from_unix_us(-1),
        Timestamp::from_unix_us(0),
    ];
    let recent = [-3_600 * SECOND_US, -SECOND_US, -1].map(now_plus);
    for expires_at in past.into_iter().chain(recent) {
        let record = expiring(context, "past", Some(expires_at));
        let what = format!("that expired at {expires_at}");
        context.store.written(record.clone()).await?;
        absent(context, &what, &record.job_id, &record.queue).await?;
        // Over a live record it takes effect like any other: the live one is gone.
        let live = expiring(context, "live", None);
        context.store.written(live.clone()).await?;
        let ended = Record {
            expires_at: Some(expires_at),
            attempt: 2,
            ..live
        };
        let outcomes = context.store.put_many(vec![ended.clone().into()]).await?;
        expect_eq("put_many", &outcomes, &vec![WriteOutcome::Written])?;
        absent(context, &what, &ended.job_id, &ended.queue).await?;
    }
    Ok(())
}

async fn a_record_ends_at_its_time(context: &Context) -> Checked {
    for status in Status::ALL {
        let expires_at = now_plus(SHORT_US);
        let record = Record {
            status,
            ..expiring(context, "short", Some(expires_at))
        };
        context.store.written(record.clone()).await?;
        let found = context.store.get(&record.job_id).await?;
        if Timestamp::now() < expires_at {
            expect_record("before its time", found.as_ref(), &record)?;
        }
        until(expires_at).await;
        absent(context, "at its time", &record.job_id, &record.queue).await?;
    }
    Ok(())
}

async fn every_record_has_its_own_time(context: &Context) -> Checked {
    let soon = now_plus(SHORT_US);
    let far = now_plus(0).saturating_add(HOUR);
    let records: Vec<Record> = [Some(soon), Some(far), None, Some(soon), Some(far), None]
        .into_iter()
        .map(|expires_at| expiring(context, "own", expires_at))
        .collect();
    context.store.all_written(&records).await?;
    until(soon).await;
    for record in &records {
        let found = context.store.get(&record.job_id).await?;
        if record.expires_at == Some(soon) {
            expect_eq("the short-lived record", &found, &None)?;
        } else {
            expect_record("the longer-lived record", found.as_ref(), record)?;
        }
    }
    Ok(())
}

async fn a_write_sets_the_time_anew(context: &Context) -> Checked {
    let soon = now_plus(SHORT_US);
    let far = now_plus(0).saturating_add(HOUR);
    let changes = [
        (Some(soon), Some(far)),
        (Some(soon), None),
        (Some(far), Some(soon)),
        (None, Some(soon)),
    ];
    let mut lasting = Vec::new();
    let mut ending = Vec::new();
    for (first, second) in changes {
        let record = expiring(context, "changed", first);
        context.store.put(record.clone()).await?;
        let changed = Record {
            expires_at: second,
            worker: "second".into(),
            ..record
        };
        context.store.written(changed.clone()).await?;
        if second == Some(soon) {
            ending.push(changed);
        } else {
            lasting.push(changed);
        }
    }
    until(soon).await;
    for record in &lasting {
        let found = context.store.get(&record.job_id).await?;
        expect_record("after its first time", found.as_ref(), record)?;
    }
    for record in &ending {
        absent(context, "made shorter", &record.job_id, &record.queue).await?;
    }
    // What the backend scheduled for the first time must not come later either.
    context.store.cleanup_all(Timestamp::now(), 1_000).await?;
    for record in &lasting {
        let found = context.store.get(&record.job_id).await?;
        expect_record("after cleaning up", found.as_ref(), record)?;
    }
    Ok(())
}

async fn far_times_are_kept(context: &Context) -> Checked {
    let far = [
        now_plus(0).saturating_add(HOUR * 24 * 366 * 10),
        Timestamp::from_unix_us(253_402_300_799_999_999),
        Timestamp::from_unix_us(i64::MAX / 1_000),
        Timestamp::from_unix_us(i64::MAX - 1),
        Timestamp::MAX,
    ];
    for expires_at in far {
        let record = expiring(context, "far", Some(expires_at));
        context.store.written(record.clone()).await?;
        let found = context.store.get(&record.job_id).await?;
        let what = format!("a record that expires at {expires_at}");
        expect_record(&what, found.as_ref(), &record)?;
    }
    Ok(())
}

async fn an_expired_record_is_no_claim(context: &Context) -> Checked {
    let expires_at = now_plus(SHORT_US);
    let record = Record {
        status: Status::Completed,
        attempt: 9,
        ..expiring(context, "claimed", Some(expires_at))
    };
    context.store.written(record.clone()).await?;
    until(expires_at).await;
    let claim = Record {
        status: Status::Queued,
        attempt: 1,
        expires_at: None,
        ..record
    };
    let write = with_mode(claim.clone(), WriteMode::IfAbsent);
    context.store.written(write).await?;
    let found = context.store.get(&claim.job_id).await?;
    expect_record("the new claim", found.as_ref(), &claim)
}
