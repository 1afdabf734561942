//! Writing among others who write, lock, refuse and listen.

use std::sync::Arc;

use serde_json::json;
use warren_plugin_api::{ErrorClass, Record, ResultStore, Status, Text, Write, WriteOutcome};

use crate::support::{
    PATIENCE, TestStore, class, connect, eventually, record, shared_url, subscribe,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_the_same_jobs_in_any_order_do_not_get_in_each_other_s_way() {
    let tables = TestStore::open().await;
    let writers = (0..4_u32).map(|writer| {
        let store = Arc::clone(&tables.store);
        tokio::spawn(async move {
            for attempt in 1..20 {
                let mut writes: Vec<Write> = (0..100)
                    .map(|job| {
                        let record = Record {
                            attempt,
                            ..record(&format!("job-{job}"), Status::Completed)
                        };
                        record.into()
                    })
                    .collect();
                if writer % 2 == 1 {
                    writes.reverse();
                }
                for outcome in store.put_many(writes).await.unwrap() {
                    outcome.unwrap();
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let found = tables.store.get("job-7".into()).await.unwrap().unwrap();
    assert_eq!(found.attempt, 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_loses_a_deadlock_is_sent_again() {
    let tables = TestStore::open().await;
    for job_id in ["a", "b"] {
        let written = tables.store.put(record(job_id, Status::Queued).into());
        written.await.unwrap();
    }
    let table = tables.table();
    // The other program finds a deadlock later than the store, so that the store loses.
    tables
        .run(&format!(
            "SET deadlock_timeout = '1min'; BEGIN; \
             UPDATE {table} SET worker = 'x' WHERE job_id = 'b'"
        ))
        .await;
    let store = Arc::clone(&tables.store);
    let batch = tokio::spawn(async move {
        let ends = |job_id| record(job_id, Status::Completed).into();
        store.put_many(vec![ends("a"), ends("b")]).await
    });
    let watcher = connect(&shared_url()).await;
    wait_until_somebody_waits(&watcher, &tables).await;
    tables
        .run(&format!(
            "UPDATE {table} SET worker = 'x' WHERE job_id = 'a'; COMMIT"
        ))
        .await;
    let written = Ok(WriteOutcome::Written);
    assert_eq!(batch.await.unwrap(), Ok(vec![written.clone(), written]));
    assert_eq!(
        tables.store.status("a".into()).await,
        Ok(Some(Status::Completed))
    );
}

/// Until a statement over the table waits for a lock.
async fn wait_until_somebody_waits(watcher: &tokio_postgres::Client, tables: &TestStore) {
    let waiting = "SELECT pid FROM pg_stat_activity \
                   WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'";
    eventually("somebody waits for a lock", async || {
        let found = watcher.query(waiting, &[&tables.schema]).await.unwrap();
        found.into_iter().next()
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_on_the_server_and_holds_up_no_other() {
    let tables = TestStore::open_with(json!({"connections": 1})).await;
    tables
        .store
        .put(record("held", Status::Queued).into())
        .await
        .unwrap();
    let table = tables.table();
    tables
        .run(&format!(
            "BEGIN; SELECT 1 FROM {table} WHERE job_id = 'held' FOR UPDATE"
        ))
        .await;
    let watcher = connect(&shared_url()).await;
    {
        let call = tables.store.put(record("held", Status::Completed).into());
        tokio::select! {
            outcome = call => panic!("it must wait: {outcome:?}"),
            () = wait_until_somebody_waits(&watcher, &tables) => {}
        }
    }
    let other = tables.store.put(record("other", Status::Queued).into());
    let other = tokio::time::timeout(PATIENCE, other).await.unwrap();
    assert_eq!(other, Ok(WriteOutcome::Written));
    let active = "SELECT count(*) FROM pg_stat_activity \
                  WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'";
    eventually("the statement was cancelled", async || {
        let row = watcher.query_one(active, &[&tables.schema]).await.unwrap();
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    tables.run("COMMIT").await;
    assert_eq!(
        tables.store.status("held".into()).await,
        Ok(Some(Status::Queued))
    );
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_unavailable_and_the_store_stays_usable() {
    let config = json!({"connections": 1, "statement_timeout": "200ms"});
    let tables = TestStore::open_with(config).await;
    let table = tables.table();
    tables
        .run(&format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE"))
        .await;
    let late = tables.store.put(record("a", Status::Queued).into()).await;
    assert_eq!(class(&late), Some(ErrorClass::Unavailable));
    let text = late.unwrap_err().to_string();
    assert!(text.contains("57014"), "{text}");
    tables.run("COMMIT").await;
    let written = tables.store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
}

/// Makes the server refuse the records of some jobs, with the state that the job's id begins with.
async fn refuse_some(tables: &TestStore) {
    let schema = format!("\"{}\"", tables.schema);
    tables
        .run(&format!(
            "CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.job_id LIKE '_____:%' THEN \
             RAISE EXCEPTION 'refused' USING ERRCODE = left(NEW.job_id, 5), DETAIL = 's3cret'; \
             END IF; RETURN NEW; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW \
             EXECUTE FUNCTION {schema}.refuse()",
            tables.table()
        ))
        .await;
}

#[tokio::test]
async fn a_record_that_the_server_refuses_spoils_no_other() {
    let tables = TestStore::open().await;
    refuse_some(&tables).await;
    let jobs = ["a", "P0001:x", "b", "23514:y", "c"];
    let writes = jobs.map(|job_id| record(job_id, Status::Queued).into());
    let outcomes = tables.store.put_many(writes.to_vec()).await.unwrap();
    for (job_id, outcome) in jobs.iter().zip(outcomes) {
        if job_id.len() == 1 {
            assert_eq!(outcome, Ok(WriteOutcome::Written), "{job_id}");
        } else {
            assert_eq!(class(&outcome), Some(ErrorClass::Internal), "{job_id}");
        }
    }
}

#[tokio::test]
async fn what_the_server_says_has_its_class_and_its_words() {
    use ErrorClass::{Conflict, CorruptData, Internal, InvalidConfig, TooLarge, Unavailable};
    let tables = TestStore::open().await;
    refuse_some(&tables).await;
    for (state, expected) in [
        ("53100", Unavailable),
        ("53200", Unavailable),
        ("53300", Unavailable),
        ("25006", Unavailable),
        ("57P01", Unavailable),
        ("57014", Unavailable),
        ("58030", CorruptData),
        ("XX001", CorruptData),
        ("40001", Conflict),
        ("40P01", Conflict),
        ("42501", InvalidConfig),
        ("54000", TooLarge),
        ("22012", Internal),
    ] {
        let refused = tables
            .store
            .put(record(&format!("{state}:x"), Status::Queued).into())
            .await;
        let error = refused.unwrap_err();
        assert_eq!(error.class(), expected, "{error}");
        let says = format!("ERROR {state}: refused");
        assert!(error.message().contains(&says), "{error}");
        // It may hold what the failing row holds.
        assert!(!error.message().contains("s3cret"), "{error}");
    }
    let written = tables.store.put(record("a", Status::Queued).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
}

#[tokio::test]
async fn thousands_of_endings_of_the_longest_ids_are_announced() {
    let tables = TestStore::open().await;
    let (announced, _task) = subscribe(&tables.store).await;
    let padding = ["\0", "\\", "é", "中", ":"].map(|char| char.repeat(1_000 / char.len()));
    let mut jobs: Vec<String> = (0..2_000)
        .map(|job| format!("{job}-{}", padding[job % padding.len()]))
        .collect();
    let writes = jobs
        .iter()
        .map(|job_id| record(job_id, Status::Failed).into());
    for outcome in tables.store.put_many(writes.collect()).await.unwrap() {
        assert_eq!(outcome, Ok(WriteOutcome::Written));
    }
    eventually("all are announced", async || {
        (announced.lock().unwrap().len() >= jobs.len()).then_some(())
    })
    .await;
    let mut announced = announced.lock().unwrap().clone();
    announced.sort();
    jobs.sort();
    let expected: Vec<_> = jobs.into_iter().map(|job| (job, Status::Failed)).collect();
    assert!(announced == expected, "other jobs are announced");
}

#[tokio::test]
async fn without_push_nothing_is_announced_and_nobody_may_listen() {
    let silent = TestStore::open_with(json!({"push": false})).await;
    assert!(!silent.store.capabilities().push);
    let listener = Arc::new(silent.open_again().await);
    let (announced, _task) = subscribe(&listener).await;
    silent
        .store
        .put(record("silent", Status::Completed).into())
        .await
        .unwrap();
    // A second store tells; what comes before it would have come.
    listener
        .put(record("told", Status::Completed).into())
        .await
        .unwrap();
    eventually("the second is announced", async || {
        (!announced.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    let expected = [("told".to_owned(), Status::Completed)];
    assert_eq!(*announced.lock().unwrap(), expected);
}

#[tokio::test]
async fn without_prepared_statements_everything_but_listening_works() {
    let pooled = TestStore::open_with(json!({"transaction_pooling": true})).await;
    let store = &pooled.store;
    assert!(!store.capabilities().push);
    let written = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    let stale = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(stale, Ok(WriteOutcome::Stale));
    assert!(store.get("a".into()).await.unwrap().is_some());
    store.health_check().await.unwrap();
    assert_eq!(store.stats().await.unwrap().records, Some(1));
    assert_eq!(store.delete("a".into()).await, Ok(true));
}

#[tokio::test]
async fn thousands_of_writes_of_one_job_act_in_their_order() {
    let tables = TestStore::open().await;
    let writes = (1..=2_000).map(|attempt| {
        let record = Record {
            attempt,
            ..record("one", Status::InProgress)
        };
        record.into()
    });
    for outcome in tables.store.put_many(writes.collect()).await.unwrap() {
        assert_eq!(outcome, Ok(WriteOutcome::Written));
    }
    let found = tables.store.get(Text::from("one")).await.unwrap().unwrap();
    assert_eq!(found.attempt, 2_000);
}
