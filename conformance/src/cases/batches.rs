//! Many items in one call.

use warren_plugin_api::{
    Record, Status, Text, Write,
    WriteOutcome::{Stale, Written},
};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, ensure, expect_eq, expect_record},
    records::{full, small},
};

pub(crate) const CASES: &[Case] = &[
    case!("batches", answers_come_in_order, ["RS-040"]),
    case!("batches", missing_and_repeated_ids, ["RS-041"]),
    case!("batches", of_nothing, ["RS-042"]),
    case!("batches", of_ten_thousand, ["RS-043"]),
    case!("batches", writes_of_one_job_act_in_order, ["RS-044"]),
    case!("batches", deletes_act_in_order, ["RS-045"]),
];

async fn answers_come_in_order(context: &Context) -> Checked {
    let store = &context.store;
    // Every third one is there already and later: its write is stale.
    let ids = context.ids(99);
    let is_stale = |index: usize| index.is_multiple_of(3);
    let later: Vec<Record> = (0..ids.len())
        .filter(|index| is_stale(*index))
        .map(|index| full(ids[index].clone(), Status::Completed, 9))
        .collect();
    store.all_written(&later).await?;
    let writes = ids
        .iter()
        .map(|id| full(id.clone(), Status::Retrying, 2).into())
        .collect();
    let outcomes = store.put_many(writes).await?;
    let expected = (0..ids.len())
        .map(|index| if is_stale(index) { Stale } else { Written })
        .collect();
    expect_eq("put_many", &outcomes, &expected)?;
    let records = store.get_many(ids.clone()).await?;
    let statuses = store.status_many(ids.clone()).await?;
    for (index, (record, status)) in records.iter().zip(statuses).enumerate() {
        let expected = if is_stale(index) {
            Status::Completed
        } else {
            Status::Retrying
        };
        let found = record
            .as_ref()
            .map(|record| (&record.job_id, record.status));
        let what = format!("get_many, item {index}");
        expect_eq(&what, &found, &Some((&ids[index], expected)))?;
        let what = format!("status_many, item {index}");
        expect_eq(&what, &status, &Some(expected))?;
    }
    Ok(())
}

async fn missing_and_repeated_ids(context: &Context) -> Checked {
    let store = &context.store;
    let (a, b) = (context.full("a"), context.full("b"));
    store.written(a.clone()).await?;
    store.written(b.clone()).await?;
    let unknown = context.id("unknown");
    let ids: Vec<Text> = [
        &unknown, &a.job_id, &b.job_id, &a.job_id, &unknown, &a.job_id,
    ]
    .map(Text::clone)
    .into();
    let expected = [None, Some(&a), Some(&b), Some(&a), None, Some(&a)];
    let records = store.get_many(ids.clone()).await?;
    for (found, expected) in records.iter().zip(expected) {
        match expected {
            Some(expected) => expect_record("get_many", found.as_ref(), expected)?,
            None => expect_eq("get_many of an unknown id", found, &None)?,
        }
    }
    let statuses = store.status_many(ids).await?;
    let expected = expected
        .map(|record| record.map(|record| record.status))
        .to_vec();
    expect_eq("status_many", &statuses, &expected)
}

async fn of_nothing(context: &Context) -> Checked {
    let store = &context.store;
    expect_eq("put_many", &store.put_many(Vec::new()).await?, &Vec::new())?;
    expect_eq("get_many", &store.get_many(Vec::new()).await?, &Vec::new())?;
    let statuses = store.status_many(Vec::new()).await?;
    expect_eq("status_many", &statuses, &Vec::new())?;
    let deleted = store.delete_many(Vec::new()).await?;
    expect_eq("delete_many", &deleted, &Vec::new())
}

async fn of_ten_thousand(context: &Context) -> Checked {
    let store = &context.store;
    let ids = context.ids(context.scaled(1_000, 10_000));
    let records: Vec<Record> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| Record {
            args: format!("[{index}]").into(),
            ..small(id.clone(), Status::Queued)
        })
        .collect();
    let writes = records.iter().cloned().map(Write::from).collect();
    let outcomes = store.put_many(writes).await?;
    ensure!(
        outcomes.iter().all(|outcome| *outcome == Written),
        "put_many of {}: expected all Written, found another",
        ids.len()
    );
    let found = store.get_many(ids.clone()).await?;
    for (record, found) in records.iter().zip(&found) {
        expect_record("get_many", found.as_ref(), record)?;
    }
    let statuses = store.status_many(ids.clone()).await?;
    ensure!(
        statuses
            .iter()
            .all(|status| *status == Some(Status::Queued)),
        "status_many of {}: expected all queued, found another",
        ids.len()
    );
    let deleted = store.delete_many(ids.clone()).await?;
    ensure!(
        deleted.iter().all(|deleted| *deleted),
        "delete_many of {}: expected all true, found another",
        ids.len()
    );
    let found = store.get_many(ids).await?;
    ensure!(
        found.iter().all(Option::is_none),
        "get_many after delete_many: expected none, found some"
    );
    Ok(())
}

async fn writes_of_one_job_act_in_order(context: &Context) -> Checked {
    let store = &context.store;
    let (forwards, backwards) = (context.id("forwards"), context.id("backwards"));
    let life = [
        (Status::Queued, 1),
        (Status::InProgress, 1),
        (Status::Retrying, 1),
        (Status::InProgress, 2),
        (Status::Completed, 2),
    ];
    let mut writes: Vec<Write> = Vec::new();
    for step in 0..life.len() {
        let (status, attempt) = life[step];
        writes.push(full(forwards.clone(), status, attempt).into());
        let (status, attempt) = life[life.len() - 1 - step];
        writes.push(full(backwards.clone(), status, attempt).into());
    }
    let outcomes = store.put_many(writes).await?;
    let expected = (0..life.len())
        .flat_map(|step| [Written, if step == 0 { Written } else { Stale }])
        .collect();
    expect_eq("put_many of two jobs' lives", &outcomes, &expected)?;
    for job_id in [forwards, backwards] {
        let last = full(job_id, Status::Completed, 2);
        let found = store.get(&last.job_id).await?.map(|found| Record {
            // Made anew for the comparison, a moment later.
            expires_at: last.expires_at,
            ..found
        });
        expect_record("after the batch", found.as_ref(), &last)?;
    }
    Ok(())
}

async fn deletes_act_in_order(context: &Context) -> Checked {
    let store = &context.store;
    let (a, b) = (context.full("a"), context.full("b"));
    store.written(a.clone()).await?;
    store.written(b.clone()).await?;
    let ids = vec![context.id("unknown"), a.job_id.clone(), b.job_id, a.job_id];
    let deleted = store.delete_many(ids.clone()).await?;
    expect_eq("delete_many", &deleted, &vec![false, true, true, false])?;
    let found = store.get_many(ids).await?;
    expect_eq("get_many after it", &found, &vec![None; 4])
}
