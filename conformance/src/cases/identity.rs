//! Which record belongs to which job.

use warren_plugin_api::{Filter, Record, Text};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, ensure, expect_eq, expect_record},
    records::{hostile_texts, small},
};

pub(crate) const CASES: &[Case] = &[
    case!("identity", hostile_ids, ["RS-001"]),
    case!("identity", one_byte_ids, ["RS-001"], [Alone]),
    case!("identity", near_ids_stay_apart, ["RS-002"]),
    case!("identity", an_unknown_id_has_no_record, ["RS-003"]),
    case!("identity", every_reader_agrees, ["RS-004"]),
];

/// Writes a record for each id, and reads each one back by every way that takes an id.
async fn all_come_back(context: &Context, ids: Vec<Text>) -> Checked {
    let records: Vec<Record> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| Record {
            args: format!("[{index}]").into(),
            ..small(id.clone(), Default::default())
        })
        .collect();
    for record in &records {
        context.store.written(record.clone()).await?;
    }
    let many = context.store.get_many(ids).await?;
    for (record, of_many) in records.iter().zip(many) {
        let found = context.store.get(&record.job_id).await?;
        expect_record("get", found.as_ref(), record)?;
        expect_record("get_many", of_many.as_ref(), record)?;
        let status = context.store.status(&record.job_id).await?;
        expect_eq("status", &status, &Some(record.status))?;
    }
    for record in &records {
        let deleted = context.store.delete(&record.job_id).await?;
        ensure!(
            deleted,
            "delete of {:?}: expected true, found false",
            record.job_id
        );
    }
    Ok(())
}

async fn hostile_ids(context: &Context) -> Checked {
    let mut ids: Vec<Text> = hostile_texts()
        .into_iter()
        .filter(|text| text.len() < 900)
        .map(|text| context.use_id(format!("{}-{text}", context.id(""))))
        .collect();
    for filler in ["x", "é", "🦀"] {
        let start = context.id(filler);
        let room = 1_024 - start.len();
        let padded = format!(
            "{start}{}{}",
            filler.repeat(room / filler.len()),
            "y".repeat(room % filler.len())
        );
        ids.push(context.use_id(padded));
    }
    all_come_back(context, ids).await
}

async fn one_byte_ids(context: &Context) -> Checked {
    let ids = ["\0", "\n", " ", "*", "/", ":", "0", "{", "~"].map(|id| context.use_id(id));
    all_come_back(context, ids.into()).await
}

async fn near_ids_stay_apart(context: &Context) -> Checked {
    let base = context.id("job");
    let mut ids = vec![base.clone()];
    for suffix in [
        " ", "\0", "\n", "0", "00", "A", "a", "é", "e\u{301}", "*", "?", ":", "::", "/", "//", "%",
        "%20", "\\", "\"", "'",
    ] {
        ids.push(context.use_id(format!("{base}{suffix}")));
    }
    ids.push(context.use_id(format!(" {base}")));
    ids.push(context.use_id(base.to_uppercase()));
    // The longest ids, which differ in their last byte only.
    for last in ["a", "b"] {
        let room = 1_023 - base.len();
        ids.push(context.use_id(format!("{base}{}{last}", "z".repeat(room))));
    }
    all_come_back(context, ids).await
}

async fn an_unknown_id_has_no_record(context: &Context) -> Checked {
    let unknown = context.id("never written");
    let neighbour = small(
        context.use_id(format!("{unknown}-written")),
        Default::default(),
    );
    context.store.written(neighbour).await?;
    let store = &context.store;
    expect_eq("get", &store.get(&unknown).await?, &None)?;
    expect_eq("status", &store.status(&unknown).await?, &None)?;
    let ids = vec![unknown.clone()];
    expect_eq("get_many", &store.get_many(ids.clone()).await?, &vec![None])?;
    expect_eq("status_many", &store.status_many(ids).await?, &vec![None])
}

async fn every_reader_agrees(context: &Context) -> Checked {
    let (store, queue) = (&context.store, context.name("queue"));
    let records: Vec<Record> = warren_plugin_api::Status::ALL
        .into_iter()
        .map(|status| Record {
            queue: queue.clone(),
            ..crate::records::full(context.id(status.as_str()), status, 3)
        })
        .collect();
    for record in &records {
        store.written(record.clone()).await?;
    }
    let ids: Vec<Text> = records.iter().map(|record| record.job_id.clone()).collect();
    let many = store.get_many(ids.clone()).await?;
    let statuses = store.status_many(ids).await?;
    let scanned = if context.capabilities().scan {
        let filter = Filter {
            queue: Some(queue),
            ..Filter::default()
        };
        Some(store.scan(&filter, 100).await?)
    } else {
        None
    };
    for ((record, of_many), status) in records.iter().zip(many).zip(statuses) {
        let found = store.get(&record.job_id).await?;
        expect_record("get", found.as_ref(), record)?;
        expect_record("get_many", of_many.as_ref(), record)?;
        expect_eq("status_many", &status, &Some(record.status))?;
        let status = store.status(&record.job_id).await?;
        expect_eq("status", &status, &Some(record.status))?;
        if let Some(scanned) = &scanned {
            let listed = scanned.iter().find(|found| found.job_id == record.job_id);
            expect_record("scan", listed, record)?;
        }
    }
    Ok(())
}
