//! Several processes on one file at once, some of which die.

use std::collections::HashSet;

use rusqlite::Connection;
use tokio::sync::mpsc::unbounded_channel;
use warren_plugin_api::{
    CompletionSink, Record, ResultStore, Status, StoreObject, Write, WriteMode, WriteOutcome,
};

use crate::support::{PATIENCE, Process, file_of_part, folder, open_at, record};

const CLAIMS: usize = 200;

fn claim(number: usize, worker: &str) -> Write {
    Write {
        record: Record {
            worker: worker.into(),
            ..record(format!("claim-{number}"))
        },
        mode: WriteMode::IfAbsent,
    }
}

/// Claims every job and says which it got.
#[tokio::test]
#[ignore = "a part of each_claim_has_one_winner_among_processes"]
async fn claim_all() {
    let store = open_at(&file_of_part()).await.unwrap();
    let worker = std::process::id().to_string();
    for number in 0..CLAIMS {
        let outcome = store.put(claim(number, &worker)).await.unwrap();
        if outcome == WriteOutcome::Written {
            println!("claimed {number}");
        }
    }
    store.close().await.unwrap();
}

#[test]
fn each_claim_has_one_winner_among_processes() {
    let (_folder, path) = folder();
    // None of them finds a file: they make it at once.
    let mut processes: Vec<_> = (0..4)
        .map(|_| Process::start("processes::claim_all", &path))
        .collect();
    let mut claimed = HashSet::new();
    for process in &mut processes {
        while let Some(number) = process.next("claimed ") {
            assert!(claimed.insert(number), "claimed twice");
        }
    }
    assert_eq!(claimed.len(), CLAIMS);
    processes.into_iter().for_each(Process::succeeds);
}

/// Writes batches for ever and says which are acknowledged.
#[tokio::test]
#[ignore = "a part of what_was_acknowledged_outlives_a_killed_process"]
async fn write_for_ever() {
    let store = open_at(&file_of_part()).await.unwrap();
    for batch in 0.. {
        let outcomes = store.put_many(batch_of(batch)).await.unwrap();
        assert!(
            outcomes
                .into_iter()
                .all(|it| it == Ok(WriteOutcome::Written))
        );
        println!("acknowledged {batch}");
    }
}

const BATCH: usize = 50;

fn batch_of(batch: usize) -> Vec<Write> {
    (0..BATCH)
        .map(|number| {
            let mut record = record(format!("{batch}-{number}"));
            record.result = vec![b'x'; 3_000 + 100 * number].into();
            record.enqueued_at = None;
            record.into()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_killed_process() {
    let (_folder, path) = folder();
    let mut written = 0;
    for kill_after in [1, 7, 20] {
        let mut process = Process::start("processes::write_for_ever", &path);
        for _ in 0..kill_after {
            process.next("acknowledged ").unwrap();
        }
        process.kill();
        // It went on until it died.
        let mut acknowledged = kill_after - 1;
        while let Some(batch) = process.next("acknowledged ") {
            acknowledged = batch.parse().unwrap();
        }
        written = written.max(acknowledged + 1);

        let store = open_at(&path).await.unwrap();
        for batch in 0..=written {
            let expected: Vec<Record> = batch_of(batch).into_iter().map(|it| it.record).collect();
            let ids = expected.iter().map(|record| record.job_id.clone());
            let found = store.get_many(ids.collect()).await.unwrap();
            let found: Vec<_> = found.into_iter().filter_map(Result::unwrap).collect();
            // What nobody acknowledged is there as a whole or not at all.
            assert!(found == expected || batch == written && found.is_empty());
        }
        store.close().await.unwrap();
        let sound: String = Connection::open(&path)
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
        std::fs::remove_file(&path).unwrap();
        written = 0;
    }
}

/// Ends the jobs that another process waits for.
#[tokio::test]
#[ignore = "a part of an_ending_in_another_process_is_announced"]
async fn end_jobs() {
    let store = open_at(&file_of_part()).await.unwrap();
    for number in 0..3_000 {
        let status = [Status::Completed, Status::InProgress][number % 2];
        let record = Record {
            status,
            ..record(number.to_string())
        };
        store.put(record.into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ending_in_another_process_is_announced() {
    let (_folder, path) = folder();
    let store = StoreObject::from_store(open_at(&path).await.unwrap());
    let (ready_sender, mut ready) = unbounded_channel();
    let (sender, mut announced) = unbounded_channel();
    let sink = CompletionSink::new(
        move || ready_sender.send(()).unwrap(),
        move |completion| drop(sender.send(completion)),
    );
    let subscriber = store.clone();
    let subscription = tokio::spawn(async move { subscriber.subscribe(sink).await });
    ready.recv().await.unwrap();
    let process = Process::start("processes::end_jobs", &path);
    for number in (0..3_000).step_by(2) {
        let next = tokio::time::timeout(PATIENCE, announced.recv()).await;
        let completion = next.expect("an announcement").unwrap();
        assert_eq!(completion.job_id, *number.to_string());
        assert_eq!(completion.status, Status::Completed);
    }
    process.succeeds();
    store.close().await.unwrap();
    assert!(subscription.await.unwrap().is_err());
    assert!(
        announced.recv().await.is_none(),
        "nothing else is announced"
    );
}
