//! Listing: complete, exact, in order.

use std::collections::BTreeSet;

use warren_plugin_api::{Cursor, ErrorClass, Filter, Record, ScanOrder, Status, Text, Timestamp};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, ensure, expect_class, expect_eq, expect_record, short},
    records::{SECOND_US, full, now_plus, small},
};

pub(crate) const CASES: &[Case] = &[
    case!(
        "scan",
        every_page_size_lists_all,
        ["RS-050", "RS-051"],
        [Scan]
    ),
    case!("scan", filters_are_exact, ["RS-052"], [Scan]),
    case!("scan", filters_without_a_queue, ["RS-052"], [Scan, Alone]),
    case!("scan", filters_by_hostile_texts, ["RS-052"], [Scan]),
    case!("scan", the_declared_order, ["RS-053"], [Scan, ScanOrder]),
    case!("scan", payloads_are_left_out, ["RS-054"], [Scan]),
    case!("scan", what_is_gone_is_not_listed, ["RS-055"], [Scan]),
    case!("scan", a_foreign_cursor_is_refused, ["RS-056"], [Scan]),
    case!("scan", cursors_are_plain_text, ["RS-057"], [Scan]),
];

pub(crate) fn in_queue(queue: &Text) -> Filter {
    Filter {
        queue: Some(queue.clone()),
        ..Filter::default()
    }
}

pub(crate) fn ids_of(records: &[Record]) -> BTreeSet<Text> {
    records.iter().map(|record| record.job_id.clone()).collect()
}

/// The same records, each once, whole, in any order.
pub(crate) fn expect_listed(what: &str, found: &[Record], expected: &[Record]) -> Checked {
    let (found_ids, expected_ids) = (ids_of(found), ids_of(expected));
    let missing: Vec<_> = expected_ids.difference(&found_ids).collect();
    let surplus: Vec<_> = found_ids.difference(&expected_ids).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty(),
        "{what}: expected {} records, found {}; missing {}; too many {}",
        expected.len(),
        found.len(),
        short(&missing),
        short(&surplus)
    );
    ensure!(
        found.len() == found_ids.len(),
        "{what}: expected every record once, found {} twice",
        found.len() - found_ids.len()
    );
    for record in expected {
        let listed = found.iter().find(|found| found.job_id == record.job_id);
        expect_record(what, listed, record)?;
    }
    Ok(())
}

async fn every_page_size_lists_all(context: &Context) -> Checked {
    let queue = context.name("queue");
    let count = context.scaled(60, 500);
    let same_time = Some(now_plus(-60 * SECOND_US));
    let records: Vec<Record> = (0..count)
        .map(|index| Record {
            queue: queue.clone(),
            // Some at the same time, some at none.
            enqueued_at: match index % 5 {
                0 => None,
                1 => same_time,
                _ => Some(now_plus(
                    -SECOND_US * i64::try_from(index).unwrap_or_default(),
                )),
            },
            ..context.small("listed")
        })
        .collect();
    context.store.all_written(&records).await?;
    for limit in [1, 7, 1_000, 10_000] {
        let found = context.store.scan(&in_queue(&queue), limit).await?;
        expect_listed(&format!("scan by pages of {limit}"), &found, &records)?;
    }
    let nothing = context
        .store
        .scan(&in_queue(&context.name("empty")), 10)
        .await?;
    expect_eq("scan of an empty queue", &nothing, &Vec::new())
}

const BASE_US: i64 = 1_700_000_000_000_000;

/// Records that differ in everything a filter looks at.
fn varied(context: &Context, queues: &[Text], functions: &[Text]) -> Vec<Record> {
    let times = [
        None,
        Some(i64::MIN),
        Some(-1),
        Some(0),
        Some(BASE_US - 1),
        Some(BASE_US),
        Some(BASE_US + 1),
        Some(i64::MAX - 1),
        Some(i64::MAX),
    ];
    let mut records = Vec::new();
    for (at, time) in times.into_iter().enumerate() {
        for (index, status) in Status::ALL.into_iter().enumerate() {
            records.push(Record {
                queue: queues[index % queues.len()].clone(),
                function: functions[(index + at) % functions.len()].clone(),
                enqueued_at: time.map(Timestamp::from_unix_us),
                ..full(context.id("varied"), status, 1)
            });
        }
    }
    records
}

/// Every combination of the filter's fields, each at its edges.
fn filters(queues: &[Option<Text>], functions: &[Text]) -> Vec<Filter> {
    use Status::{Aborted, Completed, Failed, InProgress, Queued, Retrying};
    let statuses: [&[Status]; 5] = [
        &[],
        &[Queued],
        &[Completed, Failed, Aborted],
        &[Retrying, InProgress, Retrying],
        &Status::ALL,
    ];
    let times = [
        (None, None),
        (Some(BASE_US), None),
        (None, Some(BASE_US)),
        (Some(BASE_US), Some(BASE_US + 1)),
        (Some(BASE_US), Some(BASE_US)),
        (Some(BASE_US + 1), Some(BASE_US)),
        (Some(i64::MIN), None),
        (None, Some(i64::MIN)),
        (Some(i64::MAX), None),
        (None, Some(i64::MAX)),
        (Some(-1), Some(1)),
    ];
    let mut filters = Vec::new();
    for statuses in statuses {
        for queue in queues {
            for function in functions.iter().cloned().map(Some).chain([None]).take(2) {
                for (from, before) in times {
                    filters.push(Filter {
                        statuses: statuses.to_vec(),
                        queue: queue.clone(),
                        function: function.clone(),
                        enqueued_from: from.map(Timestamp::from_unix_us),
                        enqueued_before: before.map(Timestamp::from_unix_us),
                        without_payloads: false,
                    });
                }
            }
        }
    }
    filters
}

async fn check_filters(context: &Context, filters: Vec<Filter>, records: &[Record]) -> Checked {
    for filter in filters {
        let expected: Vec<Record> = records
            .iter()
            .filter(|record| filter.matches(record))
            .cloned()
            .collect();
        let found = context.store.scan(&filter, 100).await?;
        let what = format!("scan of {}", serde_json::json!(filter));
        expect_listed(&what, &found, &expected)?;
    }
    Ok(())
}

async fn filters_are_exact(context: &Context) -> Checked {
    let queues = [context.name("a"), context.name("b")];
    let functions = [context.name("f"), context.name("g"), "add".into()];
    let records = varied(context, &queues, &functions);
    context.store.all_written(&records).await?;
    let by_queue = [Some(queues[0].clone())];
    let mut filters = filters(&by_queue, &functions);
    filters.push(in_queue(&queues[1]));
    // By the function alone, which nobody else uses.
    filters.push(Filter {
        function: Some(functions[1].clone()),
        ..Filter::default()
    });
    filters.push(Filter {
        function: Some(functions[0].clone()),
        statuses: vec![Status::Failed],
        enqueued_from: Some(Timestamp::from_unix_us(0)),
        ..Filter::default()
    });
    check_filters(context, filters, &records).await
}

async fn filters_without_a_queue(context: &Context) -> Checked {
    let queues = [context.name("a"), context.name("b")];
    let functions = [context.name("f"), context.name("g")];
    let records = varied(context, &queues, &functions);
    context.store.all_written(&records).await?;
    check_filters(context, filters(&[None], &functions), &records).await
}

async fn filters_by_hostile_texts(context: &Context) -> Checked {
    let texts = crate::records::hostile_texts();
    let records: Vec<Record> = texts
        .iter()
        .map(|text| Record {
            queue: format!("{}{text}", context.prefix()).into(),
            function: format!("{text}{}", context.prefix()).into(),
            ..context.small("hostile")
        })
        .collect();
    context.store.all_written(&records).await?;
    let by_queue = records.iter().map(|record| in_queue(&record.queue));
    let by_function = records.iter().map(|record| Filter {
        function: Some(record.function.clone()),
        ..Filter::default()
    });
    check_filters(context, by_queue.chain(by_function).collect(), &records).await
}

async fn the_declared_order(context: &Context) -> Checked {
    let queue = context.name("queue");
    let times = [
        5,
        i64::MAX,
        BASE_US,
        -7,
        BASE_US + 1,
        i64::MIN,
        BASE_US - 1,
        0,
        BASE_US + SECOND_US,
        -BASE_US,
    ];
    let mut records: Vec<Record> = times
        .into_iter()
        .map(|time| Record {
            queue: queue.clone(),
            enqueued_at: Some(Timestamp::from_unix_us(time)),
            ..context.small("ordered")
        })
        .collect();
    records.push(Record {
        queue: queue.clone(),
        enqueued_at: None,
        ..context.small("without a time")
    });
    context.store.all_written(&records).await?;
    records.sort_by_key(|record| record.enqueued_at);
    if context.capabilities().scan_order == ScanOrder::NewestFirst {
        records.reverse();
    }
    let times = |records: &[Record]| -> Vec<Option<i64>> {
        records
            .iter()
            .map(|record| record.enqueued_at.map(Timestamp::unix_us))
            .collect()
    };
    for limit in [1, 3, 100] {
        let found = context.store.scan(&in_queue(&queue), limit).await?;
        let what = format!("the order of a scan by pages of {limit}");
        expect_eq(&what, &times(&found), &times(&records))?;
    }
    Ok(())
}

async fn payloads_are_left_out(context: &Context) -> Checked {
    let queue = context.name("queue");
    let filter = Filter {
        without_payloads: true,
        ..in_queue(&queue)
    };
    let mut expected = Vec::new();
    for status in Status::ALL {
        let mut record = Record {
            queue: queue.clone(),
            ..full(context.id("trimmed"), status, 2)
        };
        context.store.written(record.clone()).await?;
        filter.trim(&mut record);
        expected.push(record);
    }
    let found = context.store.scan(&filter, 4).await?;
    expect_listed("scan without payloads", &found, &expected)
}

async fn what_is_gone_is_not_listed(context: &Context) -> Checked {
    let queue = context.name("queue");
    let record = |name: &str| Record {
        queue: queue.clone(),
        ..context.small(name)
    };
    let (stays, deleted, moves) = (record("stays"), record("deleted"), record("moves"));
    let expired = Record {
        expires_at: Some(now_plus(-1)),
        ..record("expired")
    };
    for record in [&stays, &deleted, &moves, &expired] {
        context.store.written(record.clone()).await?;
    }
    context.store.delete(&deleted.job_id).await?;
    let moved = Record {
        queue: context.name("other queue"),
        function: context.name("other function"),
        status: Status::InProgress,
        enqueued_at: Some(Timestamp::from_unix_us(BASE_US)),
        ..moves
    };
    context.store.written(moved.clone()).await?;
    let found = context.store.scan(&in_queue(&queue), 100).await?;
    expect_listed("scan of the first queue", &found, &[stays])?;
    let found = context.store.scan(&in_queue(&moved.queue), 100).await?;
    expect_listed(
        "scan of the other queue",
        &found,
        std::slice::from_ref(&moved),
    )?;
    let by_function = Filter {
        function: Some(moved.function.clone()),
        ..Filter::default()
    };
    let found = context.store.scan(&by_function, 100).await?;
    expect_listed("scan of the other function", &found, &[moved])
}

async fn a_foreign_cursor_is_refused(context: &Context) -> Checked {
    for text in [
        "",
        " ",
        "not a cursor of this store",
        "💥",
        "\0",
        "{\"a\":",
        "-",
    ] {
        let cursor = Some(Cursor(text.to_owned()));
        let filter = in_queue(&context.name("queue"));
        let found = context.store.raw().scan(filter, cursor, 10).await;
        let what = format!("scan with the cursor {text:?}");
        expect_class(&what, &found, ErrorClass::InvalidConfig)?;
    }
    Ok(())
}

/// A command line prints a cursor, ends, and takes it back in another process.
async fn cursors_are_plain_text(context: &Context) -> Checked {
    let queue = context.name("queue");
    let mut records = Vec::new();
    for status in Status::ALL {
        records.push(Record {
            queue: queue.clone(),
            ..small(context.id("listed"), status)
        });
    }
    context.store.all_written(&records).await?;
    let other = context.open_again().await?;
    let sees_all = other.get(&records[0].job_id).await?.is_some();
    let mut found = Vec::new();
    let mut cursor = None;
    for page in 0_usize.. {
        let store = if sees_all && page % 2 == 1 {
            &other
        } else {
            &context.store
        };
        let page = store.page(&in_queue(&queue), cursor, 2).await?;
        found.extend(page.records);
        let Some(Cursor(text)) = page.next else {
            break;
        };
        ensure!(
            !text.is_empty() && !text.chars().any(|char| char.is_control() || char == ' '),
            "a cursor: expected one word of plain text, found {text:?}"
        );
        cursor = Some(Cursor(text));
    }
    expect_listed("a scan through two handles", &found, &records)?;
    other.close().await
}
