//! Taking a record away.

use warren_plugin_api::{Record, Status, WriteMode};

use crate::{
    case::{Case, case},
    cases::scan::{expect_listed, in_queue},
    context::Context,
    expect::{Checked, expect_eq, expect_record},
    records::{full, now_plus, with_mode},
};

pub(crate) const CASES: &[Case] = &[
    case!("delete", says_whether_a_live_record_was_there, ["RS-070"]),
    case!("delete", the_record_is_gone_for_every_reader, ["RS-071"]),
    case!("delete", no_guard_is_left, ["RS-072"]),
];

async fn says_whether_a_live_record_was_there(context: &Context) -> Checked {
    let store = &context.store;
    let (live, unknown) = (context.full("live"), context.id("unknown"));
    let expired = Record {
        expires_at: Some(now_plus(-1)),
        ..context.full("expired")
    };
    store.written(live.clone()).await?;
    store.written(expired.clone()).await?;
    for (what, job_id, expected) in [
        ("a live record", &live.job_id, true),
        ("it once more", &live.job_id, false),
        ("an unknown id", &unknown, false),
        ("an expired record", &expired.job_id, false),
    ] {
        let deleted = store.delete(job_id).await?;
        expect_eq(&format!("delete of {what}"), &deleted, &expected)?;
    }
    store.written(live.clone()).await?;
    store.written(expired.clone()).await?;
    let ids = vec![live.job_id, unknown, expired.job_id];
    let deleted = store.delete_many(ids).await?;
    expect_eq("delete_many", &deleted, &vec![true, false, false])
}

async fn the_record_is_gone_for_every_reader(context: &Context) -> Checked {
    let (store, queue) = (&context.store, context.name("queue"));
    let record = |name: &str| Record {
        queue: queue.clone(),
        ..context.full(name)
    };
    let (singly, in_batch, stays) = (record("singly"), record("in batch"), record("stays"));
    for record in [&singly, &in_batch, &stays] {
        store.written(record.clone()).await?;
    }
    store.delete(&singly.job_id).await?;
    store.delete_many(vec![in_batch.job_id.clone()]).await?;
    for job_id in [&singly.job_id, &in_batch.job_id] {
        expect_eq("get", &store.get(job_id).await?, &None)?;
        expect_eq("status", &store.status(job_id).await?, &None)?;
    }
    let ids = vec![singly.job_id, in_batch.job_id];
    let many = store.get_many(ids.clone()).await?;
    expect_eq("get_many", &many, &vec![None; 2])?;
    let statuses = store.status_many(ids).await?;
    expect_eq("status_many", &statuses, &vec![None; 2])?;
    let found = store.get(&stays.job_id).await?;
    expect_record("the other record", found.as_ref(), &stays)?;
    if context.capabilities().scan {
        let found = store.scan(&in_queue(&queue), 10).await?;
        expect_listed("scan", &found, &[stays])?;
    }
    Ok(())
}

async fn no_guard_is_left(context: &Context) -> Checked {
    let store = &context.store;
    for mode in [WriteMode::IfNewer, WriteMode::IfAbsent] {
        let ended = full(context.id("ended"), Status::Completed, 9);
        store.written(ended.clone()).await?;
        store.delete(&ended.job_id).await?;
        let first = full(ended.job_id, Status::Queued, 1);
        store.written(with_mode(first.clone(), mode)).await?;
        let found = store.get(&first.job_id).await?;
        expect_record("a new start", found.as_ref(), &first)?;
    }
    Ok(())
}
