//! How large a record may be.

use warren_plugin_api::{ErrorClass, Payload, Record, Status, Text, Write, WriteOutcome};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, Failure, expect_class, expect_eq, expect_record},
    records::small,
};

pub(crate) const CASES: &[Case] = &[
    case!("limits", the_largest_record_is_taken, ["RS-110"]),
    case!("limits", one_byte_more_is_too_large, ["RS-111"]),
    case!("limits", every_field_counts, ["RS-111"]),
    case!("limits", one_bad_item_spoils_no_other, ["RS-112"]),
    case!(
        "limits",
        large_records_come_back,
        ["RS-113"],
        [NoRecordLimit]
    ),
];

/// The store's limit, where it has one that can be tried out.
fn limit(context: &Context) -> Checked<usize> {
    let Some(limit) = context.capabilities().max_record_bytes else {
        return Err(Failure::NotApplicable("the store limits no record".into()));
    };
    let most = context.options.most_tested_record_bytes;
    if limit > most {
        return Err(Failure::NotApplicable(format!(
            "the limit of {limit} bytes is beyond the {most} that are tried out"
        )));
    }
    usize::try_from(limit).map_err(|error| Failure::NotApplicable(error.to_string()))
}

type Fill = fn(&mut Record, usize);

fn filling(bytes: usize) -> Payload {
    Payload::from(vec![b'1'; bytes])
}

const FILLS: [(&str, Fill); 7] = [
    ("args", |record, bytes| record.args = filling(bytes)),
    ("kwargs", |record, bytes| record.kwargs = filling(bytes)),
    ("result", |record, bytes| record.result = filling(bytes)),
    ("progress", |record, bytes| record.progress = filling(bytes)),
    ("error", |record, bytes| {
        record.error = Some("e".repeat(bytes).into())
    }),
    ("extra", |record, bytes| {
        record.extra = vec![("".into(), filling(bytes))];
    }),
    ("the name of extra", |record, bytes| {
        record.extra = vec![("n".repeat(bytes).into(), Payload::empty())];
    }),
];

/// A record of exactly so many bytes by `Record::size_bytes`.
fn sized(job_id: Text, fill: Fill, bytes: usize) -> Record {
    let mut record = Record {
        args: Payload::empty(),
        ..small(job_id, Status::Completed)
    };
    let room = bytes.saturating_sub(record.size_bytes());
    fill(&mut record, room);
    record
}

async fn the_largest_record_is_taken(context: &Context) -> Checked {
    let limit = limit(context)?;
    for (field, fill) in FILLS {
        let record = sized(context.id("sized"), fill, limit);
        context.store.written(record.clone()).await?;
        let found = context.store.get(&record.job_id).await?;
        let what = format!("a record of {limit} bytes, filled by {field}");
        expect_record(&what, found.as_ref(), &record)?;
        context.store.delete(&record.job_id).await?;
    }
    Ok(())
}

/// Refused both ways, and the record that was there stays.
async fn refused(context: &Context, what: &str, stored: &Record, write: Write) -> Checked {
    let store = context.store.raw();
    expect_class(
        &format!("put of {what}"),
        &store.put(write.clone()).await,
        ErrorClass::TooLarge,
    )?;
    let outcomes = store.put_many(vec![write]).await;
    let outcome = match outcomes {
        Ok(mut outcomes) => outcomes.pop().unwrap_or(Ok(WriteOutcome::Stale)),
        Err(error) => {
            return Err(Failure::Broken(format!(
                "put_many of {what}: expected an answer for the item, found {error} for all"
            )));
        }
    };
    let what = format!("put_many of {what}");
    expect_class(&what, &outcome, ErrorClass::TooLarge)?;
    let found = context.store.get(&stored.job_id).await?;
    expect_record(&format!("after a {what}"), found.as_ref(), stored)
}

async fn one_byte_more_is_too_large(context: &Context) -> Checked {
    let limit = limit(context)?;
    let stored = small(context.id("stored"), Status::Queued);
    context.store.written(stored.clone()).await?;
    for bytes in [limit + 1, limit + 1_000] {
        let large = sized(stored.job_id.clone(), FILLS[2].1, bytes);
        let what = format!("{} bytes where {limit} are taken", large.size_bytes());
        refused(context, &what, &stored, large.into()).await?;
    }
    Ok(())
}

async fn every_field_counts(context: &Context) -> Checked {
    let limit = limit(context)?;
    for (field, fill) in FILLS {
        let record = sized(context.id("sized"), fill, limit + 1);
        let found = context.store.raw().put(record.clone().into()).await;
        let what = format!("put of one byte too many in {field}");
        expect_class(&what, &found, ErrorClass::TooLarge)?;
        let found = context.store.get(&record.job_id).await?;
        expect_eq(&format!("after a {what}"), &found, &None)?;
    }
    Ok(())
}

async fn one_bad_item_spoils_no_other(context: &Context) -> Checked {
    let limit = limit(context)?;
    let good: Vec<Record> = (0..6).map(|_| context.small("good")).collect();
    let bad = sized(context.id("sized"), FILLS[0].1, limit + 1);
    let mut records = good.clone();
    records.insert(2, bad.clone());
    records.insert(5, bad);
    let writes = records.iter().cloned().map(Write::from).collect();
    let outcomes = match context.store.raw().put_many(writes).await {
        Ok(outcomes) => outcomes,
        Err(error) => return Err(Failure::unexpected("put_many with two bad items", &error)),
    };
    for (index, outcome) in outcomes.iter().enumerate() {
        let what = format!("put_many with two bad items, item {index}");
        if index == 2 || index == 5 {
            expect_class(&what, outcome, ErrorClass::TooLarge)?;
        } else {
            expect_eq(&what, outcome, &Ok(WriteOutcome::Written))?;
        }
    }
    for record in &good {
        let found = context.store.get(&record.job_id).await?;
        expect_record("a good item beside a bad one", found.as_ref(), record)?;
    }
    Ok(())
}

async fn large_records_come_back(context: &Context) -> Checked {
    let bytes = context.scaled(1 << 20, 8 << 20);
    for (field, fill) in FILLS {
        let record = sized(context.id("sized"), fill, bytes);
        context.store.written(record.clone()).await?;
        let found = context.store.get(&record.job_id).await?;
        let what = format!("a record of {bytes} bytes, filled by {field}");
        expect_record(&what, found.as_ref(), &record)?;
        context.store.delete(&record.job_id).await?;
    }
    Ok(())
}
