//! What is written comes back.

use std::time::Duration;

use warren_plugin_api::{Payload, Record, Status, Text, Timestamp};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, expect_eq, expect_record},
    records::{full, hostile_payloads, hostile_texts},
};

pub(crate) const CASES: &[Case] = &[
    case!("round_trip", every_field, ["RS-010"]),
    case!("round_trip", every_absent_field, ["RS-010"]),
    case!("round_trip", hostile_payloads_in_every_field, ["RS-011"]),
    case!("round_trip", nothing_is_not_null, ["RS-012"]),
    case!("round_trip", hostile_texts_in_every_field, ["RS-013"]),
    case!("round_trip", extreme_times, ["RS-014"]),
    case!("round_trip", extreme_numbers, ["RS-015"]),
    case!("round_trip", extra_values, ["RS-016"]),
    case!("round_trip", a_write_replaces_the_whole_record, ["RS-017"]),
];

/// Writes records one by one and as a batch, and reads them one by one and as a batch.
async fn come_back(context: &Context, what: &str, records: Vec<Record>) -> Checked {
    let store = &context.store;
    let (singly, as_batch) = records.split_at(records.len() / 2);
    for record in singly {
        store.written(record.clone()).await?;
    }
    store.all_written(as_batch).await?;
    let ids = records.iter().map(|record| record.job_id.clone()).collect();
    let many = store.get_many(ids).await?;
    for (record, of_many) in records.iter().zip(many) {
        let found = store.get(&record.job_id).await?;
        expect_record(&format!("{what}, get"), found.as_ref(), record)?;
        expect_record(&format!("{what}, get_many"), of_many.as_ref(), record)?;
    }
    Ok(())
}

async fn every_field(context: &Context) -> Checked {
    let records = Status::ALL
        .into_iter()
        .chain(Status::ALL)
        .map(|status| full(context.id(status.as_str()), status, 7))
        .collect();
    come_back(context, "every field set", records).await
}

async fn every_absent_field(context: &Context) -> Checked {
    let bare = |_| Record {
        job_id: context.id("bare"),
        attempt: 1,
        ..Record::default()
    };
    come_back(context, "no field set", (0..2).map(bare).collect()).await
}

type SetPayload = fn(&mut Record, Payload);

const PAYLOAD_FIELDS: [(&str, SetPayload); 5] = [
    ("args", |record, payload| record.args = payload),
    ("kwargs", |record, payload| record.kwargs = payload),
    ("result", |record, payload| record.result = payload),
    ("progress", |record, payload| record.progress = payload),
    ("extra", |record, payload| {
        record.extra = vec![("key".into(), payload)];
    }),
];

async fn hostile_payloads_in_every_field(context: &Context) -> Checked {
    for (name, payload) in hostile_payloads() {
        let records = PAYLOAD_FIELDS
            .iter()
            .chain(&PAYLOAD_FIELDS)
            .map(|(field, set)| {
                let mut record = context.small(field);
                set(&mut record, payload.clone());
                record
            })
            .collect();
        come_back(context, name, records).await?;
    }
    Ok(())
}

async fn nothing_is_not_null(context: &Context) -> Checked {
    let with = |payload: &str| Record {
        status: Status::Completed,
        args: payload.into(),
        kwargs: payload.into(),
        result: payload.into(),
        progress: payload.into(),
        extra: vec![("value".into(), payload.into())],
        ..context.small("payload")
    };
    let records = vec![with(""), with("null"), with("\"\""), with(""), with("null")];
    come_back(context, "nothing or null", records).await
}

async fn hostile_texts_in_every_field(context: &Context) -> Checked {
    let mut records = Vec::new();
    for text in hostile_texts() {
        let text = Text::from(text);
        let record = |change: fn(&mut Record, Text)| {
            let mut record = context.small("text");
            change(&mut record, text.clone());
            record
        };
        records.extend([
            record(|record, text| record.queue = text),
            record(|record, text| record.function = text),
            record(|record, text| record.worker = text),
            record(|record, text| record.error = Some(text)),
        ]);
    }
    come_back(context, "hostile text", records).await
}

async fn extreme_times(context: &Context) -> Checked {
    let moments = [
        i64::MIN,
        i64::MIN + 1,
        -62_135_596_800_000_001,
        -62_135_596_800_000_000,
        -1,
        0,
        1,
        999_999,
        1_764_000_000_000_000,
        1_764_000_000_000_001,
        9_007_199_254_740_993,
        253_402_300_799_999_999,
        253_402_300_800_000_000,
        i64::MAX - 1,
        i64::MAX,
    ];
    type SetTime = fn(&mut Record, Option<Timestamp>);
    let fields: [SetTime; 5] = [
        |record, time| record.enqueued_at = time,
        |record, time| record.started_at = time,
        |record, time| record.finished_at = time,
        |record, time| record.updated_at = time,
        |record, time| record.heartbeat_at = time,
    ];
    let mut records = Vec::new();
    for set in fields {
        for moment in moments {
            let mut record = context.full("time");
            set(&mut record, Some(Timestamp::from_unix_us(moment)));
            records.push(record);
        }
        let mut record = context.full("no time");
        set(&mut record, None);
        records.push(record);
    }
    come_back(context, "extreme time", records).await
}

async fn extreme_numbers(context: &Context) -> Checked {
    let mut records = Vec::new();
    for attempt in [0, 1, 2, 1 << 16, 1 << 31, u32::MAX - 1, u32::MAX] {
        records.push(full(context.id("attempt"), Status::Retrying, attempt));
    }
    let durations = [
        0,
        1,
        392,
        999_999,
        1_000_000,
        9_007_199_254_740_993,
        i64::MAX.unsigned_abs() + 1,
        u64::MAX,
    ];
    for duration in durations {
        records.push(Record {
            duration: Some(Duration::from_micros(duration)),
            ..context.full("duration")
        });
    }
    come_back(context, "extreme number", records).await
}

async fn extra_values(context: &Context) -> Checked {
    let extras: [&[(&str, &str)]; 5] = [
        &[],
        &[("", "")],
        &[("z", "1"), ("a", "2"), ("m", "3")],
        &[("a", "1"), ("a", "2"), ("b", "3"), ("a", "1")],
        &[
            ("job_id", "1"),
            ("status", "\"x\""),
            ("extra", "{}"),
            ("\0", "\0"),
        ],
    ];
    let mut records = Vec::new();
    for extra in extras.into_iter().chain(extras) {
        records.push(Record {
            extra: extra
                .iter()
                .map(|(name, value)| (Text::from(*name), Payload::from(*value)))
                .collect(),
            ..context.small("extra")
        });
    }
    for text in hostile_texts() {
        records.push(Record {
            extra: vec![(text.into(), "1".into())],
            ..context.small("extra")
        });
    }
    come_back(context, "extra", records).await
}

async fn a_write_replaces_the_whole_record(context: &Context) -> Checked {
    let store = &context.store;
    let first = full(context.id("job"), Status::Retrying, 1);
    store.written(first.clone()).await?;
    let bare = Record {
        job_id: first.job_id.clone(),
        status: Status::InProgress,
        attempt: 2,
        ..Record::default()
    };
    store.written(bare.clone()).await?;
    let found = store.get(&bare.job_id).await?;
    expect_record("after a bare record over a full one", found.as_ref(), &bare)?;
    let status = store.status(&bare.job_id).await?;
    expect_eq("status", &status, &Some(Status::InProgress))?;
    let last = full(bare.job_id, Status::Failed, 3);
    store.written(last.clone()).await?;
    let found = store.get(&last.job_id).await?;
    expect_record("after a full record over a bare one", found.as_ref(), &last)
}
