//! Listing, counting and cleaning up a table of some size.

use serde_json::json;
use warren_plugin_api::{Filter, Record, ResultStore, Status, Timestamp};

use crate::support::{TestStore, eventually, record};

#[tokio::test]
async fn a_page_of_any_filter_is_read_from_an_index() {
    let tables = TestStore::open().await;
    let table = tables.table();
    tables
        .run(&format!(
            "INSERT INTO {table} SELECT 'job-' || n, n % 6, 1, 'queue-' || n % 50, \
             'function-' || n % 50, '', n, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
             '', '', '', '', '' FROM generate_series(1, 20000) AS n; ANALYZE {table}"
        ))
        .await;
    let figure = |column: &str| {
        let sql = format!(
            "SELECT coalesce({column}, 0) FROM pg_stat_user_tables WHERE schemaname = $1 \
             AND relname = 'warren_results'"
        );
        let (plain, schema) = (&tables.plain, &tables.schema);
        async move {
            let row = plain.query_one(&sql, &[schema]).await.unwrap();
            row.get::<_, i64>(0)
        }
    };
    let by_queue = |queue: &str| Filter {
        queue: Some(queue.into()),
        ..Filter::default()
    };
    let filters = [
        Filter::default(),
        by_queue("queue-7"),
        Filter {
            function: Some("function-7".into()),
            ..Filter::default()
        },
        Filter {
            statuses: vec![Status::Failed],
            ..Filter::default()
        },
        Filter {
            statuses: vec![Status::Failed, Status::Aborted, Status::Queued],
            ..Filter::default()
        },
        Filter {
            enqueued_from: Some(Timestamp::from_unix_us(100)),
            enqueued_before: Some(Timestamp::from_unix_us(200)),
            ..Filter::default()
        },
    ];
    let (read_before, scans_before) = (figure("seq_tup_read").await, figure("idx_scan").await);
    for filter in &filters {
        let first = tables.store.scan(filter.clone(), None, 10).await.unwrap();
        assert_eq!(first.records.len(), 10, "{filter:?}");
        let second = tables.store.scan(filter.clone(), first.next, 10).await;
        let second = second.unwrap().records;
        assert!(second.len() == 10 && second[0].enqueued_at < first.records[9].enqueued_at);
    }
    // Closing makes the server's processes hand in their figures.
    tables.store.close().await.unwrap();
    eventually("the server has counted", async || {
        (figure("idx_scan").await >= scans_before + 12).then_some(())
    })
    .await;
    assert_eq!(
        figure("seq_tup_read").await,
        read_before,
        "the whole table was read"
    );
}

#[tokio::test]
async fn what_is_no_record_is_left_out_of_lists_and_they_go_on_past_it() {
    let tables = TestStore::open().await;
    for number in 0..5 {
        let record = Record {
            enqueued_at: Some(Timestamp::from_unix_us(number)),
            ..record(&format!("job-{number}"), Status::Failed)
        };
        tables.store.put(record.into()).await.unwrap();
    }
    let table = tables.table();
    tables
        .run(&format!(
            "UPDATE {table} SET worker = 'a\\' WHERE job_id IN ('job-2', 'job-4')"
        ))
        .await;
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let page = tables
            .store
            .scan(Filter::default(), cursor, 1)
            .await
            .unwrap();
        listed.extend(
            page.records
                .into_iter()
                .map(|record| record.job_id.to_string()),
        );
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, ["job-3", "job-1", "job-0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_clean_up_at_once_count_each_record_once() {
    const RECORDS: u64 = 3_000;
    let tables = TestStore::open().await;
    let table = tables.table();
    tables
        .run(&format!(
            "INSERT INTO {table} SELECT 'job-' || n, 3, 1, '', '', '', n, NULL, NULL, NULL, NULL, \
             n, NULL, NULL, '', '', '', '', '' FROM generate_series(1, {RECORDS}) AS n"
        ))
        .await;
    let cleaners = (0..3).map(|_| {
        let store = std::sync::Arc::clone(&tables.store);
        tokio::spawn(async move {
            let mut removed = 0;
            loop {
                match store.cleanup_expired(Timestamp::now(), 100).await.unwrap() {
                    0 => return removed,
                    some => removed += some,
                }
            }
        })
    });
    let mut removed = 0;
    for cleaner in cleaners.collect::<Vec<_>>() {
        removed += cleaner.await.unwrap();
    }
    // One may have found nothing while the last rows were locked.
    removed += tables
        .store
        .cleanup_expired(Timestamp::now(), 10_000)
        .await
        .unwrap();
    assert_eq!(removed, RECORDS);
}

#[tokio::test]
async fn figures_that_take_too_long_are_left_out() {
    let tables = TestStore::open_with(json!({"statement_timeout": "300ms"})).await;
    let table = tables.table();
    tables
        .store
        .put(record("a", Status::Queued).into())
        .await
        .unwrap();
    tables
        .run(&format!(
            "ALTER TABLE {table} RENAME TO behind; CREATE VIEW {table} AS \
             SELECT behind.* FROM \"{}\".behind, pg_sleep(60)",
            tables.schema
        ))
        .await;
    let stats = tables.store.stats().await.unwrap();
    assert_eq!(stats.records, None);
    assert!(stats.by_status.is_empty());
    assert!(stats.bytes.is_some());
}
