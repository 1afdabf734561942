//! Listing while records come, go and change.

use warren_plugin_api::{Cursor, Record, Status, Timestamp, Write, WriteMode};

use crate::{
    case::{Case, case},
    cases::scan::{expect_listed, in_queue},
    context::Context,
    expect::{Checked, ensure},
    records::{SECOND_US, full, now_plus, with_mode},
};

pub(crate) const CASES: &[Case] = &[
    case!(
        "scan_changes",
        what_stays_is_listed_once,
        ["RS-058"],
        [Scan]
    ),
    case!(
        "scan_changes",
        an_old_cursor_still_works,
        ["RS-058"],
        [Scan]
    ),
];

/// A record of `minute`, so that the order of scans runs through all of them.
fn of_minute(context: &Context, queue: &warren_plugin_api::Text, minute: i64) -> Record {
    Record {
        queue: queue.clone(),
        enqueued_at: Some(now_plus(-minute * 60 * SECOND_US)),
        ..context.small(&format!("minute {minute}"))
    }
}

/// Between any two pages, records before and behind the cursor are deleted, added and rewritten.
async fn what_stays_is_listed_once(context: &Context) -> Checked {
    let (store, queue) = (&context.store, context.name("queue"));
    let count = i64::try_from(context.scaled(60, 240)).unwrap_or(240);
    let records: Vec<Record> = (0..count)
        .map(|minute| of_minute(context, &queue, minute))
        .collect();
    store.all_written(&records).await?;
    let (mut staying, mut leaving) = (Vec::new(), Vec::new());
    for (index, record) in records.into_iter().enumerate() {
        if index.is_multiple_of(3) {
            leaving.push(record);
        } else {
            staying.push(record);
        }
    }
    let mut listed: Vec<Record> = Vec::new();
    let mut cursor: Option<Cursor> = None;
    let mut round = 0;
    loop {
        let page = store.page(&in_queue(&queue), cursor, 7).await?;
        listed.extend(page.records);
        let Some(next) = page.next else { break };
        cursor = Some(next);
        round += 1;
        ensure!(
            round < 10_000,
            "a scan among changes: expected an end, found more than 10,000 pages"
        );
        for at_end in [false, true] {
            let leaver = if at_end {
                leaving.pop()
            } else {
                (!leaving.is_empty()).then(|| leaving.remove(0))
            };
            let Some(leaver) = leaver else { break };
            store.delete(&leaver.job_id).await?;
            let minute = if at_end { count + round } else { -round };
            store.written(of_minute(context, &queue, minute)).await?;
        }
    }
    let listed: Vec<Record> = listed
        .into_iter()
        .filter(|record| staying.iter().any(|stays| stays.job_id == record.job_id))
        .collect();
    expect_listed("what stayed during a scan", &listed, &staying)
}

/// The record that a cursor stands at may be gone when the scan goes on.
async fn an_old_cursor_still_works(context: &Context) -> Checked {
    let (store, queue) = (&context.store, context.name("queue"));
    let records: Vec<Record> = (0..20)
        .map(|minute| of_minute(context, &queue, minute))
        .collect();
    store.all_written(&records).await?;
    let mut listed = Vec::new();
    let mut cursor = None;
    while listed.len() < 5 {
        let page = store.page(&in_queue(&queue), cursor, 5).await?;
        listed.extend(page.records);
        ensure!(
            page.next.is_some(),
            "a scan of 20 records by pages of 5: expected a cursor after the first, found none"
        );
        cursor = page.next;
    }
    let seen = crate::cases::scan::ids_of(&listed);
    store.delete_many(seen.iter().cloned().collect()).await?;
    // The same jobs begin anew, elsewhere in the order.
    let again: Vec<Write> = seen
        .iter()
        .map(|id| {
            let record = Record {
                queue: queue.clone(),
                enqueued_at: Some(Timestamp::from_unix_us(1)),
                ..full(id.clone(), Status::Queued, 1)
            };
            with_mode(record, WriteMode::Always)
        })
        .collect();
    store.put_many(again).await?;
    let mut rest = Vec::new();
    loop {
        let page = store.page(&in_queue(&queue), cursor, 5).await?;
        rest.extend(page.records);
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    rest.retain(|record| !seen.contains(&record.job_id));
    let expected: Vec<Record> = records
        .into_iter()
        .filter(|record| !seen.contains(&record.job_id))
        .collect();
    expect_listed("the rest of the scan", &rest, &expected)
}
