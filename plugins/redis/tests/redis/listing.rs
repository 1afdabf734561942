//! Scans, statistics, and that nothing which has gone stays in an index.

use std::{collections::BTreeSet, time::Duration};

use redis::cmd;
use warren_plugin_api::{
    Cursor, ErrorClass, Filter, Record, ResultStore, Status, Timestamp, Write,
};
use warren_store_redis::RedisStore;

use crate::support::{TestStore, class, eventually, record};

async fn ids(store: &RedisStore, filter: &Filter, limit: u32) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.scan(filter.clone(), cursor, limit).await.unwrap();
        assert!(page.records.len() <= limit as usize);
        ids.extend(
            page.records
                .into_iter()
                .map(|record| String::from(record.job_id)),
        );
        cursor = page.next;
        if cursor.is_none() {
            return ids;
        }
    }
}

fn accepted_at(job_id: &str, micros: Option<i64>) -> Record {
    let mut record = record(job_id, Status::Queued);
    record.enqueued_at = micros.map(Timestamp::from_unix_us);
    record
}

#[tokio::test]
async fn the_newest_come_first_exactly_at_the_ends_of_time() {
    let store = TestStore::open().await;
    let times = [
        ("z-max", Some(i64::MAX)),
        ("a-max-1", Some(i64::MAX - 1)),
        ("big", Some(9_007_199_254_740_993)),
        ("big-1", Some(9_007_199_254_740_992)),
        ("zero", Some(0)),
        ("before", Some(-1)),
        ("min", Some(i64::MIN)),
        ("none", None),
    ];
    let mut writes: Vec<Write> = times
        .iter()
        .map(|(job_id, micros)| accepted_at(job_id, *micros).into())
        .collect();
    writes.reverse();
    store.store.put_many(writes).await.unwrap();
    let expected: Vec<_> = times
        .iter()
        .map(|(job_id, _)| (*job_id).to_owned())
        .collect();
    for limit in [1, 3, 100] {
        assert_eq!(ids(&store.store, &Filter::default(), limit).await, expected);
    }
    let filter = Filter {
        enqueued_from: Some(Timestamp::from_unix_us(-1)),
        enqueued_before: Some(Timestamp::from_unix_us(9_007_199_254_740_993)),
        ..Filter::default()
    };
    assert_eq!(
        ids(&store.store, &filter, 2).await,
        ["big-1", "zero", "before"]
    );
    let all_with_a_time = Filter {
        enqueued_before: Some(Timestamp::MAX),
        ..Filter::default()
    };
    assert_eq!(ids(&store.store, &all_with_a_time, 3).await, expected[1..7]);
}

#[tokio::test]
async fn every_filter_is_applied_over_all_pages() {
    let store = TestStore::open().await;
    let mut writes: Vec<Write> = Vec::new();
    for number in 0..1_300 {
        let mut write = record(&format!("job-{number:04}"), Status::Queued);
        if number % 100 == 0 {
            write.status = Status::Failed;
        }
        if number % 50 == 0 {
            write.queue = "rare".into();
        }
        if number % 130 == 0 {
            write.function = "refund".into();
        }
        writes.push(write.into());
    }
    store.store.put_many(writes).await.unwrap();
    let count = async |filter: Filter| {
        let found = ids(&store.store, &filter, 7).await;
        assert_eq!(found.len(), found.iter().collect::<BTreeSet<_>>().len());
        found.len()
    };
    let failed = Filter {
        statuses: vec![Status::Failed, Status::Aborted],
        ..Filter::default()
    };
    assert_eq!(count(failed.clone()).await, 13);
    let rare = Filter {
        queue: Some("rare".into()),
        ..Filter::default()
    };
    assert_eq!(count(rare).await, 26);
    let refunds = Filter {
        function: Some("refund".into()),
        ..Filter::default()
    };
    assert_eq!(count(refunds).await, 10);
    let both = Filter {
        function: Some("refund".into()),
        ..failed
    };
    assert_eq!(count(both).await, 1);
}

#[tokio::test]
async fn payloads_are_left_out_when_asked() {
    let store = TestStore::open().await;
    let mut write = record("a", Status::Completed);
    write.result = "[1]".into();
    write.extra = vec![("x".into(), "1".into())];
    store.store.put(write.into()).await.unwrap();
    let filter = Filter {
        without_payloads: true,
        ..Filter::default()
    };
    let page = store.store.scan(filter, None, 10).await.unwrap();
    assert_eq!(page.records[0].size_bytes(), 1 + 6 + 6 + 8);
}

#[tokio::test]
async fn what_stays_is_listed_once_while_others_come_and_go() {
    let store = TestStore::open().await;
    let names: Vec<_> = (0..400)
        .map(|number| format!("stays-{number:03}"))
        .collect();
    let writes = names
        .iter()
        .enumerate()
        .map(|(number, name)| accepted_at(name, Some(number as i64 * 1_000)).into())
        .collect();
    store.store.put_many(writes).await.unwrap();
    let mut seen = Vec::new();
    let mut cursor = None;
    for round in 0.. {
        let page = store
            .store
            .scan(Filter::default(), cursor, 30)
            .await
            .unwrap();
        seen.extend(
            page.records
                .into_iter()
                .map(|record| String::from(record.job_id)),
        );
        let Some(next) = page.next else { break };
        cursor = Some(next);
        let passing = format!("comes-{round}");
        store
            .store
            .put(accepted_at(&passing, Some(round * 13_000 + 500)).into())
            .await
            .unwrap();
        store
            .store
            .delete(format!("comes-{}", round - 2).as_str().into())
            .await
            .unwrap();
    }
    let mut stayed: Vec<_> = seen
        .into_iter()
        .filter(|name| name.starts_with("stays"))
        .collect();
    stayed.reverse();
    assert_eq!(stayed, names);
}

#[tokio::test]
async fn a_cursor_of_another_store_is_refused() {
    let store = TestStore::open().await;
    let cursor = Some(Cursor("memory:1:2".into()));
    let refused = store.store.scan(Filter::default(), cursor, 10).await;
    assert_eq!(class(&refused), Some(ErrorClass::InvalidConfig));
}

#[tokio::test]
async fn an_unreadable_record_does_not_end_a_scan() {
    let store = TestStore::open().await;
    for job_id in ["a", "b", "c"] {
        store
            .store
            .put(record(job_id, Status::Queued).into())
            .await
            .unwrap();
    }
    store.ask::<()>(cmd("SET").arg(store.key("result:b")).arg("{\"status\""));
    assert_eq!(ids(&store.store, &Filter::default(), 10).await, ["c", "a"]);
}

#[tokio::test]
async fn expired_records_leave_every_key_by_cleanup_alone() {
    let store = TestStore::open().await;
    let mut writes: Vec<Write> = Vec::new();
    for number in 0..600 {
        let mut write = record(&format!("job-{number}"), Status::Queued);
        write.queue = format!("queue-{}", number % 3).into();
        writes.push(write.into());
    }
    store.store.put_many(writes).await.unwrap();
    // Half of them Redis has removed by itself.
    let mut expire = redis::pipe();
    for number in 0..300 {
        for kind in ["result", "status"] {
            expire
                .cmd("PEXPIREAT")
                .arg(store.key(&format!("{kind}:job-{number}")))
                .arg(1);
        }
    }
    expire.exec(&mut store.plain()).unwrap();
    assert_eq!(ids(&store.store, &Filter::default(), 100).await.len(), 300);
    let later = Timestamp::now().saturating_add(Duration::from_secs(7_200));
    let removed = [
        store.store.cleanup_expired(later, 100).await.unwrap(),
        store.store.cleanup_expired(later, 500).await.unwrap(),
        store.store.cleanup_expired(later, 500).await.unwrap(),
    ];
    // The scan has tidied up after those that it did not find.
    assert_eq!(removed, [100, 200, 0]);
    assert_eq!(store.keys_left(), Vec::<String>::new());
}

#[tokio::test]
async fn entries_of_records_that_redis_removed_are_cleaned_up() {
    let store = TestStore::open().await;
    store
        .store
        .put(record("a", Status::Queued).into())
        .await
        .unwrap();
    store.ask::<i64>(
        cmd("DEL")
            .arg(store.key("result:a"))
            .arg(store.key("status:a")),
    );
    let later = Timestamp::now().saturating_add(Duration::from_secs(7_200));
    assert_eq!(store.store.cleanup_expired(later, 10).await, Ok(1));
    assert_eq!(store.keys_left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_record_whose_expiry_moved_is_cleaned_up_at_the_new_time() {
    let store = TestStore::open().await;
    let now = Timestamp::now();
    let at = |seconds: u64| Some(now.saturating_add(Duration::from_secs(seconds)));
    let expiring = |expires_at| -> Write {
        let mut record = record("a", Status::InProgress);
        record.enqueued_at = Some(now);
        record.expires_at = expires_at;
        record.into()
    };
    let clean = async |seconds: u64| {
        store
            .store
            .cleanup_expired(at(seconds).unwrap(), 10)
            .await
            .unwrap()
    };
    // Later, and the entry of the index finds out by itself.
    store.store.put(expiring(at(100))).await.unwrap();
    store.store.put(expiring(at(200))).await.unwrap();
    assert_eq!(clean(150).await, 0);
    assert!(store.store.get("a".into()).await.unwrap().is_some());
    assert_eq!(clean(250).await, 1);
    assert_eq!(store.keys_left(), Vec::<String>::new());
    // Sooner.
    store.store.put(expiring(at(200))).await.unwrap();
    store.store.put(expiring(at(100))).await.unwrap();
    assert_eq!(clean(150).await, 1);
    // Never, and then after all.
    store.store.put(expiring(at(100))).await.unwrap();
    store.store.put(expiring(None)).await.unwrap();
    assert_eq!(clean(150).await, 0);
    store.store.put(expiring(at(200))).await.unwrap();
    assert_eq!(clean(250).await, 1);
    assert_eq!(store.keys_left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_new_record_under_an_expired_id_is_listed_once_and_kept() {
    let store = TestStore::open().await;
    let mut first = accepted_at("a", Some(1));
    first.expires_at = Some(Timestamp::now().saturating_add(Duration::from_millis(10)));
    store.store.put(first.into()).await.unwrap();
    eventually("it has expired", async || {
        store
            .ask::<bool>(cmd("EXISTS").arg(store.key("result:a")))
            .then_some(())
            .xor(Some(()))
    })
    .await;
    let mut second = accepted_at("a", Some(2));
    second.queue = "other".into();
    store.store.put(second.into()).await.unwrap();
    assert_eq!(ids(&store.store, &Filter::default(), 10).await, ["a"]);
    assert_eq!(
        store.store.cleanup_expired(Timestamp::now(), 10).await,
        Ok(0)
    );
    assert_eq!(ids(&store.store, &Filter::default(), 10).await, ["a"]);
    assert_eq!(
        store.ask::<i64>(cmd("ZCARD").arg(store.key("warren:scan"))),
        1
    );
    assert_eq!(
        store.ask::<i64>(cmd("EXISTS").arg(store.key("queue:orders:results"))),
        0
    );
}

#[tokio::test]
async fn statistics_count_live_records_by_status() {
    let store = TestStore::open().await;
    for (job_id, status) in [
        ("a", Status::Queued),
        ("b", Status::Completed),
        ("c", Status::Completed),
    ] {
        store
            .store
            .put(record(job_id, status).into())
            .await
            .unwrap();
    }
    let mut short = record("d", Status::Queued);
    short.expires_at = Some(Timestamp::now().saturating_add(Duration::from_millis(5)));
    store.store.put(short.into()).await.unwrap();
    eventually("one has expired", async || {
        (store.store.stats().await.unwrap().records == Some(3)).then_some(())
    })
    .await;
    let stats = store.store.stats().await.unwrap();
    assert_eq!(
        stats.by_status,
        [(Status::Queued, 1), (Status::Completed, 2)].into()
    );
    assert!(stats.details.contains_key("server_used_memory"));
}
