//! A store behind the ABI: what crosses arrives whole, and no panic gets through.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

use std::{future::pending, time::Duration};

use warren_plugin_api::{
    Capabilities, CompletionSink, Cursor, ErrorClass, Filter, Health, HostContext, Page, Payload,
    Record, ResultStore, Stats, Status, StoreError, StoreObject, StoreResult, Text, Timestamp,
    Write, WriteMode, WriteOutcome,
};

/// Panics where its one record's job id says so, and otherwise answers with what it was given.
struct Contrary;

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

impl ResultStore for Contrary {
    type Config = ();
    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        ..Capabilities::NONE
    };

    async fn open(_config: (), _host: HostContext) -> StoreResult<Self> {
        Ok(Self)
    }

    fn capabilities(&self) -> Capabilities {
        panic!("no idea")
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        match write.record.job_id.as_str() {
            "panic" => panic!("put of {}", write.record.job_id),
            "panic in drop" => {
                let _kept_over_await = PanicsOnDrop;
                pending::<()>().await;
            }
            "panic in drop when ready" => drop(PanicsOnDrop),
            "stale" => return Ok(WriteOutcome::Stale),
            _ => {}
        }
        assert_eq!(write.mode, WriteMode::IfAbsent);
        Ok(WriteOutcome::Written)
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        tokio::task::yield_now().await;
        Ok(Some(whole_record(&job_id)))
    }

    async fn get_many(&self, _job_ids: Vec<Text>) -> StoreResult<Vec<StoreResult<Option<Record>>>> {
        Ok(vec![Ok(None)])
    }

    async fn delete(&self, _job_id: Text) -> StoreResult<bool> {
        Err(StoreError::too_large("no"))
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        assert_eq!(filter.statuses, [Status::Failed]);
        let record = Record {
            attempt: limit,
            ..whole_record("scanned")
        };
        Ok(Page {
            records: vec![record],
            next: cursor,
        })
    }

    async fn health_check(&self) -> StoreResult<Health> {
        Ok(Health {
            detail: "well".into(),
            warnings: vec!["hm".into()],
        })
    }

    async fn stats(&self) -> StoreResult<Stats> {
        Ok(Stats {
            records: Some(3),
            by_status: [(Status::Aborted, 3)].into(),
            ..Stats::default()
        })
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        sink.ready();
        sink.completed("job".into(), Status::Completed);
        for job_id in ["wanted", "other"] {
            if sink.wants_record(job_id) {
                sink.completed_with(whole_record(job_id));
            }
        }
        pending().await
    }
}

impl Drop for Contrary {
    fn drop(&mut self) {
        panic!("the store itself");
    }
}

fn whole_record(job_id: &str) -> Record {
    let at = |unix_us| Some(Timestamp::from_unix_us(unix_us));
    Record {
        job_id: job_id.into(),
        status: Status::Retrying,
        attempt: u32::MAX,
        queue: "queue".into(),
        function: "function".into(),
        worker: "worker".into(),
        enqueued_at: at(i64::MIN),
        started_at: at(1),
        finished_at: at(2),
        updated_at: at(3),
        heartbeat_at: at(4),
        expires_at: at(i64::MAX),
        duration: Some(Duration::from_micros(u64::MAX)),
        error: Some("ValueError: bad".into()),
        args: Payload::from("[1, 2]"),
        kwargs: Payload::from("{}"),
        result: Payload::from(vec![0xff, 0x00]),
        progress: Payload::from("0.5"),
        extra: vec![
            ("a".into(), Payload::from("1")),
            ("a".into(), Payload::empty()),
        ],
    }
}

fn write(job_id: &str) -> Write {
    Write {
        record: whole_record(job_id),
        mode: WriteMode::IfAbsent,
    }
}

fn store() -> StoreObject {
    StoreObject::from_store(Contrary)
}

fn quiet() {
    std::panic::set_hook(Box::new(|_| {}));
}

#[tokio::test]
async fn every_field_arrives() {
    quiet();
    assert_eq!(store().get("id".into()).await, Ok(Some(whole_record("id"))));
    assert_eq!(store().put(write("id")).await, Ok(WriteOutcome::Written));
    assert_eq!(store().put(write("stale")).await, Ok(WriteOutcome::Stale));
    let filter = Filter {
        statuses: vec![Status::Failed],
        ..Filter::default()
    };
    let cursor = Cursor("where".into());
    let page = store().scan(filter, Some(cursor.clone()), 7).await.unwrap();
    assert_eq!(page.records[0].attempt, 7);
    assert_eq!(page.next, Some(cursor));
    assert_eq!(store().health_check().await.unwrap().warnings, ["hm"]);
    assert_eq!(
        store().stats().await.unwrap().by_status[&Status::Aborted],
        3
    );
    assert_eq!(
        store().status("id".into()).await,
        Ok(Some(Status::Retrying))
    );
}

#[tokio::test]
async fn an_error_keeps_its_class_and_words() {
    quiet();
    assert_eq!(
        store().delete("id".into()).await,
        Err(StoreError::too_large("no"))
    );
}

#[tokio::test]
async fn a_panic_anywhere_is_an_internal_error() {
    quiet();
    let error = store().put(write("panic")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Internal);
    assert_eq!(error.message(), "the store panicked in put: put of panic");
    let error = store()
        .put(write("panic in drop when ready"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Internal);
    assert_eq!(
        store().capabilities().unwrap_err().class(),
        ErrorClass::Internal
    );
}

#[tokio::test]
async fn a_panic_while_a_cancelled_call_is_dropped_goes_no_further() {
    quiet();
    let store = store();
    let call = store.put(write("panic in drop"));
    assert!(
        tokio::time::timeout(Duration::from_millis(10), call)
            .await
            .is_err()
    );
    assert_eq!(store.put(write("id")).await, Ok(WriteOutcome::Written));
}

#[tokio::test]
async fn a_batch_with_too_few_answers_is_refused() {
    quiet();
    let error = store()
        .get_many(vec!["a".into(), "b".into()])
        .await
        .unwrap_err();
    assert_eq!(error.message(), "the store gave 1 answers for 2 items");
}

#[tokio::test]
async fn completions_reach_the_sink() {
    quiet();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let ready = sender.clone();
    let sink = CompletionSink::new(
        move || drop(ready.send(None)),
        move |completion| drop(sender.send(Some(completion))),
    );
    let store = store();
    let subscription = tokio::spawn(async move { store.subscribe(sink).await });
    assert_eq!(receiver.recv().await, Some(None));
    let completion = receiver.recv().await.flatten().unwrap();
    assert_eq!(
        (completion.job_id.as_str(), completion.status),
        ("job", Status::Completed)
    );
    subscription.abort();
}

#[tokio::test]
async fn records_reach_a_sink_that_wants_them() {
    quiet();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let sink = CompletionSink::with_records(
        || {},
        |job_id| job_id == "wanted",
        move |completion| drop(sender.send(completion)),
    );
    let store = store();
    let subscription = tokio::spawn(async move { store.subscribe(sink).await });
    assert_eq!(receiver.recv().await.unwrap().record, None);
    let completion = receiver.recv().await.unwrap();
    assert_eq!(completion.job_id, "wanted");
    assert_eq!(completion.record.as_deref(), Some(&whole_record("wanted")));
    subscription.abort();
}

#[tokio::test]
async fn a_closed_store_is_unavailable_and_closes_twice() {
    quiet();
    let store = store();
    assert_eq!(store.close().await, Ok(()));
    assert_eq!(store.close().await, Ok(()));
    let error = store.get("id".into()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable);
}
